"""Metrics for Prometheus.

Names follow OpenTelemetry's semantic conventions for generative AI, in Prometheus format: the proxy
is a server for its clients (`gen_ai_server_...`) and a client of its upstreams
(`gen_ai_client_...`). All other names begin with `anthropic_proxy_`. Users, keys, ids and tools are
never labels.

The number of series is bounded, because each series costs CPU time in a scrape. A histogram has
about twenty series for each set of labels, so histograms have no model label. Counters and
summaries have it, for a bounded number of pairs of model and upstream. Statuses and error types
that are not part of the API are grouped.
"""

import platform
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, ProcessCollector, Summary, disable_created_metrics
from prometheus_client.exposition import choose_encoder

from anthropic_proxy import __version__
from anthropic_proxy.errors import TYPE_BY_STATUS
from anthropic_proxy.observability import multiprocess
from anthropic_proxy.observability.multiprocess import metric_factories
from anthropic_proxy.observability.observation import Observation

_GEN_AI = ("gen_ai_operation_name", "gen_ai_provider_name")
_MODEL = ("model", "upstream")

# Histogram buckets in seconds, as recommended by OpenTelemetry, with shorter buckets for local
# models and rejected requests.
_SECONDS_BUCKETS = tuple(0.01 * 2**exponent for exponent in range(17))
_FIRST_TOKEN_BUCKETS = (
    *(0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0),
)
_PER_TOKEN_BUCKETS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075),
    *(0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5),
)
_TOKEN_BUCKETS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304)
_RATIO_BUCKETS = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0)

OTHER = "other"
NONE = "none"
_STATES = ("closed", "open", "half_open")

_OPERATIONS_WITH_MODEL = ("chat", "count_tokens")

# Statuses with their own label value. Others are grouped as 2xx, 4xx and so on. 499: the client
# disconnected.
_STATUSES = frozenset({200, 499, *TYPE_BY_STATUS})
_UPSTREAM_STATUSES = frozenset({422, 502, 503, *_STATUSES})
_ERROR_TYPES = frozenset({"", *TYPE_BY_STATUS.values()})


