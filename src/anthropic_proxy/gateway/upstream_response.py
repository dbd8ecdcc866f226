"""Read the response of an upstream, and create the error for a response that is not usable."""

import time
from collections.abc import Callable, Mapping

from anthropic_proxy.errors import ApiError
from anthropic_proxy.gateway.streams.base import ReadLogger
from anthropic_proxy.observability.logs import Log
from anthropic_proxy.translate import rate_limit_headers, upstream_errors, upstream_failure
from anthropic_proxy.upstream.client import UpstreamClient
from anthropic_proxy.upstream.http_client import UpstreamError, UpstreamResponse


def create_read_logger(log: Log, request_id: str) -> ReadLogger | None:
    """Return the function that logs the reads of a stream; None if bodies are not logged."""
    if not log.verbose:
        return None

    def log_read(data: bytes, *, is_complete: bool) -> None:
        if is_complete:
            log.log_body("upstream response received", request_id, data)
        else:
            log.log_body("upstream chunk received", request_id, data)

    return log_read


async def read_body(response: UpstreamResponse, log: Log, request_id: str) -> bytes:
    """Return the body of a response, and release the response. Raises ApiError."""
    try:
        body = await response.read()
    except BaseException:
        await response.aclose()
        raise
    await response.release()
    log.log_body("upstream response received", request_id, body)
    return body


async def read_successful_body(
    response: UpstreamResponse, log: Log, request_id: str, to_error: Callable[[bytes], ApiError]
) -> bytes:
    """Return the body of a successful response, and release the response.

    Raises the error that `to_error` returns for the body of an unsuccessful response, and ApiError
    when the body cannot be read.
    """
    body = await read_body(response, log, request_id)
    if response.status >= 300:
        raise to_error(body)
    return body


def raise_for_web_page(
    client: UpstreamClient, response: UpstreamResponse, error: BaseException
) -> None:
    """Raise ApiError if `error` occurred because the upstream returned a web page.

    Call this only after a response could not be read. The media type alone is not sufficient: some
    servers send a wrong media type with a correct response.
    """
    is_about_content = isinstance(error, ApiError) and not isinstance(
        error, upstream_errors.UpstreamFailureError | UpstreamError
    )
    if is_about_content and upstream_errors.is_html_page(response.headers):
        raise upstream_errors.html_page_error(client.identity) from error


def parse_caller_error(
    client: UpstreamClient,
    response: UpstreamResponse,
    body: bytes,
    path: str = "",
    payload: bytes | None = None,
) -> upstream_errors.UpstreamFailureError:
    """Return the error for an unsuccessful response, with the upstream's rate limits.

    path: the path of the request, such as `/chat/completions`, for errors about a missing path.
    payload: the body of the request, for errors about its images.
    """
    return to_caller_error(
        upstream_failure.parse_failure(
            response.status, response.headers, body, client.identity, path, payload=payload
        )
    )


def to_caller_error(
    failure: upstream_failure.UpstreamFailure,
) -> upstream_errors.UpstreamFailureError:
    """Return the error for a failure, with the upstream's rate limits."""
    error = upstream_errors.to_api_error(failure)
    error.headers = to_rate_limit_headers(failure.headers) | error.headers
    return error


def to_rate_limit_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Convert the rate limit headers of an upstream to those of the Messages API."""
    return rate_limit_headers.convert_rate_limit_headers(headers, time.time())
