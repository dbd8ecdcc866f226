"""Cost of metric scrapes: number of series and number of renderings."""

import asyncio
import gzip
import threading
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
from prometheus_client import values

from anthropic_proxy.errors import TYPE_BY_STATUS
from anthropic_proxy.observability import multiprocess
from anthropic_proxy.observability.exposition import Exposition, ExpositionFormat
from anthropic_proxy.observability.metrics import Metrics
from anthropic_proxy.observability.observation import Observation
from tests.support.scripted_upstream import DEADLINE

# The limit that docs/metrics.md documents.
MAX_SERIES = 12_000
UPSTREAMS = ["none", "a", "b", "c", "d"]
OPERATIONS = ["chat", "count_tokens", "models", "other"]
STATUSES = [200, 201, 302, 418, 422, 451, 499, 500, 502, 503, 507, 529, 599, 999, *TYPE_BY_STATUS]
ERROR_TYPES = [*TYPE_BY_STATUS.values(), "made_up_1", "made_up_2"]

TEXT = ExpositionFormat.negotiate("", "")


def _series(metrics: Metrics) -> list[str]:
    text = metrics.render("")[0].decode()
    return [line for line in text.splitlines() if not line.startswith("#")]


def _record_worst_traffic(metrics: Metrics) -> None:
    """Record responses of many models, then every status and error type for each model."""
    models = [f"model-{number}" for number in range(150)]
    for model, upstream in product(models, UPSTREAMS[1:]):
        metrics.request_finished(_finished_observation(model, upstream))
    for number, (model, upstream, operation, status) in enumerate(
        product(models, UPSTREAMS, OPERATIONS, STATUSES)
    ):
        failed = Observation(
            "POST", "/", operation=operation, model=model, upstream=upstream, status=status
        )
        failed.error_type = ERROR_TYPES[number % len(ERROR_TYPES)]
        metrics.request_started(failed)
        metrics.request_finished(failed)
    for upstream, status in product(UPSTREAMS, range(100, 1000)):
        metrics.count_upstream_response(upstream, status, 1)


def _finished_observation(model: str, upstream: str) -> Observation:
    observation = Observation(
        "POST", "/", operation="chat", model=model, upstream=upstream, status=200, is_stream=True
    )
    observation.started_at, observation.first_token_at, observation.ended_at = 1.0, 2.0, 5.0
    observation.tokens = dict.fromkeys(
        ("input", "output", "cache_read", "cache_creation", "thinking"), 5
    )
    observation.tool_calls, observation.repairs = (
        1,
        {"arguments": 1, "invalid_arguments": 1, "call_in_text": 1},
    )
    return observation


def test_the_number_of_series_is_bounded() -> None:
    metrics = Metrics(max_models=100)
    _record_worst_traffic(metrics)
    series = _series(metrics)
    assert len(series) < MAX_SERIES
    assert (
        len({line.split('model="')[1].split('"')[0] for line in series if 'model="' in line}) <= 102
    )


def test_the_number_of_series_of_several_processes_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    multiprocess.share_metrics(str(tmp_path))
    metrics = Metrics(max_models=100)
    _record_worst_traffic(metrics)
    assert len(_series(metrics)) < MAX_SERIES


def test_counting_tokens_does_not_show_that_a_model_exists() -> None:
    metrics = Metrics()
    metrics.request_finished(
        Observation(
            "POST", "/", operation="count_tokens", model="made-up", status=200, upstream="a"
        )
    )
    assert not [line for line in _series(metrics) if "made-up" in line]


@pytest.mark.parametrize(
    ("status", "label"),
    [
        (200, "200"),
        (529, "529"),
        (499, "499"),
        (418, "4xx"),
        (507, "5xx"),
        (502, "502"),
        (204, "2xx"),
        (999, "9xx"),
    ],
)
def test_unknown_statuses_are_grouped(status: int, label: str) -> None:
    metrics = Metrics()
    metrics.count_upstream_response("a", status, 1)
    assert (
        f'anthropic_proxy_upstream_requests_total{{status="{label}",upstream="a"}} 1.0'
        in _series(metrics)
    )


