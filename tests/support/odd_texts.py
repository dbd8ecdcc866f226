"""Responses whose text or choices look like something else: tags, tokens, choices, arguments.

Like `odd_bodies`, each is read in the same way as the response to a request with `stream` and to
one without.
"""

from typing import Any

import pytest

from anthropic_proxy.wire.json_codec import dumps
from tests.support.odd_bodies import (
    HELLO,
    LIST_FILES,
    USAGE,
    OddBody,
    call,
    choice,
    completion,
    text_chunk,
)
from tests.support.streams import wire

Json = dict[str, Any]

_END = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
_BASH = {
    "tools": [
        {
            "name": "Bash",
            "input_schema": {
                "type": "object",
                "properties": {"command": {"type": "string"}},
                "required": ["command"],
            },
        }
    ]
}
_THINKING = {"thinking": {"type": "adaptive"}}
_ERROR = "before it was complete"


def _text(text: str) -> list[Json]:
    return [{"type": "text", "text": text}]


def _thinking(text: str, origin: str = "content") -> list[Json]:
    signature = f"anthropic-proxy.1.{origin}"
    return [{"type": "thinking", "thinking": text, "signature": signature}]


def _say(text: str, content: list[Json], **fields: Any) -> OddBody:
    return OddBody(wire([text_chunk(text), _END], done=True), content, **fields)


def _chunk(index: int, finish_reason: str | None = None, /, **delta: Any) -> Json:
    return {"choices": [{"index": index, "delta": delta, "finish_reason": finish_reason}]}


def _stream(*chunks: Json, content: list[Json], **fields: Any) -> OddBody:
    return OddBody(wire([*chunks], done=True), content, **fields)


# Texts that begin with the tag of a kind of models.
_QUOTED = {
    "of Magistral": ("[THINK]", " means that the model thinks."),
    "of MiniMax": ("<mm:think>", " means that the model thinks."),
    "of Gemma": ("<|channel>thought", " begins a thought."),
    "of DeepSeek": ("<think>", "\n\nis a tag, and </thin"),
    "of Seed-OSS": ("<seed:think>", ", like <think>."),
    "of Kimi": ("◁think▷", "."),
    "of gpt-oss": ("<|channel|>analysis<|message|>", " begins reasoning."),
    "alone, of Magistral": ("[THINK]", ""),
    "alone, of MiniMax": ("<mm:think>", ""),
    "alone, of Gemma": ("<|channel>thought", ""),
    "alone, with white space": (" \n[THINK]", "\n"),
}


def _list_quoted_tags() -> dict[str, OddBody]:
    bodies: dict[str, OddBody] = {}
    for name, (tag, rest) in _QUOTED.items():
        content = _text(tag + rest)
        bodies[name] = _say(tag + rest, content)
        bodies[f"{name}, with tools"] = _say(tag + rest, content, request=_BASH)
        bodies[f"{name}, whole"] = OddBody(
            dumps(completion(choice("message", {"content": tag + rest}))), content
        )
        thinking = _thinking(rest.lstrip()) if rest.strip() else []
        bodies[f"{name}, with thinking"] = _say(
            tag + rest, [*thinking, *content], request=_THINKING
        )
    return bodies


TAGS: dict[str, OddBody] = {
    **_list_quoted_tags(),
    "around reasoning": _say("[THINK]Hm[/THINK]Hello", HELLO),
    # The token limit ends the reasoning, and a call does.
    "before a token limit": _stream(
        text_chunk("[THINK]Hm"), _chunk(0, "length"), content=_thinking("Hm"), request=_THINKING
    ),
    "before a token limit, hidden": _stream(
        text_chunk("[THINK]Hm"), _chunk(0, "length"), content=[]
    ),
    "before a call": _stream(
        text_chunk("<think>Hm"),
        _chunk(0, tool_calls=[call(index=0)]),
        _END,
        content=LIST_FILES,
    ),
    "in a structured response": _say(
        '[THINK]{"a": 1}',
        _text('{"a": 1}'),
        request={"output_config": {"format": {"type": "json_schema", "schema": {}}}},
    ),
    "in a structured response with thinking": _say(
        '<think>{"a": 1}',
        [*_thinking('{"a": 1}'), *_text('{"a": 1}')],
        request={**_THINKING, "output_config": {"format": {"type": "json_schema", "schema": {}}}},
    ),
    "before a stop sequence": _say(
        "[THINK] a END b", _text("[THINK] a "), request={"stop_sequences": ["END"]}
    ),
}

_FINAL = "<|channel|>final<|message|>"
_HARMONY_CALL = (
    "<|start|>assistant<|channel|>commentary to=functions.Bash <|constrain|>json<|message|>"
    '{"command":"ls"}<|call|>'
)
TOKENS: dict[str, OddBody] = {
    "a final message": _say(f"{_FINAL}Hello<|return|>", HELLO),
    "a final message with an end": _say(f"{_FINAL}Hello<|end|>\n", HELLO),
    "a final message after reasoning": _say(
        f"<|channel|>analysis<|message|>Hm<|end|><|start|>assistant{_FINAL}Hello<|return|>",
        [*_thinking("Hm"), *HELLO],
        request=_THINKING,
    ),
    "a preamble and a final message": _say(
        f"<|channel|>commentary<|message|>I look.<|end|><|start|>assistant{_FINAL}Hello<|return|>",
        _text("I look.\n\nHello"),
    ),
    "a preamble and a call": _say(
        f"<|channel|>commentary<|message|>Hello<|end|>{_HARMONY_CALL}",
        [*HELLO, *LIST_FILES],
        request=_BASH,
    ),
    "a quoted token": _say(f"{_FINAL}a <|end|> b<|return|>", _text("a <|end|> b")),
    "a token without a message": _say("Hello<|return|>", _text("Hello<|return|>")),
    "a header alone": _say(_FINAL, _text(_FINAL)),
}

