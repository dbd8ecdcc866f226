"""Failures that concern later requests: cool-downs of models, and server errors."""

from collections.abc import Mapping
from typing import Any

import pytest

from anthropic_proxy.errors import (
    ApiError,
    PassthroughError,
    TruncatedError,
    UnusableResponseError,
)
from anthropic_proxy.translate.upstream_errors import to_api_error
from anthropic_proxy.translate.upstream_failure import UpstreamFailure, UpstreamIdentity
from anthropic_proxy.upstream.http_client import UpstreamError
from anthropic_proxy.upstream.target_health import (
    CoolDowns,
    UnavailableError,
    is_about_account,
    is_server_error,
    model_cool_down_seconds,
)

_IDENTITY = UpstreamIdentity("up")
_NO_HEADERS: Mapping[str, str] = {}


def _failure(
    status: int, text: str = "failed", headers: Mapping[str, str] = _NO_HEADERS, **error: Any
) -> ApiError:
    return to_api_error(UpstreamFailure(status, text, error, headers, _IDENTITY))


def _concerning(error: ApiError, *, target: bool) -> ApiError:
    error.concerns_target = target
    return error


def _native(status: int, kind: str, headers: Mapping[str, str] = _NO_HEADERS) -> ApiError:
    envelope = {"type": "error", "error": {"type": kind, "message": "failed"}}
    return PassthroughError(status, b"", envelope, headers)


_DATE = {"date": "Mon, 30 Nov 2026 19:00:00 GMT"}

# Each error with the seconds of the cool-down, and whether it is a server error.
_ERRORS: dict[str, tuple[ApiError, float | None, bool]] = {
    "limit": (_failure(429), 10, False),
    "limit with seconds": (_failure(429, headers={"retry-after": "600"}), 600, False),
    "limit with milliseconds": (_failure(429, headers={"retry-after-ms": "1500"}), 1.5, False),
    "limit with a date": (
        _failure(429, headers={**_DATE, "retry-after": "Mon, 30 Nov 2026 19:05:00 GMT"}),
        300,
        False,
    ),
    "limit with a text": (_failure(429, "Please try again in 6m0s"), 360, False),
    "limit with a field": (_failure(429, resets_in_seconds=17), 17, False),
    "limit of five hours": (_failure(429, headers={"retry-after": "18000"}), 3600, False),
    "limit that has ended": (_failure(429, headers={"retry-after": "0"}), 0, False),
    "native limit": (_native(429, "rate_limit_error", {"retry-after": "600"}), 600, False),
    "refused key": (_failure(401), 300, False),
    "no credit": (_failure(402), 300, False),
    "no permission": (_failure(403), 10, False),
    "missing model": (_failure(404, "no model m"), 300, False),
    "wrong path": (_failure(404, "Not Found"), 300, False),
    "missing feature of a model": (
        _concerning(_failure(404, "No endpoints found that support tool use"), target=True),
        None,
        False,
    ),
    "no credit with status 400": (
        _concerning(_failure(400, "Your credit balance is too low"), target=True),
        300,
        False,
    ),
    "bad request": (_failure(400, headers={"retry-after": "9"}), None, False),
    "policy violation": (_concerning(_failure(403), target=False), None, False),
    "long prompt": (_failure(500, "the request exceeds the context size"), None, False),
    "overload": (_failure(503), None, True),
    "overload with seconds": (_failure(503, headers={"retry-after": "30"}), 30, True),
    "native overload": (_native(529, "overloaded_error", {"retry-after": "30"}), 30, True),
    "server error": (_failure(500), None, True),
    "native server error": (_native(500, "api_error"), None, True),
    "unusable response": (UnusableResponseError("returned an HTML page"), None, True),
    "response without an end": (TruncatedError("ended the response"), None, True),
    "timeout of the server": (_failure(408), None, False),
    "unsupported method": (_failure(501), None, False),
    "image that is not supported": (_failure(500, "image input is not supported"), None, False),
    "busy proxy": (UnavailableError(529, "busy", {"retry-after": "9"}, 529), None, False),
    "refused keys": (UnavailableError(500, "keys", {}, 403), None, False),
    "no connection": (UpstreamError(500, "refused", "connect"), None, False),
    "failure of the proxy": (ApiError(500, "failed", {"retry-after": "9"}), None, False),
}


@pytest.mark.parametrize("name", _ERRORS)
def test_failures(name: str) -> None:
    error, seconds, is_of_server = _ERRORS[name]
    assert model_cool_down_seconds(error) == seconds
    assert is_server_error(error) == is_of_server


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (_failure(429), True),
        (_failure(401), True),
        (_failure(402), True),
        (_failure(403), True),
        (_failure(400, "insufficient balance"), True),
        (_failure(404, "no model m"), False),
        (_failure(503, headers={"retry-after": "30"}), False),
    ],
)
def test_failures_of_an_account(error: ApiError, *, expected: bool) -> None:
    assert is_about_account(error) == expected


def test_cool_downs_end() -> None:
    cool_downs = CoolDowns()
    assert cool_downs.seconds_left("m", 5) == 0
    cool_downs.start("m", 5, 10)
    assert [cool_downs.seconds_left("m", now) for now in (5, 14, 15, 99)] == [10, 1, 0, 0]
    assert cool_downs.seconds_left("other", 5) == 0


def test_a_later_failure_never_shortens_a_cool_down() -> None:
    cool_downs = CoolDowns()
    cool_downs.start("m", 0, 600)
    cool_downs.start("m", 1, 10)
    assert cool_downs.seconds_left("m", 1) == 599
    cool_downs.start("m", 1, 700)
    assert cool_downs.seconds_left("m", 1) == 700


def test_a_success_ends_a_cool_down() -> None:
    cool_downs = CoolDowns()
    cool_downs.start("m", 0, 600)
    cool_downs.end("m")
    cool_downs.end("unknown")
    assert cool_downs.seconds_left("m", 1) == 0


def test_the_number_of_models_is_bounded() -> None:
    """Clients may request any model names."""
    cool_downs = CoolDowns()
    for number in range(1000):
        cool_downs.start(f"m{number}", 0, 600)
    cooling = [number for number in range(1000) if cool_downs.seconds_left(f"m{number}", 0)]
    assert cooling == [*range(744, 1000)]
