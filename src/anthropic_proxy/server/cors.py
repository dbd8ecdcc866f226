"""Pages in browsers that may use this server: Cross-Origin Resource Sharing, by the Fetch standard, off without origins.

What a page may read is decided by its browser; keys are asked for all the same. No credentials of the browser's are used,
so no answer says that it may send them.
"""

import re
from collections.abc import Collection

from quart import Quart, Response, request

# Seconds for which a browser may remember what it was allowed.
_MAX_AGE = 600
_METHODS = "GET, POST"
_EXPOSED = ", ".join(
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
)
_HEADER_NAMES = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~, -]{1,2000}")


def register(app: Quart, origins: Collection[str]) -> None:
    """Let pages of `origins` (`*`: all) use the application. To be registered before what refuses requests: browsers ask
    first what they may send, without a key.
    """
    if not origins:
        return

    @app.before_request
    async def preflight() -> Response | None:
        asked = request.method == "OPTIONS" and "access-control-request-method" in request.headers
        if not asked or not _is_allowed(_origin(), origins):
            return None
        headers = {"access-control-allow-methods": _METHODS, "access-control-max-age": str(_MAX_AGE)}
        names = request.headers.get("access-control-request-headers", "")
        if _HEADER_NAMES.fullmatch(names):
            headers["access-control-allow-headers"] = names
        return Response(b"", 204, headers)

    @app.after_request
    async def allow(response: Response) -> Response:
        response.headers.add("vary", "origin")
        if _is_allowed(_origin(), origins):
            response.headers["access-control-allow-origin"] = _origin()
            response.headers["access-control-expose-headers"] = _EXPOSED
        return response


def _origin() -> str:
    return str(request.headers.get("origin", ""))


def _is_allowed(origin: str, origins: Collection[str]) -> bool:
    return bool(origin) and (origin in origins or "*" in origins)
