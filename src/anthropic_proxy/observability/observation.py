"""Observations: one record for each request, filled by all parts and passed to the sinks."""

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, Protocol

from anthropic_proxy.errors import ApiError, TruncatedError
from anthropic_proxy.observability.trace_context import TraceContext, start_trace
from anthropic_proxy.routing.upstream import Upstream

Outcome = Literal[
    "complete",  # the client received the complete response
    "client_closed",  # the client disconnected before the end
    "upstream_error",  # the upstream failed, before or during the response
    "truncated",  # the upstream ended a stream early, without an error
    "refused",  # a client error (4xx)
    "error",  # any other error
]

# Usage field of the API -> kind of tokens.
_TOKEN_KINDS = {
    "input_tokens": "input",
    "output_tokens": "output",
    "cache_read_input_tokens": "cache_read",
    "cache_creation_input_tokens": "cache_creation",
}

_NO_REPAIRS: Mapping[str, int] = MappingProxyType({})


def new_span_id() -> str:
    """Return a random span id."""
    return secrets.token_hex(8)


def new_trace() -> TraceContext:
    """Return the first span of a new trace."""
    return start_trace(secrets.token_hex(16), new_span_id())


@dataclass
class UpstreamRequest:
    """One request to an upstream. Times are `time.perf_counter` values, in seconds."""

    # Span of this request, which the upstream receives.
    trace: TraceContext
    upstream: Upstream
    method: str
    # Model name of the upstream.
    model: str | None
    status: int | None = None
    # Phase of the failure (connect, head, body); after a successful status, `truncated` or the type
    # of the error.
    error_type: str | None = None
    started_at: float = field(default_factory=time.perf_counter)
    ended_at: float | None = None

    def end(self) -> None:
        """Record the end of the response. Later calls have no effect."""
        self.ended_at = self.ended_at or time.perf_counter()

    def fail(self, error_type: str) -> None:
        """Record a failure and end the request. Only the first failure counts."""
        if self.error_type is None and (self.status or 0) < 400:
            self.error_type = error_type
        self.end()


@dataclass
class Observation:
    """One request from a client. Times are `time.perf_counter` values, in seconds."""

    method: str
    path: str
    request_id: str = ""
    scheme: str = "http"
    # Span of the request.
    trace: TraceContext = field(default_factory=new_trace)
    # Span of the client.
    parent_trace: TraceContext | None = None
    # Name of the client's API key.
    api_key_name: str | None = None
    # Reason for a rejection by the API key (`auth.api_keys`).
    rejection: str | None = None
    operation: str = "other"
    model: str | None = None
    is_stream: bool = False
    upstream: str | None = None
    upstream_model: str | None = None
    status: int | None = None
    error_type: str | None = None
    message: str | None = None
    # Advice for the operator about the failure.
    hint: str | None = None
    started_at: float = field(default_factory=time.perf_counter)
    first_token_at: float | None = None
    ended_at: float | None = None
    # Tokens by kind: input, output, cache_read, cache_creation, thinking.
    tokens: dict[str, int] = field(default_factory=dict)
    stop_reason: str | None = None
    outcome: Outcome = "complete"
    tool_calls: int = 0
    repairs: Mapping[str, int] = field(default_factory=dict)
    retries: int = 0
    failovers: int = 0
    # In the order in which they were sent.
    upstream_requests: list[UpstreamRequest] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Duration in seconds; up to now if the request has not ended."""
        return (self.ended_at or time.perf_counter()) - self.started_at

    @property
    def seconds_to_first_token(self) -> float | None:
        """Seconds to the first content; None if not streamed or without content."""
        if self.first_token_at is None:
            return None
        return self.first_token_at - self.started_at

    @property
    def seconds_per_output_token(self) -> float | None:
        """Mean seconds for each output token after the first; None if unknown."""
        following = self.tokens.get("output", 0) - 1
        if self.first_token_at is None or self.ended_at is None or following < 1:
            return None
        return (self.ended_at - self.first_token_at) / following

    def start_upstream_request(self, upstream: Upstream, method: str) -> UpstreamRequest:
        """Record a request that is about to be sent to an upstream."""
        trace = self.trace.child(new_span_id())
        request = UpstreamRequest(trace, upstream, method, self.upstream_model)
        self.upstream_requests.append(request)
        return request

    def fail_upstream_request(self, error: Exception) -> None:
        """Record that the response to the last upstream request cannot be used."""
        if not self.upstream_requests:
            return
        error_type = "api_error"
        if isinstance(error, TruncatedError):
            error_type = "truncated"
        elif isinstance(error, ApiError):
            error_type = error.type
        self.upstream_requests[-1].fail(error_type)

    def set_route(self, upstream: str, model: str) -> None:
        """Record the upstream and the upstream's model that serve the request."""
        self.upstream, self.upstream_model = upstream, model

    def mark_first_token(self) -> None:
        """Record the time of the first content of a stream."""
        self.first_token_at = time.perf_counter()

    def record_response(
        self,
        usage: Mapping[str, Any],
        stop_reason: str | None,
        tool_calls: int,
        repairs: Mapping[str, int] = _NO_REPAIRS,
    ) -> None:
        """Record the finished response of an upstream.

        A request may have several responses, such as the summary of a compaction. Their tokens are
        added up.

        usage: usage of the Message; for an incomplete response, the usage so far. repairs: number
        of repaired tool calls by kind.
        """
        counts = {kind: usage.get(name) for name, kind in _TOKEN_KINDS.items()}
        details = usage.get("output_tokens_details")
        if isinstance(details, Mapping):
            counts["thinking"] = details.get("thinking_tokens")
        for kind, count in counts.items():
            if isinstance(count, int) and count > 0:
                self.tokens[kind] = self.tokens.get(kind, 0) + count
        self.stop_reason = stop_reason
        self.tool_calls = tool_calls
        self.repairs = repairs

    def record_failure(self, error_type: str, message: str, outcome: Outcome) -> None:
        """Record the error that the client receives."""
        self.error_type, self.message, self.outcome = error_type, message, outcome

    def record_stream_failure(self, error: Exception) -> None:
        """Record the error that ended a stream after its start."""
        self.fail_upstream_request(error)
        if not isinstance(error, ApiError):
            self.record_failure("api_error", "Internal server error", "error")
        elif isinstance(error, TruncatedError):
            self.record_failure(error.type, error.message, "truncated")
        else:
            self.record_failure(error.type, error.message, "upstream_error")


class ObservationSink(Protocol):
    """Receives each request at its start and at its end."""

    def request_started(self, observation: Observation) -> None:
        """Handle the start of a request. Only the fields from its head are set."""

    def request_finished(self, observation: Observation) -> None:
        """Handle the end of a request."""
