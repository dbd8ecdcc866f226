"""Response formats for servers without JSON schemas."""

from typing import Any

import pytest

from anthropic_proxy.translate.request.response_format import (
    RESPONSE_FORMAT_CONVERTERS,
    to_json_object_format,
    to_prompted_format,
)

USER = {"role": "user", "content": "Hi"}
SCHEMA = {"type": "object"}
WANTED = {
    "type": "json_schema",
    "json_schema": {"name": "output", "schema": SCHEMA, "strict": False},
}
PROMPT = (
    "Respond with one JSON object that matches this JSON schema, and nothing else:\n"
    '{"type":"object"}'
)
BODY = {"model": "m", "messages": [USER], "response_format": WANTED}


def test_as_json_object() -> None:
    changed = to_json_object_format(BODY)
    assert changed["messages"] == [{"role": "system", "content": PROMPT}, USER]
    assert changed["response_format"] == {"type": "json_object"}
    assert BODY["messages"] == [USER]


def test_in_words() -> None:
    assert to_prompted_format(BODY) == {
        "model": "m",
        "messages": [{"role": "system", "content": PROMPT}, USER],
    }


@pytest.mark.parametrize("change", RESPONSE_FORMAT_CONVERTERS)
@pytest.mark.parametrize("fields", [{}, {"response_format": {"type": "text"}}])
def test_without_a_schema(change: str, fields: dict[str, Any]) -> None:
    changed = RESPONSE_FORMAT_CONVERTERS[change]({"messages": [USER], **fields})
    assert changed["messages"] == [USER]


def test_schemas_stay_where_they_are_taken() -> None:
    assert RESPONSE_FORMAT_CONVERTERS["json_schema"](BODY) is BODY
