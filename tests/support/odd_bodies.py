"""Response bodies in other formats than requested, or with more in them than chunks.

Each is read in the same way as the response to a request with `stream` and to one without.
"""

from dataclasses import dataclass, field
from typing import Any

import pytest

from anthropic_proxy.wire.json_codec import dumps
from tests.support.streams import wire

Json = dict[str, Any]

USAGE = {"prompt_tokens": 25, "completion_tokens": 7, "total_tokens": 32}
HELLO: list[Json] = [{"type": "text", "text": "Hello"}]
LIST_FILES: list[Json] = [
    {"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {"command": "ls"}}
]


@dataclass(frozen=True)
class OddBody:
    """A body, and the message or the error that it becomes."""

    raw: bytes
    content: list[Json] = field(default_factory=lambda: HELLO)
    # a part of the error's text
    error: str = ""
    # the API of the upstream
    api: str = "chat_completions"
    request: Json | None = None


def choice(place: str, content: Any, **fields: Any) -> Json:
    return {"index": 0, place: content, "finish_reason": "stop", **fields}


def call(arguments: str = '{"command":"ls"}', **fields: Any) -> Json:
    function = {"name": "Bash", "arguments": arguments}
    return {"id": "call_1", "type": "function", "function": function, **fields}


def completion(*choices: Any, **fields: Any) -> Json:
    return {"id": "x", "object": "chat.completion", "choices": choices, "usage": USAGE, **fields}


def text_chunk(text: str) -> Json:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}


END = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
WHOLE = completion(choice("message", {"role": "assistant", "content": "Hello"}))
CHUNKS = [text_chunk("Hel"), text_chunk("lo"), {**END, "usage": USAGE}]
STREAM = wire(CHUNKS, done=True)


def json_body(body: Any) -> OddBody:
    return OddBody(dumps(body))


def hello(place: str, content: Any, **fields: Any) -> OddBody:
    """Return a stream of one chunk whose text is in `place`."""
    return OddBody(wire([completion(choice(place, content, **fields))], done=True))


def with_event(line: bytes) -> OddBody:
    """Return a stream with another event between its texts."""
    event = b"data: " + line + b"\n\n"
    return OddBody(wire(CHUNKS[:1], done=False) + event + wire(CHUNKS[1:], done=True))


def broken_by(line: bytes, error: str = "invalid chunk") -> OddBody:
    return OddBody(with_event(line).raw, error=error)


_MESSAGE = {"role": "assistant", "content": "Hello"}
_LATE_MESSAGE = completion(choice("message", _MESSAGE))
_RESPONSE = {
    "id": "resp_1",
    "status": "completed",
    "output": [
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Hello", "annotations": []}],
        }
    ],
    "usage": {"input_tokens": 25, "output_tokens": 7},
}
_RESPONSES_STREAM = wire(
    [
        {"type": "response.output_text.delta", "output_index": 0, "delta": "Hello"},
        {"type": "response.completed", "response": _RESPONSE},
    ],
    done=False,
)
_TEXT_AND_CALL = [*HELLO, *LIST_FILES]
_TWO_CALLS = [*LIST_FILES, {**LIST_FILES[0], "id": "toolu_2", "input": {"command": "pwd"}}]


def _call_chunk(*calls: Json, index: int = 0) -> Json:
    return {"choices": [{"index": index, "delta": {"tool_calls": calls}, "finish_reason": None}]}


def _choices(*choices: Json, content: list[Json]) -> OddBody:
    return OddBody(dumps(completion(*choices)), content)


