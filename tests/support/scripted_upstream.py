"""A raw asyncio server as the upstream: a test scripts every byte and every break of it.

It runs in a separate thread. Each request takes the next script; what came is kept in `requests`.
"""

import asyncio
import contextlib
import json
import queue
import threading
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Self

from anthropic_proxy.gateway.upstream_probe import USER_AGENT

# Seconds before a test fails. To start a command takes many of them on a busy machine.
DEADLINE = 60


class Pause:
    """A step at which the upstream says nothing until the test sets `go`."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.go = threading.Event()


LAST_CHUNK = b"0\r\n\r\n"


class Step(Enum):
    """What a script does besides sending bytes."""

    RESET = "RESET"  # cut the connection without an end


RESET = Step.RESET


@dataclass
class Received:
    """A request as it came. `gone` is set when its client closes the connection."""

    method: str
    path: str
    headers: dict[str, str]
    raw: bytes
    gone: threading.Event = field(default_factory=threading.Event)

    @property
    def body(self) -> Any:
        return json.loads(self.raw)


@dataclass
class Script:
    """head: status line and headers; None: none is sent. steps: bytes, pauses, resets, in order."""

    head: bytes | None
    steps: list[Any]


def answers(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Script:
    """A whole answer: JSON, or bytes as they are."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = {
        "content-type": "application/json",
        "content-length": str(len(raw)),
        **(headers or {}),
    }
    return Script(_head(status, fields), [raw])


def streams(steps: Iterable[Any], *, done: bool = True) -> Script:
    """A stream of server-sent events, ended by the close of the connection: dicts become events."""
    encoded = [
        b"data: " + json.dumps(step).encode() + b"\n\n" if isinstance(step, dict) else step
        for step in steps
    ]
    return Script(
        _head(200, {"content-type": "text/event-stream"}),
        [*encoded, *([b"data: [DONE]\n\n"] if done else [])],
    )


def chunked(*steps: Any) -> Script:
    """A stream whose body has a marked end, which only `LAST_CHUNK` sends. dicts become events."""
    head = _head(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked"})
    plain = streams(steps, done=False).steps
    return Script(
        head,
        [
            _chunk(step) if isinstance(step, bytes) and step != LAST_CHUNK else step
            for step in plain
        ],
    )


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def text_chunks(*texts: str, finish: str = "stop") -> list[dict[str, Any]]:
    """The chunks of a plain answer with its usage."""
    chunks: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "delta": {"content": text}}]} for text in texts
    ]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    chunks.append(
        {
            "choices": [],
            "usage": {"prompt_tokens": 11, "completion_tokens": len(texts), "total_tokens": 11},
        }
    )
    return chunks


def completion(text: str | None = "Hello", **choice: Any) -> dict[str, Any]:
    """A whole chat completion."""
    message = {"role": "assistant", "content": text, **choice.pop("message", {})}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "upstream-model",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", **choice}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 2, "total_tokens": 13},
    }


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class ScriptedUpstream:
    """`with ScriptedUpstream() as upstream:`; `upstream.then(script, ...)` adds scripts.

    The proxy's probes at its start take no script: `on_probe` is the response to them,
    `probe_scripts` those to single paths and, under `without key`, to requests without one.
    `probes` keeps them.
    """

    def __init__(self, port: int = 0) -> None:
        self.on_probe = answers({}, 404)
        self.probe_scripts: dict[str, Script] = {}
        self.probes: queue.Queue[Received] = queue.Queue()
        self.requests: list[Received] = []
        self.arrived: queue.Queue[Received] = queue.Queue()
        self.port = port
        self._scripts: queue.Queue[Script] = queue.Queue()
        self._open: set[asyncio.WriteTransport] = set()
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def then(self, *scripts: Script) -> "ScriptedUpstream":
        for script in scripts:
            self._scripts.put(script)
        return self

    @property
    def has_scripts(self) -> bool:
        """Whether there are scripts that were not played."""
        return not self._scripts.empty()

    def forget(self) -> None:
        """Drop the scripts that were not played."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._scripts.get_nowait()

    def script_for(self, received: Received) -> Script:  # noqa: ARG002 - subclasses use it
        """Return the script of the response to a request."""
        return self._scripts.get_nowait()

    def _probe_script(self, received: Received) -> Script:
        if "authorization" not in received.headers and "without key" in self.probe_scripts:
            return self.probe_scripts["without key"]
        return self.probe_scripts.get("/" + received.path.rpartition("/")[2], self.on_probe)

    def request(self) -> Received:
        """The next request, waited for."""
        return self.arrived.get(timeout=DEADLINE)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._listening.wait(DEADLINE)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        with asyncio.Runner() as runner:
            runner.run(self._listen())

    async def _listen(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await self._loop.create_server(self._connection, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        self._listening.set()
        await self._stop.wait()
        await self._close(server)

    def _connection(self) -> "_Connection":
        return _Connection(self._serve, self._open)

    async def _close(self, server: asyncio.Server) -> None:
        """Close all connections before the loop ends: unread bytes would keep them open."""
        # A connection that was accepted just now takes three turns of the loop until it is open,
        # and is never closed where `Server.close` comes before.
        for listener in server.sockets:
            self._loop.remove_reader(listener)
        for _ in range(3):
            await asyncio.sleep(0)
        server.close()
        for transport in list(self._open):
            transport.abort()
        while self._open:  # noqa: ASYNC110 - nothing waits but for the next turns of the loop
            await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            received = await _read_request(reader)
            if received.headers.get("user-agent") == USER_AGENT:
                self.probes.put(received)
                await self._play(self._probe_script(received), writer)
                return
            self.requests.append(received)
            self.arrived.put(received)
            watcher = asyncio.ensure_future(_watch(reader, received.gone))
            try:
                await self._play(self.script_for(received), writer)
            finally:
                watcher.cancel()
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    async def _play(self, script: Script, writer: asyncio.StreamWriter) -> None:
        for step in [script.head or b"", *script.steps]:
            if step is RESET:
                writer.transport.abort()
            elif isinstance(step, Pause):
                step.reached.set()
                while not step.go.is_set():  # noqa: ASYNC110 - set from the test's thread
                    await asyncio.sleep(0.005)
            else:
                writer.write(step)
                await writer.drain()


class _Connection(asyncio.StreamReaderProtocol):
    """Calls `serve` as `asyncio.start_server` does, and is in `open_ones` while it is open."""

    def __init__(self, serve: Serve, open_ones: set[asyncio.WriteTransport]) -> None:
        super().__init__(asyncio.StreamReader(), serve)
        self._open_ones = open_ones

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._own_transport = transport
        self._open_ones.add(transport)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._open_ones.discard(self._own_transport)


async def _read_request(reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin1")
    request_line, *lines = head.strip().split("\r\n")
    method, path, _ = request_line.split(" ")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return Received(
        method, path, headers, await reader.readexactly(int(headers.get("content-length", 0)))
    )


async def _watch(reader: asyncio.StreamReader, gone: threading.Event) -> None:
    with contextlib.suppress(ConnectionError):
        await reader.read()
    gone.set()


def _head(status: int, headers: dict[str, str]) -> bytes:
    lines = [
        f"HTTP/1.1 {status} Scripted",
        *(f"{name}: {value}" for name, value in headers.items()),
        "connection: close",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
