"""The delay before a retry, in the places where upstreams state it, in order of precedence."""

from collections.abc import Callable
from typing import Any

import pytest

from anthropic_proxy.translate.retry_delay import find_retry_delay
from anthropic_proxy.translate.upstream_failure import UpstreamFailure, UpstreamIdentity
from tests.support.scaling import assert_linear_cpu

Json = dict[str, Any]

_RESET = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "12s"}
_INFO = {"details": ["odd", {"@type": "x"}, {"retryDelay": "26s"}]}


def _failure(headers: dict[str, str], error: Json, text: str) -> UpstreamFailure:
    return UpstreamFailure(429, text, error, headers, UpstreamIdentity("up:1"))


@pytest.mark.parametrize(
    ("headers", "error", "text", "seconds"),
    [
        ({}, {}, "slow", None),
        ({"retry-after": "7", **_RESET}, _INFO, "try again in 3s", 7),
        (_RESET, _INFO, "try again in 3s", 26),
        (_RESET, {"resets_in_seconds": 30}, "try again in 3s", 30),
        (_RESET, {}, "try again in 3s", 3),
        (_RESET, {}, "", 12),
        ({}, {"retry_after": 1.5}, "", 1.5),
        ({}, {"retry_after": True, "details": {}}, "", None),
        ({}, {"retry_after": "5", "details": [{"retryDelay": 5}]}, "", 5),
        ({}, {"retry_after": "soon"}, "", None),
        ({}, {"retry_after": "2 minutes"}, "", 120),
        ({}, {"retry_after_ms": 500}, "", 0.5),
        ({}, {"retry_after_ms": "500"}, "", 0.5),
        ({}, {"retry_after_ms": "500ms"}, "", 0.5),
        ({}, {"retryAfterMs": " 1.5s "}, "", 1.5),
        ({}, {"metadata": {"headers": {"Retry-After": 9}}}, "try again in 3s", 3),
        (_RESET, {"metadata": {"headers": {"Retry-After": 9}}}, "", 9),
        ({}, {"message": '{"details": [{"retryDelay": "11.5s"}]}'}, "", 11.5),
        ({}, {"message": ["retryDelay"]}, "", None),
    ],
)
def test_precedence(headers: dict[str, str], error: Json, text: str, seconds: float | None) -> None:
    assert find_retry_delay(_failure(headers, error, text)) == seconds


@pytest.mark.parametrize(
    "piece", ["try again in ", "retry in 1s ", "retryDelay: ", "1s ", "1 秒", "again at 2026-"]
)
def test_a_hostile_text_costs_no_more_than_its_length(piece: str) -> None:
    def prepare(size: int) -> Callable[[], object]:
        text = piece * (size // len(piece))
        return lambda: find_retry_delay(_failure({}, {"message": text}, text))

    assert_linear_cpu(prepare, 4000)
