"""Argument strings: their objects, and the pieces that are sent of them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anthropic_proxy.translate.tool_calls.arguments import ToolArguments
from anthropic_proxy.wire.json_codec import loads_partial
from tests.support.splits import random_pieces
from tests.support.strategies import values
from tests.support.text_calls import cut_in_all_ways


def send(pieces: list[str], *, truncated: bool = False) -> list[str]:
    return feed(ToolArguments(), pieces, truncated=truncated)


def feed(arguments: ToolArguments, pieces: list[str], *, truncated: bool = False) -> list[str]:
    output = []
    for piece in pieces:
        arguments.add(piece)
        output.append(arguments.take())
    return [*output, arguments.finish(truncated=truncated)]


@pytest.mark.parametrize(
    ("pieces", "output"),
    [
        (['{"a"', ': "x', 'y"', "}"], ["{", '"a": "x', 'y"', "}", ""]),
        (["{", "}"], ["{", "}", ""]),
        (["{}"], ["", ""]),
        (["{}", '{"a": 1}'], ["", '{"a": 1}', ""]),
        ([" ", "\n{", "'a'", ": 1}"], ["", "{", "", "", '"a":1}']),
        (['{"a": 1,', "}"], ['{"a": 1', "", "}"]),
        (
            ['{"a": ["x', "\ny'", '"]', ', "b": True}'],
            ['{"a": ["x', "", "", "", '\\ny\'"],"b":true}'],
        ),
        (['{"a": {"b": 1', ", 'c': 2}", "}"], ['{"a": {', '"b": 1', "", ',"c":2}}']),
        (
            ['{"a": "x"', " nonsense}"],
            ['{"a": "x"', "", ',"INVALID_JSON":"{\\"a\\": \\"x\\" nonsense}"}'],
        ),
        (['{"a": ["x', '" y]'], ['{"a": ["x', '"', '],"INVALID_JSON":"{\\"a\\": [\\"x\\" y]"}']),
        (["{", "nonsense"], ["{", "", '"INVALID_JSON":"{nonsense"}']),
        (["nonsense"], ["", '{"INVALID_JSON":"nonsense"}']),
        (["[1]"], ["", '{"INVALID_JSON":"[1]"}']),
        (['"{\\"a\\"', ': 1}"'], ["", "", '{"a":1}']),
        (['{"a": 1}', "}", " ", "]"], ['{"a": 1}', "", "", "", ""]),
        (['{"a": 1}\n```'], ['{"a": 1}', ""]),
        (['{"a": 1} nonsense'], ["", '{"INVALID_JSON":"{\\"a\\": 1} nonsense"}']),
        (['{"a": 1}{"b": 2} x'], ["", '{"INVALID_JSON":"{\\"a\\": 1}{\\"b\\": 2} x"}']),
        (['{"a": 1, "a": "x', '\n"'], ['{"a": 1, "a": "x', "", '\\n"}']),
        (
            ["{", '{"a', '{"a": "x', '{"a": "xy", "b": 1', '{"a": "xy", "b": 1}'],
            ["{", "", '"a": "x', 'y"', ', "b": 1}', ""],
        ),
        (['{"a": 1}', '{"a": 1}', '{"a": 1}'], ['{"a": 1}', "", "", ""]),
        (['{"a":', '{"a": 1}', "}"], ["{", '"a":{"a": 1}', "}", ""]),
        (['{"a": "x\\ud83d', ' y"}'], ['{"a": "x', "", '\ufffd y"}']),
        (['{"a": "x\ud83d', '\ude00"}'], ['{"a": "x', "", '\U0001f600"}']),
        (["\ud83d"], ["", '{"INVALID_JSON":"\ufffd"}']),
        (['{"a": "half'], ['{"a": "half', '","INVALID_JSON":"{\\"a\\": \\"half"}']),
        (
            ['{"a": [], "b": "", "a": {"c": 1,}}'],
            [
                '{"a": [], "b": "", "a": {"c": 1',
                '},"INVALID_JSON":"{\\"a\\": [], \\"b\\": \\"\\", \\"a\\": {\\"c\\": 1,}}"}',
            ],
        ),
    ],
)
def test_pieces_sent(pieces: list[str], output: list[str]) -> None:
    assert send(pieces) == output


@pytest.mark.parametrize(
    "text",
    [
        """{"a": 0, "b": {}, "a": {"c": "d", 'c': "d"}, "b": {"e": 1}}""",
        """{"a": 0, "b": 1, 'a': 2}""",
    ],
)
def test_repeated_keys_are_not_repaired(text: str) -> None:
    """A later value takes the place of the first one, which was sent."""
    assert json.loads("".join(send([text])))["INVALID_JSON"] == text


@pytest.mark.parametrize(
    ("raw", "sent"),
    [
        ("", ""),
        ("{", "{"),
        ('{"a": "x", "b', '{"a": "x"'),
        ('{"a": "x", "b": 1', '{"a": "x"'),
        ('{"a": "half of', '{"a": "half of'),
        ('{"a": ["x", {"b": null', '{"a": ["x", {"b": null'),
        ('{"a": "x"}', '{"a": "x"}'),
        ("{'a': 'half of", '{"INVALID_JSON":"{\'a\': \'half of"}'),
    ],
)
def test_a_truncated_object_stays_open(raw: str, sent: str) -> None:
    assert "".join(send([raw], truncated=True)) == sent


MARKERS = [
    "<|tool_call_end|>",
    "<|im_end|>",
    "<|eot_id|>",
    "<｜tool▁call▁end｜>",
    "</tool_call>",
    "```",
    "\n```\n</tool_call><|im_end|>",
    "} ]<|call|> }",
    "<|tool_call_end|><|tool_calls_section_end|>",
]


@pytest.mark.parametrize("marker", MARKERS)
@pytest.mark.parametrize("document", ['{"a": 1}', "{'a': 1}", '"{\\"a\\": 1}"'])
def test_markers_after_the_end(document: str, marker: str) -> None:
    if document.startswith("{'") and not marker.startswith("<"):
        document = '{"a": 1}'
    text = document + marker
    for pieces in ([text], [document, marker], list(text), *(random_pieces(text, 7),)):
        assert json.loads("".join(send(pieces))) == {"a": 1}


@pytest.mark.parametrize(
    "text", ["x", "<b>", "<|a b", "<|im_end|> x", "[1]", '"a"', "1", "<|" * 60]
)
def test_other_text_after_the_end(text: str) -> None:
    raw = '{"a": 1}' + text
    assert json.loads("".join(send([raw])))["INVALID_JSON"] == raw


def test_more_after_the_end() -> None:
    arguments = ToolArguments()
    arguments.add('{"a": 1}')
    arguments.take()
    assert (arguments.is_complete, arguments.is_overrun) == (True, False)
    arguments.add("b")
    assert (arguments.is_complete, arguments.is_overrun) == (False, True)
    assert arguments.finish(truncated=False) == ""


@given(st.dictionaries(st.text(max_size=4), values, max_size=4), st.booleans(), st.integers(0, 99))
def test_objects_come_out_as_they_are(value: dict[str, Any], ascii_only: bool, seed: int) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert json.loads("".join(send(random_pieces(text, seed))) or "{}") == value


@given(
    st.text(st.sampled_from("{}[]:,'\"\\ntruefals01. ab/*"), max_size=30),
    st.booleans(),
    st.booleans(),
    st.integers(0, 9),
)
def test_anything_adds_up_to_an_object_or_begins_one(
    text: str, in_object: bool, truncated: bool, seed: int
) -> None:
    if in_object:
        text = '{"a": ' + text
    output = "".join(send(random_pieces(text, seed), truncated=truncated)) or "{}"
    value = loads_partial(output) if truncated else json.loads(output)
    assert isinstance(value, dict)


TYPES = {
    key: frozenset(types)
    for key, types in {
        "list": {"array"},
        "object": {"object"},
        "number": {"number"},
        "integer": {"integer"},
        "boolean": {"boolean"},
        "optional": {"array", "null"},
    }.items()
}
# Arguments whose strings are parsed, and the result. None stands for the same arguments.
STRINGS: dict[str, tuple[dict[str, Any], dict[str, Any] | None]] = {
    "array": ({"list": '["a", 1]'}, {"list": ["a", 1]}),
    "object": ({"object": '{"a": {"b": []}}'}, {"object": {"a": {"b": []}}}),
    "numbers": ({"number": "-1.5", "integer": "3"}, {"number": -1.5, "integer": 3}),
    "large number": ({"integer": f"1{'0' * 30}"}, {"integer": 10**30}),
    "boolean": ({"boolean": "false"}, {"boolean": False}),
    "null": ({"optional": "null"}, {"optional": None}),
    "among others": (
        {"text": "[1]", "list": " [1] ", "other": '"', "object": {"a": "[1]"}},
        {"text": "[1]", "list": [1], "other": '"', "object": {"a": "[1]"}},
    ),
    "one of two": ({"list": "[1]", "integer": "three"}, {"list": [1], "integer": "three"}),
    "strings": ({"text": "[1]", "other": "1"}, None),
    "right types": ({"list": ["[1]"], "object": {"list": "[1]"}, "integer": 1}, None),
    "another type": ({"list": "{}", "object": "[]", "integer": "1.5", "boolean": "1"}, None),
    "no JSON": ({"list": "a, b", "object": "", "number": "1 000", "boolean": "True"}, None),
    "half of JSON": ({"list": "[1, 2", "object": '{"a": "b'}, None),
    "too deep": ({"list": "[" * 150 + "]" * 150}, None),
    "NaN": ({"number": "NaN", "integer": "Infinity"}, None),
}


@pytest.mark.parametrize(("given_value", "expected"), STRINGS.values(), ids=STRINGS)
def test_strings_where_the_schema_wants_another_type(
    given_value: dict[str, Any], expected: dict[str, Any] | None
) -> None:
    text = json.dumps(given_value)
    for pieces in cut_in_all_ways(text):
        arguments = ToolArguments()
        arguments.expect(TYPES)
        assert json.loads("".join(feed(arguments, pieces))) == (expected or given_value)
        assert arguments.repair == ("arguments" if expected else None)


@pytest.mark.parametrize("text", ['{"a": "x", "list": "[1]"', "{\"a\": \"x\", 'list': '[1]'}"])
def test_strings_in_repaired_arguments_are_parsed(text: str) -> None:
    for pieces in cut_in_all_ways(text):
        arguments = ToolArguments()
        arguments.expect(TYPES)
        assert json.loads("".join(feed(arguments, pieces))) == {"a": "x", "list": [1]}


def test_only_such_strings_wait_for_the_end() -> None:
    arguments = ToolArguments()
    arguments.expect(TYPES)
    pieces = ['{"text": "a', 'b", "list": [1, "', 'c"], "integer": "1', '", "other": "d"', "}"]
    assert feed(arguments, pieces) == [
        '{"text": "a',
        'b", "list": [1',
        ', "c"]',
        "",
        "",
        ',"integer":1,"other":"d"}',
    ]


def test_a_truncated_object_has_its_strings() -> None:
    arguments = ToolArguments()
    arguments.expect(TYPES)
    assert "".join(feed(arguments, ['{"list": "[1', ", 2"], truncated=True)) == '{"list": "[1, 2'


def test_repeated_members_stay() -> None:
    text = '{"a": "x", "list": "[1]", "a": "y"}'
    arguments = ToolArguments()
    arguments.expect(TYPES)
    assert "".join(feed(arguments, [text])) == text
    assert arguments.repair is None
