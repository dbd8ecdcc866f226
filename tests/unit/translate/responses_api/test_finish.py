"""Errors within an answer: each code that OpenAI's types know has its status."""

from typing import Any, get_args

import pytest
from openai.types.responses import ResponseError

from anthropic_proxy.translate.responses_api.finish import build_error_chunk
from anthropic_proxy.translate.upstream_errors import UpstreamIdentity, parse_chunk_error

_SERVERS = {"server_error": 500, "vector_store_timeout": 500, "rate_limit_exceeded": 429}


@pytest.mark.parametrize("code", get_args(ResponseError.model_fields["code"].annotation))
def test_each_code_has_its_status(code: str) -> None:
    error = parse_chunk_error(
        build_error_chunk({"code": code, "message": "No."}), UpstreamIdentity("up:1")
    )
    assert error is not None
    assert error.status == _SERVERS.get(code, 400)
    assert "No." in error.message


@pytest.mark.parametrize("error", [None, "", [], {}, {"message": None, "code": None}])
def test_an_error_without_words_is_one(error: Any) -> None:
    found = parse_chunk_error(build_error_chunk(error), UpstreamIdentity("up:1"))
    assert found is not None
    assert (found.status, found.message) == (
        500,
        "The upstream up:1 broke off the answer without a reason",
    )
