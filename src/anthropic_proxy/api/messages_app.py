"""The endpoints of the Messages API, answered without the web framework: an ASGI application in front of it.

Nearly all that a server like this one does is to answer these. Quart makes a request object, two contexts, their proxies, a
response object and two tasks for each, which is a fifth of all that a request costs. Here one task waits for its client to
leave.
"""

from collections.abc import Awaitable, Callable, Mapping

from anthropic_proxy.api import errors
from anthropic_proxy.api.asgi import AsgiApplication, Receive, Scope, Send
from anthropic_proxy.api.auth import Access
from anthropic_proxy.api.request import ClientLeftError, Request, WhileClientStays
from anthropic_proxy.api.response import Response
from anthropic_proxy.errors import ApiError
from anthropic_proxy.observability.logs import Log
from anthropic_proxy.upstream.loop_detection import refuse_loop

Endpoint = Callable[[Request], Awaitable[Response]]
"""Answers a request whose body was read. Raises whatever is an error to be told."""


class Endpoints:
    """Answers `POST` of some paths, with the same keys, limits and errors as all others; what else is asked goes to `app`.

    body_seconds: in which a body has to come.
    """

    def __init__(
        self,
        app: AsgiApplication,
        endpoints: Mapping[str, Endpoint],
        access: Access,
        log: Log,
        body_seconds: float,
    ) -> None:
        self._app = app
        self._endpoints = endpoints
        self._access = access
        self._log = log
        self._body_seconds = body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = self._endpoint_at(scope["path"]) if scope["type"] == "http" else None
        if endpoint is None:
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        refused = None
        try:
            await self._read(request, receive)
        except ClientLeftError:
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, the client is told an error
            refused = errors.response(error, request, self._log)
        async with WhileClientStays(receive):
            response = refused or await self._answered(endpoint, request)
            response.headers.update(request.limit_headers)
            await response.send(send)

    def _endpoint_at(self, path: str) -> Endpoint | None:
        """Return what answers a path; base URLs that end in a slash make clients add one."""
        return self._endpoints.get(path) or self._endpoints.get(path.removesuffix("/"))

    async def _read(self, request: Request, receive: Receive) -> None:
        """Look at the key, and read the body. Raises ApiError, and ClientLeftError."""
        request.check_framing()
        refuse_loop(request.client.headers)
        self._access.check(request)
        if request.method != "POST":
            raise ApiError(405, errors.TEXTS[405], {"allow": "POST"})
        await request.read(receive, self._body_seconds)

    async def _answered(self, endpoint: Endpoint, request: Request) -> Response:
        try:
            return await endpoint(request)
        except Exception as error:  # noqa: BLE001 - as above
            return errors.response(error, request, self._log)
