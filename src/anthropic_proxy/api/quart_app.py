"""The application of the web framework: all that is served besides the Messages API's own endpoints."""

from collections.abc import Collection
from typing import cast

from quart import Blueprint, Quart, g, request
from quart import Response as QuartResponse
from werkzeug.exceptions import HTTPException

from anthropic_proxy.api import errors, models
from anthropic_proxy.api.asgi import Scope
from anthropic_proxy.api.auth import Access
from anthropic_proxy.api.request import Request
from anthropic_proxy.errors import ApiError
from anthropic_proxy.observability.logs import Log
from anthropic_proxy.upstream.loop_detection import refuse_loop


def application(log: Log, *routes: Blueprint) -> Quart:
    """An application with some routes, whose errors are those of the API."""
    app = Quart(__name__, static_folder=None)
    # Else two slashes are answered with a redirect, which is a page.
    app.url_map.merge_slashes = False
    # Answers to OPTIONS would be pages without content. Who is slow to read is left in a way of our own (open_requests).
    app.config.update(PROVIDE_AUTOMATIC_OPTIONS=False, RESPONSE_TIMEOUT=None)
    app.url_map.converters[models.MODEL_ID] = models.ModelId
    for blueprint in routes:
        app.register_blueprint(blueprint)
    _identify(app)
    _answer_errors(app, log)
    return app


def protect(app: Quart, access: Access, free: Collection[str]) -> None:
    """Refuse requests without a good key. free: rules that need none."""

    @app.before_request
    async def check() -> None:
        # The rule that will answer decides, and not the path: several paths may lead to one rule.
        is_free = request.url_rule is not None and request.url_rule.rule in free
        if not is_free:
            access.check(g.received)


def _identify(app: Quart) -> None:
    @app.before_request
    async def begin() -> None:
        g.received = Request(cast("Scope", request.scope))
        g.received.check_framing()
        refuse_loop(g.received.client.headers)


def _answer_errors(app: Quart, log: Log) -> None:
    @app.errorhandler(HTTPException)
    async def http(error: HTTPException) -> QuartResponse:
        status = error.code or 500
        headers = (
            {"allow": ", ".join(getattr(error, "valid_methods", None) or ())}
            if status == 405
            else {}
        )
        text = errors.TEXTS.get(status, error.description or error.name)
        return await told(
            ApiError(status, errors.not_found(request.path) if status == 404 else text, headers)
        )

    @app.errorhandler(Exception)
    async def told(error: Exception) -> QuartResponse:
        answer = errors.response(error, g.received, log)
        return QuartResponse(answer.content, answer.status, answer.headers)
