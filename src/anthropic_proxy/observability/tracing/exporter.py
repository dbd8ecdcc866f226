"""Spans of requests, sent by OpenTelemetry: the only import of it, which is the extra `otel`.

Ids are made before, whether there is an OpenTelemetry or not, as upstreams and the log are told them; the SDK is handed
them. The sampler decides when a request begins, since upstreams are told that as well; all else is told at the end, from
the observation. Nothing is done while an answer streams, and the exporter has a thread of its own.
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

# Seconds that the last spans may take at the server's end.
_FLUSH_SECONDS = 5
# Seconds between two lines of the log that say the same of the exporter.
_QUIET_SECONDS = 300
_MOST_CHARACTERS = 300

_EXPORTERS = {"otlp": OTLPSpanExporter, "console": ConsoleSpanExporter}


class Traces:
    """A sink of observations. exporters: names of some. quiet: paths whose requests are not traced. environment: its
    variables `OTEL_...` are those of the SDK, which reads them itself. `aclose` sends what is left.
    """

    def __init__(
        self,
        exporters: Collection[str],
        log: Log,
        quiet: Collection[str],
        environment: Mapping[str, str],
    ) -> None:
        # The SDK looks nowhere else, and a `.env` file may have them.
        os.environ.update(
            {name: value for name, value in environment.items() if name.startswith("OTEL_")}
        )
        self._quiet = quiet
        self._said = _Said(log)
        self._said.listen()
        self._ids = _Ids()
        self._provider = TracerProvider(
            resource=_resource(), id_generator=self._ids, shutdown_on_exit=False
        )
        for name in exporters:
            self._provider.add_span_processor(BatchSpanProcessor(_EXPORTERS[name]()))
        self._tracer = self._provider.get_tracer("anthropic_proxy", __version__)
        self._open: dict[int, trace.Span] = {}

    def began(self, observation: Observation) -> None:
        """Begin its span, when it is sampled."""
        if observation.path in self._quiet:
            return
        parent = observation.parent
        span = self._span(
            observation.trace,
            spans.Span(observation.method, spans.started(observation), error=False),
            trace.SpanKind.SERVER,
            _in_context(trace.NonRecordingSpan(_remote(parent))) if parent else Context(),
            _wall_clock(observation.began),
        )
        observation.trace = observation.trace.sampled(
            is_sampled=span.get_span_context().trace_flags.sampled
        )
        if span.is_recording():
            self._open[id(observation)] = span

    def finished(self, observation: Observation) -> None:
        """Tell its span, and those of what upstreams were asked for it."""
        span = self._open.pop(id(observation), None)
        if span is None:
            return
        ended = _wall_clock(observation.ended or time.perf_counter())
        for asked in observation.asked:
            told = spans.of_upstream_request(observation, asked)
            began = _wall_clock(asked.began)
            child = self._span(asked.trace, told, trace.SpanKind.CLIENT, _in_context(span), began)
            _end(child, told, ended if asked.ended is None else _wall_clock(asked.ended))
        told = spans.of_request(observation)
        span.update_name(told.name)
        span.set_attributes(told.attributes)
        _end(span, told, ended)

    async def aclose(self) -> None:
        """Send what is left, as far as that takes no more than some seconds."""
        sending = threading.Thread(target=self._provider.shutdown, daemon=True)
        sending.start()
        await asyncio.to_thread(sending.join, _FLUSH_SECONDS)
        self._said.leave()

    def _span(
        self,
        own: TraceContext,
        told: spans.Span,
        kind: trace.SpanKind,
        context: Context,
        began: int,
    ) -> trace.Span:
        self._ids.own = own
        return self._tracer.start_span(told.name, context, kind, told.attributes, start_time=began)


class _Ids(IdGenerator):
    """Hands the SDK the ids of the span that is about to begin."""

    own: TraceContext

    def generate_trace_id(self) -> int:
        return int(self.own.trace_id, 16)

    def generate_span_id(self) -> int:
        return int(self.own.span_id, 16)

    def is_trace_id_random(self) -> bool:
        return bool(self.own.flags & RANDOM)


class _Said(logging.Handler):
    """What the SDK says, of a collector that is out of reach above all: for each kind a line now and then, in our log."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log
        self._logger = logging.getLogger("opentelemetry")
        self._last: dict[str, float] = {}

    def listen(self) -> None:
        self._logger.propagate = False
        self._logger.addHandler(self)

    def leave(self) -> None:
        self._logger.removeHandler(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """What is said of headers may repeat them."""
        return record.name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))

    def emit(self, record: logging.LogRecord) -> None:
        kind, now = str(record.msg), time.monotonic()
        if now - self._last.get(kind, -_QUIET_SECONDS) < _QUIET_SECONDS:
            return
        self._last[kind] = now
        self._log.warning("traces", said=self._log.redacted(record.getMessage())[:_MOST_CHARACTERS])


def _resource() -> Resource:
    """The environment's own name for the service, else ours."""
    found = Resource.create({"service.version": __version__, "process.pid": os.getpid()})
    is_named = not str(found.attributes[SERVICE_NAME]).startswith("unknown_service")
    return found if is_named else found.merge(Resource({SERVICE_NAME: "anthropic-proxy"}))


def _remote(parent: TraceContext) -> trace.SpanContext:
    return trace.SpanContext(
        int(parent.trace_id, 16),
        int(parent.span_id, 16),
        is_remote=True,
        trace_flags=trace.TraceFlags(parent.flags),
        trace_state=trace.TraceState.from_header([parent.state]),
    )


def _in_context(span: trace.Span) -> Context:
    return trace.set_span_in_context(span, Context())


def _end(span: trace.Span, told: spans.Span, at: int) -> None:
    if told.error:
        span.set_status(trace.StatusCode.ERROR)
    span.end(at)


def _wall_clock(at: float) -> int:
    """Nanoseconds since 1970, of a time of `time.perf_counter`."""
    return time.time_ns() - round((time.perf_counter() - at) * 1e9)
