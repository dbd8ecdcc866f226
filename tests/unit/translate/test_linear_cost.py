"""The cost of translating hostile responses: it grows with their length, and not faster.

Each row is an input that is hostile to one step. Texts are a beginning, a unit that is repeated up
to the size, and an end; they are translated whole, byte by byte, and in random pieces.
"""

import math
import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import pytest

from anthropic_proxy.translate.rate_limit_headers import convert_rate_limit_headers
from anthropic_proxy.translate.response.stream import StreamTranslator
from anthropic_proxy.translate.response.text_filters import JsonTextFilter, StopSequenceScanner
from anthropic_proxy.translate.responses_api.stream import ResponsesReader
from anthropic_proxy.translate.tool_calls.json_repair import repair_json
from anthropic_proxy.translate.tool_calls.text_formats import BARE_FORMAT, FORMATS
from anthropic_proxy.translate.tool_calls.text_parser import TextCallParser
from anthropic_proxy.translate.upstream_errors import parse_chunk_error
from anthropic_proxy.translate.upstream_failure import UpstreamIdentity
from tests.support.response_specs import answer_spec
from tests.support.scaling import Prepare, assert_linear_cpu, assert_linear_lines

# Characters, or whatever the input consists of; four times as many are translated at most.
SIZE = 4_000
# Times that a size is doubled for an input that is fast.
DOUBLINGS = 4
# Characters before each small piece, where the bad case is that they are copied for each piece.
BLOB = 50

Cut = Callable[[str], Iterator[str]]