class Metrics:
    """The metrics of one process."""

    def __init__(self, models: Iterable[str] = (), max_models: int = 100) -> None:
        """Register all metrics.

        models: configured names, which are always label values. max_models: maximum number of pairs
        of model and upstream that are label values; each configured name counts once.
        """
        # `_created` series would double the number of series, and are not exported with workers.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # partly typed library
        self._registry = CollectorRegistry()
        self._configured_models = frozenset(models)
        self._free_pairs = max_models - len(self._configured_models)
        self._upstreams_by_model: dict[str, set[str]] = {}
        self._register_gen_ai()
        self._register_models()
        self._register_requests()
        self._register_responses()
        self._register_upstreams()
        self._register_states()
        self._register_server()

    def request_started(self, observation: Observation) -> None:  # noqa: ARG002 - required by the protocol
        """Count a started request."""
        self._in_flight.inc()

    def request_finished(self, observation: Observation) -> None:
        """Record a finished request."""
        self._in_flight.dec()
        upstream = observation.upstream or NONE
        model = self._model_label(observation, upstream)
        status = _status_label(observation.status or 499, _STATUSES)
        self._requests.labels(observation.operation, model, upstream, status).inc()
        if observation.rejection is not None:
            self._rejected.labels(observation.rejection).inc()
        if observation.operation == "other":
            return
        error_type = _error_type_label(observation.error_type or "")
        labels = (observation.operation, upstream, error_type)
        self._duration.labels(*labels).observe(observation.seconds)
        if observation.operation == "chat":
            self._record_chat(observation, model, upstream)

    def _record_chat(self, observation: Observation, model: str, upstream: str) -> None:
        if observation.is_stream:
            self._streams.labels(upstream, observation.outcome).inc()
        if not observation.error_type:
            self._model_duration.labels(model, upstream).observe(observation.seconds)
        first_token = observation.seconds_to_first_token
        if first_token is not None:
            self._first_token.labels("chat", upstream).observe(first_token)
            self._model_first_token.labels(model, upstream).observe(first_token)
        per_token = observation.seconds_per_output_token
        if per_token is not None:
            self._per_token.labels("chat", upstream).observe(per_token)
            self._model_per_token.labels(model, upstream).observe(per_token)
        for kind, count in observation.tokens.items():
            self._tokens.labels(kind, model, upstream).inc(count)
        if observation.tokens:
            for kind in ("input", "output"):
                count = observation.tokens.get(kind, 0)
                self._token_usage.labels("chat", upstream, kind).observe(count)
        if observation.tool_calls:
            self._tool_calls.labels(model, upstream).inc(observation.tool_calls)
        for kind, count in observation.repairs.items():
            self._repairs.labels(kind, model, upstream).inc(count)

    def count_upstream_response(self, upstream: str, status: int, seconds: float) -> None:
        """Count the response head of an upstream, which arrived after `seconds`."""
        label = _status_label(status, _UPSTREAM_STATUSES)
        self._upstream_requests.labels(upstream, label).inc()
        self._upstream_seconds.labels("chat", upstream).observe(seconds)
        if status >= 400:
            self._upstream_errors.labels(upstream, label).inc()

    def count_upstream_failure(self, upstream: str, phase: str) -> None:
        """Count a failed upstream request. phase: `connect`, `head` (before the head) or `body`."""
        self._upstream_requests.labels(upstream, phase).inc()
        self._upstream_errors.labels(upstream, phase).inc()

    def count_retry(self, upstream: str) -> None:
        """Count a request that is sent again to the same upstream."""
        self._retries.labels(upstream).inc()

    def count_failover(self, upstream: str) -> None:
        """Count a failover from this upstream to the next upstream."""
        self._failovers.labels(upstream).inc()

    def observe_queue_time(self, upstream: str, seconds: float) -> None:
        """Observe the time that a request waited for a free slot of an upstream."""
        self._queue_seconds.labels(upstream).observe(seconds)

    def set_upstream_state(self, upstream: str, *, busy: int, waiting: int, breaker: str) -> None:
        """Set the gauges of an upstream.

        busy: requests in flight. waiting: queued requests. breaker: state of the circuit breaker.
        """
        self._upstream_in_flight.labels(upstream).set(busy)
        self._queue_length.labels(upstream).set(waiting)
        for state in _STATES:
            self._breaker.labels(upstream, state).set(state == breaker)

    def count_request_change(self, upstream: str, change: str) -> None:
        """Count a request that was changed after the upstream rejected it."""
        self._changes.labels(upstream, change).inc()

    def observe_token_estimate(self, estimate: int, actual: int) -> None:
        """Observe the relative error of an estimate of input tokens. actual: upstream's count."""
        if actual > 0:
            self._estimates.observe(abs(estimate - actual) / actual)

    def count_reload(self, *, is_rejected: bool) -> None:
        """Count a reload of the configuration."""
        self._reloads.labels("failure" if is_rejected else "success").inc()
        self._last_reload_successful.set(not is_rejected)

    def set_task_count(self, count: int) -> None:
        """Set the number of tasks of the event loop."""
        self._tasks.set(count)

    def count_storage_error(self) -> None:
        """Count an operation on the rate limit storage that failed or was skipped."""
        self._rate_limit_errors.inc()

    def count_dropped_log_lines(self, number: int) -> None:
        """Count log lines that could not be written."""
        self._dropped_lines.inc(number)

    def set_draining(self) -> None:
        """Record that the server is draining."""
        self._draining.set(1)

    def render(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics and their content type, selected by an `Accept` header.

        This method is thread-safe.
        """
        encode, content_type = choose_encoder(accept)
        with multiprocess.lock_for_reading():
            return encode(multiprocess.collect_all(self._registry)), content_type

    def _model_label(self, observation: Observation, upstream: str) -> str:
        name = observation.model
        if name is None or observation.operation not in _OPERATIONS_WITH_MODEL:
            return NONE
        if name in self._configured_models:
            return name
        upstreams = self._upstreams_by_model.get(name, ())
        if upstream in upstreams or (upstream == NONE and upstreams):
            return name
        # Token counting succeeds with any name, so it does not prove that the model exists.
        is_valid = observation.operation == "chat" and observation.status == 200
        if not is_valid or self._free_pairs <= 0:
            return OTHER
        self._free_pairs -= 1
        self._upstreams_by_model.setdefault(name, set()).add(upstream)
        return name

    def _register_gen_ai(self) -> None:
        histogram, _, _ = metric_factories(self._registry)
        self._duration = histogram(
            "gen_ai_server_request_duration_seconds",
            "Time from the arrival of a request to the end of its response.",
            (*_GEN_AI, "error_type"),
            buckets=_SECONDS_BUCKETS,
        )
        self._first_token = histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "Time from the arrival of a request to the first content of its streamed response.",
            _GEN_AI,
            buckets=_FIRST_TOKEN_BUCKETS,
        )
        self._per_token = histogram(
            "gen_ai_server_time_per_output_token_seconds",
            "Time per output token after the first, in streamed responses.",
            _GEN_AI,
            buckets=_PER_TOKEN_BUCKETS,
        )
        self._token_usage = histogram(
            "gen_ai_client_token_usage",
            "Input and output tokens of a request.",
            (*_GEN_AI, "gen_ai_token_type"),
            buckets=_TOKEN_BUCKETS,
        )

    def _register_models(self) -> None:
        self._model_duration = self._summary(
            "anthropic_proxy_model_request_duration_seconds",
            "Time from the arrival of a request to the end of its response, "
            "for requests without errors.",
        )
        self._model_first_token = self._summary(
            "anthropic_proxy_model_time_to_first_token_seconds",
            "Time from the arrival of a request to the first content of its streamed response.",
        )
        self._model_per_token = self._summary(
            "anthropic_proxy_model_time_per_output_token_seconds",
            "Time per output token after the first, in streamed responses.",
        )

    def _summary(self, name: str, text: str) -> Summary:
        return Summary(name, text, _MODEL, registry=self._registry)

    def _register_requests(self) -> None:
        _, counter, gauge = metric_factories(self._registry)
        self._requests = counter(
            "anthropic_proxy_requests_total",
            "Finished requests; status 499: the client disconnected before the response.",
            ("operation", "model", "upstream", "status"),
        )
        self._rejected = counter(
            "anthropic_proxy_rejected_requests_total",
            "Requests rejected because of their API key: "
            "no_key, unknown_key, expired_key, model, or the name of a limit.",
            ("reason",),
        )
        self._rate_limit_errors = counter(
            "anthropic_proxy_rate_limit_storage_errors_total",
            "Operations on the rate limit storage that failed or were skipped.",
        )
        self._in_flight = gauge("anthropic_proxy_requests_in_flight", "Requests in progress.")
        self._streams = counter(
            "anthropic_proxy_streams_total",
            "Finished requests for streams, by outcome.",
            ("upstream", "outcome"),
        )

    def _register_responses(self) -> None:
        histogram, counter, _ = metric_factories(self._registry)
        self._tokens = counter(
            "anthropic_proxy_tokens_total",
            "Tokens by type: "
            "input, output (including thinking), cache_read, cache_creation, thinking.",
            ("type", "model", "upstream"),
        )
        self._repairs = counter(
            "anthropic_proxy_repairs_total",
            "Repaired tool calls: arguments, invalid_arguments (forwarded as text), call_in_text.",
            ("kind", "model", "upstream"),
        )
        self._tool_calls = counter(
            "anthropic_proxy_tool_calls_total", "Tool calls in responses.", ("model", "upstream")
        )
        self._estimates = histogram(
            "anthropic_proxy_count_tokens_error_ratio",
            "Difference between estimated and counted input tokens, relative to the count.",
            buckets=_RATIO_BUCKETS,
        )

    def _register_upstreams(self) -> None:
        histogram, counter, _ = metric_factories(self._registry)
        labels = ("upstream",)
        self._upstream_seconds = histogram(
            "gen_ai_client_operation_duration_seconds",
            "Time from sending a request to an upstream to the head of its response.",
            ("gen_ai_operation_name", "gen_ai_provider_name"),
            buckets=_SECONDS_BUCKETS,
        )
        self._upstream_requests = counter(
            "anthropic_proxy_upstream_requests_total",
            "Requests to upstreams, by HTTP status "
            "or by the phase in which they failed (connect, head, body).",
            ("upstream", "status"),
        )
        self._upstream_errors = counter(
            "anthropic_proxy_upstream_errors_total",
            "Failed requests to upstreams, by HTTP status or phase.",
            ("upstream", "error_type"),
        )
        self._retries = counter(
            "anthropic_proxy_upstream_retries_total",
            "Requests sent again to the same upstream.",
            labels,
        )
        self._failovers = counter(
            "anthropic_proxy_upstream_failovers_total",
            "Requests sent to the next upstream because this upstream failed.",
            labels,
        )

    def _register_states(self) -> None:
        histogram, counter, gauge = metric_factories(self._registry)
        labels = ("upstream",)
        self._breaker = gauge(
            "anthropic_proxy_upstream_breaker_state",
            "1 for the current state of the upstream's circuit breaker, added up over processes.",
            ("upstream", "state"),
        )
        self._upstream_in_flight = gauge(
            "anthropic_proxy_upstream_requests_in_flight",
            "Requests in progress at an upstream.",
            labels,
        )
        self._queue_length = gauge(
            "anthropic_proxy_upstream_queue_length",
            "Requests that wait for a free slot of an upstream.",
            labels,
        )
        self._queue_seconds = histogram(
            "anthropic_proxy_upstream_queue_duration_seconds",
            "Time that requests waited for a free slot of an upstream.",
            labels,
            buckets=_SECONDS_BUCKETS,
        )
        self._changes = counter(
            "anthropic_proxy_request_changes_total",
            "Requests changed and sent again because an upstream rejected them.",
            ("upstream", "change"),
        )

    def _register_server(self) -> None:
        _, counter, gauge = metric_factories(self._registry)
        self._reloads = counter(
            "anthropic_proxy_config_reloads_total",
            "Reloads of the configuration, by outcome.",
            ("outcome",),
        )
        self._last_reload_successful = gauge(
            "anthropic_proxy_config_last_reload_successful",
            "1 if the last reload of the configuration succeeded, else 0.",
            multiprocess_mode="livemin",
        )
        self._last_reload_successful.set(1)
        self._dropped_lines = counter(
            "anthropic_proxy_log_lines_dropped", "Log lines that could not be written."
        )
        self._tasks = gauge("anthropic_proxy_tasks", "Tasks of the event loops.")
        self._draining = gauge(
            "anthropic_proxy_draining",
            "1 while the server is draining, else 0.",
            multiprocess_mode="livemax",
        )
        build = gauge(
            "anthropic_proxy_build_info",
            "Always 1; the labels contain the versions.",
            ("version", "python_version"),
            multiprocess_mode="livemax",
        )
        build.labels(__version__, platform.python_version()).set(1)
        ProcessCollector(registry=self._registry)


def _status_label(status: int, exact_statuses: frozenset[int]) -> str:
    return str(status) if status in exact_statuses else f"{status // 100}xx"


def _error_type_label(error_type: str) -> str:
    return error_type if error_type in _ERROR_TYPES else OTHER
