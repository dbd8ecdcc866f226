"""Export the spans of requests with OpenTelemetry (the optional dependency `otel`).

This is the only module that imports it. Ids are created outside of the SDK, because upstreams and
logs also receive them without the SDK. The sampling decision is made at the start of a request,
because upstreams receive it. All other data is exported at the end, from the observation, so
streams have no overhead. The exporter has its own thread.
"""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Collection, Mapping

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator

from anthropic_proxy import __version__
from anthropic_proxy.observability.logs import Log
from anthropic_proxy.observability.observation import Observation
from anthropic_proxy.observability.trace_context import RANDOM, TraceContext
from anthropic_proxy.observability.tracing import spans

# Seconds to send the last spans when the server stops.
_FLUSH_SECONDS = 5
# Minimum seconds between two equal warnings of the SDK in the log. Each batch for an unreachable
# collector causes a warning.
_LOG_INTERVAL = 300
_MAX_CHARACTERS = 300

_EXPORTERS = {"otlp": OTLPSpanExporter, "console": ConsoleSpanExporter}


class TraceExporter:
    """Sink that exports spans. `aclose` sends the remaining spans."""

    def __init__(
        self,
        exporters: Collection[str],
        log: Log,
        quiet_paths: Collection[str],
        environment: Mapping[str, str],
    ) -> None:
        """Configure the SDK.

        exporters: names in `_EXPORTERS`. quiet_paths: paths whose requests are not traced.
        environment: the SDK reads variables only from the process, so `OTEL_...` variables, which
        may come from a `.env` file, are copied to `os.environ`.
        """
        for name, value in environment.items():
            if name.startswith("OTEL_"):
                os.environ[name] = value
        self._quiet_paths = quiet_paths
        self._sdk_log_handler = _SDKLogHandler(log)
        self._sdk_log_handler.install()
        self._ids = _AssignedIds()
        self._provider = TracerProvider(
            resource=_create_resource(), id_generator=self._ids, shutdown_on_exit=False
        )
        for name in exporters:
            self._provider.add_span_processor(BatchSpanProcessor(_EXPORTERS[name]()))
        self._tracer = self._provider.get_tracer("anthropic_proxy", __version__)
        self._open: dict[int, trace.Span] = {}

    def request_started(self, observation: Observation) -> None:
        """Start the span of the request if it is sampled."""
        if observation.path in self._quiet_paths:
            return
        context = Context()
        if observation.parent_trace:
            parent = trace.NonRecordingSpan(_to_span_context(observation.parent_trace))
            context = _to_context(parent)
        span_data = spans.SpanData(
            observation.method, spans.initial_attributes(observation), is_error=False
        )
        started_at = _to_wall_clock(observation.started_at)
        span = self._start_span(
            observation.trace, span_data, trace.SpanKind.SERVER, context, started_at
        )
        is_sampled = span.get_span_context().trace_flags.sampled
        observation.trace = observation.trace.with_sampling(is_sampled=is_sampled)
        if span.is_recording():
            self._open[id(observation)] = span

    def request_finished(self, observation: Observation) -> None:
        """Export the spans of the request and of its upstream requests."""
        span = self._open.pop(id(observation), None)
        if span is None:
            return
        ended_at = _to_wall_clock(observation.ended_at or time.perf_counter())
        for upstream_request in observation.upstream_requests:
            span_data = spans.describe_upstream_request(observation, upstream_request)
            child = self._start_span(
                upstream_request.trace,
                span_data,
                trace.SpanKind.CLIENT,
                _to_context(span),
                _to_wall_clock(upstream_request.started_at),
            )
            if upstream_request.ended_at is None:
                _end_span(child, span_data, ended_at)
            else:
                _end_span(child, span_data, _to_wall_clock(upstream_request.ended_at))
        span_data = spans.describe_request(observation)
        span.update_name(span_data.name)
        span.set_attributes(span_data.attributes)
        _end_span(span, span_data, ended_at)

    async def aclose(self) -> None:
        """Send the remaining spans, with a time limit of some seconds."""
        shutdown_thread = threading.Thread(target=self._provider.shutdown, daemon=True)
        shutdown_thread.start()
        await asyncio.to_thread(shutdown_thread.join, _FLUSH_SECONDS)
        self._sdk_log_handler.remove()

    def _start_span(
        self,
        trace_context: TraceContext,
        span_data: spans.SpanData,
        kind: trace.SpanKind,
        context: Context,
        started_at: int,
    ) -> trace.Span:
        self._ids.trace_context = trace_context
        return self._tracer.start_span(
            span_data.name, context, kind, span_data.attributes, start_time=started_at
        )


class _AssignedIds(IdGenerator):
    """Generator that returns the assigned ids of the next span to the SDK."""

    trace_context: TraceContext

    def generate_trace_id(self) -> int:
        return int(self.trace_context.trace_id, 16)

    def generate_span_id(self) -> int:
        return int(self.trace_context.span_id, 16)

    def is_trace_id_random(self) -> bool:
        return bool(self.trace_context.flags & RANDOM)


class _SDKLogHandler(logging.Handler):
    """Copy warnings of the SDK to the log of the proxy, such as an unreachable collector.

    Each kind of warning is logged at most once in `_LOG_INTERVAL` seconds.
    """

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log
        self._logger = logging.getLogger("opentelemetry")
        self._last: dict[str, float] = {}

    def install(self) -> None:
        self._logger.propagate = False
        self._logger.addHandler(self)

    def remove(self) -> None:
        self._logger.removeHandler(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """Accept only records of the SDK and its exporters; others may contain headers."""
        return record.name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))

    def emit(self, record: logging.LogRecord) -> None:
        kind, now = str(record.msg), time.monotonic()
        if now - self._last.get(kind, -_LOG_INTERVAL) < _LOG_INTERVAL:
            return
        self._last[kind] = now
        self._log.warning(
            "trace SDK warning reported",
            said=self._log.redact(record.getMessage())[:_MAX_CHARACTERS],
        )


def _create_resource() -> Resource:
    """Return the resource. The service name is from the environment or `anthropic-proxy`."""
    resource = Resource.create({"service.version": __version__, "process.pid": os.getpid()})
    is_named = not str(resource.attributes[SERVICE_NAME]).startswith("unknown_service")
    return resource if is_named else resource.merge(Resource({SERVICE_NAME: "anthropic-proxy"}))


def _to_span_context(parent: TraceContext) -> trace.SpanContext:
    return trace.SpanContext(
        int(parent.trace_id, 16),
        int(parent.span_id, 16),
        is_remote=True,
        trace_flags=trace.TraceFlags(parent.flags),
        trace_state=trace.TraceState.from_header([parent.state]),
    )


def _to_context(span: trace.Span) -> Context:
    return trace.set_span_in_context(span, Context())


def _end_span(span: trace.Span, span_data: spans.SpanData, ended_at: int) -> None:
    if span_data.is_error:
        span.set_status(trace.StatusCode.ERROR)
    span.end(ended_at)


def _to_wall_clock(counter_time: float) -> int:
    """Convert a `time.perf_counter` value to nanoseconds since 1970."""
    return time.time_ns() - round((time.perf_counter() - counter_time) * 1e9)
