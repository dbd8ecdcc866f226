"""Send a response through ASGI: in one write, or as a stream."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from anthropic_proxy.api.asgi import Send


class ResponseStream(Protocol):
    """Async iterator over the batches of a stream. `Response.send` closes it."""

    def __aiter__(self) -> AsyncIterator[Any]: ...

    async def aclose(self) -> None: ...


@dataclass
class Response:
    """An HTTP response."""

    status: int
    # With lower-case names.
    headers: dict[str, str]
    content: bytes | ResponseStream
    # Encodes one batch of a stream.
    encode: Callable[[Any], bytes] = bytes

    async def send(self, send: Send) -> None:
        """Send the response and close its stream."""
        content = self.content
        if isinstance(content, bytes):
            await self._start(send, {**self.headers, "content-length": str(len(content))})
            await send({"type": "http.response.body", "body": content, "more_body": False})
            return
        try:
            await self._start(send, self.headers)
            async for batch in content:
                await send(
                    {"type": "http.response.body", "body": self.encode(batch), "more_body": True}
                )
        finally:
            await content.aclose()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _start(self, send: Send, headers: dict[str, str]) -> None:
        raw_headers = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": raw_headers})
