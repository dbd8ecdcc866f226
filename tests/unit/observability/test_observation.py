"""Observation of one request with several upstream responses."""

from anthropic_proxy.observability.observation import Observation


def test_tokens_of_several_responses_are_added() -> None:
    """A compaction has two responses: the summary and its continuation."""
    observation = Observation("POST", "/v1/messages")
    observation.record_response({"input_tokens": 900, "output_tokens": 50}, "end_turn", 1)
    details = {"thinking_tokens": 7}
    usage = {"input_tokens": 100, "output_tokens": 20, "output_tokens_details": details}
    observation.record_response(usage, "tool_use", 2)
    assert observation.tokens == {"input": 1000, "output": 70, "thinking": 7}
    assert (observation.stop_reason, observation.tool_calls) == ("tool_use", 2)
