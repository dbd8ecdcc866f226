"""ASGI application that serves the Messages API without Quart.

Nearly all requests are for these paths. For each request, Quart would create a request object, two
contexts, their proxies, a response object and two tasks, which is a fifth of the CPU time of a
request. This application creates one task, which waits for the client to disconnect.
"""

from collections.abc import Awaitable, Callable, Mapping

from anthropic_proxy.api import errors
from anthropic_proxy.api.asgi import AsgiApplication, Receive, Scope, Send
from anthropic_proxy.api.auth import AccessControl
from anthropic_proxy.api.request import CallerDisconnectedError, CancelOnDisconnect, Request
from anthropic_proxy.api.response import Response
from anthropic_proxy.errors import ApiError
from anthropic_proxy.observability.logs import Log
from anthropic_proxy.upstream.loop_detection import refuse_loop

# Returns the response to a request whose body has been read. Exceptions become error responses.
Handler = Callable[[Request], Awaitable[Response]]


class MessagesApp:
    """Serve `POST` requests for some paths, and pass all other requests to `app`.

    Authentication, limits and error responses are the same for both.
    """

    def __init__(
        self,
        app: AsgiApplication,
        handlers: Mapping[str, Handler],
        access: AccessControl,
        log: Log,
        body_seconds: float,
    ) -> None:
        """Wrap `app`. handlers: by path. body_seconds: time limit to receive a body."""
        self._app = app
        self._handlers = handlers
        self._access = access
        self._log = log
        self._body_seconds = body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        handler = None
        if scope["type"] == "http":
            handler = self._find_handler(scope["path"])
        if handler is None:
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        error_response = None
        try:
            await self._read_request(request, receive)
        except CallerDisconnectedError:
            return
        except Exception as error:  # noqa: BLE001 - every failure becomes an error response
            error_response = errors.to_error_response(error, request, self._log)
        async with CancelOnDisconnect(receive):
            response = error_response or await self._handle(handler, request)
            response.headers.update(request.limit_headers)
            await response.send(send)

    def _find_handler(self, path: str) -> Handler | None:
        """Return the handler of a path, with or without a trailing slash."""
        return self._handlers.get(path) or self._handlers.get(path.removesuffix("/"))

    async def _read_request(self, request: Request, receive: Receive) -> None:
        """Authenticate and read the body. Raises ApiError and CallerDisconnectedError."""
        request.check_framing()
        self._access.authenticate(request)
        # After authentication: only authenticated clients may learn the id of this server.
        refuse_loop(request.caller.headers)
        if request.method != "POST":
            raise ApiError(405, errors.STATUS_TEXTS[405], {"allow": "POST"})
        await request.read(receive, self._body_seconds)

    async def _handle(self, handler: Handler, request: Request) -> Response:
        try:
            return await handler(request)
        except Exception as error:  # noqa: BLE001 - as above
            return errors.to_error_response(error, request, self._log)
