"""Streams of chunks: their bytes, and the events that the translation makes of them."""

from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

from anthropic_proxy.errors import ApiError
from anthropic_proxy.translate.response.stream import StreamTranslator
from anthropic_proxy.wire.json_codec import dumps, loads
from anthropic_proxy.wire.sse import DONE, SSEDecoder
from tests.support.response_specs import answer_spec

Json = dict[str, Any]


def translate_stream(
    pieces: Iterator[bytes], request: Json | None = None
) -> tuple[list[Json], ApiError | None]:
    """Return the server's events for an upstream's bytes, and the error that ended them."""
    translator, decoder = StreamTranslator(answer_spec(request)), SSEDecoder()
    events = translator.start()
    try:
        for piece in pieces:
            for payload in decoder.feed(piece):
                events += (
                    translator.close(done=True)
                    if payload == DONE
                    else translator.feed(loads(payload))
                )
        events += translator.close(done=False)
    except ApiError as error:
        return [*events, *translator.fail(error, "req_1")], error
    return events, None


def wire(chunks: list[Json], *, done: bool) -> bytes:
    events = [b"data: " + dumps(chunk) + b"\n\n" for chunk in chunks]
    return b"".join([*events, b"data: [DONE]\n\n" if done else b""])


# What the filters of an answer's text look for, in pieces.
MARKS = (
    "<think>",
    "</think>",
    "</think>\n",
    "<tool_call>",
    "</tool_call>",
    "[TOOL_CALLS]",
    '{"name": "look", "arguments": {}}',
)


MARKED = st.sampled_from(
    [
        *MARKS,
        "a",
        "b c",
        "\n",
        " ",
        "<",
        "think>",
        "</",
        "think",
        ">",
        "`",
        "```",
        "json\n",
        "é",
        "",
    ]
)


LOOK = {"tools": [{"name": "look", "input_schema": {"type": "object"}}]}
