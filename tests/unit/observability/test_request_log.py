"""Fields of the log event `request finished`."""

from unittest.mock import Mock

from anthropic_proxy.observability.observation import Observation
from anthropic_proxy.observability.request_log import RequestLog


def test_times_of_0_are_logged() -> None:
    log = Mock()
    observation = Observation("POST", "/v1/messages", status=200)
    observation.ended_at = observation.first_token_at = observation.started_at + 0.0001
    RequestLog(log, ()).request_finished(observation)
    fields = log.info.call_args.kwargs
    assert (fields["seconds"], fields["first_token_seconds"]) == (0, 0)
    assert {"retries", "tool_calls", "stream", "stop_reason"}.isdisjoint(fields)
