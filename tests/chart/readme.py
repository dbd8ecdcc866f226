"""Writes chart/README.md from readme_head.md and values.yaml, for `make chart`.

The descriptions in the tables are the comments in values.yaml that begin with two dashes.
"""

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

CHART = Path(__file__).parents[2] / "chart"

_DESCRIPTION = re.compile(r"^\s*# -- (?P<text>.*)$")
_CONTINUATION = re.compile(r"^\s*# (?P<text>(?!-- ).*)$")

_HEAD = Path(__file__).with_name("readme_head.md")


@dataclass(frozen=True)
class Value:
    """A value of the chart: path, default as JSON, and description from the comment."""

    path: str
    default: str
    text: str

    @property
    def row(self) -> str:
        return f"| `{self.path}` | `{self.default}` | {self.text} |"


def values(text: str) -> list[Value]:
    """Return the values of values.yaml in order. Raise ValueError if a description is missing."""
    lines = text.splitlines()
    root = yaml.compose(text)
    assert isinstance(root, yaml.MappingNode)
    return list(_values(root, yaml.safe_load(text), lines, ()))


def _values(
    node: yaml.MappingNode, defaults: dict[str, object], lines: list[str], path: tuple[str, ...]
) -> Iterator[Value]:
    for key, child in node.value:
        key_path = (*path, key.value)
        value = defaults[key.value]
        description = _comment(lines, key.start_mark.line)
        if description:
            yield Value(".".join(key_path), json.dumps(value).replace("|", "\\|"), description)
        elif isinstance(child, yaml.MappingNode) and isinstance(value, dict) and value:
            yield from _values(child, value, lines, key_path)
        else:
            raise ValueError(f"{'.'.join(key_path)} has no comment")


def _comment(lines: list[str], number: int) -> str:
    """Return the joined comment above a line, or an empty string without a description."""
    lines_after: list[str] = []
    while number > 0:
        number -= 1
        if description := _DESCRIPTION.match(lines[number]):
            return " ".join([description["text"], *lines_after])
        continuation = _CONTINUATION.match(lines[number])
        if not continuation:
            return ""
        lines_after.insert(0, continuation["text"])
    return ""


def page(text: str) -> str:
    """Return the README for a values.yaml."""
    rows = "\n".join(value.row for value in values(text))
    return (
        f"{_HEAD.read_text()}\n## Values\n\n| Value | Default | Meaning |\n|---|---|---|\n{rows}\n"
    )


if __name__ == "__main__":
    sys.stdout.write(page((CHART / "values.yaml").read_text()))
