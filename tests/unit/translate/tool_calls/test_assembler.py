"""Argument strings, and fragments that make up calls. Whole streams are in tests/cases/streams."""

import itertools
import json
from typing import Any

import pytest

from anthropic_proxy.translate.tool_calls.assembler import ToolCallAssembler, get_fragments
from tests.support.text_calls import cut_in_all_ways


def assemble(*fragments: dict[str, Any]) -> list[tuple[str, str]]:
    numbers = itertools.count(1)
    assembler = ToolCallAssembler()
    for fragment in fragments:
        assembler.feed(fragment, lambda: str(next(numbers)))
    assembler.close(lambda: str(next(numbers)))
    return [(call.name, call.arguments.finish(truncated=False)) for call in assembler.calls]


def fragment(arguments: Any = None, **more: Any) -> dict[str, Any]:
    function = {"arguments": arguments, "name": more.pop("name", None)}
    return {
        **more,
        "function": {key: value for key, value in function.items() if value is not None},
    }


@pytest.mark.parametrize(
    ("fragments", "calls"),
    [
        ([fragment('{"n":', name="a"), fragment("1}")], [("a", '{"n":1}')]),
        ([fragment("{}", name="a"), fragment("{}", name="b")], [("a", ""), ("b", "")]),
        (
            [fragment("{}", name="a", id="x"), fragment("{}", name="a", id="y")],
            [("a", ""), ("a", "")],
        ),
        (
            [
                fragment("{", id="x", name="a"),
                fragment('{"n":1}', id="y", name="b"),
                fragment('"n":2}', id="x"),
            ],
            [("a", '{"n":2}'), ("b", '{"n":1}')],
        ),
        (
            [
                fragment("{", id="x", name="a"),
                fragment("{", id="y", name="b"),
                fragment('"n":1}', id="y"),
                fragment('"n":2}', id="x"),
            ],
            [("a", '{"n":2}'), ("b", '{"n":1}')],
        ),
        ([fragment('{"a":"{', index=0, name="a"), fragment('{"}', index=0)], [("a", '{"a":"{{"}')]),
        ([fragment('{"n":1}', index=0, name="a"), fragment(" \n", index=0)], [("a", '{"n":1}')]),
        ([fragment('{"n":1}', index=0, name="a", id="x")] * 2, [("a", '{"n":1}')]),
        (
            [fragment(each, index=0, name="a", id="x") for each in ("{}", '{"n":1}')],
            [("a", '{"n":1}')],
        ),
        ([fragment('{"n":1}', index=0, name="a")] * 2, [("a", '{"n":1}')] * 2),
        ([{"index": 0, "function": None}, {"index": 0}], [("", "")]),
        ([fragment(index=0, id=5, name=["junk"])], [("", "")]),
    ],
    ids=[
        "order",
        "order, two",
        "ids",
        "ids, interleaved",
        "ids, both in several fragments",
        "braces in a string",
        "space after the end",
        "again, by id",
        "placeholder, by id",
        "again",
        "nothing",
        "junk",
    ],
)
def test_fragments(fragments: list[dict[str, Any]], calls: list[tuple[str, str]]) -> None:
    assert assemble(*fragments) == calls


def assemble_names(
    offered: set[str], *pieces: str, last: dict[str, Any] | None = None
) -> list[str]:
    """Return the names of the calls that pieces of names at one index make up.

    A question mark follows a name that may still grow.
    """
    assembler = ToolCallAssembler({name: {} for name in offered})
    for piece in pieces:
        assembler.feed(fragment(index=0, name=piece), lambda: "")
    if last:
        assembler.feed(last, lambda: "")
    return [
        call.name + ("" if assembler.is_name_complete(call) else "?") for call in assembler.calls
    ]


WEATHER = {"get_weather", "get_time"}


