"""YAML and TOML parsing: values, their positions, and error messages."""

import re
from collections.abc import Callable
from contextlib import suppress
from math import inf, isnan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anthropic_proxy.config import yaml_toml
from anthropic_proxy.config.yaml_toml import MAX_CHARACTERS, Position, parse_text
from anthropic_proxy.errors import ConfigError
from tests.support.scaling import assert_linear_cpu


def positions(text: str, name: str) -> dict[str, str]:
    """Return the positions as `line:column` by dotted path."""
    entries = parse_text(text, name).positions.items()
    return {
        ".".join(map(str, path)): ":".join(map(str, position)) for path, position in entries if path
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("Yes", "Yes"),
        ("true", True),
        ("FALSE", False),
        ("2024-10-21", "2024-10-21"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("012", 12),
        ("-7", -7),
        ("0o17", 15),
        ("0x1F", 31),
        ("1.50", 1.5),
        ("1e3", 1000.0),
        ("-.inf", -inf),
        ("~", None),
        ("", None),
        ("null", None),
        ("'5'", "5"),
        ("!!str 5", "5"),
        ("!!float 5", 5.0),
        ("=", "="),
        ("{no: 1, 5: 2, ~: 3}", {"no": 1, "5": 2, "~": 3}),
        ("[&a {b: 1}, *a]", [{"b": 1}, {"b": 1}]),
    ],
)
def test_yaml_values_are_parsed(text: str, value: Any) -> None:
    parsed = parse_text(f"a: {text}", "file.yml").value["a"]
    assert (parsed, type(parsed)) == (value, type(value))


def test_yaml_nan_is_parsed() -> None:
    assert isnan(parse_text("a: .nan", "file.yaml").value["a"])


def test_yaml_values_have_positions() -> None:
    text = "\ufeff# first\na:\n  b: 1\n  c:\n    - x\n    - {d: [1, 2]}\n"
    assert positions(text, "file.YAML") == {
        "a": "2:1",
        "a.b": "3:3",
        "a.c": "4:3",
        "a.c.0": "5:7",
        "a.c.1": "6:7",
        "a.c.1.d": "6:8",
        "a.c.1.d.0": "6:12",
        "a.c.1.d.1": "6:15",
    }


TOML = '''# first
[upstreams.a]
url = "x"
extra.provider = {order = [1,
 2]}
[upstreams.a.limits]  # of a
queue = 5

[[routes]]
models = [
  "[a]",
]
[[routes]]
[[routes.x]]
y = """
[[routes]]
z = 1
"""
[routes.x."deep.er"]
w = 3
'''


def test_toml_values_have_positions() -> None:
    assert {
        path: position.removesuffix(":0") for path, position in positions(TOML, "file.toml").items()
    } == {
        "upstreams": "2",
        "upstreams.a": "2",
        "upstreams.a.url": "3",
        "upstreams.a.extra": "4",
        "upstreams.a.extra.provider": "4",
        "upstreams.a.extra.provider.order": "4",
        "upstreams.a.extra.provider.order.0": "4",
        "upstreams.a.extra.provider.order.1": "4",
        "upstreams.a.limits": "6",
        "upstreams.a.limits.queue": "7",
        "routes": "9",
        "routes.0": "9",
        "routes.0.models": "10",
        "routes.0.models.0": "10",
        "routes.1": "13",
        "routes.1.x": "14",
        "routes.1.x.0": "14",
        "routes.1.x.0.y": "15",
        "routes.1.x.0.deep.er": "19",
        "routes.1.x.0.deep.er.w": "20",
    }


def test_toml_line_endings_do_not_change_positions() -> None:
    unix, windows = (parse_text(text, "file.toml") for text in (TOML, TOML.replace("\n", "\r\n")))
    assert unix.positions == windows.positions


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.yaml", "a: 1\nb: 2\na: 3", "x.yaml:3:1: duplicate key 'a', first used in line 1"),
        ("x.yaml", "a: b: c", "x.yaml:1:5: mapping values are not allowed here"),
        (
            "x.yaml",
            "a: [1\nb: 2",
            "x.yaml:2:2: while parsing a flow sequence, expected ',' or ']', but got ':'",
        ),
        (
            "x.yaml",
            "a:\n\tb: 1",
            (
                r"x.yaml:2:1: while scanning for the next token, found character '\t' that cannot "
                r"start any token"
            ),
        ),
        (
            "x.yaml",
            "a: !!python/object:os.x {}",
            "x.yaml:1:4: unsupported tag !!python/object:os.x",
        ),
        (
            "x.yaml",
            "a: !secret x",
            "x.yaml:1:4: unsupported tag; put a string that begins with ! in quotes",
        ),
        ("x.yaml", "a: !!set {x}", "x.yaml:1:4: unsupported tag !!set"),
        ("x.yaml", "a: !!int xy", "x.yaml:1:4: invalid int"),
        ("x.yaml", "a: !!bool no", "x.yaml:1:4: invalid bool"),
        ("x.yaml", "? [a]\n: 1", "x.yaml:1:3: a key must be a string"),
        ("x.yaml", "a: &x [*x]", "x.yaml:1:4: an alias refers to an anchor that contains it"),
        ("x.yaml", "a: *b", "x.yaml:1:4: found undefined alias"),
        (
            "x.yaml",
            "a: 1\n---\nb: 2",
            "x.yaml:2:1: expected a single document in the stream, but found another document",
        ),
        (
            "x.yaml",
            "a: \x01",
            (
                "x.yaml: unacceptable character #x0001: special characters are not allowed in "
                '"<unicode string>", position 3'
            ),
        ),
        ("x.yaml", "a: " + "9" * 5000, "x.yaml:1:4: invalid int"),
        ("x.toml", "a = 1\nb = \n", "x.toml:2:5: Invalid value"),
        ("x.toml", "a = 1\na = 2\n", "x.toml:2:6: Cannot overwrite a value"),
        ("x.toml", "\n[a]\n[a]\n", "x.toml:3:3: Cannot declare ('a',) twice"),
        ("x.toml", "a = 1\nb = '''x\n", "x.toml:2: Expected \"'''\""),
        ("x.json", "{}", "x.json: the file's name must end in .yaml, .yml, .toml"),
    ],
)
def test_invalid_texts_are_rejected(name: str, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message) + "$"):
        parse_text(text, name)


