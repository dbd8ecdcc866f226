"""The filters of an answer's text, one behind the other."""

import dataclasses
from typing import Any

import pytest

from anthropic_proxy.translate.response.text_filters import ResponseTextFilter
from tests.support.response_specs import answer_spec


def told(
    text: str, prefill: str = "", *, structured: bool = False, stops: tuple[str, ...] = ()
) -> tuple[str, str | None]:
    spec = dataclasses.replace(
        answer_spec(), prefill=prefill, is_structured=structured, stop_sequences=list(stops)
    )
    filters = ResponseTextFilter(spec)
    return "".join(
        [filters.feed(character) for character in text]
    ) + filters.flush(), filters.matched_stop_sequence


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("Hello", {}, ("Hello", None)),
        ("Once upon a time", {"prefill": "Once upon"}, (" a time", None)),
        ("There was", {"prefill": "Once upon"}, ("There was", None)),
        ("Onc", {"prefill": "Once upon"}, ("Onc", None)),
        ('Sure: {"a": 1}', {"structured": True}, ('{"a": 1}', None)),
        ('Sure: {"a": "END"}', {"structured": True, "stops": ("END",)}, ('{"a": "', "END")),
        ("END of it", {"prefill": "END", "stops": ("END",)}, (" of it", None)),
        ("the EN", {"stops": ("END",)}, ("the EN", None)),
    ],
)
def test_filters(text: str, options: dict[str, Any], expected: tuple[str, str | None]) -> None:
    assert told(text, **options) == expected
