"""The finish reasons and the stop reasons that they become."""

import pytest

from anthropic_proxy.translate.response.stop_reasons import (
    STOP_REASONS,
    to_stop_fields,
)


@pytest.mark.parametrize("finish_reason", STOP_REASONS)
@pytest.mark.parametrize("has_calls", [True, False], ids=["calls", "no calls"])
def test_a_stop_reason_fits_the_content(finish_reason: str, has_calls: bool) -> None:
    reason = to_stop_fields(finish_reason, has_calls=has_calls)["stop_reason"]
    if STOP_REASONS[finish_reason] in ("end_turn", "tool_use"):
        assert reason == ("tool_use" if has_calls else "end_turn")
    else:
        assert reason == STOP_REASONS[finish_reason]


def test_a_refusal_has_details() -> None:
    assert to_stop_fields("stop", has_calls=True, refusal="No.") == {
        "stop_reason": "refusal",
        "stop_sequence": None,
        "stop_details": {"type": "refusal", "category": None, "explanation": "No."},
    }
    assert "stop_details" not in to_stop_fields("stop", has_calls=False)
