"""Makes chart/README.md of readme_head.md and values.yaml: `make chart` does it.

The tables come from values.yaml: a comment above a value that begins with two dashes describes it.
"""

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

CHART = Path(__file__).parents[2] / "chart"

_TOLD = re.compile(r"^\s*# -- (?P<text>.*)$")
_MORE = re.compile(r"^\s*# (?P<text>(?!-- ).*)$")

_HEAD = Path(__file__).with_name("readme_head.md")


@dataclass(frozen=True)
class Value:
    """A value that can be set: its path, its default as JSON, and what the comment tells of it."""

    path: str
    default: str
    text: str

    @property
    def row(self) -> str:
        return f"| `{self.path}` | `{self.default}` | {self.text} |"


def values(text: str) -> list[Value]:
    """Return the values of values.yaml in its order. Raises ValueError for an undescribed one."""
    lines = text.splitlines()
    root = yaml.compose(text)
    assert isinstance(root, yaml.MappingNode)
    return list(_values(root, yaml.safe_load(text), lines, ()))


def _values(
    node: yaml.MappingNode, held: dict[str, object], lines: list[str], path: tuple[str, ...]
) -> Iterator[Value]:
    for key, child in node.value:
        here = (*path, key.value)
        value = held[key.value]
        told = _comment(lines, key.start_mark.line)
        if told:
            yield Value(".".join(here), json.dumps(value).replace("|", "\\|"), told)
        elif isinstance(child, yaml.MappingNode) and isinstance(value, dict) and value:
            yield from _values(child, value, lines, here)
        else:
            raise ValueError(f"{'.'.join(here)} has no comment")


def _comment(lines: list[str], number: int) -> str:
    """The comment above a line, joined; empty where there is none that tells of a value."""
    found: list[str] = []
    while number > 0:
        number -= 1
        if told := _TOLD.match(lines[number]):
            return " ".join([told["text"], *found])
        more = _MORE.match(lines[number])
        if not more:
            return ""
        found.insert(0, more["text"])
    return ""


def page(text: str) -> str:
    """The README for a values.yaml."""
    rows = "\n".join(value.row for value in values(text))
    return (
        f"{_HEAD.read_text()}\n## Values\n\n| Value | Default | Meaning |\n|---|---|---|\n{rows}\n"
    )


if __name__ == "__main__":
    sys.stdout.write(page((CHART / "values.yaml").read_text()))
