"""A Chat Completions server that fails in all the ways that upstreams do, and answers well most of the time.

`python -m bench.faulty_upstream` prints its port, and serves until it is ended.
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

Answer = Callable[[asyncio.StreamWriter, dict[str, object]], Awaitable[None]]


def _head(status: int, kind: str, length: int | None = None) -> bytes:
    ends = "connection: close" if length is None else f"content-length: {length}"
    return f"HTTP/1.1 {status} Faulty\r\ncontent-type: {kind}\r\n{ends}\r\n\r\n".encode()


def _event(delta: dict[str, object], finish: str | None = None, **more: object) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return (
        b"data: "
        + json.dumps({"id": "c", "model": "m", "choices": [choice], **more}).encode()
        + b"\n\n"
    )


async def _begin(writer: asyncio.StreamWriter, deltas: list[dict[str, object]]) -> None:
    writer.write(_head(200, "text/event-stream"))
    for delta in deltas:
        writer.write(_event(delta))
        await writer.drain()
        await asyncio.sleep(random.uniform(0, 0.01))


def _text() -> list[dict[str, object]]:
    return [{"content": f"word {number} "} for number in range(random.randint(5, 80))]


async def _well(writer: asyncio.StreamWriter, asked: dict[str, object]) -> None:
    if not asked.get("stream"):
        message = {"role": "assistant", "content": "word " * random.randint(1, 2000)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        body = json.dumps({"id": "c", "model": "m", "choices": [choice], "usage": _USAGE}).encode()
        writer.write(_head(200, "application/json", len(body)) + body)
        return
    calls = bool(asked.get("tools"))
    pieces: list[dict[str, object]] = [
        {"tool_calls": [{"index": 0, "function": {"arguments": "x"}}]}
    ] * 40
    await _begin(writer, [{"tool_calls": [_CALL]}, *pieces] if calls else _text())
    if calls:
        writer.write(_event({"tool_calls": [{"index": 0, "function": {"arguments": '"}'}}]}))
    writer.write(_event({}, "tool_calls" if calls else "stop", usage=_USAGE) + b"data: [DONE]\n\n")


def _status(status: int) -> Answer:
    async def answer(writer: asyncio.StreamWriter, _: dict[str, object]) -> None:
        body = json.dumps(
            {"error": {"message": f"status {status}", "type": "server_error"}}
        ).encode()
        writer.write(_head(status, "application/json", len(body)) + body)

    return answer


async def _page(writer: asyncio.StreamWriter, _: dict[str, object]) -> None:
    writer.write(_head(502, "text/html") + b"<html><h1>502 Bad Gateway</h1></html>")


async def _reset(writer: asyncio.StreamWriter, _: dict[str, object]) -> None:
    writer.transport.abort()


async def _cut(writer: asyncio.StreamWriter, _: dict[str, object]) -> None:
    await _begin(writer, _text())
    writer.transport.abort()


async def _truncated(writer: asyncio.StreamWriter, _: dict[str, object]) -> None:
    await _begin(writer, _text())


async def _garbage(writer: asyncio.StreamWriter, _: dict[str, object]) -> None:
    await _begin(writer, _text()[:3])
    writer.write(b"data: {no JSON\n\n" + random.randbytes(500))


async def _failing(writer: asyncio.StreamWriter, _: dict[str, object]) -> None:
    await _begin(writer, _text()[:3])
    writer.write(b'data: {"error": {"message": "out of memory"}}\n\n')


async def _silent(_writer: asyncio.StreamWriter, _: dict[str, object]) -> None:
    await asyncio.sleep(60)


async def _stalled(writer: asyncio.StreamWriter, _: dict[str, object]) -> None:
    await _begin(writer, _text()[:3])
    await asyncio.sleep(60)


# What is answered, and how often.
ANSWERS: dict[Answer, int] = {
    _well: 80,
    _status(500): 3,
    _status(503): 2,
    _status(429): 2,
    _status(400): 2,
    _page: 1,
    _reset: 2,
    _cut: 2,
    _truncated: 2,
    _garbage: 1,
    _failing: 1,
    _silent: 1,
    _stalled: 1,
}


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            lines = head.lower().split(b"\r\n")
            length = next(
                (int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0
            )
            asked = json.loads(await reader.readexactly(length) or b"{}")
            (answer,) = random.choices([*ANSWERS], [*ANSWERS.values()])
            leaves = asyncio.ensure_future(reader.read(1))
            answers = asyncio.ensure_future(answer(writer, asked))
            await asyncio.wait([leaves, answers], return_when=asyncio.FIRST_COMPLETED)
            if not answers.done() or answer is not _well or asked.get("stream"):
                answers.cancel()
                leaves.cancel()
                return
            leaves.cancel()
            await asyncio.wait([leaves])
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
