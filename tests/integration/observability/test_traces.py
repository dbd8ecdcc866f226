"""Spans that a collector receives from a running proxy, and trace headers for upstreams."""

import json
import logging
import os
from collections.abc import Iterator
from typing import Any
from unittest import mock

import httpx
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from anthropic_proxy.observability.logs import Log
from anthropic_proxy.observability.tracing.exporter import _SDKLogHandler
from tests.support.otlp_receiver import Receiver, attributes
from tests.support.running_command import REQUEST, Command, until
from tests.support.running_proxy import running_proxy
from tests.support.scripted_upstream import (
    DEADLINE,
    RESET,
    ScriptedUpstream,
    answers,
    chunked,
    completion,
    streams,
    text_chunks,
)

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
STATE = "vendor=what it likes"
PARENTS = {
    "complete": {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": STATE},
    "unsampled": {"traceparent": f"00-{TRACE}-{PARENT}-00"},
}
CACHED = completion("canary-response") | {
    "usage": {
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "prompt_tokens_details": {"cached_tokens": 60},
    }
}
MESSAGE_REQUEST = REQUEST | {
    "messages": [{"role": "user", "content": "canary-prompt"}],
    "system": "canary-system",
}
SETTINGS: dict[str, Any] = {
    "UPSTREAM_API_KEY": "canary-key",
    "UPSTREAM_RETRIES": 0,
    "PROXY_API_KEYS": "alice=canary-key-of-alice",
}
UPSTREAM_ERROR = {"error": {"message": "canary-error of canary-key", "type": "server_error"}}
# Upstream scripts by the model name of the request.
_SCRIPTS: dict[str, tuple[Any, ...]] = {
    "complete": (answers(CACHED),),
    "stream": (streams(text_chunks("canary-", "response")),),
    "failed": (answers(UPSTREAM_ERROR, 500),),
    "broken": (chunked(text_chunks("canary-response")[0], RESET),),
    "truncated": (streams(text_chunks("canary-response")[:1], done=False),),
    "unsampled": (answers(CACHED),),
}


def environment(receiver_url: str, **variables: str) -> Any:
    other_variables = {
        name: value for name, value in os.environ.items() if not name.startswith("OTEL_")
    }
    return mock.patch.dict(
        os.environ,
        other_variables | {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver_url, **variables},
        clear=True,
    )


def post(proxy: str, body: Any, **headers: str) -> int:
    headers = {"x-api-key": "canary-key-of-alice", **headers}
    url = f"{proxy}/v1/messages"
    return httpx.post(
        url, json=body, headers=headers, trust_env=False, timeout=DEADLINE
    ).status_code


def get(url: str, request_id: str) -> None:
    headers = {"x-api-key": "canary-key-of-alice", "x-request-id": request_id}
    httpx.get(url, headers=headers, trust_env=False, timeout=DEADLINE)


class Traces:
    """Spans of one request of each type, and the headers sent to upstreams, by model."""

    def __init__(self, receiver: Receiver, sent: dict[str, list[dict[str, str]]]) -> None:
        self.receiver = receiver
        self.sent = sent

    def find_spans(self, request_id: str) -> list[Span]:
        """Return the span of a request and the spans of its upstream requests, in order."""
        spans = self.receiver.spans
        server_span = next(
            each
            for each in spans
            if attributes(each).get("anthropic_proxy.request_id") == request_id
        )
        children = [each for each in spans if each.parent_span_id == server_span.span_id]
        return [server_span, *sorted(children, key=lambda each: each.start_time_unix_nano)]


@pytest.fixture(scope="module")
def traces() -> Iterator[Traces]:
    with (
        Receiver() as receiver,
        environment(receiver.url, OTEL_EXPORTER_OTLP_HEADERS="api-key=canary-collector"),
    ):
        yield Traces(receiver, {**_send_requests(), "failover": _send_with_failover()})


def _send_requests() -> dict[str, list[dict[str, str]]]:
    sent = {}
    with ScriptedUpstream() as upstream, running_proxy(upstream.url, **SETTINGS) as proxy:
        for name, scripts in _SCRIPTS.items():
            upstream.then(*scripts)
            body = MESSAGE_REQUEST | {
                "model": name,
                "stream": name in ("stream", "broken", "truncated"),
            }
            post(proxy, body, **PARENTS.get(name, {}), **{"x-request-id": name})
            sent[name] = [upstream.request().headers]
        post(proxy, {"model": "m"}, **{"x-request-id": "refused"})
        get(f"{proxy}/readyz", "probe")
        get(f"{proxy}/no/canary?canary", "missing")
        upstream.then(answers({"data": [{"id": "m"}]}))
        get(f"{proxy}/v1/models", "models")
        sent["models"] = [upstream.request().headers]
    return sent


def _send_with_failover() -> list[dict[str, str]]:
    with ScriptedUpstream() as first, ScriptedUpstream() as second:
        first.then(answers(UPSTREAM_ERROR, 503))
        second.then(answers(CACHED))
        settings = SETTINGS | {"UPSTREAM_API_KEY": "canary-key;canary-2"}
        with running_proxy(f"{first.url};{second.url}", **settings) as proxy:
            assert post(proxy, MESSAGE_REQUEST, **{"x-request-id": "failover"}) == 200
        return [first.request().headers, second.request().headers]


@pytest.mark.parametrize(
    "request_id", ["complete", "stream", "failed", "broken", "truncated", "failover", "models"]
)
def test_upstream_requests_contain_their_span(traces: Traces, request_id: str) -> None:
    server_span, *children = traces.find_spans(request_id)
    assert (server_span.kind, {child.kind for child in children}) == (
        Span.SPAN_KIND_SERVER,
        {Span.SPAN_KIND_CLIENT},
    )
    parents = [f"00-{child.trace_id.hex()}-{child.span_id.hex()}" for child in children]
    assert [headers["traceparent"][:-3] for headers in traces.sent[request_id]] == parents
    assert {child.trace_id for child in children} == {server_span.trace_id}
    for child in children:
        assert (
            server_span.start_time_unix_nano
            <= child.start_time_unix_nano
            <= child.end_time_unix_nano
            <= server_span.end_time_unix_nano
        )


def test_the_client_span_is_the_parent(traces: Traces) -> None:
    server_span, _ = traces.find_spans("complete")
    assert (
        server_span.trace_id.hex(),
        server_span.parent_span_id.hex(),
        server_span.trace_state,
    ) == (TRACE, PARENT, STATE)
    assert traces.sent["complete"][0]["tracestate"] == STATE
    assert traces.sent["complete"][0]["traceparent"].endswith("-01")
    new_trace, _ = traces.find_spans("stream")
    assert new_trace.parent_span_id == b""
    assert "tracestate" not in traces.sent["stream"][0]
    assert traces.sent["stream"][0]["traceparent"].endswith("-03")


def test_unsampled_requests_have_no_spans(traces: Traces) -> None:
    assert traces.sent["unsampled"][0]["traceparent"].startswith(f"00-{TRACE}-")
    assert traces.sent["unsampled"][0]["traceparent"].endswith("-00")
    assert PARENT not in traces.sent["unsampled"][0]["traceparent"]
    assert "unsampled" not in {
        attributes(each).get("anthropic_proxy.request_id") for each in traces.receiver.spans
    }


_CHAT_ATTRIBUTES = {
    "gen_ai.operation.name": "chat",
    "gen_ai.usage.input_tokens": 100,
    "gen_ai.usage.cache_read.input_tokens": 60,
    "gen_ai.usage.output_tokens": 20,
    "gen_ai.response.finish_reasons": ["end_turn"],
    "http.request.method": "POST",
    "http.response.status_code": 200,
    "server.address": "127.0.0.1",
}


def test_spans_of_a_response_have_attributes(traces: Traces) -> None:
    server_span, child = traces.find_spans("complete")
    assert (server_span.name, child.name) == ("POST /v1/messages", "chat complete")
    assert attributes(server_span) == {
        "http.request.method": "POST",
        "http.route": "/v1/messages",
        "http.response.status_code": 200,
        "url.path": "/v1/messages",
        "url.scheme": "http",
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "complete",
        "anthropic_proxy.request_id": "complete",
        "anthropic_proxy.client_key": "alice",
        "anthropic_proxy.outcome": "complete",
    }
    child_attributes = attributes(child)
    assert child_attributes.items() >= _CHAT_ATTRIBUTES.items()
    assert (
        child_attributes["gen_ai.request.model"]
        == child_attributes["gen_ai.response.model"]
        == "complete"
    )
    assert child_attributes["gen_ai.provider.name"] == "openai"
    upstream = f"127.0.0.1:{child_attributes['server.port']}"
    assert child_attributes["anthropic_proxy.upstream"] == upstream
    assert server_span.status.code == child.status.code == Status.STATUS_CODE_UNSET


def test_spans_of_a_stream_have_attributes(traces: Traces) -> None:
    server_span, child = traces.find_spans("stream")
    child_attributes = attributes(child)
    assert (
        child_attributes["gen_ai.request.stream"]
        is attributes(server_span)["gen_ai.request.stream"]
        is True
    )
    assert 0 < child_attributes["gen_ai.response.time_to_first_chunk"] < DEADLINE
    assert (
        child_attributes["gen_ai.usage.input_tokens"],
        child_attributes["gen_ai.usage.output_tokens"],
    ) == (11, 2)


@pytest.mark.parametrize(
    ("request_id", "server_error", "errors"),
    [
        ("failed", "api_error", ["500"]),
        ("broken", "api_error", ["body"]),
        ("truncated", "api_error", ["truncated"]),
        ("failover", None, ["503", None]),
        ("refused", "invalid_request_error", []),
        ("missing", "not_found_error", []),
    ],
)
def test_errors_are_attributes_of_the_spans(
    traces: Traces, request_id: str, server_error: str | None, errors: list[str | None]
) -> None:
    server_span, *children = traces.find_spans(request_id)
    assert attributes(server_span).get("error.type") == server_error
    assert [attributes(child).get("error.type") for child in children] == errors
    assert [child.status.code == Status.STATUS_CODE_ERROR for child in children] == [
        error is not None for error in errors
    ]
    # An error of the client is not an error of the server span.
    assert (server_span.status.code == Status.STATUS_CODE_ERROR) == (
        request_id in ("failed", "broken", "truncated")
    )
    with_usage = [child for child in children if "gen_ai.usage.input_tokens" in attributes(child)]
    assert with_usage == (
        children[-1:] if request_id in ("failover", "broken", "truncated") else []
    )


def test_other_routes_have_spans_without_model_attributes(traces: Traces) -> None:
    models, upstream_span = traces.find_spans("models")
    assert (models.name, upstream_span.name) == ("GET /v1/models", "GET models")
    assert "gen_ai.operation.name" not in attributes(models)
    missing, *_ = traces.find_spans("missing")
    assert (missing.name, attributes(missing)["url.path"]) == ("GET", "/no/canary")
    assert "/readyz" not in {attributes(each).get("url.path") for each in traces.receiver.spans}


def test_spans_contain_no_secrets(traces: Traces) -> None:
    assert traces.receiver.paths == {"/v1/traces"}
    assert traces.receiver.raw.replace(b"/no/canary", b"").count(b"canary") == 0
    assert {each["service.name"] for each in traces.receiver.resources} == {"anthropic-proxy"}


def test_each_worker_exports_its_spans(command: Command) -> None:
    """The variables of the exporter are in a `.env` file. The log contains the span ids."""
    with Receiver() as receiver, ScriptedUpstream() as upstream:
        variables = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            "OTEL_SERVICE_NAME": "mine",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
        }
        (command.home / ".env").write_text(
            "".join(f"{name}={value}\n" for name, value in variables.items())
        )
        with command.serving(
            UPSTREAM_BASE_URL=upstream.url, WORKERS="2", LOG_FORMAT="json"
        ) as server:

            def send_request() -> int:
                upstream.then(answers(completion()))
                assert post(server.address, REQUEST) == 200
                return len({each["process.pid"] for each in receiver.resources}) == 2

            until(send_request, "both workers have sent spans")
            code, log = server.end()
        lines = [
            json.loads(line) for line in log.splitlines() if '"event":"request finished"' in line
        ]
        assert code == 0
        span_ids = {
            (each.trace_id.hex(), each.span_id.hex())
            for each in receiver.spans
            if each.kind == Span.SPAN_KIND_SERVER
        }
        assert span_ids == {(line["trace_id"], line["span_id"]) for line in lines}
        assert {each["service.name"] for each in receiver.resources} == {"mine"}


