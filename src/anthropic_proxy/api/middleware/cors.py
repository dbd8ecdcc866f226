"""Pages in browsers that may use this server: Cross-Origin Resource Sharing, by the Fetch standard, off without origins. An
ASGI middleware.

What a page may read is decided by its browser; keys are asked for all the same. No credentials of the browser's are used,
so no answer says that it may send them.
"""

import re
from collections.abc import Awaitable, Collection
from functools import partial

from anthropic_proxy.api.asgi import AsgiApplication, Message, Receive, Scope, Send

# Seconds for which a browser may remember what it was allowed.
_MAX_AGE = b"600"
_METHODS = b"GET, POST"
_EXPOSED_HEADERS = ", ".join(
    [
        "request-id",
        "retry-after",
        "x-should-retry",
        *(
            f"anthropic-ratelimit-{unit}-{what}"
            for unit in ("requests", "tokens")
            for what in ("limit", "remaining", "reset")
        ),
    ]
).encode()
_HEADER_NAMES = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~, -]{1,2000}")


def add_cors(app: AsgiApplication, origins: Collection[str]) -> AsgiApplication:
    """`app` for pages of `origins` (`*`: all). Around what refuses requests: browsers ask first what they may send, without
    a key.
    """
    return (
        _CorsMiddleware(app, frozenset(origin.encode() for origin in origins)) if origins else app
    )


class _CorsMiddleware:
    def __init__(self, app: AsgiApplication, origins: frozenset[bytes]) -> None:
        self._app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_headers = {name.lower(): value for name, value in scope["headers"]}
        origin = request_headers.get(b"origin", b"")
        allowed_origin = (
            origin if origin and (origin in self._origins or b"*" in self._origins) else None
        )
        send_with_cors = partial(_send_with_cors, send, allowed_origin)
        if (
            allowed_origin
            and scope["method"] == "OPTIONS"
            and b"access-control-request-method" in request_headers
        ):
            await send_with_cors(
                {
                    "type": "http.response.start",
                    "status": 204,
                    "headers": _preflight_headers(request_headers),
                }
            )
            await send_with_cors({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            await self._app(scope, receive, send_with_cors)


def _preflight_headers(request_headers: dict[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    """What a page may send."""
    headers = [(b"access-control-allow-methods", _METHODS), (b"access-control-max-age", _MAX_AGE)]
    names = request_headers.get(b"access-control-request-headers", b"")
    if _HEADER_NAMES.fullmatch(names):
        headers.append((b"access-control-allow-headers", names))
    return headers


def _send_with_cors(send: Send, allowed_origin: bytes | None, message: Message) -> Awaitable[None]:
    if message["type"] == "http.response.start":
        message["headers"] = [*message["headers"], (b"vary", b"origin")]
        if allowed_origin is not None:
            message["headers"] += [
                (b"access-control-allow-origin", allowed_origin),
                (b"access-control-expose-headers", _EXPOSED_HEADERS),
            ]
    return send(message)
