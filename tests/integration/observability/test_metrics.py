"""Metrics of a running proxy."""

import gzip
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from prometheus_client.metrics import MetricWrapperBase

from anthropic_proxy.observability.metrics import Metrics
from anthropic_proxy.observability.observation import Observation
from tests.support.metrics import Samples, parse_samples
from tests.support.paths import ROOT
from tests.support.running_command import REQUEST, Command, until
from tests.support.running_proxy import running_proxy
from tests.support.scripted_upstream import (
    DEADLINE,
    Pause,
    ScriptedUpstream,
    answers,
    completion,
    streams,
    text_chunks,
)

STREAM = REQUEST | {"stream": True}
CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
CALLS = completion(
    None,
    message={
        "tool_calls": [
            CALL,
            CALL | {"id": "call_2", "function": {"name": "look", "arguments": '{"at": "x"'}},
        ]
    },
    finish_reason="tool_calls",
)
DETAILED = completion("Hello") | {
    "usage": {
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "prompt_tokens_details": {"cached_tokens": 60},
        "completion_tokens_details": {"reasoning_tokens": 5},
    }
}


def scrape(address: str) -> Samples:
    return parse_samples(httpx.get(f"{address}/metrics", trust_env=False, timeout=DEADLINE).text)


def post(proxy: str, body: object) -> httpx.Response:
    return httpx.post(f"{proxy}/v1/messages", json=body, trust_env=False, timeout=DEADLINE)


@pytest.fixture(scope="module")
def samples() -> Iterator[Samples]:
    """Yield the metrics after requests of all types."""
    with ScriptedUpstream() as upstream, running_proxy(upstream.url, UPSTREAM_RETRIES=1) as proxy:
        upstream.then(answers(DETAILED), answers(CALLS), streams(text_chunks("Hel", "lo")))
        for body in (
            REQUEST,
            REQUEST | {"tools": [{"name": "look", "input_schema": {"type": "object"}}]},
            STREAM,
        ):
            assert post(proxy, body).status_code == 200
        upstream.then(
            answers({"error": {"message": "busy"}}, 503, {"retry-after": "0"}),
            answers(completion()),
        )
        assert post(proxy, REQUEST).status_code == 200
        assert "event: error" in _interrupt_stream(proxy, upstream, [])
        assert "event: error" in _interrupt_stream(
            proxy, upstream, [{"error": {"message": "broken", "code": 500}}]
        )
        upstream.then(
            answers({"error": {"message": "no such model"}}, 404),
            answers({"error": {"message": "bad"}}, 400),
        )
        assert post(proxy, REQUEST | {"model": "unknown"}).status_code == 404
        assert post(proxy, REQUEST).status_code == 400
        assert post(proxy, {"model": "m"}).status_code == 400
        assert _interrupt_stream(proxy, upstream, [], waits=False) == ""
        yield until(
            lambda: _if_sampled(scrape(proxy), 'outcome="client_closed"'),
            "the disconnect is counted",
        )


def _interrupt_stream(
    proxy: str, upstream: ScriptedUpstream, rest: list[Any], *, waits: bool = True
) -> str:
    """Return a stream after its first event, or disconnect there if `reads` is False."""
    pause = Pause()
    upstream.then(streams([*text_chunks("Hel")[:1], pause, *rest], done=False))
    with httpx.stream(
        "POST", f"{proxy}/v1/messages", json=STREAM, trust_env=False, timeout=DEADLINE
    ) as response:
        received = response.iter_text()
        next(received)
        if waits:
            pause.go.set()
            return "".join(received)
    return ""


def _if_sampled(samples: Samples, text: str) -> Samples | None:
    return samples if any(text in name for name in samples) else None


# Number of incomplete streams; each counts one output token and the estimated input tokens.
BROKEN = 3
# The earlier responses report 100, 11 and 11 tokens for the same prompt.
PREDICTED = 43

