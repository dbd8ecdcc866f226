"""The targets, files and names in CONTRIBUTING.md exist, and the hooks run commands of make."""

import re
import shlex
from collections.abc import Iterator

import pytest
import yaml

from anthropic_proxy import __version__
from tests.support.paths import ROOT

PAGE = (ROOT / "CONTRIBUTING.md").read_text()
SECURITY = (ROOT / "SECURITY.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()

# A path in the page, with a folder or an ending that the repository uses.
_PATH = re.compile(r"\.?\w[\w.-]*/[\w./-]*|[\w.-]*\.(?:example|json|md|py|toml|txt|yaml|yml)")
# Placeholders in a path.
_PLACEHOLDER = re.compile(r"CASE|MODULE|NAME|PACKAGE|SERVER")


def _code() -> list[str]:
    """Return the lines of code blocks, and the code in the text."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    text = re.sub(r"^```.*?^```$", "", PAGE, flags=re.MULTILINE | re.DOTALL)
    return [*"".join(blocks).splitlines(), *re.findall(r"`([^`]+)`", text)]


def _make_words() -> Iterator[str]:
    for line in _code():
        program, *words = shlex.split(line, comments=True)
        if program == "make":
            yield from words


def _targets() -> set[str]:
    """Return the targets that make runs whether or not a file of their name exists."""
    (names,) = re.findall(r"^\.PHONY:((?:.*\\\n)*.*)", MAKEFILE, re.MULTILINE)
    return set(names.replace("\\\n", " ").split())


NAMED_TARGETS = sorted({word for word in _make_words() if "=" not in word})
# This includes arguments of commands, without the name of a test in the file.
PATHS = sorted(
    {
        word.split("::")[0]
        for line in _code()
        for word in re.findall(r"[^\s\"=]+", line)
        if _PATH.fullmatch(word.split("::")[0]) and not word.startswith(".venv/")
    }
)
LINKS = sorted(set(re.findall(r"\]\((?!https?:)([^)#]+)\)", PAGE + SECURITY)))
# `NAME` in `path`, also across a line break.
NAMES = sorted(set(re.findall(r"`(\w+)` (?:in|of)\s+`([\w./-]+\.py)`", PAGE)))


def test_the_page_is_read() -> None:
    assert len(NAMED_TARGETS) > 7
    assert len(PATHS) > 60
    assert len(LINKS) > 2
    assert len(NAMES) > 10


@pytest.mark.parametrize("target", NAMED_TARGETS)
def test_each_target_exists(target: str) -> None:
    assert target in _targets()


@pytest.mark.parametrize("path", PATHS)
def test_each_path_exists(path: str) -> None:
    """A path with a placeholder has at least one match."""
    assert list(ROOT.glob(_PLACEHOLDER.sub("*", path.rstrip("/"))))


@pytest.mark.parametrize("path", LINKS)
def test_each_linked_page_exists(path: str) -> None:
    assert (ROOT / path).is_file()


@pytest.mark.parametrize(("name", "path"), NAMES)
def test_each_name_exists_in_its_file(name: str, path: str) -> None:
    assert re.search(rf"\b{name}\b", (ROOT / path).read_text())


def test_the_changelog_has_the_version_and_one_line_for_each_change() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert re.findall(r"^## \[(.+?)\]", text, re.MULTILINE)[:2] == ["Unreleased", __version__]
    assert re.search(rf"^## \[{re.escape(__version__)}\] - \d{{4}}-\d\d-\d\d$", text, re.MULTILINE)
    assert [line for line in text.splitlines() if len(line) > 100 or line.startswith(" ")] == []


def test_make_help_has_a_line_for_each_target() -> None:
    described = re.findall(r"^([a-z-]+):.*## \S.*$", MAKEFILE, re.MULTILINE)
    assert sorted(described) == sorted(_targets())


def test_the_hooks_run_commands_of_make_check() -> None:
    (recipe,) = re.findall(r"^check:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    commands = {line.strip().replace("$(BIN)", ".venv/bin") for line in recipe.splitlines()}
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    for repository in config["repos"]:
        assert repository["repo"] == "local"
        assert {hook["entry"] for hook in repository["hooks"]} <= commands
