"""The texts that the page quotes from the proxy occur in its source."""

import ast
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.readme import read_section

PAGE = "docs/troubleshooting.md"
SECTIONS = ("Messages at the start of the proxy", "Errors in responses")
CLIENT_SECTION = "Messages of Claude Code"
# Represents any text in a quotation.
PLACEHOLDER = "..."

# Parts of messages that come from the operating system.
_SYSTEM_TEXTS = {os.strerror(errno.EADDRINUSE)}


def quoted_texts(section: str) -> list[str]:
    """Return the quotations in the first column of the tables in a section."""
    texts: list[str] = []
    for row in re.findall(r"^\| (`.*)", section, re.MULTILINE):
        texts += re.findall(r"`([^`]+)`", row.split(" | ")[0])
    return texts


def _split(text: str) -> list[str]:
    """Return the parts of a quotation between its placeholders, and around system texts."""
    parts = text.split(PLACEHOLDER)
    for system_text in _SYSTEM_TEXTS:
        parts = [piece for part in parts for piece in part.split(system_text)]
    return [part.strip() for part in parts if part.strip(" :;,.")]


def _literals(path: Path) -> Iterator[str]:
    """Yield the strings of a module, with a placeholder for each value within a string."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            values = []
            for part in node.values:
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    values.append(part.value)
                else:
                    values.append("\0")
            yield "".join(values)


@pytest.fixture(scope="module")
def source() -> str:
    """Return all strings of the source."""
    paths = sorted((ROOT / "src").rglob("*.py"))
    return "\n\0\n".join(text for path in paths for text in _literals(path))


TEXTS = [text for title in SECTIONS for text in quoted_texts(read_section(PAGE, title))]


def test_the_page_is_read() -> None:
    assert len(TEXTS) > 20
    assert len(quoted_texts(read_section(PAGE, CLIENT_SECTION))) == 8


@pytest.mark.parametrize("text", TEXTS)
def test_a_quoted_text_occurs_in_the_source(source: str, text: str) -> None:
    parts = _split(text)
    assert max(len(part.split()) for part in parts) > 1, "too short to be found by chance"
    assert [part for part in parts if part not in source] == []


@pytest.mark.parametrize("text", ["The upstream ... is asleep", "is sent ... by pigeon"])
def test_an_unknown_text_is_not_found(source: str, text: str) -> None:
    assert [part for part in _split(text) if part not in source] != []


def test_the_readme_quotes_texts_of_the_page() -> None:
    in_page = set(TEXTS) | set(quoted_texts(read_section(PAGE, CLIENT_SECTION)))
    in_readme = quoted_texts(read_section("README.md", "Troubleshooting"))
    assert len(in_readme) > 4
    assert [text for text in in_readme if text not in in_page] == []
