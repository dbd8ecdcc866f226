"""Responses of an upstream in both forms: as a stream and whole.

Clients must get the same message from both, and the next request must send the same upstream.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.support import openai_shapes
from tests.support.scripted_upstream import Script, answers, completion, streams, text_chunks

ASK: dict[str, Any] = {
    "model": "claude-test",
    "max_tokens": 2000,
    "messages": [{"role": "user", "content": "Hi"}],
}
TOOL: dict[str, Any] = {
    "name": "get_weather",
    "description": "Weather of a city",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}
THINKING = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
TOOLS = {"tools": [TOOL]}
USAGE = {"usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}}


@dataclass(frozen=True)
class BothWays:
    """A response in both forms, and its results.

    ask: parameters beyond ASK. streamed, whole: the upstream's response. content, stop_reason: of
    the client's message, without ids and signatures. replay: the assistant message that the next
    request sends upstream, without tool ids.
    """

    name: str
    streamed: Script
    whole: Script
    content: list[dict[str, Any]]
    stop_reason: str = "end_turn"
    ask: dict[str, Any] = field(default_factory=dict)
    replay: dict[str, Any] = field(default_factory=dict)


def chunks(*deltas: dict[str, Any], finish: str = "stop") -> list[dict[str, Any]]:
    """A stream of these deltas, its end and its usage."""
    end = text_chunks(finish=finish)[0]
    return [
        *({"choices": [{"index": 0, "delta": delta}]} for delta in deltas),
        end,
        {"choices": [], **USAGE},
    ]


def call_chunks(*calls: tuple[str, str], text: str = "Let me see.") -> list[dict[str, Any]]:
    """A stream of some text and tool calls (name and arguments), each in three fragments."""
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": text}]
    for index, (name, arguments) in enumerate(calls):
        first = {
            "index": index,
            "id": f"call_{index}",
            "type": "function",
            "function": {"name": name, "arguments": ""},
        }
        pieces = [
            {"index": index, "function": {"arguments": piece}}
            for piece in (arguments[:5], arguments[5:])
        ]
        deltas += [{"tool_calls": [each]} for each in (first, *pieces)]
    return chunks(*deltas, finish="tool_calls")


def call_completion(
    *calls: tuple[str, str], text: str = "Let me see.", **message: Any
) -> dict[str, Any]:
    """The same as a whole answer."""
    made = [
        {
            "id": f"call_{index}",
            "type": "function",
            "function": {"name": name, "arguments": arguments},
        }
        for index, (name, arguments) in enumerate(calls)
    ]
    return (
        completion(text, message={"tool_calls": made, **message}, finish_reason="tool_calls")
        | USAGE
    )


def _whole(text: str | None, finish: str = "stop", **message: Any) -> Script:
    return answers(completion(text, message=message, finish_reason=finish) | USAGE)


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _thought(text: str) -> dict[str, Any]:
    return {"type": "thinking", "thinking": text}


def _called(*cities: str) -> dict[str, Any]:
    """What a replay makes of calls, without their ids."""
    functions = [
        {"name": "get_weather", "arguments": json.dumps({"city": city}, separators=(",", ":"))}
        for city in cities
    ]
    return {"tool_calls": [{"type": "function", "function": function} for function in functions]}


def _uses(*cities: str) -> list[dict[str, Any]]:
    return [{"type": "tool_use", "name": "get_weather", "input": {"city": city}} for city in cities]


def _calls(*cities: str) -> list[tuple[str, str]]:
    return [("get_weather", json.dumps({"city": city})) for city in cities]


Fields = dict[str, Any]


@dataclass(frozen=True)
class _Form:
    """One form of reasoning.

    deltas: of a stream, for the words of a text. message: fields of a whole response, for the text
    and what follows it. replay: fields of an assistant message that return it upstream. block: of
    the client's message.
    """

    deltas: Callable[[list[str]], list[Fields]]
    message: Callable[[str, str], Fields]
    replay: Callable[[str, str], Fields]
    block: Callable[[str], Fields] = _thought


def _field(name: str) -> _Form:
    return _Form(
        lambda words: [{name: word} for word in words],
        lambda text, _: {name: text},
        lambda text, said: {"content": said, name: text},
    )


def _detail(text: str, **more: Any) -> Fields:
    return {"reasoning_details": [{"type": "reasoning.text", "index": 0, "text": text, **more}]}


def _part(text: str) -> Fields:
    return {"type": "thinking", "thinking": [{"type": "text", "text": text}]}


def _parts(text: str, said: str) -> Fields:
    return {"content": [_part(text), *([_text(said)] if said else [])]}


_SIGNED = {"signature": "c2lnbmVk", "format": "anthropic-claude-v1"}
_ENCRYPTED = {
    "reasoning_details": [
        {"type": "reasoning.encrypted", "index": 0, "data": "gAAA", "format": "x"}
    ]
}

_FORMS = {
    "reasoning_content": _field("reasoning_content"),
    "reasoning": _field("reasoning"),
    "details": _Form(
        lambda words: [{"reasoning": word, **_detail(word)} for word in words],
        lambda text, _: {"reasoning": text, **_detail(text)},
        lambda text, said: {"content": said, **_detail(text)},
    ),
    "signed details": _Form(
        lambda words: [*map(_detail, words), _detail("", **_SIGNED)],
        lambda text, _: _detail(text, **_SIGNED),
        lambda text, said: {"content": said, **_detail(text, **_SIGNED)},
    ),
    "encrypted details": _Form(
        lambda _: [_ENCRYPTED],
        lambda *_: _ENCRYPTED,
        lambda _, said: {"content": said, **_ENCRYPTED},
        lambda _: {"type": "redacted_thinking"},
    ),
    "parts": _Form(lambda words: [{"content": [_part(word)]} for word in words], _parts, _parts),
}


def _reasoned(name: str) -> BothWays:
    form = _FORMS[name]
    return BothWays(
        f"thinking in {name}",
        streams(chunks(*form.deltas(["Let me", " think"]), {"content": "Yes"})),
        _whole("Yes", **form.message("Let me think", "Yes")),
        [form.block("Let me think"), _text("Yes")],
        ask=THINKING,
        replay=form.replay("Let me think", "Yes"),
    )


def _reasoned_call(name: str) -> BothWays:
    form = _FORMS[name]
    reasoned = [
        {"choices": [{"index": 0, "delta": delta}]} for delta in form.deltas(["Paris", "?"])
    ]
    return BothWays(
        f"thinking in {name} and a tool",
        streams([*reasoned, *call_chunks(*_calls("Paris"), text="")]),
        answers(call_completion(*_calls("Paris"), text="", **form.message("Paris?", ""))),
        [form.block("Paris?"), *_uses("Paris")],
        "tool_use",
        ask=TOOLS | THINKING,
        replay=_called("Paris") | _without_empty(form.replay("Paris?", "")),
    )


def _without_empty(message: Fields) -> Fields:
    """A message of calls alone has no content."""
    return {name: each for name, each in message.items() if each}


def _plain(
    name: str,
    deltas: list[dict[str, Any]],
    whole: Script,
    text: str,
    stop: str,
    finish: str = "stop",
) -> BothWays:
    return BothWays(
        name,
        streams(chunks(*deltas, finish=finish)),
        whole,
        [_text(text)],
        stop,
        replay={"content": text},
    )


_STOPPED = streams(chunks({"content": "one ST"}, {"content": "OP two"}))

ANSWERS = [
    _plain("text", [{"content": "Hel"}, {"content": "lo"}], _whole("Hello"), "Hello", "end_turn"),
    _plain(
        "length", [{"content": "Once"}], _whole("Once", "length"), "Once", "max_tokens", "length"
    ),
    _plain(
        "content filter",
        [{"content": "Once"}],
        _whole("Once", "content_filter"),
        "Once",
        "refusal",
        "content_filter",
    ),
    _plain(
        "refusal",
        [{"refusal": "I "}, {"refusal": "won't."}],
        _whole(None, refusal="I won't."),
        "I won't.",
        "refusal",
    ),
    BothWays(
        "stop sequence",
        _STOPPED,
        _STOPPED,  # read as a stream in both cases
        [_text("one ")],
        "stop_sequence",
        ask={"stop_sequences": ["STOP"]},
        replay={"content": "one "},
    ),
    BothWays(
        "tool",
        streams(call_chunks(*_calls("Paris"))),
        answers(call_completion(*_calls("Paris"))),
        [_text("Let me see."), *_uses("Paris")],
        "tool_use",
        ask=TOOLS,
        replay={"content": "Let me see.", **_called("Paris")},
    ),
    BothWays(
        "parallel tools",
        streams(call_chunks(*_calls("Paris", "Rome"), text="")),
        answers(call_completion(*_calls("Paris", "Rome"), text="")),
        _uses("Paris", "Rome"),
        "tool_use",
        ask=TOOLS,
        replay=_called("Paris", "Rome"),
    ),
    BothWays(
        "a tool without arguments",
        streams(call_chunks(("get_weather", ""), text="")),
        answers(call_completion(("get_weather", ""), text="")),
        [{"type": "tool_use", "name": "get_weather", "input": {}}],
        "tool_use",
        ask=TOOLS,
        replay={
            "tool_calls": [
                {"type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
            ]
        },
    ),
    BothWays(
        "thinking in the text",
        streams(chunks({"content": "<thi"}, {"content": "nk>Hm</think>"}, {"content": "Yes"})),
        _whole("<think>Hm</think>Yes"),
        [_thought("Hm"), _text("Yes")],
        ask=THINKING,
        replay={"content": "Yes"},
    ),
    *map(_reasoned, _FORMS),
    *map(_reasoned_call, _FORMS),
]

PARAMETERS = [pytest.param(answer, id=answer.name.replace(" ", "-")) for answer in ANSWERS]


def without_ids(value: Any, *others: str) -> Any:
    """Copy JSON without the fields that differ between responses, and without `others`."""
    if isinstance(value, dict):
        dropped = ("id", "tool_call_id", *others)
        return {
            name: without_ids(each, *others)
            for name, each in value.items()
            if name not in dropped and each is not None
        }
    return [without_ids(each, *others) for each in value] if isinstance(value, list) else value


def check_content(streamed: Any, whole: Any, answer: BothWays) -> None:
    """Asserts that both are the blocks of `answer`, and have equal signatures."""
    assert without_ids(streamed) == without_ids(whole)
    assert without_ids(streamed, "signature", "data") == answer.content
    for block in streamed:
        assert (
            block["type"] not in ("thinking", "redacted_thinking")
            or block.get("signature")
            or block.get("data")
        )


def next_turn(content: list[Any]) -> list[dict[str, Any]]:
    """The messages with which a client goes on after an answer of these blocks."""
    results = [
        {"type": "tool_result", "tool_use_id": block.id, "content": "fine"}
        for block in content
        if block.type == "tool_use"
    ]
    return [
        {"role": "assistant", "content": content},
        {"role": "user", "content": [*results, _text("Go on")]},
    ]


def check_replay(body: dict[str, Any], answer: BothWays) -> None:
    """Assert that an upstream request continues after the response in a form that OpenAI takes.

    Fields of reasoning are excepted: other servers require them.
    """
    assert without_ids(body["messages"][1]) == {"role": "assistant", **answer.replay}
    openai_shapes.check({**body, "messages": list(map(_without_reasoning, body["messages"]))})


def _without_reasoning(message: Fields) -> Fields:
    kept = {name: each for name, each in message.items() if not name.startswith("reasoning")}
    if message["role"] == "assistant" and isinstance(message["content"], list):
        kept["content"] = [
            part for part in message["content"] if part["type"] != "thinking"
        ] or None
    return kept
