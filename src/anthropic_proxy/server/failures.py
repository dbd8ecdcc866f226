"""Every failure, of whatever part and on whatever path, becomes an error in Anthropic's envelope with a request id."""

from quart import Quart, Response, g, request
from werkzeug.exceptions import HTTPException

from anthropic_proxy.client_keys import RefusedError
from anthropic_proxy.errors import ApiError
from anthropic_proxy.observe.logs import Log
from anthropic_proxy.observe.observation import Outcome
from anthropic_proxy.server.asgi import OBSERVATION
from anthropic_proxy.upstream import UpstreamError
from anthropic_proxy.wire.anthropic import InvalidRequestError

_TEXTS = {
    404: "Not found: this server has no such path",
    405: "Method not allowed on this path",
    413: "Request exceeds the maximum size of 32 MB",
}


def register(app: Quart, log: Log) -> None:
    """Give every request its observation, and every error its envelope."""
    _identify(app)
    _answer_errors(app, log)


def _identify(app: Quart) -> None:
    @app.before_request
    async def begin() -> None:
        g.observation = request.scope["state"][OBSERVATION]
        g.request_id = g.observation.request_id
        if "transfer-encoding" in request.headers and "content-length" in request.headers:
            # Another server in front may have seen another end of the body (RFC 9112, 6.3).
            raise ApiError(400, "A request has either content-length or transfer-encoding", {"connection": "close"})


def _answer_errors(app: Quart, log: Log) -> None:
    @app.errorhandler(ApiError)
    async def told(error: ApiError) -> Response:
        g.observation.failed(error.type, error.message, _outcome(error))
        if isinstance(error, RefusedError):
            g.observation.rejected = error.reason
        body = error.written(g.request_id)
        log.body("client answer", g.request_id, body)
        return Response(body, error.status, error.headers, content_type="application/json")

    @app.errorhandler(InvalidRequestError)
    async def invalid(error: InvalidRequestError) -> Response:
        return await told(ApiError(400, str(error), details=error.details))

    @app.errorhandler(HTTPException)
    async def http(error: HTTPException) -> Response:
        status = error.code or 500
        headers = {"allow": ", ".join(getattr(error, "valid_methods", None) or ())} if status == 405 else {}
        return await told(ApiError(status, _TEXTS.get(status, error.description or error.name), headers))

    @app.errorhandler(Exception)
    async def unforeseen(_: Exception) -> Response:
        log.error("internal error", request_id=g.request_id, exc_info=True)
        return await told(ApiError(500, "Internal server error"))


def _outcome(error: ApiError) -> Outcome:
    if error.status < 500:
        return "refused"
    return "upstream_error" if error.upstream_status or isinstance(error, UpstreamError) else "error"