_UP = 'upstream="127.0.0.1"'
_CHAT = 'gen_ai_operation_name="chat",gen_ai_provider_name="127.0.0.1"'


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ('anthropic_proxy_requests_total{model="m",operation="chat",status="200",UP}', 7),
        ('anthropic_proxy_requests_total{model="m",operation="chat",status="400",UP}', 1),
        (
            (
                "anthropic_proxy_requests_total"
                '{model="none",operation="chat",status="400",upstream="none"}'
            ),
            1,
        ),
        ('anthropic_proxy_requests_total{model="other",operation="chat",status="404",UP}', 1),
        ('anthropic_proxy_streams_total{outcome="complete",UP}', 1),
        ('anthropic_proxy_streams_total{outcome="truncated",UP}', 1),
        ('anthropic_proxy_streams_total{outcome="upstream_error",UP}', 1),
        ('anthropic_proxy_streams_total{outcome="client_closed",UP}', 1),
        ('anthropic_proxy_tokens_total{model="m",type="cache_read",UP}', 60),
        ('anthropic_proxy_tokens_total{model="m",type="thinking",UP}', 5),
        (
            'anthropic_proxy_tokens_total{model="m",type="input",UP}',
            40 + 3 * 11 + BROKEN * PREDICTED,
        ),
        ('anthropic_proxy_tool_calls_total{model="m",UP}', 2),
        ('anthropic_proxy_repairs_total{kind="arguments",model="m",UP}', 1),
        ('anthropic_proxy_upstream_requests_total{status="200",UP}', 7),
        ('anthropic_proxy_upstream_requests_total{status="503",UP}', 1),
        ('anthropic_proxy_upstream_errors_total{error_type="503",UP}', 1),
        ("anthropic_proxy_upstream_retries_total{UP}", 1),
        ('anthropic_proxy_upstream_breaker_state{state="closed",UP}', 1),
        ('anthropic_proxy_upstream_breaker_state{state="open",UP}', 0),
        ("anthropic_proxy_upstream_queue_length{UP}", 0),
        ("anthropic_proxy_config_last_reload_successful", 1),
        ("anthropic_proxy_draining", 0),
        (
            'gen_ai_server_request_duration_seconds_count{error_type="",CHAT}',
            5,
        ),
        (
            'gen_ai_server_request_duration_seconds_count{error_type="not_found_error",CHAT}',
            1,
        ),
        (
            "gen_ai_server_time_to_first_token_seconds_count{CHAT}",
            4,
        ),
        (
            "gen_ai_server_time_per_output_token_seconds_count{CHAT}",
            1,
        ),
        (
            'gen_ai_client_token_usage_sum{CHAT,gen_ai_token_type="output"}',
            20 + 3 * 2 + BROKEN * 1,
        ),
        ('anthropic_proxy_model_request_duration_seconds_count{model="m",UP}', 5),
        ('anthropic_proxy_model_time_to_first_token_seconds_count{model="m",UP}', 4),
        ('anthropic_proxy_model_time_per_output_token_seconds_count{model="m",UP}', 1),
        ("anthropic_proxy_count_tokens_error_ratio_count", 4),
    ],
)
def test_metric_values(samples: Samples, name: str, value: float) -> None:
    assert samples[name.replace("UP", _UP).replace("CHAT", _CHAT)] == value


def test_process_metrics_are_exported(samples: Samples) -> None:
    assert samples["process_resident_memory_bytes"] > 0
    assert (
        next(
            value
            for name, value in samples.items()
            if name.startswith("anthropic_proxy_build_info")
        )
        == 1
    )


