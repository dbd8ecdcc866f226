"""The links of the pages refer to existing files and headings."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT

PAGES = sorted(
    path for pattern in ("*.md", "docs/*.md", "chart/README.md") for path in ROOT.glob(pattern)
)

_CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def _links(page: Path) -> Iterator[tuple[Path, str]]:
    """Yield the file and the heading of each link; the heading is empty without a fragment."""
    for target, heading in _LINK.findall(_CODE.sub("", page.read_text())):
        yield (page.parent / target).resolve() if target else page, heading


def _anchors(page: Path) -> set[str]:
    """Return the anchors of the headings in the format of GitHub."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    anchors = set()
    for heading in _HEADING.findall(text):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        anchors.add(re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-"))
    return anchors


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_refer_to_existing_headings(page: Path) -> None:
    broken = []
    for target, heading in _links(page):
        is_found = target.exists() and (not heading or heading in _anchors(target))
        if not is_found:
            broken.append(f"{target.name}#{heading}" if heading else target.name)
    assert broken == []


def test_the_index_links_to_each_page() -> None:
    index = ROOT / "docs" / "README.md"
    linked = {target for target, _ in _links(index)}
    pages = {page for page in PAGES if page.parent == index.parent and page != index}
    assert {page.name for page in pages - linked} <= {"observability.md"}, "links to other pages"
