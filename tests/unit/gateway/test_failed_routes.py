"""The error that the client receives when several routes fail."""

import pytest

from anthropic_proxy.errors import ApiError, PassthroughError
from anthropic_proxy.gateway.failed_routes import FailedRoutes, parse_overflow_limit

_NATIVE_TEXT = "prompt is too long: 208310 tokens > 200000 maximum"
_NATIVE = PassthroughError(
    400, b"", {"error": {"type": "invalid_request_error", "message": _NATIVE_TEXT}}
)


@pytest.mark.parametrize(
    ("error", "limit"),
    [
        (ApiError(400, "prompt is too long: 9000 tokens > 8192 maximum"), 8192),
        (ApiError(413, "Prompt is too long: 9000 tokens > 8192 maximum"), 8192),
        (
            ApiError(
                400,
                "input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000, "
                "decrease input length or `max_tokens` and try again",
            ),
            200_000,
        ),
        (ApiError(400, "prompt is too long: the request exceeds the context size"), 0),
        (_NATIVE, 200_000),
        (ApiError(400, "max_tokens: 9000 > 8192, which is the maximum"), None),
        (ApiError(400, "messages: 9 tokens > 8 maximum"), None),
        (ApiError(429, "prompt is too long for the limit of a minute"), None),
        (ApiError(500, "prompt is too long"), None),
        (ApiError(413, "Request exceeds the maximum size"), None),
    ],
)
def test_limits_of_overflows(error: ApiError, limit: int | None) -> None:
    assert parse_overflow_limit(error) == limit


def _error(name: str) -> ApiError:
    """Return an error by its name: "overflow LIMIT", or a status of the upstream."""
    kind, _, limit = name.partition(" ")
    if kind == "overflow":
        sizes = f": 300000 tokens > {limit} maximum" if limit else ""
        return ApiError(400, f"prompt is too long{sizes}")
    error = ApiError(int(kind), "failed")
    error.upstream_status = int(kind)
    return error


@pytest.mark.parametrize(
    ("names", "selected"),
    [
        (["429", "404"], 0),
        (["404", "429", "500"], 0),
        (["overflow 8192"], 0),
        (["overflow 8192", "overflow 32768"], 1),
        (["overflow 32768", "overflow 8192"], 0),
        (["overflow 8192", "overflow 8192"], 0),
        (["overflow 8192", "overflow"], 0),
        (["overflow", "overflow 8192"], 1),
        (["503", "overflow 8192"], 1),
        (["401", "overflow 8192", "404"], 1),
        (["overflow 8192", "429"], 1),
        (["overflow 8192", "404", "503", "429"], 2),
        (["overflow 8192", "503", "overflow 32768"], 1),
    ],
)
def test_the_selected_error(names: list[str], selected: int) -> None:
    errors = [_error(name) for name in names]
    failed_routes = FailedRoutes()
    for error in errors:
        failed_routes.add(error)
    assert failed_routes.select_error() is errors[selected]