# The message that the exporter logs depends on the duration of its attempts.
_EXPORT_FAILURES = (
    "Transient error",
    "Failed to export spans batch due to",
    "Failed to export spans batch code",
)


def test_an_unreachable_collector_is_logged_once(capfd: pytest.CaptureFixture[str]) -> None:
    variables = {
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
        "OTEL_BSP_SCHEDULE_DELAY": "10",
        "OTEL_TRACES_SAMPLER": "always_on",
    }
    with (
        environment("http://user:canary-password@127.0.0.1:9/?token=canary-token", **variables),
        ScriptedUpstream() as upstream,
        running_proxy(upstream.url) as proxy,
    ):
        for _ in range(5):
            upstream.then(answers(CACHED))
            assert post(proxy, REQUEST) == 200
    out, err = capfd.readouterr()
    assert "Traceback" not in out + err
    assert "canary-password" not in out + err
    assert "canary-token" not in out + err
    counts = [(out + err).count(message) for message in _EXPORT_FAILURES]
    assert any(counts)
    assert max(counts) == 1


def test_exporter_messages_are_rate_limited() -> None:
    log = mock.create_autospec(Log, instance=True)
    log.redact.side_effect = str
    handler = _SDKLogHandler(log)
    handler.install()
    try:
        for name in ("opentelemetry.exporter.x", "opentelemetry.sdk.x", "opentelemetry.util.re"):
            for number in range(3):
                logging.getLogger(name).warning("%s failed, %d", name, number)
                logging.getLogger(name).error(f"lost {'x' * 1000}")  # noqa: G004 - as some do
                logging.getLogger(name).info("not this")
    finally:
        handler.remove()
    texts = [call.kwargs["said"] for call in log.warning.call_args_list]
    assert texts == ["opentelemetry.exporter.x failed, 0", "lost " + "x" * 295]