@pytest.mark.parametrize(
    ("offered", "pieces", "names"),
    [
        (WEATHER, ["get_", "weather"], ["get_weather"]),
        (WEATHER, ["g", "et", "_we", "ather"], ["get_weather"]),
        (WEATHER, ["get_", "get_weather"], ["get_weather"]),
        (WEATHER, ["get_weather", "get_weather"], ["get_weather"]),
        (WEATHER, ["get_"], ["get_?"]),
        (WEATHER, ["get_weather", "get_time"], ["get_weather", "get_time"]),
        (WEATHER, ["get_", "something"], ["get_?", "something"]),
        (WEATHER, ["unknown"], ["unknown"]),
        ({"get", "get_weather"}, ["get"], ["get?"]),
        ({"get", "get_weather"}, ["get", "_weather"], ["get_weather"]),
        ({"get", "get_weather"}, ["get", "get_weather"], ["get?", "get_weather"]),
        (set(), ["get_", "weather"], ["get_", "weather"]),
    ],
)
def test_names_in_pieces(offered: set[str], pieces: list[str], names: list[str]) -> None:
    assert assemble_names(offered, *pieces) == names


def test_arguments_end_a_name() -> None:
    assert assemble_names({"get", "get_weather"}, "get", last=fragment("{", index=0)) == ["get"]


def test_empty_calls_are_dropped() -> None:
    assembler = ToolCallAssembler()
    for each in (
        fragment(id="x"),
        fragment(" ", id="y"),
        fragment("{", id="z"),
        fragment(id="w", name="a"),
    ):
        assembler.feed(each, lambda: "")
    assembler.drop_empty_calls()
    assert [call.upstream_id for call in assembler.calls] == ["z", "w"]


_LS = {"command": "ls"}
_LS_TEXT = '{"command":"ls"}'


@pytest.mark.parametrize(
    ("fragments", "arguments"),
    [
        ([{"index": 0, "id": "x", "name": "Bash", "arguments": _LS_TEXT}], _LS_TEXT),
        ([{"id": "x", "type": "function", "name": "Bash", "arguments": _LS}], _LS_TEXT),
        ([{"id": "x", "type": "tool_use", "name": "Bash", "input": _LS}], _LS_TEXT),
        ([{"id": "x", "name": "Bash", "function": None, "parameters": _LS}], _LS_TEXT),
        ([{"id": "x", "function": {"name": "Bash", "parameters": _LS}}], _LS_TEXT),
        ([{"id": "x", "function": {"name": "Bash", "parameters": _LS_TEXT}}], _LS_TEXT),
        ([{"id": "x", "function": {"name": "Bash", "input": _LS}}], _LS_TEXT),
        ([{"id": "x", "function": {"name": "Bash", "parameters": {}}}], ""),
        # `arguments` is the field of the API.
        (
            [{"id": "x", "function": {"name": "Bash", "arguments": _LS_TEXT, "input": {"a": 1}}}],
            _LS_TEXT,
        ),
        ([{"id": "x", "function": {"name": "Bash", "arguments": "", "parameters": {"a": 1}}}], ""),
        (
            [
                {"index": 0, "id": "x", "name": "Bash", "input": {}},
                {"index": 0, "arguments": _LS_TEXT[:8]},
                {"index": 0, "arguments": _LS_TEXT[8:]},
            ],
            _LS_TEXT,
        ),
    ],
)
def test_calls_in_other_forms(fragments: list[dict[str, Any]], arguments: str) -> None:
    """Without their arguments, these calls would run with an empty input, or be lost."""
    assembler = ToolCallAssembler()
    for each in fragments:
        assembler.feed(each, lambda: "new")
    assembler.close(lambda: "new")
    assembler.drop_empty_calls()
    [call] = assembler.calls
    written = call.arguments.take() + call.arguments.finish(truncated=False)
    assert (call.name, written) == ("Bash", arguments)


_EMPTY = {"name": "", "arguments": ""}


