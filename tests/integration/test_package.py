"""What the source distribution and the wheel hold, and what a package index shows of them."""

import email
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from pathlib import Path

import pytest

from anthropic_proxy import __version__
from tests.support.paths import ROOT

STEM = f"anthropic_proxy-{__version__}"
PACKAGE = "src/anthropic_proxy/"
OTHER_FILES = {"openapi.yaml", "py.typed", "small.jinja"}
PAGES = {
    ".env.example",
    ".gitignore",  # the build backend adds it and needs it to read the same files again
    "CHANGELOG.md",
    "LICENSE",
    "PKG-INFO",
    "README.md",
    "pyproject.toml",
}
SOURCES = ("src", "docs", "tests", "chart", *PAGES - {"PKG-INFO"})


def _build(source: Path, target: Path) -> tuple[Path, Path]:
    """Build both distributions; return the paths of the source distribution and the wheel."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(target)],
        cwd=source,
        check=True,
        capture_output=True,
    )
    return target / f"{STEM}.tar.gz", target / f"{STEM}-py3-none-any.whl"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return _build(ROOT, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def metadata(built: tuple[Path, Path]) -> Message:
    with zipfile.ZipFile(built[1]) as wheel:
        return email.message_from_bytes(wheel.read(f"{STEM}.dist-info/METADATA"))


def _package_files() -> set[str]:
    folder = ROOT / PACKAGE
    return {
        f"anthropic_proxy/{path.relative_to(folder)}"
        for path in folder.rglob("*")
        if path.suffix == ".py" or path.name in OTHER_FILES
    }


def test_the_source_distribution_holds_package_and_pages(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[0]) as sdist:
        names = {name.removeprefix(f"{STEM}/") for name in sdist.getnames()}
    pages = {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")}
    assert names == PAGES | pages | {f"src/{name}" for name in _package_files()}


def test_the_wheel_holds_the_package(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[1]) as wheel:
        names = {name for name in wheel.namelist() if not name.startswith(f"{STEM}.dist-info/")}
    assert names == _package_files()
    assert {f"anthropic_proxy/{name}" for name in OTHER_FILES} <= {
        f"anthropic_proxy/{Path(name).name}" for name in names
    }


def test_builds_are_reproducible(built: tuple[Path, Path], tmp_path: Path) -> None:
    """Another checkout, whose files have other times, gives the same bytes."""
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "node_modules")
            shutil.copytree(source, checkout / name, ignore=ignored, copy_function=shutil.copyfile)
        else:
            shutil.copyfile(source, checkout / name)
    again = _build(checkout, tmp_path / "dist")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in built]


def test_the_wheel_of_the_source_distribution_is_the_same(
    built: tuple[Path, Path], tmp_path: Path
) -> None:
    with tarfile.open(built[0]) as sdist:
        sdist.extractall(tmp_path, filter="data")
    _, wheel = _build(tmp_path / STEM, tmp_path / "dist")
    assert wheel.read_bytes() == built[1].read_bytes()


def test_the_index_page_has_no_relative_links(metadata: Message) -> None:
    text = str(metadata.get_payload())
    links = re.findall(r"\]\(([^)]*)\)", text)
    assert links, "no link is left"
    assert [link for link in links if not link.startswith(("https://", "http://", "#"))] == []
    assert "configuration file" in text, "the texts of the other links stay"


def test_requirements_have_upper_bounds(metadata: Message) -> None:
    requirements = [str(each) for each in metadata.get_all("Requires-Dist", [])]
    assert [each for each in requirements if not re.search(r"<|==", each.split(";")[0])] == []
    assert "<" in str(metadata["Requires-Python"])


def test_whom_it_is_by(metadata: Message) -> None:
    assert metadata["Author"] == "anthropic-proxy developers"
    assert metadata["Author-email"] is None
