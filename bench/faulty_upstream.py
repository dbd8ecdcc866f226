"""A Chat Completions server that usually succeeds, and sometimes fails like real upstreams.

`python -m bench.faulty_upstream` prints its port, and serves until it is killed.
"""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable

_USAGE = {
    "prompt_tokens": 120,
    "completion_tokens": 40,
    "prompt_tokens_details": {"cached_tokens": 64},
}
_CALL = {
    "index": 0,
    "id": "call_1",
    "type": "function",
    "function": {"name": "look", "arguments": '{"at": "'},
}

Responder = Callable[[asyncio.StreamWriter, dict[str, object]], Awaitable[None]]


def _encode_head(status: int, kind: str, length: int | None = None) -> bytes:
    ends = "connection: close" if length is None else f"content-length: {length}"
    return f"HTTP/1.1 {status} Faulty\r\ncontent-type: {kind}\r\n{ends}\r\n\r\n".encode()


def _encode_event(delta: dict[str, object], finish: str | None = None, **more: object) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return (
        b"data: "
        + json.dumps({"id": "c", "model": "m", "choices": [choice], **more}).encode()
        + b"\n\n"
    )


async def _start_stream(writer: asyncio.StreamWriter, deltas: list[dict[str, object]]) -> None:
    writer.write(_encode_head(200, "text/event-stream"))
    for delta in deltas:
        writer.write(_encode_event(delta))
        await writer.drain()
        await asyncio.sleep(random.uniform(0, 0.01))


def _text_deltas() -> list[dict[str, object]]:
    return [{"content": f"word {number} "} for number in range(random.randint(5, 80))]


async def _succeed(writer: asyncio.StreamWriter, request: dict[str, object]) -> None:
    if not request.get("stream"):
        message = {"role": "assistant", "content": "word " * random.randint(1, 2000)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        body = json.dumps({"id": "c", "model": "m", "choices": [choice], "usage": _USAGE}).encode()
        writer.write(_encode_head(200, "application/json", len(body)) + body)
        return
    calls = bool(request.get("tools"))
    fragments: list[dict[str, object]] = [
        {"tool_calls": [{"index": 0, "function": {"arguments": "x"}}]}
    ] * 40
    await _start_stream(writer, [{"tool_calls": [_CALL]}, *fragments] if calls else _text_deltas())
    if calls:
        writer.write(_encode_event({"tool_calls": [{"index": 0, "function": {"arguments": '"}'}}]}))
    writer.write(
        _encode_event({}, "tool_calls" if calls else "stop", usage=_USAGE) + b"data: [DONE]\n\n"
    )


def _fail_with_status(status: int) -> Responder:
    async def respond(writer: asyncio.StreamWriter, _: dict[str, object]) -> None:
        body = json.dumps(
            {"error": {"message": f"status {status}", "type": "server_error"}}
        ).encode()
        writer.write(_encode_head(status, "application/json", len(body)) + body)

    return respond


async def _send_html_error(writer: asyncio.StreamWriter, _: dict[str, object]) -> None:
    writer.write(_encode_head(502, "text/html") + b"<html><h1>502 Bad Gateway</h1></html>")


async def _reset_connection(writer: asyncio.StreamWriter, _: dict[str, object]) -> None:
    writer.transport.abort()


async def _abort_stream(writer: asyncio.StreamWriter, _: dict[str, object]) -> None:
    await _start_stream(writer, _text_deltas())
    writer.transport.abort()


async def _truncate_stream(writer: asyncio.StreamWriter, _: dict[str, object]) -> None:
    await _start_stream(writer, _text_deltas())


async def _send_garbage(writer: asyncio.StreamWriter, _: dict[str, object]) -> None:
    await _start_stream(writer, _text_deltas()[:3])
    writer.write(b"data: {no JSON\n\n" + random.randbytes(500))


async def _send_error_event(writer: asyncio.StreamWriter, _: dict[str, object]) -> None:
    await _start_stream(writer, _text_deltas()[:3])
    writer.write(b'data: {"error": {"message": "out of memory"}}\n\n')


async def _send_nothing(_writer: asyncio.StreamWriter, _: dict[str, object]) -> None:
    await asyncio.sleep(60)


async def _stall_stream(writer: asyncio.StreamWriter, _: dict[str, object]) -> None:
    await _start_stream(writer, _text_deltas()[:3])
    await asyncio.sleep(60)


# Responses and their relative frequencies.
RESPONDERS: dict[Responder, int] = {
    _succeed: 80,
    _fail_with_status(500): 3,
    _fail_with_status(503): 2,
    _fail_with_status(429): 2,
    _fail_with_status(400): 2,
    _send_html_error: 1,
    _reset_connection: 2,
    _abort_stream: 2,
    _truncate_stream: 2,
    _send_garbage: 1,
    _send_error_event: 1,
    _send_nothing: 1,
    _stall_stream: 1,
}


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            lines = head.lower().split(b"\r\n")
            length = next(
                (int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0
            )
            request = json.loads(await reader.readexactly(length) or b"{}")
            (responder,) = random.choices([*RESPONDERS], [*RESPONDERS.values()])
            disconnect = asyncio.ensure_future(reader.read(1))
            response_task = asyncio.ensure_future(responder(writer, request))
            await asyncio.wait([disconnect, response_task], return_when=asyncio.FIRST_COMPLETED)
            if not response_task.done() or responder is not _succeed or request.get("stream"):
                response_task.cancel()
                disconnect.cancel()
                return
            disconnect.cancel()
            await asyncio.wait([disconnect])
            await writer.drain()
    except (ConnectionError, asyncio.IncompleteReadError):
        return
    finally:
        writer.close()


async def _main() -> None:
    server = await asyncio.start_server(_serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main())
