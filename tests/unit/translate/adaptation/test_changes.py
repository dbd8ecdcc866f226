"""Changes of requests, one by one; which refusal leads to which is in tests/cases."""

import pytest

from anthropic_proxy.translate.adaptation.changes import RequestChange


@pytest.mark.parametrize(
    ("wanted", "expected"), [("max", "high"), ("xhigh", "high"), ("minimal", "low"), ("low", "low")]
)
def test_the_nearest_level(wanted: str, expected: str) -> None:
    change = RequestChange("nearest", "reasoning_effort", ("low", "high"))
    assert change.apply({"reasoning_effort": wanted}) == {"reasoning_effort": expected}


def test_a_schema_without_a_system_prompt() -> None:
    schema = {
        "type": "json_schema",
        "json_schema": {"name": "output", "schema": {}, "strict": False},
    }
    body = {"messages": [{"role": "user", "content": "a"}], "response_format": schema}
    changed = RequestChange("as_json_object", "response_format").apply(body)
    assert [message["role"] for message in changed["messages"]] == ["system", "user"]
    assert changed["response_format"] == {"type": "json_object"}