class Hostile(NamedTuple):
    unit: str
    beginning: str = ""
    end: str = ""

    def of_size(self, size: int) -> str:
        return self.beginning + self.unit * (size // len(self.unit)) + self.end


DEEPSEEK = "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>"
DSML_CALL = '<｜DSML｜tool_calls><｜DSML｜invoke name="f">'
M3 = "]<]minimax[>["
M3_CALL = f'{M3}<tool_call>{M3}<invoke name="f">'
HARMONY = "<|channel|>commentary to=functions.f<|message|>"
KIMI = "<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>"
CALL = '{"name":"f","arguments":{"a":'

TEXTS = {
    **{f"opener {form.opener}": Hostile(form.opener) for form in FORMATS},
    **{f"opener in lines {form.opener}": Hostile(f"{form.opener}\n") for form in FORMATS},
    **{f"opener, bracket {form.opener}": Hostile(f"{form.opener}{{") for form in FORMATS},
    **{f"end {form.end}": Hostile(form.end) for form in FORMATS if form.end},
    **{
        f"{form.opener} {opening}": Hostile(form.opener + opening.replace("NAME", "f"))
        for form in (*FORMATS, BARE_FORMAT)
        for opening in (form.openings[0], form.openings[-1])
    },
    **{
        f"half of {form.opener} {opening}": Hostile(
            (form.opener + opening.replace("NAME", "f"))[:-1]
        )
        for form in (*FORMATS, BARE_FORMAT)
        for opening in (form.openings[0], form.openings[-1])
    },
    "end in a string, hermes": Hostile("</tool_call>", f'<tool_call>{CALL}"'),
    "end in a string, function": Hostile("</function>", '<function=f>{"a":"'),
    "end in a string, function in a tag": Hostile("</tool_call>", '<tool_call><function=f>{"a":"'),
    "end in a string, block": Hostile("```", f'```json\n{CALL}"'),
    "end in a string, escapes": Hostile("\\\\</tool_call>", f'<tool_call>{CALL}"'),
    "half of an end in a string": Hostile("</tool_call", f'<tool_call>{CALL}"'),
    "functions in a tag": Hostile("<function=", "<tool_call>"),
    "tags and functions": Hostile("<tool_call><function="),
    "tags far from functions": Hostile(" ", "<tool_call>", "<function=f"),
    "calls": Hostile(f"<tool_call>{CALL}1}}}}</tool_call>"),
    "calls of functions": Hostile("<function=f></function>\n"),
    "calls of other functions": Hostile("<function=g></function>\n"),
    "calls and stray ends": Hostile("<function=f></function></tool_call></tool_call> "),
    "rejected calls": Hostile("<tool_call>{}</tool_call>"),
    "blocks with calls": Hostile(f"```json\n{CALL}1}}}}\n```\nx\n"),
    "blocks": Hostile("```json\n```\n"),
    "fences within a line": Hostile("``` "),
    "blanks before fences": Hostile("\n        ```"),
    "fences of tildes": Hostile("~~~\n"),
    "tildes": Hostile("~"),
    "indented openers": Hostile("\n    <tool_call>"),
    "openers in an indented line": Hostile("<tool_call>", "\n    "),
    "a line of blanks": Hostile(" ", "\n", "```"),
    "backticks": Hostile("`"),
    "space": Hostile(" "),
    "space in text": Hostile(" ", "a"),
    "space behind an opener": Hostile(" ", "<tool_call>", "x"),
    "space behind a call": Hostile(" ", "<function=f></function>", "x"),
    "space behind a block": Hostile(" ", f"```json\n{CALL}1}}}}\n```"),
    "space behind a function": Hostile(" ", "<tool_call><function=f>", "x</tool_call>"),
    "lines": Hostile("\n"),
    "brackets": Hostile("["),
    "tags": Hostile("<"),
    "bare, lists": Hostile("[],", f"{CALL}["),
    "bare, depth": Hostile("[", CALL),
    "bare, documents": Hostile('{"name":"f","arguments":{}} '),
    "bare, digits": Hostile("1", CALL),
    "hermes, lists": Hostile("[],", f"<tool_call>{CALL}[", "1]}}</tool_call>"),
    "hermes, broken": Hostile("'a',", f"<tool_call>{CALL}[", "]}</tool_call>"),
    "hermes, keys without values": Hostile("a ", f"<tool_call>{CALL}", "</tool_call>"),
    "hermes, comments": Hostile("/*", f"<tool_call>{CALL}", "</tool_call>"),
    "hermes, escapes": Hostile("\\n", f'<tool_call>{CALL}"', '"}}</tool_call>'),
    "llama, separators": Hostile(";", "<|python_tag|>{}"),
    "llama, ends": Hostile("<|eom_id|>", '<|python_tag|>{"name":"f"}'),
    "llama, objects": Hostile('{"name":"f"};', "<|python_tag|>"),
    "mistral, markers": Hostile("[TOOL_CALLS]", "[TOOL_CALLS]f{}"),
    "mistral, calls": Hostile("f{}", "[TOOL_CALLS]"),
    "mistral, names": Hostile("f", "[TOOL_CALLS]f{}"),
    "coder, values": Hostile("<parameter=a>1</parameter>", "<function=f>", "</function>"),
    "coder, ends of values": Hostile("</parameter>", "<function=f><parameter=a>", "</function>"),
    "coder, beginnings of values": Hostile("<parameter=a>", "<function=f>", "</function>"),
    "coder, lines": Hostile("\n", "<function=f><parameter=a>", "</function>"),
    "glm, values": Hostile(
        "<arg_key>a</arg_key><arg_value>1</arg_value>", "<tool_call>f", "</tool_call>"
    ),
    "glm, keys": Hostile("<arg_key>", "<tool_call>f<arg_key>a</arg_key>", "</tool_call>"),
    "glm, beginnings of values": Hostile(
        "<arg_value>", "<tool_call>f<arg_key>a</arg_key>", "</tool_call>"
    ),
    "deepseek, brackets": Hostile("{", DEEPSEEK, "<｜tool▁calls▁end｜>"),
    "deepseek, space": Hostile(" ", DEEPSEEK, "x<｜tool▁calls▁end｜>"),
    "deepseek, names": Hostile("f", DEEPSEEK, "<｜tool▁calls▁end｜>"),
    "kimi, digits": Hostile(
        "0", "<|tool_calls_section_begin|><|tool_call_begin|>f:", "<|tool_calls_section_end|>"
    ),
    "kimi, names": Hostile(
        "f", "<|tool_calls_section_begin|><|tool_call_begin|>f:0 ", "<|tool_calls_section_end|>"
    ),
    "kimi, ends": Hostile("<|tool_call_end|>", KIMI, "<|tool_calls_section_end|>"),
    "DSML, calls": Hostile('<｜DSML｜invoke name="f"></｜DSML｜invoke>'),
    "DSML, values": Hostile(
        '<｜DSML｜parameter name="a">1</｜DSML｜parameter>', DSML_CALL, "</｜DSML｜invoke>"
    ),
    "DSML, beginnings of values": Hostile(
        '<｜DSML｜parameter name="a">', DSML_CALL, "</｜DSML｜invoke>"
    ),
    "DSML, space": Hostile(" ", f"{DSML_CALL}<｜DSML｜parameter", "></｜DSML｜invoke>"),
    "invoke, ends": Hostile("</invoke>", '<invoke name="f">'),
    "invoke, ends in a string": Hostile("</invoke>", '<invoke name="f">{"a":"'),
    "invoke, names": Hostile("f ", "<invoke name=", "></invoke>"),
    "invoke, in a tag": Hostile('<invoke name="f"></invoke>', "<tool_call>", "</tool_call>"),
    "M3, markers": Hostile(M3, M3_CALL, "</invoke>"),
    "M3, values": Hostile(f"{M3}<a>1{M3}</a>", M3_CALL, "</invoke>"),
    "M3, items": Hostile(f"{M3}<item>{M3}</item>", f"{M3_CALL}{M3}<a>", f"{M3}</a></invoke>"),
    "M3, depth": Hostile(f"{M3}<a>", M3_CALL, "</invoke>"),
    "M3, names of tags": Hostile("a", f"{M3_CALL}{M3}<", "</invoke>"),
    "M3, space": Hostile(" ", f"{M3_CALL}{M3}<a", "</invoke>"),
    "M3, calls": Hostile(f'{M3}<invoke name="f">{M3}</invoke>'),
    "M3, stray ends": Hostile(f'<invoke name="f"></invoke>{M3}</tool_call>{M3}</tool_call>'),
    "harmony, messages": Hostile(f"{HARMONY}{{}}"),
    "harmony, calls": Hostile(f"{HARMONY}{{}}<|call|>"),
    "harmony, words": Hostile("json ", f"{HARMONY}{{}}"),
    "harmony, ends": Hostile("<|end|>", f"{HARMONY}{{}}"),
    "harmony, ends in a string": Hostile("<|call|>", f'{HARMONY}{{"a":"'),
    "harmony, space": Hostile(" ", HARMONY, "{}"),
    "stripped harmony": Hostile("commentary to=functions.f json{}"),
    "stripped harmony, space": Hostile(" ", "commentary to=functions.f json{}", "x"),
    "stripped harmony, names": Hostile("f", "commentary to=functions.f json{}commentary to="),
    "gemma, strings": Hostile('<|"|>a', "<|tool_call>call:f{", "<tool_call|>"),
    "gemma, values": Hostile('<|"|>a<|"|>,', "<|tool_call>call:f{a:[", "]}<tool_call|>"),
    "gemma, brackets": Hostile("}", "<|tool_call>call:f{", "x<tool_call|>"),
    "gemma, names": Hostile("f:", "<|tool_call>call:f:", "{}<tool_call|>"),
    "gemma, calls": Hostile("<|tool_call>call:f{}<tool_call|>"),
    "inline code": Hostile("`<tool_call>"),
    "inline code, lines": Hostile("a\n", "`<tool_call>"),
    "brackets that close": Hostile("]"),
    "think tags": Hostile("<think>"),
    "think": Hostile("</think", "<think>"),
    "think, lone ends": Hostile("\n</think>\n"),
    "think, space": Hostile(" ", "<think>", "</think>"),
}


def whole(text: str) -> Iterator[str]:
    yield text


def bytewise(text: str) -> Iterator[str]:
    yield from text


def in_random_pieces(text: str) -> Iterator[str]:
    sizes, at = random.Random(7), 0  # noqa: S311 - any pieces will do
    while at < len(text):
        end = at + sizes.randrange(1, 60)
        yield text[at:end]
        at = end


def tools(number: int) -> dict[str, Any]:
    """Some tools, one of which has as many types for its parameter as there are tools."""
    typed = {"properties": {"a": {"anyOf": [{"type": "integer"}] * number}}}
    return {**{f"f_{each}": {} for each in range(number)}, "f": typed}


def split_calls(text: str, cut: Cut, offered: dict[str, Any]) -> list[Any]:
    calls = TextCallParser(offered)
    parts = [part for piece in cut(text) for part in calls.feed(piece)]
    return parts + calls.close(truncated=False)


@pytest.mark.parametrize("cut", [bytewise, in_random_pieces])
@pytest.mark.parametrize("hostile", TEXTS.values(), ids=TEXTS)
def test_calls_in_streamed_text(hostile: Hostile, cut: Cut) -> None:
    assert_linear_lines(
        lambda size: partial(split_calls, hostile.of_size(size), cut, tools(9)), SIZE // 4
    )


@pytest.mark.parametrize("hostile", TEXTS.values(), ids=TEXTS)
def test_calls_in_whole_text(hostile: Hostile) -> None:
    """The number of tools grows with the text: a cost per tool and character is quadratic."""
    assert_linear_cpu(
        lambda size: partial(split_calls, hostile.of_size(size), whole, tools(size // 8)),
        SIZE,
        doublings=DOUBLINGS,
    )


def translate(deltas: list[dict[str, Any]], request: dict[str, Any] | None = None) -> list[Any]:
    """Translate a stream with these deltas."""
    translator = StreamTranslator(answer_spec(request))
    events = [
        event for delta in deltas for event in translator.feed({"choices": [{"delta": delta}]})
    ]
    events += translator.feed({"choices": [{"delta": {}, "finish_reason": "stop"}]})
    return events + translator.close(done=True)


def fragments(*arguments: str, **fields: Any) -> list[dict[str, Any]]:
    return [
        {"tool_calls": [{**fields, "function": {"name": "f", "arguments": each}}]}
        for each in arguments
    ]


def continued(first: str, *rest: str) -> list[dict[str, Any]]:
    """A call whose later fragments have no name."""
    later = [{"tool_calls": [{"index": 0, "function": {"arguments": each}}]} for each in rest]
    return [*fragments(first, index=0), *later]


def calls(number: int) -> list[dict[str, Any]]:
    """Many calls, none of which can be sent before the first is whole."""
    ids = (f"call_{each}" for each in range(number))
    return [
        {"tool_calls": [{"id": each, "function": {"name": "f", "arguments": "{"}}]} for each in ids
    ]


def names(number: int) -> list[dict[str, Any]]:
    """Many pieces of a name, none of which is the name of a tool."""
    return [{"tool_calls": [{"index": 0, "function": {"name": "f"}}]} for _ in range(number)]


def offering(number: int) -> dict[str, Any]:
    return {
        "tools": [
            {"name": f"f_{each}", "input_schema": {"type": "object"}} for each in range(number)
        ]
    }


def detail(text: str) -> dict[str, Any]:
    return {"reasoning_details": [{"type": "reasoning.text", "text": text, "index": 0}]}


def feed_each(feed: Callable[[Any], object], pieces: list[Any]) -> None:
    for piece in pieces:
        feed(piece)


def held_choices(number: int, *indices: int) -> list[dict[str, Any]]:
    """Reasoning in other choices than the first, which has only text."""
    thoughts = [{"index": index, "delta": {"reasoning": "Hm"}} for index in indices]
    alternative = {"index": number + 1, "delta": {"content": "a"}}
    # The other field keeps the chunks off the fast path of the text.
    texts = [{"index": 0, "delta": {"content": "a", "name": "a"}}] * number
    return [{"choices": [choice]} for choice in (*thoughts, alternative, *texts)]


def ended_calls(number: int) -> list[dict[str, Any]]:
    """A call in many pieces, said to be whole many times over."""
    kind = "response.function_call_arguments"
    delta, done = (
        {"type": f"{kind}.delta", "delta": "a" * BLOB},
        {"type": f"{kind}.done", "arguments": "{}"},
    )
    return [*[delta] * number, *[done] * number]


def ended_texts(number: int) -> list[dict[str, Any]]:
    """A text in many pieces, said to be whole many times over."""
    kind, place = "response.output_text", {"item_id": "m", "output_index": 0, "content_index": 0}
    delta, done = (
        {"type": f"{kind}.delta", "delta": "a" * BLOB},
        {"type": f"{kind}.done", "text": ""},
    )
    return [*[delta | place] * number, *[done | place] * number]


def stop_sequences(size: int) -> list[str]:
    """Sequences of `size` characters in total, each of which goes on for long before it fails."""
    longest = math.isqrt(2 * size)
    return [f"{'a' * length}b" for length in range(longest)]


def scan_for_stops(size: int) -> Callable[[], object]:
    text, sequences = "a" * size, stop_sequences(size)
    return lambda: feed_each(StopSequenceScanner(sequences).feed, [text[:1000], *text[1000:]])


def structured(pieces: list[str]) -> str:
    answer = JsonTextFilter()
    return "".join(map(answer.feed, pieces)) + answer.close()


def of_deltas(
    deltas: Callable[[int], list[dict[str, Any]]], request: dict[str, Any] | None = None
) -> Prepare:
    return lambda size: partial(translate, deltas(size), request)


WATCHED = {"tools": [{"name": "f", "input_schema": {"properties": {"n": {"type": "integer"}}}}]}

WORKS: dict[str, Prepare] = {
    "stop sequences": scan_for_stops,
    "one long stop sequence": lambda size: partial(
        feed_each,
        StopSequenceScanner(["a" * BLOB * size + "b"]).feed,
        ["a" * (BLOB - 1) * size, *"a" * size],
    ),
    "arguments, an empty object and space": of_deltas(
        lambda n: fragments("{}" + " " * BLOB * n, *" " * n, index=0),
    ),
    "arguments, brackets with their id": of_deltas(
        lambda n: fragments('{"a":"' + "a" * BLOB * n, *"{" * n, id="x"),
    ),
    "arguments, a long key": of_deltas(
        lambda n: fragments('{"' + "a" * BLOB * n, *"a" * n, index=0)
    ),
    "arguments, a long tag behind them": of_deltas(
        lambda n: fragments(f'{{"a":1}}</{"a" * BLOB * n}', *" " * n, index=0),
    ),
    "arguments, repeated": of_deltas(lambda n: continued('{"a":1}' * n)),
    "arguments, repeated in pieces": of_deltas(lambda n: continued(*['{"a":1}{"a":1}'] * n)),
    "arguments, repeated byte by byte": of_deltas(lambda n: continued('{"a":1}', *'{"a":1}' * n)),
    "arguments, a long object repeated shortly": of_deltas(
        lambda n: continued('{"a":1' + " " * BLOB * n + "}", *['{"a":1}'] * n)
    ),
    "arguments, special tokens": of_deltas(lambda n: continued('{"a":1}' + "<|a|>" * n)),
    "arguments, special tokens byte by byte": of_deltas(
        lambda n: continued('{"a":1}', *"<|a|>" * n)
    ),
    "arguments, broken, special tokens": of_deltas(lambda n: continued("{'a':1}" + "<|a|>" * n)),
    "arguments, a half document behind": of_deltas(lambda n: continued('{"a":1}{"a":"', *"a" * n)),
    "arguments, a broken document behind": of_deltas(lambda n: continued('{"a":1}{a', *"a" * n)),
    "arguments, strings that wait": of_deltas(
        lambda n: continued('{"n":"', *"1" * n, '"', *',"n":"1"' * n), WATCHED
    ),
    "arguments, a long key that may wait": of_deltas(
        lambda n: continued('{"' + "n" * BLOB * n, *"n" * n), WATCHED
    ),
    "reasoning with half of a call": of_deltas(
        lambda n: [{"reasoning_content": "<tool_call>{"}] * n, WATCHED
    ),
    "arguments, lists": of_deltas(lambda n: fragments('{"a":[' + "[]," * n, index=0)),
    "calls that wait": of_deltas(calls),
    "calls by id": of_deltas(lambda n: [*calls(n), *calls(n)]),
    "names in pieces": lambda size: partial(translate, names(size), offering(size)),
    "refusal": of_deltas(lambda n: [{"refusal": "a" * BLOB * n}] + [{"refusal": "a"}] * n),
    "reasoning details": of_deltas(lambda n: [detail("a" * BLOB * n)] + [detail("a")] * n),
    "space, then a tag": of_deltas(
        lambda n: [{"content": each} for each in [" " * BLOB * n, *" " * n, "<", "think"]]
    ),
    "fence of a structured answer": lambda size: partial(
        structured, ["```" + "a" * BLOB * size, *"a" * size]
    ),
    "space in a structured answer": lambda size: partial(
        structured, ["```json" + " " * BLOB * size, *" " * size]
    ),
    "brackets in a structured answer": lambda size: partial(
        structured, ["x" + "[" * 50 + "1," * size]
    ),
    "repair, quotes": lambda size: partial(repair_json, "{'a':" + '"a\\\\' * size),
    "repair, comments": lambda size: partial(repair_json, "{" + "/* " * size),
    "repair, words": lambda size: partial(repair_json, "{" + "a " * size),
    "repair, tokens": lambda size: partial(repair_json, "{'a':[" + "1," * size + "]}"),
    "reasoning of another choice": lambda size: partial(
        feed_each, StreamTranslator(answer_spec()).feed, held_choices(size, *[1] * size)
    ),
    "reasoning of other choices": lambda size: partial(
        feed_each, StreamTranslator(answer_spec()).feed, held_choices(size, *range(1, size + 1))
    ),
    "Responses API, the same end of a call again": lambda size: partial(
        feed_each, ResponsesReader().feed, ended_calls(size)
    ),
    "Responses API, the same end of a text again": lambda size: partial(
        feed_each, ResponsesReader().feed, ended_texts(size)
    ),
    "code of an error": lambda size: partial(
        parse_chunk_error,
        {
            "error": {
                "message": "a",
                "code": "input token count " * size,
                "type": "image_url" * size,
            }
        },
        UpstreamIdentity("up"),
    ),
    "rate limit": lambda size: partial(
        convert_rate_limit_headers, {"x-ratelimit-reset": "1" * size}, 0
    ),
}


@pytest.mark.parametrize("prepare", WORKS.values(), ids=WORKS)
def test_works(prepare: Prepare) -> None:
    assert_linear_cpu(prepare, SIZE // 4, doublings=DOUBLINGS)
