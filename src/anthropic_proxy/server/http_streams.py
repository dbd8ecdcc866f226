"""Common parts of the protocol classes for HTTP/1.1 and HTTP/2."""

from urllib.parse import urlsplit

from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.http_stream import HTTPStream


class ServerContext(WorkerContext):
    """State shared by all connections of a server."""

    # Whether the server is draining, so that clients must use new connections.
    draining = False

    def __init__(self, header_seconds: float) -> None:
        super().__init__(None)
        # Time limit to receive the head of a request.
        self.header_seconds = header_seconds


def create_http_stream(protocol: H11Protocol | H2Protocol, stream_id: int) -> HTTPStream:
    """Return the stream object of one request, which runs the application."""
    return HTTPStream(
        protocol.app,
        protocol.config,
        protocol.context,
        protocol.task_group,
        protocol.ssl,
        protocol.client,
        protocol.server,
        protocol.stream_send,
        stream_id,
    )


def to_origin_form(target: bytes) -> bytes:
    """Return the path and query of a request target, which may be a URL (RFC 9112, 3.2).

    `*` and the authority of CONNECT are returned unchanged. Raises ValueError for other targets.
    """
    text = target.decode("ascii")
    if text.startswith("/") or "://" not in text:
        return target
    parts = urlsplit(text)
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.path or '/'}{query}".encode()
