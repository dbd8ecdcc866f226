"""The Quart application, which serves all paths except those of `messages_app`."""

from collections.abc import Collection
from typing import cast

from quart import Blueprint, Quart, g, request
from quart import Response as QuartResponse
from werkzeug.exceptions import HTTPException

from anthropic_proxy.api import errors
from anthropic_proxy.api.asgi import Scope
from anthropic_proxy.api.auth import AccessControl
from anthropic_proxy.api.request import Request
from anthropic_proxy.errors import ApiError
from anthropic_proxy.observability.logs import Log
from anthropic_proxy.upstream.loop_detection import refuse_loop


def create_quart_app(log: Log, *routes: Blueprint) -> Quart:
    """Create an application with these routes and error responses in the format of the API."""
    app = Quart(__name__, static_folder=None)
    # By default Quart redirects paths with double slashes (with an HTML page), responds to OPTIONS
    # with an empty page, and limits the duration of responses (here: middleware.in_flight).
    app.url_map.merge_slashes = False
    app.config.update(PROVIDE_AUTOMATIC_OPTIONS=False, RESPONSE_TIMEOUT=None)
    for blueprint in routes:
        app.register_blueprint(blueprint)
    _attach_requests(app)
    _handle_errors(app, log)
    return app


def require_keys(app: Quart, access: AccessControl, public_rules: Collection[str]) -> None:
    """Reject requests without a valid key. public_rules: URL rules without authentication."""

    @app.before_request
    async def check() -> None:
        # Compare the rule, not the path: several paths may match one rule.
        is_public = request.url_rule is not None and request.url_rule.rule in public_rules
        if not is_public:
            access.authenticate(g.received)
            refuse_loop(g.received.caller.headers)


def _attach_requests(app: Quart) -> None:
    @app.before_request
    async def begin() -> None:
        g.received = Request(cast("Scope", request.scope))
        g.received.check_framing()


def _handle_errors(app: Quart, log: Log) -> None:
    @app.errorhandler(HTTPException)
    async def handle_http_error(error: HTTPException) -> QuartResponse:
        status = error.code or 500
        text = errors.STATUS_TEXTS.get(status, error.description or error.name)
        headers = {}
        if status == 404:
            text = errors.not_found_text(request.path)
        elif status == 405:
            headers["allow"] = ", ".join(getattr(error, "valid_methods", None) or ())
        return await handle_error(ApiError(status, text, headers))

    @app.errorhandler(Exception)
    async def handle_error(error: Exception) -> QuartResponse:
        response = errors.to_error_response(error, g.received, log)
        return QuartResponse(response.content, response.status, response.headers)
