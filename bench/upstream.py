"""A Chat Completions server with minimum overhead: asyncio protocols and prepared responses.

`python -m bench.upstream` prints its port. The model of a request selects the response: `whole` is
not streamed, `paced-EVENTS-PERSECOND` sends each event in a separate write, and `flood-EVENTS`
sends events as fast as the client reads.
"""

import asyncio
import json
import re
from typing import Any, cast

import uvloop

_MODEL = re.compile(rb'"model":\s*"(\w+)(?:-(\d+))?(?:-([\d.]+))?"')
_LENGTH = re.compile(rb"content-length:\s*(\d+)", re.IGNORECASE)
# Events per write of a flood.
_MANY = 64


def _event(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    head = {
        "id": "chatcmpl-B9MHDbslfkBeAs8l4bebGdFOJ6PeG",
        "object": "chat.completion.chunk",
        "created": 1741570283,
    }
    chunk = {
        **head,
        "model": "gpt-5-mini",
        "system_fingerprint": "fp_44709d6fcb",
        "choices": [choice],
        **more,
    }
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"


_USAGE = {"prompt_tokens": 19, "completion_tokens": 10, "total_tokens": 29}
_FIRST = _event({"role": "assistant", "content": ""})
_WORD = _event({"content": " word"})
_END = _event({}, "stop", usage=_USAGE) + b"data: [DONE]\n\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_WORD_CHUNK = _chunk(_WORD)
_END_CHUNK = _chunk(_END) + b"0\r\n\r\n"
_MESSAGE = {"role": "assistant", "content": "word " * 100, "refusal": None}
_WHOLE_BODY = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1741570283,
        "model": "gpt-5-mini",
        "choices": [{"index": 0, "message": _MESSAGE, "finish_reason": "stop"}],
        "usage": _USAGE,
    }
).encode()
_WHOLE_RESPONSE = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
    % (
        len(_WHOLE_BODY),
        _WHOLE_BODY,
    )
)


class ScriptedModel(asyncio.Protocol):
    """A connection that serves one request at a time."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not inherit from asyncio's classes.
        self._transport = cast("asyncio.Transport", transport)
        self._received = bytearray()
        self._remaining = 0
        self._pause = 0.0
        self._may_write = True

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, _ = self._received.partition(b"\r\n\r\n")
        if not separator:
            return
        length = _LENGTH.search(head)
        size = len(head) + 4 + (int(length[1]) if length else 0)
        if len(self._received) >= size:
            body = bytes(self._received[len(head) + 4 : size])
            del self._received[:size]
            self._respond(body)

    def _respond(self, body: bytes) -> None:
        match = _MODEL.search(body)
        if match is None or match[1] == b"whole":
            self._transport.write(_WHOLE_RESPONSE)
            return
        self._remaining = int(match[2])
        self._transport.write(_HEAD + _chunk(_FIRST))
        if match[1] == b"flood":
            self._send_flood()
        else:
            loop = asyncio.get_running_loop()
            self._pause = 1 / float(match[3])
            loop.call_soon(self._send_word, loop.time())

    def _send_word(self, due: float) -> None:
        if self._transport.is_closing():
            return
        if not self._remaining:
            self._transport.write(_END_CHUNK)
            return
        self._remaining -= 1
        self._transport.write(_WORD_CHUNK)
        due += self._pause
        asyncio.get_running_loop().call_at(due, self._send_word, due)

    def _send_flood(self) -> None:
        while self._remaining and self._may_write:
            count = min(_MANY, self._remaining)
            self._remaining -= count
            self._transport.write(_WORD_CHUNK * count)
            if not self._remaining:
                self._transport.write(_END_CHUNK)

    def pause_writing(self) -> None:
        self._may_write = False

    def resume_writing(self) -> None:
        self._may_write = True
        self._send_flood()


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(
        ScriptedModel, "127.0.0.1", 0, backlog=8192
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve())
