"""The data of events: chunks, keep-alives, and marks of the end."""

import pytest

from anthropic_proxy.errors import ApiError
from anthropic_proxy.errors.redaction import Redactor, Secret
from anthropic_proxy.translate.response.event_translator import parse_chunks
from anthropic_proxy.translate.upstream_failure import UpstreamIdentity

_KEY = "sk-upstream-0123456789"
_UPSTREAM = UpstreamIdentity("up:1", Redactor([Secret(_KEY)]))


def test_an_invalid_chunk_is_shown() -> None:
    with pytest.raises(ApiError) as caught:
        parse_chunks(b"no chunk, but " + _KEY.encode(), _UPSTREAM)
    assert caught.value.message == (
        "The upstream sent an invalid chunk: it is not a JSON object: no chunk, but ***"
    )


@pytest.mark.parametrize("payload", [b"null", b"", b": a", b"ping"])
def test_keep_alives_are_no_chunks(payload: bytes) -> None:
    assert parse_chunks(payload, _UPSTREAM) == []
