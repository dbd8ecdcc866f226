"""The packages, modules and classes that ARCHITECTURE.md names exist."""

import re

import pytest

from tests.support.paths import ROOT

PAGE = (ROOT / "ARCHITECTURE.md").read_text()
SOURCE = ROOT / "src" / "anthropic_proxy"
TREE, *_ = re.findall(r"^src/anthropic_proxy/\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)

# A module or a folder below the package, such as `wire/sse` or `routing/router.py`.
_PACKAGES = "|".join(sorted(path.name for path in SOURCE.iterdir() if path.is_dir()))
MODULES = sorted(set(re.findall(rf"\b(?:{_PACKAGES})/\w[\w/]*", PAGE)))
CLASSES = sorted(
    set(re.findall(r"\b(?:[A-Z][a-z]+|SSE|HTTP){2,}\b", PAGE)) - {"OpenTelemetry"}  # a product
)


def test_the_tree_has_each_package() -> None:
    folders = {
        path.name for path in SOURCE.rglob("*") if path.is_dir() and list(path.glob("__init__.py"))
    }
    assert set(re.findall(r"^ +(\w+)/ ", TREE, re.MULTILINE)) == folders


@pytest.mark.parametrize("module", MODULES)
def test_each_module_exists(module: str) -> None:
    path = SOURCE / module
    assert path.is_dir() or path.with_suffix(".py").is_file()


@pytest.mark.parametrize("name", CLASSES)
def test_each_class_exists(name: str) -> None:
    assert any(
        re.search(rf"^class {name}\b", path.read_text(), re.MULTILINE)
        for path in SOURCE.rglob("*.py")
    )


def test_the_page_is_read() -> None:
    assert len(MODULES) > 40
    assert len(CLASSES) > 10
