"""Arguments: what an argument string stands for, and pieces that add up to it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anthropic_proxy.translate.tool_calls.arguments import ToolArguments, parse_arguments
from anthropic_proxy.wire.json_codec import loads_partial
from tests.support.splits import random_pieces
from tests.support.strategies import values


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("", {}),
        (" \n", {}),
        ("{}", {}),
        ('{"a": 1}', {"a": 1}),
        ('"{\\"a\\": 1}"', {"a": 1}),
        ("\"{'a': 1}\"", {"a": 1}),
        ('{"a": ', None),
        ("[1]", None),
        ('"text"', None),
        ("5", None),
        ('{"a": NaN}', None),
        ('{"big": 123456789012345678901234567890}', {"big": 123456789012345678901234567890}),
    ],
)
def test_parse_arguments(raw: str, expected: Any) -> None:
    assert parse_arguments(raw) == expected


def told(pieces: list[str], *, is_cut: bool = False) -> list[str]:
    arguments = ToolArguments()
    out = []
    for piece in pieces:
        arguments.add(piece)
        out.append(arguments.take())
    return [*out, arguments.finish(truncated=is_cut)]


@pytest.mark.parametrize(
    ("pieces", "out"),
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
        (['{"a": 1}{"b": 2}'], ["", '{"INVALID_JSON":"{\\"a\\": 1}{\\"b\\": 2}"}']),
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
def test_what_goes_out(pieces: list[str], out: list[str]) -> None:
    assert told(pieces) == out


@pytest.mark.parametrize(
    "text",
    [
        """{"a": 0, "b": {}, "a": {"c": "d", 'c': "d"}, "b": {"e": 1}}""",
        """{"a": 0, "b": 1, 'a': 2}""",
    ],
)
def test_repeated_keys_are_not_repaired(text: str) -> None:
    """A later value takes the place of the first one, which was sent."""
    assert json.loads("".join(told([text])))["INVALID_JSON"] == text


@pytest.mark.parametrize(
    ("raw", "given"),
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
def test_a_cut_answer_stays_open(raw: str, given: str) -> None:
    assert "".join(told([raw], is_cut=True)) == given


def test_more_after_the_end() -> None:
    arguments = ToolArguments()
    arguments.add('{"a": 1}')
    arguments.take()
    assert (arguments.is_complete, arguments.is_overrun) == (True, False)
    arguments.add("b")
    assert (arguments.is_complete, arguments.is_overrun) == (False, True)
    assert arguments.finish(truncated=False) == ""


@given(st.dictionaries(st.text(max_size=4), values, max_size=4), st.booleans(), st.integers(0, 99))
def test_objects_come_out_as_they_are(
    given_input: dict[str, Any], ascii_only: bool, seed: int
) -> None:
    text = json.dumps(given_input, ensure_ascii=ascii_only)
    assert json.loads("".join(told(random_pieces(text, seed))) or "{}") == given_input


@given(
    st.text(st.sampled_from("{}[]:,'\"\\ntruefals01. ab/*"), max_size=30),
    st.booleans(),
    st.booleans(),
    st.integers(0, 9),
)
def test_anything_adds_up_to_an_object_or_begins_one(
    text: str, begun: bool, is_cut: bool, seed: int
) -> None:
    out = "".join(told(random_pieces('{"a": ' + text if begun else text, seed), is_cut=is_cut))
    assert isinstance(loads_partial(out or "{}") if is_cut else json.loads(out or "{}"), dict)