@pytest.mark.parametrize(
    ("delta", "fragments"),
    [
        ({"tool_calls": [{"index": 0, "id": "", "function": _EMPTY}, {"id": "x"}]}, [{"id": "x"}]),
        ({"tool_calls": [{"index": 0, "type": "function"}]}, []),
        ({"tool_calls": [{"extra_content": {"a": 1}}]}, [{"extra_content": {"a": 1}}]),
        ({"tool_calls": {"id": "x"}}, [{"id": "x"}]),
        ({"tool_calls": [None, 1]}, []),
        ({"tool_calls": "x"}, []),
        ({"tool_calls": [{"index": 0, "id": "", **_EMPTY}]}, []),
        ({"tool_calls": [{"type": "tool_use", "name": None, "input": {}}]}, []),
        ({"function_call": _EMPTY}, []),
        ({"function_call": {"name": "a"}}, [{"index": 0, "function": {"name": "a"}}]),
        (
            {"tool_calls": [], "function_call": {"name": "a"}},
            [{"index": 0, "function": {"name": "a"}}],
        ),
        ({"tool_calls": [{"id": "x"}], "function_call": {"name": "a"}}, [{"id": "x"}]),
    ],
)
def test_fragments_of_a_delta(delta: dict[str, Any], fragments: list[Any]) -> None:
    assert get_fragments(delta) == fragments


def test_a_single_call() -> None:
    assembler = ToolCallAssembler(single=True)
    for index in (0, 1):
        assembler.feed(fragment("{}", index=index, name="a"), lambda: "")
    assert assembler.accepted_calls == assembler.calls[:1]


A, B = '{"command":"ls"}', '{"command":"ls -la"}'
DOCUMENTS = {
    "once": ([A], [A]),
    "twice": ([A, A], [A]),
    "four times": ([A, A, A, A], [A]),
    "other spaces": ([A, " ", '{"command": "ls"}'], [A]),
    "special tokens": ([A, "<|tool_call_end|>", A, "<|im_end|>"], [A]),
    "another": ([A, B], [A, B]),
    "another, separated": ([A, "\n\n", B, "```"], [A, B]),
    "several, some twice": ([A, A, B, B, A], [A, B, A]),
    "numbers are not booleans": (['{"a":1}', '{"a":true}'], ['{"a":1}', '{"a":true}']),
    "an empty object first": (["{}", A, B], [A, B]),
    "empty objects": (["{}", "{}", A, A], [A]),
    "empty objects alone": (["{}", "{}"], [""]),
    "an empty object behind": ([A, "{}"], [A, ""]),
    "single quotes behind": ([A, B.replace('"', "'")], [A, B]),
    "brackets in strings": (['{"a":"}{"}', '{"a":"{}"}'], ['{"a":"}{"}', '{"a":"{}"}']),
}


@pytest.mark.parametrize(("documents", "expected"), DOCUMENTS.values(), ids=DOCUMENTS)
@pytest.mark.parametrize("key", [{"index": 0}, {"id": "x"}, {}], ids=["index", "id", "no key"])
def test_several_documents(documents: list[str], expected: list[str], key: dict[str, Any]) -> None:
    for pieces in cut_in_all_ways("".join(documents)):
        fragments = [fragment(each, **key) for each in pieces if each]
        calls = assemble(fragment(name="Bash", **key), *fragments)
        assert [name for name, _ in calls] == ["Bash"] * len(expected)
        assert [arguments for _, arguments in calls] == expected


def test_a_broken_document_after_the_arguments_is_another_call() -> None:
    for pieces in cut_in_all_ways(A + A[:9]):
        calls = assemble(
            fragment(name="Bash", index=0), *(fragment(each, index=0) for each in pieces)
        )
        assert [arguments for _, arguments in calls] == [A, '{"INVALID_JSON":"{\\"command"}']


def test_too_many_documents_are_invalid() -> None:
    text = "".join(f'{{"n":{number}}}' for number in range(102))
    [(_, arguments)] = assemble(fragment(text, name="Bash", index=0))
    assert json.loads(arguments) == {"INVALID_JSON": text}
