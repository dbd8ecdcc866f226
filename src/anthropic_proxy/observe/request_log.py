"""One line in the log for each request, when it is over."""

from collections.abc import Collection
from typing import Any

from anthropic_proxy.observe.logs import Log
from anthropic_proxy.observe.observation import Observation


class RequestLog:
    """A sink of observations. quiet: paths that are asked for all the time, whose requests are logged with --debug only."""

    def __init__(self, log: Log, quiet: Collection[str]) -> None:
        self._log = log
        self._quiet = quiet

    def began(self, observation: Observation) -> None:
        """Nothing is known of it yet."""

    def finished(self, observation: Observation) -> None:
        """Log it."""
        tell = self._log.debug if observation.path in self._quiet and observation.status == 200 else self._log.info
        tell("request", **{name: value for name, value in _line(observation).items() if value not in (None, 0, False)})


def _line(observation: Observation) -> dict[str, Any]:
    place = {"method": observation.method, "path": observation.path} if observation.operation == "other" else {}
    return {
        "request_id": observation.request_id,
        "trace_id": observation.trace.trace_id,
        "span_id": observation.trace.span_id,
        "client_key": observation.client_key,
        "operation": observation.operation,
        **place,
        "model": observation.model,
        "stream": observation.is_stream,
        "upstream": observation.upstream,
        "upstream_model": observation.upstream_model,
        "status": observation.status,
        "outcome": observation.outcome,
        "seconds": round(observation.seconds, 3),
        "first_token_seconds": _rounded(observation.seconds_to_first_token),
        **{f"{kind}_tokens": count for kind, count in observation.tokens.items()},
        "stop_reason": observation.stop_reason,
        "tool_calls": observation.tool_calls,
        "retries": observation.retries,
        "failovers": observation.failovers,
        "error_type": observation.error_type,
        "message": observation.message,
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
