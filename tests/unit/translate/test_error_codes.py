"""The HTTP statuses of errors that have none of their own."""

from typing import Any

import pytest

from anthropic_proxy.translate.error_codes import (
    find_named_status,
    find_status,
    get_minimax_status,
)


@pytest.mark.parametrize(
    ("names", "status"),
    [
        (["rate_limit_error"], 429),
        (["RateLimitError"], 429),
        (["RESOURCE_EXHAUSTED"], 429),
        (["resource-exhausted"], 429),
        ([None, 5, "new", "overloaded_error"], 529),
        (["x" * 100_000], None),
        ([], None),
    ],
)
def test_names(names: list[Any], status: int | None) -> None:
    assert find_named_status(names) == status


@pytest.mark.parametrize(
    ("error", "text", "status"),
    [
        ({"code": 429}, "", 429),
        ({"code": "503"}, "", 503),
        ({"status": 429}, "", 429),
        ({"http_code": "429"}, "", 429),
        ({"code": 200, "type": "BadRequestError"}, "", 400),
        ({"code": 500, "type": "rate_limit_error"}, "", 429),
        ({"code": 500}, "Too many requests", 429),
        ({"code": "1302"}, "", 429),
        ({"code": "1302", "type": "invalid_request_error"}, "", 400),
        ({}, "the server is busy", 529),
        ({}, "died", 500),
        ({"code": [], "type": {}}, "", 500),
        ({"type": "server_error rate_limit_exceeded"}, "", 429),
    ],
)
def test_statuses(error: dict[str, Any], text: str, status: int) -> None:
    assert find_status(error, text) == status


@pytest.mark.parametrize(
    ("code", "status"), [(1002, 429), (1004, 401), (1008, 402), (2013, 400), (7, 500), ("x", 500)]
)
def test_minimax(code: object, status: int) -> None:
    assert get_minimax_status(code) == status
