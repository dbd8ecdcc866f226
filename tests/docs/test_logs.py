"""The table of docs/logs.md contains all events that the proxy logs."""

import ast
import re
from collections.abc import Iterator

from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "logs.md").read_text()
TREES = [ast.parse(path.read_text()) for path in (ROOT / "src").rglob("*.py")]

# Functions with the name of an event among their first two arguments.
_WRITERS = {
    "_log_once",
    "_write",
    "debug",
    "error",
    "exception",
    "format_json_line",
    "info",
    "log_body",
    "log_opened",
    "log_start",
    "partial",
    "warning",
    "write",
}
_EVENT = re.compile(r"\.?[A-Za-z]+(?:[ -][A-Za-z]+)+")
# The log shows the text of the banner, not its name. The other text is an argument of `partial`.
_NO_EVENTS = {"banner shown", "Starting the proxy in front of it"}


def _documented() -> Iterator[str]:
    section = PAGE.split("\n## Events\n")[1].split("\n## ")[0]
    for cell in re.findall(r"^\| (`.*?`) \|", section, re.MULTILINE):
        yield from re.findall(r"`([^`]+)`", cell)


def _constants() -> dict[str, str]:
    """Return the values of all global names that are texts."""
    constants = {}
    for tree in TREES:
        for node in tree.body:
            match node:
                case ast.Assign([ast.Name(name)], ast.Constant(str(value))):
                    constants[name] = value
    return constants


def _logged() -> Iterator[str]:
    constants = _constants()
    for node in (node for tree in TREES for node in ast.walk(tree)):
        match node:
            case ast.Call(ast.Name(function) | ast.Attribute(attr=function)):
                if function in _WRITERS:
                    yield from _texts(node.args[:2], constants)[:1]
            case ast.Dict([ast.Constant("event"), *_], [ast.Constant(str(value)), *_]):
                yield value


def _texts(arguments: list[ast.expr], constants: dict[str, str]) -> list[str]:
    """Return the arguments that have the form of an event."""
    texts = []
    for argument in arguments:
        match argument:
            case ast.Constant(str(value)):
                texts.append(value)
            case ast.Name(name) if name in constants:
                texts.append(constants[name])
    return list(filter(_EVENT.fullmatch, texts))


def test_each_event_is_documented() -> None:
    assert sorted(set(_logged()) - _NO_EVENTS) == sorted(_documented())
