"""Upstream errors, as recorded or documented, and what the client is told."""

from typing import Any

import pytest

from anthropic_proxy.translate.failure import Source, stream_error, to_api_error
from tests.cases import cases

Json = dict[str, Any]
SOURCE = Source("up:1")


@pytest.mark.parametrize("case", cases("failures"))
def test_case(case: Json) -> None:
    body = case["body"].encode()
    error = to_api_error(case["status"], case.get("headers", {}), body, SOURCE)
    told = {"status": error.status, "type": error.type, "message": error.message}
    assert told | ({"headers": error.headers} if error.headers else {}) == case["told"]


def test_a_chunk_without_an_error_is_none() -> None:
    assert stream_error({"choices": [], "error": None}, SOURCE) is None


def test_a_very_long_text_is_cut() -> None:
    assert len(to_api_error(400, {}, b"x" * 100_000, SOURCE).message) == 2000