@pytest.mark.parametrize(
    ("accept", "encoding", "is_open_metrics", "is_gzip"),
    [
        ("", "", False, False),
        ("text/plain", "gzip", False, True),
        ("application/openmetrics-text", "", True, False),
        (
            (
                "application/openmetrics-text; version=1.0.0; "
                "escaping=allow-utf-8;q=0.6,text/plain;q=0.3"
            ),
            "gzip, br",
            True,
            True,
        ),
        ("application/openmetrics-text;version=0.0.1,text/plain;version=0.0.4", "", False, False),
        ("application/openmetrics-text;version=99999999.1", "", False, False),
        ("application/openmetrics-text;version=x", "", False, False),
        ("*/*;q=,;,version", "identity", False, False),
    ],
)
def test_the_format_follows_the_request_headers(
    accept: str, encoding: str, is_open_metrics: bool, is_gzip: bool
) -> None:
    exposition_format = ExpositionFormat.negotiate(accept, encoding)
    assert (
        exposition_format.media_type.startswith("application/openmetrics-text"),
        exposition_format.is_gzip,
    ) == (
        is_open_metrics,
        is_gzip,
    )


class _SlowMetrics(Metrics):
    """Metrics that count renderings and block each one until `go` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[int] = []
        self.max_concurrent = 0
        self.go = threading.Event()
        self.started = threading.Event()
        self._active = 0

    def render(self, accept: str) -> tuple[bytes, str]:
        self.threads.append(threading.get_ident())
        self._active += 1
        self.max_concurrent = max(self.max_concurrent, self._active)
        self.started.set()
        assert self.go.wait(DEADLINE)
        self._active -= 1
        return super().render(accept)


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def _exposition(
    metrics: Metrics, refresh: Callable[[], None] = lambda: None
) -> tuple[Exposition, _Clock]:
    clock = _Clock()
    return Exposition(metrics, refresh, clock), clock


async def _wait_for_rendering(metrics: _SlowMetrics) -> None:
    """Wait until a rendering starts, without blocking the event loop."""
    await asyncio.wait_for(asyncio.to_thread(metrics.started.wait), DEADLINE)


def test_concurrent_scrapers_share_one_rendering_outside_the_event_loop() -> None:
    metrics = _SlowMetrics()
    refresh_threads: list[int] = []
    exposition, clock = _exposition(metrics, lambda: refresh_threads.append(threading.get_ident()))

    async def main() -> None:
        scrapes = [asyncio.create_task(exposition.render(TEXT)) for _ in range(50)]
        await _wait_for_rendering(metrics)
        metrics.go.set()
        assert len({id(rendered) for rendered in await asyncio.gather(*scrapes)}) == 1
        clock.now += 0.9
        await exposition.render(TEXT)
        assert len(metrics.threads) == 1
        clock.now += 0.1
        await exposition.render(TEXT)
        assert len(metrics.threads) == 2

    asyncio.run(main())
    assert threading.get_ident() not in metrics.threads
    assert refresh_threads == [threading.get_ident()] * 2


def test_cancelled_scrapes_start_no_further_rendering() -> None:
    metrics = _SlowMetrics()
    exposition, _ = _exposition(metrics)

    async def main() -> None:
        for _ in range(20):
            scrape = asyncio.create_task(exposition.render(TEXT))
            await _wait_for_rendering(metrics)
            scrape.cancel()
            await asyncio.gather(scrape, return_exceptions=True)
        metrics.go.set()
        assert b"anthropic_proxy_build_info" in (await exposition.render(TEXT)).body

    asyncio.run(main())
    assert len(metrics.threads) == 1


def test_different_formats_are_rendered_sequentially() -> None:
    metrics = _SlowMetrics()
    exposition, _ = _exposition(metrics)
    metrics.go.set()
    accept_headers = ("", "application/openmetrics-text")

    async def main() -> None:
        formats = []
        for accept in accept_headers:
            for encoding in ("", "gzip"):
                formats += [ExpositionFormat.negotiate(accept, encoding)] * 10
        rendered = await asyncio.gather(*map(exposition.render, formats))
        assert gzip.decompress(rendered[10].body).startswith(b"# HELP")
        assert rendered[20].body.endswith(b"# EOF\n")

    asyncio.run(main())
    assert (len(metrics.threads), metrics.max_concurrent) == (4, 1)


def test_a_failed_rendering_is_retried() -> None:
    metrics = Metrics()
    failures = iter([ValueError("broken")])

    def refresh() -> None:
        for failure in failures:
            raise failure

    exposition, _ = _exposition(metrics, refresh)

    async def main() -> None:
        with pytest.raises(ValueError, match="broken"):
            await exposition.render(TEXT)
        assert (await exposition.render(TEXT)).headers["content-type"].startswith("text/plain")

    asyncio.run(main())