FORMATS: dict[str, OddBody] = {
    "JSON": json_body(WHOLE),
    "SSE": OddBody(STREAM),
    "JSON after white space": OddBody(b"\n \r\n" + dumps(WHOLE)),
    "JSON after a byte order mark": OddBody(b"\xef\xbb\xbf" + dumps(WHOLE)),
    "SSE after blank lines": OddBody(b"\n\n\n" + STREAM),
    "SSE after a byte order mark": OddBody(b"\xef\xbb\xbf" + STREAM),
    "SSE with a comment first": OddBody(b": OPENROUTER PROCESSING\n\n" + STREAM),
    "SSE with an event field first": OddBody(b"event: message\n" + STREAM),
    "SSE with an id first": OddBody(b"id: 1\nretry: 3000\n" + STREAM),
    "SSE without an empty line at its end": OddBody(STREAM.rstrip()),
    "SSE without [DONE]": OddBody(wire(CHUNKS, done=False)),
    "a list of one": json_body([WHOLE]),
    "a list of chunks": json_body(CHUNKS),
    "JSON Lines": OddBody(b"\n".join(map(dumps, CHUNKS)) + b"\n"),
    "JSON Lines of a whole response": OddBody(dumps(WHOLE) + b"\n"),
    # cline/cline#13348
    "an envelope": json_body({"data": WHOLE, "success": True}),
    "an envelope with a message": json_body({"code": 0, "message": "ok", "result": WHOLE}),
    "an envelope with null": json_body({"choices": None, "data": WHOLE}),
    "envelopes of chunks": OddBody(wire([{"data": each} for each in CHUNKS], done=True)),
    "DashScope's own API": json_body(
        {"output": {"choices": [choice("message", _MESSAGE)]}, "usage": USAGE, "request_id": "x"}
    ),
    "an error in an envelope": OddBody(
        dumps({"data": {"error": {"message": "no such model"}}, "success": False}),
        error="no such model",
    ),
    "the Responses API": OddBody(dumps(_RESPONSE), api="responses"),
    "the Responses API, SSE": OddBody(_RESPONSES_STREAM, api="responses"),
    "the Responses API in an envelope": OddBody(
        dumps({"data": _RESPONSE, "success": True}), api="responses"
    ),
    "the Responses API, its last event": OddBody(
        dumps({"type": "response.completed", "response": _RESPONSE}), api="responses"
    ),
    "truncated JSON": OddBody(dumps(WHOLE)[:-10], error="not a chat completion"),
    "truncated JSON Lines": OddBody(
        b"\n".join(map(dumps, CHUNKS))[:-10], error="not a chat completion"
    ),
    "text in brackets": OddBody(b"[error] upstream timed out", error="[error] upstream timed out"),
    "text after a time in brackets": OddBody(
        b"[2026-01-01 10:00:00] worker died", error="[2026-01-01 10:00:00] worker died"
    ),
    "text in braces": OddBody(b"{timeout} worker died", error="{timeout} worker died"),
    "a truncated list": OddBody(b"[" + dumps(WHOLE)[:-10], error="not a chat completion"),
    "only an end mark in brackets": OddBody(b"[DONE]", error="not a chat completion"),
    "truncated SSE": OddBody(wire(CHUNKS[:2], done=False), error="before it was complete"),
}

