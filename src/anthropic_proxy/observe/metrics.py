"""Metrics for Prometheus; with `processes` the only prometheus_client import.

Names follow OpenTelemetry's semantic conventions for generative AI, in the form that Prometheus gives them, where there is
one: the proxy is the server of its clients (`gen_ai_server_...`), and a client of its upstreams (`gen_ai_client_...`). All
others begin with `anthropic_proxy_`. Labels are bounded: models that clients make up are `other`, and no user, key, id or
tool is a label.
"""

import platform
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector
from prometheus_client.exposition import choose_encoder

from anthropic_proxy import __version__
from anthropic_proxy.observe import buckets, processes
from anthropic_proxy.observe.observation import Observation
from anthropic_proxy.observe.processes import kinds

_GEN_AI = ("gen_ai_operation_name", "gen_ai_request_model", "gen_ai_provider_name")

OTHER = "other"
NONE = "none"
_STATES = ("closed", "open", "half_open")


class Metrics:
    """The metrics of one process. models: names that are labels from the start; most_models: how many there may be."""

    def __init__(self, models: Iterable[str] = (), most_models: int = 100) -> None:
        self._registry = CollectorRegistry()
        self._models = dict.fromkeys(models)
        self._most_models = max(most_models, len(self._models))
        self._describe_gen_ai()
        self._describe_requests()
        self._describe_upstreams()
        self._describe_states()
        self._describe_server()

    def began(self, observation: Observation) -> None:  # noqa: ARG002 - nothing is known of it yet
        """As a sink of observations."""
        self._in_flight.inc()

    def finished(self, observation: Observation) -> None:
        """As a sink of observations."""
        self._in_flight.dec()
        model = self._model(observation)
        upstream = observation.upstream or NONE
        status = str(observation.status or 499)
        self._requests.labels(observation.operation, model, upstream, status).inc()
        if observation.rejected is not None:
            self._rejected.labels(observation.rejected).inc()
        if observation.operation == "other":
            return
        of_gen_ai = (observation.operation, model, upstream)
        self._duration.labels(*of_gen_ai, observation.error_type or "").observe(observation.seconds)
        if observation.operation == "chat":
            self._answered(observation, of_gen_ai)

    def _answered(self, observation: Observation, labels: tuple[str, str, str]) -> None:
        _, model, upstream = labels
        if observation.is_stream:
            self._streams.labels(upstream, observation.outcome).inc()
        _observe(self._first_token.labels(*labels), observation.seconds_to_first_token)
        _observe(self._per_token.labels(*labels), observation.seconds_per_output_token)
        for kind, count in observation.tokens.items():
            self._tokens.labels(kind, model, upstream).inc(count)
        if observation.tokens:
            for kind in ("input", "output"):
                self._token_usage.labels(*labels, kind).observe(observation.tokens.get(kind, 0))
        if observation.tool_calls:
            self._tool_calls.labels(model, upstream).inc(observation.tool_calls)
        for kind, count in observation.repairs.items():
            self._repairs.labels(kind, model, upstream).inc(count)

    def upstream_answered(self, upstream: str, status: int, seconds: float) -> None:
        """An upstream gave the head of an answer, after so many seconds."""
        self._upstream_requests.labels(upstream, str(status)).inc()
        self._upstream_seconds.labels("chat", upstream).observe(seconds)
        if status >= 400:
            self._upstream_errors.labels(upstream, str(status)).inc()

    def upstream_failed(self, upstream: str, phase: str) -> None:
        """An upstream gave none: it could not be connected to (`connect`), said nothing (`head`), or broke off (`body`)."""
        self._upstream_requests.labels(upstream, phase).inc()
        self._upstream_errors.labels(upstream, phase).inc()

    def asked_again(self, upstream: str) -> None:
        """A request was sent to the same upstream once more."""
        self._retries.labels(upstream).inc()

    def failed_over(self, upstream: str) -> None:
        """A request went to the next upstream, as this one failed."""
        self._failovers.labels(upstream).inc()

    def queued(self, upstream: str, seconds: float) -> None:
        """A request waited for an upstream's slot."""
        self._queue_seconds.labels(upstream).observe(seconds)

    def upstream_state(self, upstream: str, *, busy: int, waiting: int, breaker: str) -> None:
        """How an upstream is just now."""
        self._upstream_in_flight.labels(upstream).set(busy)
        self._queue_length.labels(upstream).set(waiting)
        for state in _STATES:
            self._breaker.labels(upstream, state).set(state == breaker)

    def changed(self, upstream: str, change: str) -> None:
        """A request was changed, as an upstream refuses it as it is."""
        self._changes.labels(upstream, change).inc()

    def predicted(self, predicted: int, actual: int) -> None:
        """The estimate of a request's input tokens, and what the upstream counted."""
        if actual > 0:
            self._estimates.observe(abs(predicted - actual) / actual)

    def reloaded(self, *, refused: bool) -> None:
        """A configuration was put in force, or refused."""
        self._reloads.labels("failure" if refused else "success").inc()
        self._reloaded_well.set(not refused)

    def tasks(self, count: int) -> None:
        """How many tasks the process's event loop has."""
        self._tasks.set(count)

    def limits_failed(self) -> None:
        """The counters of rate limits were out of reach, and a request was let in."""
        self._limits_failed.inc()

    def drains(self) -> None:
        """The server is about to end."""
        self._draining.set(1)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """What a scraper gets, and its content type, in the form that it asks for."""
        encode, content_type = choose_encoder(accept)
        return encode(processes.all_metrics(self._registry)), content_type

    def _model(self, observation: Observation) -> str:
        name = observation.model
        if name is None:
            return NONE
        is_new = name not in self._models
        if is_new and observation.status == 200 and len(self._models) < self._most_models:
            self._models[name] = None
            is_new = False
        return OTHER if is_new else name

    def _describe_gen_ai(self) -> None:
        histogram, _, _ = kinds(self._registry)
        self._duration = histogram(
            "gen_ai_server_request_duration_seconds",
            "Time from a request to the end of its answer.",
            (*_GEN_AI, "error_type"),
            buckets=buckets.SECONDS,
        )
        self._first_token = histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "Time from a request to the first content of a streamed answer.",
            _GEN_AI,
            buckets=buckets.FIRST_TOKEN,
        )
        self._per_token = histogram(
            "gen_ai_server_time_per_output_token_seconds",
            "Time per token after the first one of a streamed answer.",
            _GEN_AI,
            buckets=buckets.PER_TOKEN,
        )
        self._token_usage = histogram(
            "gen_ai_client_token_usage", "Tokens of a request.", (*_GEN_AI, "gen_ai_token_type"), buckets=buckets.TOKENS
        )

    def _describe_requests(self) -> None:
        histogram, counter, gauge = kinds(self._registry)
        self._requests = counter(
            "anthropic_proxy_requests_total",
            "Requests that ended; status 499: the client left before an answer began.",
            ("operation", "model", "upstream", "status"),
        )
        self._rejected = counter(
            "anthropic_proxy_rejected_requests_total",
            "Requests that the client's key did not allow: no_key, unknown_key, expired_key, model, and limits.",
            ("reason",),
        )
        self._limits_failed = counter(
            "anthropic_proxy_rate_limit_storage_errors_total", "Looks at the counters of rate limits that failed."
        )
        self._in_flight = gauge("anthropic_proxy_requests_in_flight", "Requests that are being answered.")
        self._streams = counter(
            "anthropic_proxy_streams_total", "Requests for streams that ended, by how.", ("upstream", "outcome")
        )
        self._tokens = counter(
            "anthropic_proxy_tokens_total",
            "Tokens by type: input, output (thinking among them), cache_read, cache_creation, thinking.",
            ("type", "model", "upstream"),
        )
        self._repairs = counter(
            "anthropic_proxy_repairs_total",
            "Tool calls that were mended: arguments, invalid_arguments (kept as they came), call_in_text.",
            ("kind", "model", "upstream"),
        )
        self._tool_calls = counter("anthropic_proxy_tool_calls_total", "Tool calls of answers.", ("model", "upstream"))
        self._estimates = histogram(
            "anthropic_proxy_count_tokens_error_ratio",
            "Difference between estimated and counted input tokens, as a share of the counted.",
            buckets=buckets.RATIOS,
        )

    def _describe_upstreams(self) -> None:
        histogram, counter, _ = kinds(self._registry)
        of_upstream = ("upstream",)
        self._upstream_seconds = histogram(
            "gen_ai_client_operation_duration_seconds",
            "Time from a request to an upstream until its answer begins.",
            ("gen_ai_operation_name", "gen_ai_provider_name"),
            buckets=buckets.SECONDS,
        )
        self._upstream_requests = counter(
            "anthropic_proxy_upstream_requests_total",
            "Requests to upstreams, by HTTP status, or by the phase in which there was no answer (connect, head, body).",
            ("upstream", "status"),
        )
        self._upstream_errors = counter(
            "anthropic_proxy_upstream_errors_total",
            "Requests to upstreams that failed, by HTTP status or phase.",
            ("upstream", "error_type"),
        )
        self._retries = counter(
            "anthropic_proxy_upstream_retries_total", "Requests that were sent to the same upstream again.", of_upstream
        )
        self._failovers = counter(
            "anthropic_proxy_upstream_failovers_total",
            "Requests that went to the next upstream, as this one failed.",
            of_upstream,
        )

    def _describe_states(self) -> None:
        histogram, counter, gauge = kinds(self._registry)
        of_upstream = ("upstream",)
        self._breaker = gauge(
            "anthropic_proxy_upstream_breaker_state",
            "1 for the state that the upstream's circuit breaker is in, of each process.",
            ("upstream", "state"),
        )
        self._upstream_in_flight = gauge(
            "anthropic_proxy_upstream_requests_in_flight", "Requests that an upstream is answering.", of_upstream
        )
        self._queue_length = gauge(
            "anthropic_proxy_upstream_queue_length", "Requests that wait for an upstream.", of_upstream
        )
        self._queue_seconds = histogram(
            "anthropic_proxy_upstream_queue_duration_seconds",
            "Time that requests waited for an upstream.",
            of_upstream,
            buckets=buckets.SECONDS,
        )
        self._changes = counter(
            "anthropic_proxy_request_changes_total",
            "Requests that were changed and sent again, as an upstream refused them.",
            ("upstream", "change"),
        )

    def _describe_server(self) -> None:
        _, counter, gauge = kinds(self._registry)
        self._reloads = counter(
            "anthropic_proxy_config_reloads_total", "Configurations that were put in force, or refused.", ("outcome",)
        )
        self._reloaded_well = gauge(
            "anthropic_proxy_config_last_reload_successful",
            "Whether the configuration that was found last is in force.",
            multiprocess_mode="livemin",
        )
        self._reloaded_well.set(1)
        self._tasks = gauge("anthropic_proxy_tasks", "Tasks of the event loops.")
        self._draining = gauge(
            "anthropic_proxy_draining", "Whether the server is about to end.", multiprocess_mode="livemax"
        )
        build = gauge(
            "anthropic_proxy_build_info",
            "1, with the versions as labels.",
            ("version", "python_version"),
            multiprocess_mode="livemax",
        )
        build.labels(__version__, platform.python_version()).set(1)
        ProcessCollector(registry=self._registry)


def _observe(histogram: Histogram, value: float | None) -> None:
    if value is not None:
        histogram.observe(value)
