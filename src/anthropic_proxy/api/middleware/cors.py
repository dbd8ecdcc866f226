"""ASGI middleware for Cross-Origin Resource Sharing (Fetch standard): access from web pages.

It is disabled unless origins are configured. Browsers enforce CORS, which does not replace API
keys. No response allows browser credentials (cookies), because the proxy does not use them.
"""

import re
from collections.abc import Awaitable, Collection
from functools import partial

from anthropic_proxy.api.asgi import AsgiApplication, Message, Receive, Scope, Send

# Seconds for which a browser may cache a preflight response.
_MAX_AGE = b"600"
_METHODS = b"GET, POST"
_EXPOSED_HEADERS = (
    b"request-id, retry-after, x-should-retry, "
    b"anthropic-ratelimit-requests-limit, anthropic-ratelimit-requests-remaining, "
    b"anthropic-ratelimit-requests-reset, "
    b"anthropic-ratelimit-tokens-limit, anthropic-ratelimit-tokens-remaining, "
    b"anthropic-ratelimit-tokens-reset"
)
_HEADER_NAMES = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~, -]{1,2000}")


def add_cors(app: AsgiApplication, origins: Collection[str]) -> AsgiApplication:
    """Return `app` with CORS for pages from `origins` (`*`: all); unchanged without origins.

    CORS must run before authentication: browsers send preflight requests without a key.
    """
    if not origins:
        return app
    return _CorsMiddleware(app, frozenset(origin.encode() for origin in origins))


class _CorsMiddleware:
    def __init__(self, app: AsgiApplication, origins: frozenset[bytes]) -> None:
        self._app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_headers = {name.lower(): value for name, value in scope["headers"]}
        origin = request_headers.get(b"origin")
        if origin not in self._origins and b"*" not in self._origins:
            origin = None
        send_with_cors = partial(_send_with_cors, send, origin)
        has_preflight_header = b"access-control-request-method" in request_headers
        if not origin or scope["method"] != "OPTIONS" or not has_preflight_header:
            await self._app(scope, receive, send_with_cors)
            return
        headers = _preflight_headers(request_headers)
        await send_with_cors({"type": "http.response.start", "status": 204, "headers": headers})
        await send_with_cors({"type": "http.response.body", "body": b"", "more_body": False})


def _preflight_headers(request_headers: dict[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    """Return the headers of the response to a preflight request."""
    headers = [(b"access-control-allow-methods", _METHODS), (b"access-control-max-age", _MAX_AGE)]
    names = request_headers.get(b"access-control-request-headers", b"")
    if _HEADER_NAMES.fullmatch(names):
        headers.append((b"access-control-allow-headers", names))
    return headers


def _send_with_cors(send: Send, allowed_origin: bytes | None, message: Message) -> Awaitable[None]:
    if message["type"] == "http.response.start":
        message["headers"] = [*message["headers"], (b"vary", b"origin")]
        if allowed_origin:
            message["headers"] += [
                (b"access-control-allow-origin", allowed_origin),
                (b"access-control-expose-headers", _EXPOSED_HEADERS),
            ]
    return send(message)