_LATE_CALL = _chunk(1, "tool_calls", tool_calls=[call(index=0)])
CHOICES: dict[str, OddBody] = {
    "the second before the first": _stream(
        _chunk(1, content="Bye"), text_chunk("Hel"), text_chunk("lo"), _END, content=HELLO
    ),
    "the second, with its end, before the first": _stream(
        _chunk(1, content="Bye"), _chunk(1, "length"), text_chunk("Hello"), _END, content=HELLO
    ),
    "the second after the role of the first": _stream(
        _chunk(0, role="assistant", content=""),
        _chunk(1, content="Bye"),
        _chunk(1, tool_calls=[call(index=0)]),
        text_chunk("Hello"),
        _END,
        content=HELLO,
    ),
    "the second with a message, before the first with a repetition": _stream(
        {"choices": [{"index": 1, "message": {"content": "Bye"}}]},
        text_chunk("Hello"),
        {"choices": [choice("message", {"content": "Hello"})]},
        content=HELLO,
    ),
    "reasoning of the second before the first": _stream(
        _chunk(1, reasoning_content="No"),
        _chunk(0, reasoning_content="Hm"),
        text_chunk("Hello"),
        _END,
        content=[*_thinking("Hm", "reasoning_content"), *HELLO],
        request=_THINKING,
    ),
    "only the second": _stream(
        _chunk(1, content="Hel"), _chunk(1, content="lo"), _chunk(1, "stop"), content=HELLO
    ),
    "only the second and the third": _stream(
        _chunk(2, content="Bye"), _chunk(1, content="Hello"), _chunk(1, "stop"), content=HELLO
    ),
    "only the second, with a call": _stream(
        _chunk(1, content="Hello"), _LATE_CALL, content=[*HELLO, *LIST_FILES]
    ),
    "only the second, an error": _stream(
        _chunk(1, content="Hello"), _chunk(1, "error"), content=[], error="aborted the response"
    ),
    "only the second, without an end": OddBody(
        wire([_chunk(1, content="Hello")], done=False), [], _ERROR
    ),
    "only the second, a stop sequence": _stream(
        _chunk(1, content="Hello END"), content=_text("Hello "), request={"stop_sequences": ["END"]}
    ),
    "a call before the text of the first": _stream(
        _LATE_CALL, text_chunk("Hello"), _END, content=[*LIST_FILES, *HELLO]
    ),
    "a call after a finish reason with usage": _stream(
        _chunk(0, role="assistant"),
        _chunk(1, role="assistant"),
        text_chunk("Hello"),
        {**_END, "usage": USAGE},
        _LATE_CALL,
        content=[*HELLO, *LIST_FILES],
    ),
    # Ollama's own API.
    "none, but a message": _stream(
        {"message": {"role": "assistant", "content": "Hello"}}, content=HELLO
    ),
    "none, but messages": OddBody(
        b"\n".join(
            map(
                dumps,
                [
                    {"model": "m", "message": {"content": "Hel"}, "done": False},
                    {"model": "m", "message": {"content": "lo"}, "done": False},
                    {
                        "model": "m",
                        "message": {"content": "lo"},
                        "done": True,
                        "done_reason": "stop",
                    },
                ],
            )
        ),
        _text("Hellolo"),
    ),
    "none, but a complete message": OddBody(
        dumps({"message": {"role": "assistant", "content": "Hello"}, "done": True})
    ),
    "none, but a call": _stream(
        {"message": {"role": "assistant", "tool_calls": [call()]}}, content=LIST_FILES
    ),
    "none, but a delta": _stream({"delta": {"content": "Hello"}}, content=HELLO),
    "none, but a message cut by the token limit": _stream(
        {"message": {"content": "Hello"}, "done_reason": "length"}, content=HELLO
    ),
    "none, and no content": OddBody(
        dumps({"message": {"role": "assistant"}}), error="not a chat completion"
    ),
}


def _mark(word: bytes, *, has_end: bool) -> OddBody:
    chunks = [text_chunk("Hello"), *[_END] * has_end]
    raw = wire(chunks, done=False) + b"data: " + word + b"\n\ndata: [DONE]\n\n"
    if has_end:
        return OddBody(raw)
    return OddBody(raw, [], f"it is not a JSON object: {word.decode()}")


_MARKS = (b"EOF", b"[EOF]", b"<eos>", b"END", b"[end]", b"done", b"finished", b"closed", b"stop")
MARKS: dict[str, OddBody] = {
    **{f"{word!r}": _mark(word, has_end=True) for word in _MARKS},
    **{f"{word!r} without an end": _mark(word, has_end=False) for word in (*_MARKS, b"whim")},
    "another word": OddBody(
        wire([text_chunk("Hello"), _END], done=False) + b"data: timeout\n\n",
        [],
        "it is not a JSON object: timeout",
    ),
}

ALL = {
    **{f"tag {name}": body for name, body in TAGS.items()},
    **{f"token: {name}": body for name, body in TOKENS.items()},
    **{f"choice: {name}": body for name, body in CHOICES.items()},
    **{f"mark: {name}": body for name, body in MARKS.items()},
}


def odd_texts() -> list[Any]:
    """Return all bodies, as parameters of a test."""
    return [pytest.param(body, id=name) for name, body in ALL.items()]