PLACES: dict[str, OddBody] = {
    # Amm1rr/WebAI-to-API#55
    "message": hello("message", _MESSAGE),
    "message without delta content": hello("message", _MESSAGE, delta={"role": "assistant"}),
    "message, delta null": hello("message", _MESSAGE, delta=None),
    "messages in several chunks": OddBody(
        wire(
            [
                completion({"index": 0, "message": {"content": "Hel"}, "finish_reason": None}),
                completion(choice("message", {"content": "lo"})),
            ],
            done=True,
        )
    ),
    "text": hello("text", "Hello"),
    "text beside a delta without text": hello("text", "Hello", delta={"content": ""}),
    "text that repeats the delta": hello("text", "Hello", delta={"content": "Hello"}),
    "texts in several chunks": OddBody(
        wire(
            [
                completion({"index": 0, "text": "Hel", "finish_reason": None}),
                completion({"index": 0, "text": "lo", "finish_reason": None}),
                completion(choice("text", "")),
            ],
            done=True,
        )
    ),
    "content": hello("content", "Hello"),
    "a string as delta": hello("delta", "Hello"),
    "a string as message": hello("message", "Hello"),
    "content as one object": hello("delta", {"content": {"type": "text", "text": "Hello"}}),
    "content as strings": hello("delta", {"content": ["Hel", "lo"]}),
    "content with a value": hello(
        "delta", {"content": [{"type": "text", "text": {"value": "Hello"}}]}
    ),
    "text in a delta": hello("delta", {"text": "Hello"}),
    "a choice without a list": OddBody(
        wire([{"choices": choice("delta", {"content": "Hello"}), "usage": USAGE}], done=True)
    ),
    "a call in a message": OddBody(
        wire([completion(choice("message", {"tool_calls": [call()]}))], done=True), LIST_FILES
    ),
    "a call in the choice": OddBody(
        wire(
            [completion({"index": 0, "tool_calls": [call()], "finish_reason": "stop"})], done=True
        ),
        LIST_FILES,
    ),
    "a call without a list": OddBody(
        wire([completion(choice("message", {"tool_calls": call()}))], done=True), LIST_FILES
    ),
    "a whole response with a delta": json_body(completion(choice("delta", _MESSAGE))),
    "a whole response with a text": json_body(completion(choice("text", "Hello"))),
    # ENTERPILOT/GoModel#1068 (MiniMax), abundantbeing/hermes-browser-extension#11
    "a last message that repeats the text": OddBody(wire([*CHUNKS[:2], _LATE_MESSAGE], done=True)),
    "a last message that repeats text and call": OddBody(
        wire(
            [
                *CHUNKS[:2],
                _call_chunk(call(index=0)),
                completion(choice("message", {**_MESSAGE, "tool_calls": [call()]})),
            ],
            done=True,
        ),
        _TEXT_AND_CALL,
    ),
    "a last message with a new call": OddBody(
        wire(
            [
                *CHUNKS[:2],
                completion(choice("message", {**_MESSAGE, "tool_calls": [call()]})),
            ],
            done=True,
        ),
        _TEXT_AND_CALL,
    ),
    "a message after an empty delta": OddBody(wire([text_chunk(""), _LATE_MESSAGE], done=True)),
    "a message after reasoning": OddBody(
        wire(
            [
                {"choices": [{"index": 0, "delta": {"reasoning_content": "Hm"}}]},
                completion(choice("message", {**_MESSAGE, "reasoning_content": "Hm"})),
            ],
            done=True,
        )
    ),
    "an alternative, first in the list": _choices(
        choice("message", {"content": "Bye"}, index=1),
        choice("message", _MESSAGE),
        content=HELLO,
    ),
    "an alternative with a call": _choices(
        choice("message", _MESSAGE),
        choice("message", {"content": "Bye", "tool_calls": [call()]}, index=1),
        content=HELLO,
    ),
    "alternatives in a stream": OddBody(
        wire(
            [
                text_chunk("Hel"),
                {"choices": [{"index": 1, "delta": {"content": "Bye"}, "finish_reason": None}]},
                text_chunk("lo"),
                {"choices": [{"index": 1, "delta": {}, "finish_reason": "stop"}]},
                END,
            ],
            done=True,
        )
    ),
    "an alternative that ends early": OddBody(
        wire(
            [
                text_chunk("Hel"),
                {"choices": [{"index": 1, "delta": {"content": "B"}, "finish_reason": "length"}]},
                {"choices": [{"index": 1, "delta": {}, "finish_reason": "error"}]},
                text_chunk("lo"),
                END,
            ],
            done=True,
        )
    ),
    "alternatives in each chunk": OddBody(
        wire(
            [
                {
                    "choices": [
                        {"index": 1, "delta": {"content": "Bye"}},
                        {"index": 0, "delta": {"content": text}},
                    ]
                }
                for text in ("Hel", "lo")
            ]
            + [END],
            done=True,
        )
    ),
    "an index that begins with 1": OddBody(
        wire(
            [{"choices": [{"index": 1, "delta": {"content": "Hello"}, "finish_reason": "stop"}]}],
            done=True,
        )
    ),
    # GitHub Copilot (ericc-ch/copilot-api merges them)
    "a call in the second choice": _choices(
        choice("message", _MESSAGE, finish_reason="tool_calls"),
        choice("message", {"content": None, "tool_calls": [call()]}, index=1),
        content=_TEXT_AND_CALL,
    ),
    "a call in a second choice without index": _choices(
        {"message": _MESSAGE, "finish_reason": "tool_calls"},
        {"message": {"tool_calls": [call()]}, "finish_reason": "tool_calls"},
        content=_TEXT_AND_CALL,
    ),
    "a call in the second choice, first in the list": _choices(
        choice("message", {"content": None, "tool_calls": [call()]}, index=1),
        choice("message", _MESSAGE),
        content=_TEXT_AND_CALL,
    ),
    "calls in two choices": _choices(
        choice("message", {"tool_calls": [call()]}),
        choice("message", {"tool_calls": [call('{"command":"pwd"}', id="call_2")]}, index=1),
        content=_TWO_CALLS,
    ),
    "calls in two choices of a stream": OddBody(
        wire(
            [
                _call_chunk(call('{"command"', index=0)),
                _call_chunk(call('{"command"', index=0, id="call_2"), index=1),
                _call_chunk({"index": 0, "function": {"arguments": ':"ls"}'}}),
                _call_chunk({"index": 0, "function": {"arguments": ':"pwd"}'}}, index=1),
                END,
            ],
            done=True,
        ),
        _TWO_CALLS,
    ),
    "a call in the second choice of a stream": OddBody(
        wire([*CHUNKS[:2], _call_chunk(call(index=0), index=1), END], done=True), _TEXT_AND_CALL
    ),
}

