"""The record of one request, filled in on its way and passed to the sinks at the end."""

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
    "complete",  # the client received the whole response
    "client_closed",  # the client disconnected before the end
    "upstream_error",  # the upstream failed, before or in a stream
    "truncated",  # a stream ended early, without an error
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
    """One request to an upstream. Times are those of `time.perf_counter`, in seconds."""

    # Its own span, which the upstream receives.
    trace: TraceContext
    upstream: Upstream
    method: str
    # The upstream's name of the model.
    model: str | None
    status: int | None = None
    # The phase of the failure (connect, head, body); after a successful status `truncated`, or the
    # type of an error.
    error_type: str | None = None
    started_at: float = field(default_factory=time.perf_counter)
    ended_at: float | None = None

    def end(self) -> None:
        """Record the end of the response; later calls have no effect."""
        self.ended_at = self.ended_at or time.perf_counter()

    def fail(self, error_type: str) -> None:
        """Record a failure and end the request. The first failure is kept."""
        if self.error_type is None and (self.status or 0) < 400:
            self.error_type = error_type
        self.end()


@dataclass
class Observation:
    """One request of a client. Times are those of `time.perf_counter`, in seconds."""

    method: str
    path: str
    request_id: str = ""
    scheme: str = "http"
    # The span of the request.
    trace: TraceContext = field(default_factory=new_trace)
    # The client's span.
    parent_trace: TraceContext | None = None
    # The name of the client's key.
    api_key_name: str | None = None
    # The reason for which the key does not allow the request.
    rejection: str | None = None
    operation: str = "other"
    model: str | None = None
    is_stream: bool = False
    upstream: str | None = None
    upstream_model: str | None = None
    status: int | None = None
    error_type: str | None = None
    message: str | None = None
    # For the operator: what to do about the failure.
    hint: str | None = None
    started_at: float = field(default_factory=time.perf_counter)
    first_token_at: float | None = None
    ended_at: float | None = None
    # Usage by kind: input, output, cache_read, cache_creation, thinking.
    tokens: dict[str, int] = field(default_factory=dict)
    stop_reason: str | None = None
    outcome: Outcome = "complete"
    tool_calls: int = 0
    repairs: Mapping[str, int] = field(default_factory=dict)
    retries: int = 0
    failovers: int = 0
    # In order.
    upstream_requests: list[UpstreamRequest] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Seconds that the request took, up to now if it has not ended."""
        return (self.ended_at or time.perf_counter()) - self.started_at

    @property
    def seconds_to_first_token(self) -> float | None:
        """Seconds to the first content; None for a response that is not streamed or has none."""
        if self.first_token_at is None:
            return None
        return self.first_token_at - self.started_at

    @property
    def seconds_per_output_token(self) -> float | None:
        """Seconds between the first token and the end, for each token after the first."""
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
        """Record that the response to the last upstream request is unusable."""
        if not self.upstream_requests:
            return
        error_type = "api_error"
        if isinstance(error, TruncatedError):
            error_type = "truncated"
        elif isinstance(error, ApiError):
            error_type = error.type
        self.upstream_requests[-1].fail(error_type)

    def set_route(self, upstream: str, model: str) -> None:
        """Record the upstream and the model that serve the request."""
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

        A request may have several, such as the summary of a compaction; their tokens add up.

        usage: of the Message; of an incomplete response, the usage so far. repairs: number of
        repaired tool calls by kind.
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
        """Record the error that ended a stream which had begun."""
        self.fail_upstream_request(error)
        if not isinstance(error, ApiError):
            self.record_failure("api_error", "Internal server error", "error")
        elif isinstance(error, TruncatedError):
            self.record_failure(error.type, error.message, "truncated")
        else:
            self.record_failure(error.type, error.message, "upstream_error")


class ObservationSink(Protocol):
    """Receives each request when it starts and when it has finished."""

    def request_started(self, observation: Observation) -> None:
        """Handle the start of a request, of which only method and path are set."""

    def request_finished(self, observation: Observation) -> None:
        """Handle the end of a request."""
