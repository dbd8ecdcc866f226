"""Values of clients within messages about them."""

from anthropic_proxy.errors import invalid_request
from anthropic_proxy.wire.quoting import shorten


def test_short_texts_stay() -> None:
    assert shorten("x" * 200) == "x" * 200


def test_long_texts_are_cut() -> None:
    assert shorten("x" * 201) == "x" * 200 + "... (201 characters)"
    assert shorten("abc", 2) == "ab... (3 characters)"


def test_no_error_says_more_than_4000_characters() -> None:
    assert invalid_request("x" * 1_000_000).message == "x" * 4000 + "... (1000000 characters)"