EVENTS: dict[str, OddBody] = {
    "null": with_event(b"null"),
    "an empty string": with_event(b'""'),
    "nothing": with_event(b""),
    "white space": with_event(b"  \t"),
    "a word": with_event(b"ping"),
    "a word in quotes": with_event(b'"ping"'),
    "a word with a hyphen": with_event(b"keep-alive"),
    "words": with_event(b"OPENROUTER PROCESSING"),
    "a time": with_event(b"1764530000"),
    "true": with_event(b"true"),
    "an empty object": with_event(b"{}"),
    "an empty list": with_event(b"[]"),
    # mnfst/llm-gateway#2053
    "a comment": with_event(b": OPENROUTER PROCESSING"),
    "a comment about an error": with_event(b": error follows"),
    "an event without data": OddBody(b"event: ping\n\n" + STREAM),
    "a chunk in a list": OddBody(wire(CHUNKS[:2], done=False) + b"data: " + dumps([CHUNKS[2]])),
    "the field name twice": OddBody(STREAM.replace(b"data: ", b"data: data: ")),
    "[DONE] with a space": OddBody(STREAM.replace(b"[DONE]", b"[DONE] ")),
    "[DONE] after spaces": OddBody(STREAM.replace(b"[DONE]", b" \t[DONE]")),
    "[DONE] in quotes": OddBody(STREAM.replace(b"[DONE]", b'"[DONE]"')),
    "[done]": OddBody(STREAM.replace(b"[DONE]", b"[done]")),
    "[DONE] twice": OddBody(STREAM + b"data: [DONE]\n\n"),
    # Snowflake: only [DONE] ends the response.
    "[DONE] with a space, alone": OddBody(wire(CHUNKS[:2], done=False) + b"data: [DONE] \n\n"),
    "invalid UTF-8": OddBody(
        STREAM.replace(b"Hel", b"He\xffl"), [{"type": "text", "text": "He\ufffdllo"}]
    ),
    "a character cut in two": OddBody(
        STREAM.replace(b"Hel", b"Hel\xf0\x9f").replace(b'"lo', b'"\x98\x80lo'),
        [{"type": "text", "text": "Hel\ufffd\ufffd\ufffdlo"}],
    ),
    "Latin-1 in JSON": OddBody(
        dumps(WHOLE).replace(b"Hello", b"caf\xe9"), [{"type": "text", "text": "caf\ufffd"}]
    ),
    "a broken object": broken_by(b'{"choices":[{"index":0'),
    "a broken object with invalid UTF-8": broken_by(b'{"choices":["\xff'),
    "a broken list": broken_by(b"[1"),
    "a list of numbers": broken_by(b"[1]", "invalid chunk: it is not a JSON object: [1]"),
    "a broken string": broken_by(b'"Hel'),
    "a sentence": broken_by(b"Internal Server Error", "Internal Server Error"),
    "a sentence in quotes": broken_by(b'"the worker died"', "the worker died"),
    "a word for an error": broken_by(b"timeout", "timeout"),
    "a word of the response": broken_by(b"Hello", "not a JSON object: Hello"),
    "a quoted word of the response": broken_by(b'"Sure"', 'not a JSON object: "Sure"'),
    "a number": broken_by(b"42", "not a JSON object: 42"),
    "a longer word": broken_by(b"x" * 65),
}

# `tool_calls` and `function_call` without content.
_STUBS: dict[str, Json] = {
    "an empty function_call": {"function_call": {"name": "", "arguments": ""}},
    "a null function_call": {"function_call": {"name": None, "arguments": None}},
    "an empty fragment": {
        "tool_calls": [{"index": 0, "id": "", "function": {"name": "", "arguments": ""}}]
    },
    "an empty fragment with a type": {
        "tool_calls": [
            {"index": 0, "id": None, "type": "function", "function": {"name": "", "arguments": ""}}
        ]
    },
    "a fragment without a function": {"tool_calls": [{"index": 0}]},
    "a fragment with a null function": {"tool_calls": [{"index": 0, "function": None}]},
    "an empty object as arguments": {
        "tool_calls": [{"index": 0, "function": {"name": "", "arguments": {}}}]
    },
    "both stubs": {
        "tool_calls": [{"index": 0, "function": {"name": ""}}],
        "function_call": {"name": "", "arguments": ""},
    },
}


