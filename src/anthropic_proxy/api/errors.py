"""Convert exceptions to error responses in the format of the Anthropic API."""

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

# Error messages that replace those of Quart.
STATUS_TEXTS = {
    404: _NOT_FOUND,
    405: "Method not allowed on this path",
    413: TOO_LARGE,
}

# Paths of APIs that the proxy does not have, with advice for the client. The first match counts.
_OTHER_APIS = (
    (
        re.compile(
            r"/(?:chat/completions|completions|responses|embeddings)/?|/api/(?:chat|generate|embed)"
        ),
        "this server provides the Messages API: POST /v1/messages",
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
    """Return the error message for a path that does not exist."""
    unversioned_path = _VERSION.sub("", path, count=1)
    for pattern, text in _OTHER_APIS:
        if pattern.fullmatch(unversioned_path):
            return f"Not found: {text}"
    return _NOT_FOUND


def to_error_response(error: Exception, request: Request, log: Log) -> Response:
    """Return the error response, and record the error in the observation of the request."""
    api_error = _to_api_error(error, request, log)
    request.observation.record_failure(api_error.type, api_error.message, _to_outcome(api_error))
    if isinstance(api_error, RequestDeniedError):
        request.observation.rejection = api_error.reason
    body = api_error.to_json(request.id)
    log.log_body("response sent", request.id, body)
    headers = {**api_error.headers, "content-type": "application/json"}
    return Response(api_error.status, headers, body)


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
    if error.upstream_status or isinstance(error, UpstreamError):
        return "upstream_error"
    return "error"
