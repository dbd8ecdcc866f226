"""Every failure, of whatever part and on whatever path, becomes an error in Anthropic's envelope with a request id."""

import re

from anthropic_proxy.api.request import TOO_LARGE, Request
from anthropic_proxy.api.response import Response
from anthropic_proxy.auth.api_keys import RequestDeniedError
from anthropic_proxy.errors import ApiError
from anthropic_proxy.observability.logs import Log
from anthropic_proxy.observability.observation import Outcome
from anthropic_proxy.upstream.http_client import UpstreamError
from anthropic_proxy.wire.anthropic.request import InvalidRequestError

_NOT_FOUND = "Not found: this server has no such path"

STATUS_TEXTS = {
    404: _NOT_FOUND,
    405: "Method not allowed on this path",
    413: TOO_LARGE,
}
"""What is told of a status, where the framework has its own words for it."""


# Paths of APIs that this server does not have, and what to do instead. First match wins.
_OTHER_APIS = (
    (
        re.compile(
            r"/(?:chat/completions|completions|responses|embeddings)/?|/api/(?:chat|generate|embed)"
        ),
        "this server speaks the Messages API: POST /v1/messages",
    ),
    (
        re.compile(r"/messages/batches(?:/.*)?"),
        "this server has no Message Batches API; send each request to POST /v1/messages",
    ),
    (
        re.compile(r"/files(?:/.*)?"),
        "this server has no Files API; send images and documents within the messages",
    ),
    (re.compile(r"/complete/?"), "this server has no Text Completions API; use POST /v1/messages"),
)
_VERSION = re.compile(r"(?:/v1){0,2}(?=/)")


def not_found_text(path: str) -> str:
    """Return the text for a path that this server does not have."""
    unversioned_path = _VERSION.sub("", path, count=1)
    text = next(
        (text for pattern, text in _OTHER_APIS if pattern.fullmatch(unversioned_path)), None
    )
    return f"Not found: {text}" if text else _NOT_FOUND


def to_error_response(error: Exception, request: Request, log: Log) -> Response:
    """What the client is told of an error, which is noted in the request's observation."""
    api_error = _to_api_error(error, request, log)
    request.observation.record_failure(api_error.type, api_error.message, _to_outcome(api_error))
    if isinstance(api_error, RequestDeniedError):
        request.observation.rejection = api_error.reason
    body = api_error.to_json(request.id)
    log.log_body("response sent", request.id, body)
    return Response(
        api_error.status, {**api_error.headers, "content-type": "application/json"}, body
    )


def _to_api_error(error: Exception, request: Request, log: Log) -> ApiError:
    if isinstance(error, ApiError):
        return error
    if isinstance(error, InvalidRequestError):
        return ApiError(400, str(error), details=error.details)
    log.error("internal error", request_id=request.id, exc_info=error)
    return ApiError(500, "Internal server error")


def _to_outcome(error: ApiError) -> Outcome:
    if error.status < 500:
        return "refused"
    return (
        "upstream_error" if error.upstream_status or isinstance(error, UpstreamError) else "error"
    )
