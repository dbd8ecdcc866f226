"""Errors for responses without content that the proxy can read."""

import pytest

from anthropic_proxy.errors import ApiError
from anthropic_proxy.errors.redaction import Redactor, Secret
from anthropic_proxy.translate.response.unread import UnreadResponse
from anthropic_proxy.translate.upstream_failure import UpstreamIdentity
from tests.support.response_specs import answer_spec

_KEY = "sk-upstream-0123456789"
_UPSTREAM = UpstreamIdentity("up:1", Redactor([Secret(_KEY)]))


def _get_message(*payloads: bytes) -> str:
    unread = UnreadResponse(_UPSTREAM)
    for payload in payloads:
        unread.add(payload)
    with pytest.raises(ApiError) as caught:
        unread.check(
            "stop",
            announces_calls=False,
            is_proven=True,
            reported={"completion_tokens": 9},
            spec=answer_spec(),
        )
    assert caught.value.status == 500
    return caught.value.message


def test_the_error_shows_what_arrived() -> None:
    assert _get_message(b'{"a":1}', b'{"b":"\xff"}') == (
        "The upstream up:1 returned a response without text and tool calls that the proxy can read "
        '(finish reason "stop", 9 output tokens): {"a":1}\n{"b":"\ufffd"}'
    )


def test_the_error_of_an_empty_response() -> None:
    assert _get_message().endswith("9 output tokens)")


@pytest.mark.parametrize("padding", [0, 900, 990, 1000])
def test_the_error_is_short_and_without_secrets(padding: int) -> None:
    payload = b"x" * padding + _KEY.encode() + b"y" * 100_000
    message = _get_message(payload)
    assert len(message) < 1200
    assert "sk-up" not in message


def test_many_payloads_take_little_memory() -> None:
    unread = UnreadResponse(_UPSTREAM)
    for _ in range(100_000):
        unread.add(b"x" * 100)
    assert len(unread._beginning) < 10_000
