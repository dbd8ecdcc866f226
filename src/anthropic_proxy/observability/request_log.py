"""Sink that logs a line for each finished request."""

from collections.abc import Collection
from typing import Any

from anthropic_proxy.observability.console import REQUEST_FINISHED
from anthropic_proxy.observability.logs import Log
from anthropic_proxy.observability.observation import Observation


class RequestLog:
    """Log finished requests."""

    def __init__(self, log: Log, quiet_paths: Collection[str]) -> None:
        """Create a sink. quiet_paths: paths whose successes are logged only with --debug."""
        self._log = log
        self._quiet_paths = quiet_paths

    def request_started(self, observation: Observation) -> None:
        """Do nothing."""

    def request_finished(self, observation: Observation) -> None:
        """Log the request."""
        fields = _log_fields(observation)
        values = {name: value for name, value in fields.items() if _is_logged(value)}
        if observation.path in self._quiet_paths and observation.status == 200:
            self._log.debug(REQUEST_FINISHED, **values)
        elif _has_failed(observation):
            self._log.error(REQUEST_FINISHED, **values)
        elif observation.status in _OPERATOR_STATUSES:
            self._log.warning(REQUEST_FINISHED, **values)
        else:
            self._log.info(REQUEST_FINISHED, **values)


# Errors of keys, budgets, permissions and rate limits concern the operator. Other 4xx are errors of
# the client.
_OPERATOR_STATUSES = frozenset({401, 402, 403, 429})
_FAILURE_OUTCOMES = frozenset({"upstream_error", "truncated", "error"})


def _has_failed(observation: Observation) -> bool:
    """Return whether the server or an upstream failed, possibly in a stream with status 200."""
    return observation.outcome in _FAILURE_OUTCOMES or (observation.status or 0) >= 500


def _is_logged(value: object) -> bool:
    """Return whether a field has a value other than 0 and false, or is a time (a float)."""
    return isinstance(value, float) or value not in (None, 0, False)


def _log_fields(observation: Observation) -> dict[str, Any]:
    is_other = observation.operation == "other"
    tokens = {f"{kind}_tokens": count for kind, count in observation.tokens.items()}
    return {
        "request_id": observation.request_id,
        "trace_id": observation.trace.trace_id,
        "span_id": observation.trace.span_id,
        "client_key": observation.api_key_name,
        "operation": observation.operation,
        "method": observation.method if is_other else None,
        "path": observation.path if is_other else None,
        "model": observation.model,
        "stream": observation.is_stream,
        "upstream": observation.upstream,
        "upstream_model": observation.upstream_model,
        "status": observation.status,
        "outcome": observation.outcome,
        "seconds": round(observation.seconds, 3),
        "first_token_seconds": _round_seconds(observation.seconds_to_first_token),
        **tokens,
        "stop_reason": observation.stop_reason,
        "tool_calls": observation.tool_calls,
        "retries": observation.retries,
        "failovers": observation.failovers,
        "error_type": observation.error_type,
        "message": observation.message,
        "upstream_url": _hidden_upstream_url(observation),
        "hint": observation.hint,
    }


def _hidden_upstream_url(observation: Observation) -> str | None:
    """Return the URL of a failed upstream if messages for clients do not contain it."""
    if not observation.upstream_requests or not _has_failed(observation):
        return None
    upstream = observation.upstream_requests[-1].upstream
    return None if upstream.has_public_address else upstream.base_url


def _round_seconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