def test_the_number_of_model_labels_is_limited() -> None:
    metrics = Metrics(["configured"], max_models=3)
    for model in ("a", "b", "c", "configured", "d"):
        metrics.request_finished(
            Observation("POST", "/", operation="chat", model=model, status=200, upstream="u")
        )
    metrics.request_finished(
        Observation("POST", "/", operation="chat", model="refused", status=400, upstream="u")
    )
    samples = parse_samples(metrics.render("")[0].decode())
    counted: Counter[str] = Counter()
    for name, value in samples.items():
        if name.startswith("anthropic_proxy_requests_total"):
            counted[name.split('model="')[1].split('"')[0]] += int(value)
    assert counted == {"configured": 1, "a": 1, "b": 1, "other": 3}


def test_the_format_follows_the_accept_headers(proxy: str) -> None:
    plain = httpx.get(f"{proxy}/metrics", headers={"accept-encoding": "identity"}, trust_env=False)
    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
    accept = {"accept": "application/openmetrics-text;version=1.0.0", "accept-encoding": "gzip"}
    with httpx.stream("GET", f"{proxy}/metrics", headers=accept, trust_env=False) as response:
        assert response.headers["content-type"].startswith(
            "application/openmetrics-text; version=1.0.0"
        )
        assert gzip.decompress(b"".join(response.iter_raw())).endswith(b"# EOF\n")


def test_metrics_are_served_on_a_separate_port(
    command: Command, upstream: ScriptedUpstream
) -> None:
    """The port is open until the last request has ended."""
    pause = Pause()
    first, *rest = text_chunks("Hel", "lo")
    upstream.then(streams([first, pause, *rest]))
    with (
        command.serving(UPSTREAM_BASE_URL=upstream.url, METRICS_PORT="0") as server,
        httpx.stream(
            "POST", f"{server.address}/v1/messages", json=STREAM, trust_env=False, timeout=DEADLINE
        ) as response,
    ):
        received = response.iter_text()
        next(received)
        metrics_url = (
            server.log.read_text().split("metrics ")[1].split("address=")[1].split("/metrics")[0]
        )
        assert httpx.get(f"{server.address}/metrics", trust_env=False).status_code == 404
        assert httpx.get(f"{metrics_url}/v1/messages", trust_env=False).status_code == 404
        assert scrape(metrics_url)["anthropic_proxy_requests_in_flight"] == 1
        server.process.terminate()
        until(lambda: scrape(metrics_url)["anthropic_proxy_draining"] == 1, "the server drains")
        assert httpx.get(f"{metrics_url}/readyz", trust_env=False).status_code == 503
        pause.go.set()
        assert "message_stop" in "".join(received)
        assert server.process.wait(DEADLINE) == 0


def test_metrics_of_several_processes_are_combined(
    command: Command, upstream: ScriptedUpstream
) -> None:
    """Every worker returns the metrics of all workers."""
    upstream.then(*[answers(completion())] * 20)
    with command.serving(UPSTREAM_BASE_URL=upstream.url, WORKERS="2") as server:
        for _ in range(20):
            post(server.address, REQUEST)
        samples = [scrape(server.address) for _ in range(6)]
    name = f'anthropic_proxy_requests_total{{model="m",operation="chat",status="200",{_UP}}}'
    assert {each[name] for each in samples} == {20}
    assert {each["anthropic_proxy_draining"] for each in samples} == {0}
    assert len({each["process_start_time_seconds"] for each in samples}) == 1
    assert {
        each[f'anthropic_proxy_upstream_breaker_state{{state="closed",{_UP}}}'] for each in samples
    } == {2}


def test_all_metrics_are_documented() -> None:
    """The table contains exactly the name, type, labels and description of each metric."""
    described = [
        f"| `{each._name}{'_total' if each._type == 'counter' else ''}` | {each._type} | "
        f"{', '.join(f'`{label}`' for label in each._labelnames)} | "
        f"{each._documentation.rstrip('.')} |"
        for each in Metrics()._registry._collector_to_names
        if isinstance(each, MetricWrapperBase)
    ]
    table = (ROOT / "docs/metrics.md").read_text()
    assert [
        line for line in table.splitlines() if re.match(r"\| `(gen_ai|anthropic)_", line)
    ] == described
