"""API errors: types by status, response body, and parsing by the official SDK."""

import json

import anthropic
import httpx2  # the client of the SDK
import pytest

from anthropic_proxy.errors import (
    TYPE_BY_STATUS,
    ApiError,
    TruncatedError,
    build_retry_headers,
    invalid_request,
    resource_exhausted_error,
    server_stopping_error,
)


@pytest.mark.parametrize(
    ("status", "error_type"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (402, "billing_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (405, "invalid_request_error"),
        (408, "timeout_error"),
        (409, "conflict_error"),
        (413, "request_too_large"),
        (418, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (503, "api_error"),
        (504, "timeout_error"),
        (529, "overloaded_error"),
    ],
)
def test_the_status_selects_the_error_type(status: int, error_type: str) -> None:
    assert ApiError(status, "no").type == error_type


def test_the_body_is_an_error_envelope() -> None:
    error = ApiError(429, "slow down", {"retry-after": "3"})
    assert error.body("req_1") == {
        "type": "error",
        "error": {"type": "rate_limit_error", "message": "slow down"},
        "request_id": "req_1",
    }
    assert error.headers == {"retry-after": "3"}
    assert str(error) == "429 rate_limit_error: slow down"


def test_headers_are_copied() -> None:
    headers = {"retry-after": "3"}
    error = ApiError(429, "slow down", headers)
    headers.clear()
    assert error.headers == {"retry-after": "3"}
    assert ApiError(400, "no").headers == {}


def test_a_rejected_key_is_not_retried() -> None:
    assert ApiError(401, "no").headers == {"x-should-retry": "false"}
    assert ApiError(401, "no", {"retry-after": "3"}).headers == {
        "x-should-retry": "false",
        "retry-after": "3",
    }
    assert ApiError(401, "no", {"x-should-retry": "true"}).headers == {"x-should-retry": "true"}


def test_invalid_requests_have_status_400() -> None:
    error = invalid_request("no")
    assert (error.status, error.message) == (400, "no")


@pytest.mark.parametrize("status", TYPE_BY_STATUS)
def test_the_sdk_parses_the_envelope(status: int) -> None:
    def respond(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(
            status, content=json.dumps(ApiError(status, "the reason").body("req_1"))
        )

    with (
        httpx2.Client(transport=httpx2.MockTransport(respond)) as http,
        anthropic.Anthropic(api_key="dummy", http_client=http, max_retries=0) as client,
        pytest.raises(anthropic.APIStatusError) as error,
    ):
        client.messages.create(
            model="m", max_tokens=1, messages=[{"role": "user", "content": "hi"}]
        )
    assert error.value.status_code == status
    assert "the reason" in error.value.message
    assert error.value.type == TYPE_BY_STATUS[status]


def test_details_are_part_of_the_body() -> None:
    body = ApiError(400, "no", details={"error_code": "c"}).body("req_1")
    assert body["error"]["details"] == {"error_code": "c"}
    assert json.loads(ApiError(400, "no").to_json("req_1")) == ApiError(400, "no").body("req_1")


@pytest.mark.parametrize(
    ("error", "status", "headers", "message"),
    [
        (TruncatedError("It ended."), 500, {}, "It ended."),
        (
            resource_exhausted_error("file descriptors", "connect"),
            500,
            {"retry-after": "1"},
            "run out of file descriptors, so it can't connect",
        ),
        (server_stopping_error(), 529, {"retry-after": "1"}, "is stopping"),
    ],
)
def test_server_errors_have_status_headers_and_message(
    error: ApiError, status: int, headers: dict[str, str], message: str
) -> None:
    assert (error.status, error.headers) == (status, headers)
    assert message in error.message


@pytest.mark.parametrize(
    ("seconds", "headers"),
    [
        (0, {"retry-after": "0"}),
        (1.25, {"retry-after": "1.25"}),
        (0.00012, {"retry-after": "0"}),
        (60, {"retry-after": "60"}),
        (60.1, {"retry-after": "61", "x-should-retry": "false"}),
        (1_234_567.5, {"retry-after": "1234568", "x-should-retry": "false"}),
    ],
)
def test_clients_wait_for_up_to_a_minute(seconds: float, headers: dict[str, str]) -> None:
    assert build_retry_headers(seconds) == headers