def test_a_number_that_is_too_long_is_rejected() -> None:
    with pytest.raises(ConfigError, match=r"^x\.toml:1: Exceeds the limit"):
        parse_text("a = " + "9" * 5000, "x.toml")


def test_an_empty_file_is_parsed() -> None:
    assert parse_text("", "x.yaml").value is None
    assert parse_text("# only this", "x.toml") == ({}, {(): Position(1)})


@given(st.text(max_size=40), st.sampled_from(["x.yaml", "x.toml"]))
def test_any_text_is_parsed_or_rejected(text: str, name: str) -> None:
    with suppress(ConfigError):
        assert () in parse_text(text, name).positions


_EXPONENTIAL_ALIASES = "a0: &a0 lol\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "f.yaml",
            _EXPONENTIAL_ALIASES,
            r"f.yaml:\d+:\d+: too many values, expected at most 100000",
        ),
        (
            "f.yaml",
            "[" * 100_000,
            r"f.yaml:1:52: values are nested too deeply, expected at most 50 levels",
        ),
        ("f.yaml", "a: " + "{a: " * 50_000, r"f.yaml:1:\d+: values are nested too deeply"),
        (
            "f.yaml",
            "a: &a [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1 or ''}]\n" for n in range(1, 80)),
            r"f.yaml:.* too deeply",
        ),
        (
            "f.yaml",
            "# " + "x" * MAX_CHARACTERS,
            r"f.yaml: the file is too long: 262146 characters, expected at most",
        ),
        ("f.toml", "a = " + "[" * 100_000, r"f.toml: values are nested too deeply"),
        ("f.toml", "a = " + "[" * 60 + "]" * 60, r"f.toml:1: values are nested too deeply"),
        ("f.toml", "x = 1\n" + "a." * 50_000 + "a = 1", r"f.toml:2: a key has too many parts"),
        ("f.toml", "[" + "'a' . " * 40_000 + "a]", r"f.toml:1: a key has too many parts"),
        (
            "f.toml",
            "a = [" + "1," * 100_000 + "]",
            r"f.toml:1: too many values, expected at most 100000",
        ),
        ("f.toml", "#" * (MAX_CHARACTERS + 1), r"f.toml: the file is too long"),
    ],
    ids=lambda value: value[:12] if isinstance(value, str) else None,
)
def test_oversized_texts_are_rejected(name: str, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        parse_text(text, name)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[" + "a,\n" * 100, 10),
        ("a:\n" + "- b\n" * 100, 10),
        ("".join(f"k{n}: v\n" for n in range(100)), 10),
    ],
)
def test_yaml_composing_stops_at_too_many_values(
    monkeypatch: pytest.MonkeyPatch, text: str, line: int
) -> None:
    """The parser does not reach the invalid end of the text."""
    monkeypatch.setattr(yaml_toml, "MAX_VALUES", 10)
    with pytest.raises(ConfigError, match=rf"^f.yaml:{line}:\d+: too many values"):
        parse_text(text + "]}", "f.yaml")


def test_keys_do_not_count_as_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_toml, "MAX_VALUES", 3)
    assert parse_text("{a: b, c: d}", "f.yaml").value == {"a": "b", "c": "d"}


@pytest.mark.parametrize(
    "text",
    [
        'a = """\n' + "x\n" * 3 + '"""\nb = 1',
        'a = """x""""\nb = 1',
        "a = '''x'''''\nb = 1",
        "a = '''\n\"\"\"\n'''\nb = 1",
        'a = """\\"""\\\\"""\nb = 1',
        'a = "]#[" # [ " \'\nb = 1',
        "a = [ # ]\n 1,\n [2], ']',\n]\nb = 1",
        "a = {c = '}'}\nb = 1",
        'a = ""\nb = 1',
        "a = ''\nb = 1",
    ],
)
def test_a_toml_statement_ends_with_its_value(text: str) -> None:
    assert parse_text(text, "f.toml").positions[("b",)] == Position(text.count("\n") + 1)


@pytest.mark.parametrize(
    ("name", "build_text"),
    [
        ("f.toml", lambda size: 'a = """\n' + "x\n" * size + '"""'),
        ("f.toml", lambda size: "a = [\n" + "1,\n" * size + "]"),
        ("f.toml", lambda size: "a = '''\n" + '"""\'\n' * size + "'''"),
        ("f.toml", lambda size: "".join(f"a{number} = {{b = 1}}\n" for number in range(size))),
        ("f.yaml", lambda size: "a:\n" + "- x\n" * size),
        (
            "f.yaml",
            lambda size: "a: &a [x]\n" + "".join(f"a{number}: *a\n" for number in range(size)),
        ),
    ],
)
def test_the_cost_is_linear_in_the_text_size(
    monkeypatch: pytest.MonkeyPatch, name: str, build_text: Callable[[int], str]
) -> None:
    # Fast parsing needs longer texts for a reliable measurement.
    monkeypatch.setattr(yaml_toml, "MAX_CHARACTERS", 8 * MAX_CHARACTERS)

    def prepare(size: int) -> Callable[[], object]:
        text = build_text(size)
        return lambda: parse_text(text, name)

    assert_linear_cpu(prepare, 250)