def _beside_text(stub: Json) -> list[Json]:
    chunks = [text_chunk("Hel"), text_chunk("lo"), END]
    for chunk in chunks[:2]:
        chunk["choices"][0]["delta"] |= stub
    return chunks


def _list_stubs() -> dict[str, OddBody]:
    bodies: dict[str, OddBody] = {}
    for name, stub in _STUBS.items():
        stub_chunk = {"choices": [{"index": 0, "delta": stub}]}
        bodies[f"{name}, beside text"] = OddBody(wire(_beside_text(stub), done=True))
        bodies[f"{name}, before text"] = OddBody(wire([stub_chunk, *CHUNKS], done=True))
        bodies[f"{name}, after a call"] = OddBody(
            wire([_call_chunk(call(index=0)), stub_chunk, END], done=True), LIST_FILES
        )
        message = {"role": "assistant", "content": "Hello", **stub}
        bodies[f"{name}, in a message"] = json_body(completion(choice("message", message)))
    return bodies


STUBS: dict[str, OddBody] = {
    **_list_stubs(),
    "a stub with another index after a call": OddBody(
        wire(
            [
                _call_chunk(call(index=0)),
                _call_chunk({"index": 1, "id": "", "function": {"name": "", "arguments": ""}}),
                END,
            ],
            done=True,
        ),
        LIST_FILES,
    ),
    "an id that never gets a name": OddBody(
        wire([text_chunk("Hello"), _call_chunk({"index": 0, "id": "call_0"}), END], done=True)
    ),
    "an id without a name before a call": OddBody(
        wire(
            [
                _call_chunk({"index": 0, "id": "call_0", "function": {"arguments": ""}}),
                _call_chunk(call(index=1)),
                END,
            ],
            done=True,
        ),
        [{**LIST_FILES[0], "id": "toolu_2"}],
    ),
    "an id without a name before a single call": OddBody(
        wire(
            [_call_chunk({"index": 0, "id": "call_0"}), _call_chunk(call(index=1)), END], done=True
        ),
        [{**LIST_FILES[0], "id": "toolu_2"}],
        request={"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
    ),
    "arguments without a name": OddBody(
        wire([_call_chunk({"index": 0, "function": {"arguments": '{"a":1}'}}), END], done=True),
        error="a tool call without a name",
    ),
    "an id and an empty function_call": OddBody(
        dumps(
            completion(
                choice(
                    "message",
                    {"tool_calls": [call()], "function_call": {"name": "", "arguments": ""}},
                )
            )
        ),
        LIST_FILES,
    ),
}


def _space(*deltas: Json, content: list[Json], **fields: Any) -> OddBody:
    chunks: list[Json] = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    return OddBody(wire([*chunks, END], done=True), content, **fields)


_CALL = {"tool_calls": [call(index=0)]}
_NEXT_CALL = {"tool_calls": [call('{"command":"pwd"}', index=1, id="call_2")]}
SPACES: dict[str, OddBody] = {
    "before a call": _space({"content": "\n\n"}, _CALL, content=LIST_FILES),
    "in pieces before a call": _space(
        {"content": "\n"}, {"content": " \n"}, _CALL, content=LIST_FILES
    ),
    "beside a call": _space({"content": "\n", **_CALL}, content=LIST_FILES),
    "between calls": _space(_CALL, {"content": "\n"}, _NEXT_CALL, content=_TWO_CALLS),
    "after a call": _space(_CALL, {"content": "\n"}, content=LIST_FILES),
    "between hidden reasoning and a call": _space(
        {"reasoning_content": "Hm"}, {"content": "\n\n"}, _CALL, content=LIST_FILES
    ),
    "between reasoning and a call": _space(
        {"reasoning_content": "Hm"},
        {"content": "\n\n"},
        _CALL,
        content=[
            {
                "type": "thinking",
                "thinking": "Hm",
                "signature": "anthropic-proxy.1.reasoning_content",
            },
            *LIST_FILES,
        ],
        request={"thinking": {"type": "adaptive"}},
    ),
    "before a text": _space(
        {"content": "\n"}, {"content": "Hello"}, content=[{"type": "text", "text": "\nHello"}]
    ),
    "within a text": _space(
        {"content": "a"},
        {"content": "\n"},
        {"content": "b"},
        content=[{"type": "text", "text": "a\nb"}],
    ),
    "at the end of a text": _space(
        {"content": "Hello"},
        {"content": "\n"},
        _CALL,
        content=[{"type": "text", "text": "Hello\n"}, *LIST_FILES],
    ),
    "between a call and a text": _space(
        _CALL,
        {"content": "\n"},
        {"content": "Hello"},
        content=[*LIST_FILES, {"type": "text", "text": "\nHello"}],
    ),
    "before a call in the text": _space(
        {"content": '\n<tool_call>{"name": "Bash", "arguments": {"command": "ls"}}</tool_call>'},
        content=LIST_FILES,
        request={"tools": [{"name": "Bash", "input_schema": {"type": "object"}}]},
    ),
    "alone": _space({"content": " \n"}, content=[{"type": "text", "text": " \n"}]),
}


def _nothing_read(*chunks: Json, error: str, **fields: Any) -> OddBody:
    return OddBody(wire([*chunks], done=True), [], error, **fields)


def _end(finish_reason: str, tokens: int, **details: Any) -> Json:
    usage = {"prompt_tokens": 25, "completion_tokens": tokens, **details}
    last = {"index": 0, "delta": {}, "finish_reason": finish_reason}
    return {"choices": [last], "usage": usage}


_UNKNOWN = {"choices": [{"index": 0, "answer": {"words": "Hello"}}]}
_STOPPED = {"stop_sequences": ["END"]}
NOTHING_READ: dict[str, OddBody] = {
    "tokens": _nothing_read(_UNKNOWN, _end("stop", 7), error='"answer":{"words":"Hello"}'),
    "the count": _nothing_read(_UNKNOWN, _end("stop", 7), error='reason "stop", 7 output tokens'),
    "whole": OddBody(
        dumps(completion({"index": 0, "answer": "Hello", "finish_reason": "stop"})),
        error='"answer":"Hello"',
    ),
    "empty content": _nothing_read(text_chunk(""), _end("stop", 4), error="4 output tokens"),
    "announced calls": _nothing_read(_end("tool_calls", 0), error='reason "tool_calls"'),
    "an announced call": _nothing_read(_end("function_call", 0), error='reason "function_call"'),
    "only a stub": _nothing_read(
        _call_chunk({"index": 0, "id": "call_0"}), _end("tool_calls", 9), error="call_0"
    ),
    "more than hidden reasoning": _nothing_read(
        _end("stop", 20, completion_tokens_details={"reasoning_tokens": 10}),
        error="10 output tokens",
    ),
    "the Responses API": OddBody(
        dumps({**_RESPONSE, "output": [{"type": "hologram", "data": "Hello"}]}),
        error='"hologram"',
        api="responses",
    ),
    # The next ones are empty, but complete.
    "an empty turn": _nothing_read(text_chunk(""), _end("stop", 3), error=""),
    "no count": _nothing_read(text_chunk(""), END, error=""),
    "only hidden reasoning": _nothing_read(
        _end("stop", 20, completion_tokens_details={"reasoning_tokens": 20}), error=""
    ),
    "an empty reasoning block": _nothing_read(
        text_chunk("<think></think>"), _end("stop", 9), error=""
    ),
    "the token limit": _nothing_read(_end("length", 9), error=""),
    "a refusal": _nothing_read(_end("content_filter", 9), error=""),
    "a stop sequence that the upstream removed": _nothing_read(
        _end("stop", 9), error="", request=_STOPPED
    ),
}

ALL = {
    **FORMATS,
    **{f"in {name}": body for name, body in PLACES.items()},
    **{f"event: {name}": body for name, body in EVENTS.items()},
    **{f"stub: {name}": body for name, body in STUBS.items()},
    **{f"white space {name}": body for name, body in SPACES.items()},
    **{f"nothing read: {name}": body for name, body in NOTHING_READ.items()},
}


def odd_bodies() -> list[Any]:
    """Return all bodies, as parameters of a test."""
    return [pytest.param(body, id=name) for name, body in ALL.items()]
