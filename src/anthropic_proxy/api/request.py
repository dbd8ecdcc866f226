"""Read a request from ASGI, and cancel its handler when the client disconnects."""

import asyncio
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from anthropic_proxy.api.asgi import OBSERVATION, Receive, Scope
from anthropic_proxy.auth.api_keys import UNRESTRICTED_KEY
from anthropic_proxy.auth.caller import Caller
from anthropic_proxy.errors import ApiError, invalid_request
from anthropic_proxy.observability.observation import Observation
from anthropic_proxy.upstream.interruption import Interruption
from anthropic_proxy.wire.quoting import shorten

# The limit of the Messages API.
MAX_BODY_BYTES = 32 * 1024 * 1024
TOO_LARGE = "Request exceeds the maximum size of 32 MB"


class CallerDisconnectedError(Exception):
    """The client has closed its connection or stream, so it cannot receive a response."""


class Request:
    """One request from a client."""

    def __init__(self, scope: Scope) -> None:
        self.observation: Observation = scope["state"][OBSERVATION]
        self.method: str = scope["method"]
        self.caller = Caller(
            _join_headers(scope["headers"]), scope["query_string"].decode("ascii", "replace")
        )
        # Key of the client; set by `AccessControl.authenticate`.
        self.key = UNRESTRICTED_KEY
        # Response headers with the rate limits of the key.
        self.limit_headers: dict[str, str] = {}
        self._body = b""

    @property
    def id(self) -> str:
        return self.observation.request_id

    def check_framing(self) -> None:
        """Raise ApiError (400) if the length of the body is ambiguous.

        A front proxy may interpret the length differently (request smuggling; RFC 9112, 6.3).
        """
        headers = self.caller.headers
        if "transfer-encoding" in headers and "content-length" in headers:
            text = "A request must not have both content-length and transfer-encoding"
            raise ApiError(400, text, {"connection": "close"})

    async def read(self, receive: Receive, seconds: float) -> None:
        """Receive the body within `seconds`.

        Raises ApiError (400, 408, 413) and CallerDisconnectedError.
        """
        encoding = self.caller.headers.get("content-encoding", "").strip().lower()
        if encoding not in ("", "identity"):
            raise invalid_request(
                f"content-encoding {shorten(encoding)!r} is not supported: "
                "send the body without an encoding"
            )
        # Hypercorn rejects an invalid length on HTTP/1.1. In other cases `_read_body` counts bytes.
        length = self.caller.headers.get("content-length", "")
        if length.isdecimal() and int(length) > MAX_BODY_BYTES:
            raise ApiError(413, TOO_LARGE)
        try:
            # Not `asyncio.wait_for`, as Quart does: in Python 3.11 it loses a cancellation that
            # arrives with the last byte, and the request of a disconnected client would continue.
            async with asyncio.timeout(seconds):
                self._body = await _read_body(receive)
        except TimeoutError:
            raise ApiError(408, f"The request body did not arrive within {seconds:g} s") from None

    def take_body(self) -> bytes:
        """Return the body and release it.

        It may be several megabytes, and this object exists until the end of the response.
        """
        body, self._body = self._body, b""
        return body


def _join_headers(lines: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        name, value = line[0].decode("latin-1").lower(), line[1].decode("latin-1")
        if name in headers:
            # RFC 9110, 5.3: repeated headers form one list.
            value = f"{headers[name]}, {value}"
        headers[name] = value
    return headers


async def _read_body(receive: Receive) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise CallerDisconnectedError
        chunk = message.get("body", b"")
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise ApiError(413, TOO_LARGE)
        if not message.get("more_body"):
            return b"".join(chunks)


class CancelOnDisconnect:
    """Async context manager that cancels its block when the client disconnects.

    It suppresses that cancellation, and discards other messages of the client.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._interruption = Interruption()

    async def __aenter__(self) -> Self:
        self._interruption.begin()
        self._watcher = asyncio.ensure_future(self._wait_for_disconnect())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        self._watcher.cancel()
        was_interrupted = self._interruption.absorb()
        self._interruption.end()
        return was_interrupted and kind is asyncio.CancelledError

    async def _wait_for_disconnect(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._interruption.interrupt()
