"""Spans, as a collector gets them from a running proxy, and what upstreams are told of them."""

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
    "whole": {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": STATE},
    "unsampled": {"traceparent": f"00-{TRACE}-{PARENT}-00"},
}
CACHED = completion("canary-answer") | {
    "usage": {
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "prompt_tokens_details": {"cached_tokens": 60},
    }
}
ASKED = REQUEST | {
    "messages": [{"role": "user", "content": "canary-prompt"}],
    "system": "canary-system",
}
SETTINGS: dict[str, Any] = {
    "UPSTREAM_API_KEY": "canary-key",
    "UPSTREAM_RETRIES": 0,
    "PROXY_API_KEYS": "alice=canary-key-of-alice",
}
REFUSED = {"error": {"message": "canary-error of canary-key", "type": "server_error"}}
# Each request by what its model is called.
_SCRIPTS: dict[str, tuple[Any, ...]] = {
    "whole": (answers(CACHED),),
    "stream": (streams(text_chunks("canary-", "answer")),),
    "failed": (answers(REFUSED, 500),),
    "broken": (chunked(text_chunks("canary-answer")[0], RESET),),
    "truncated": (streams(text_chunks("canary-answer")[:1], done=False),),
    "unsampled": (answers(CACHED),),
}


def environment(receiver_url: str, **more: str) -> Any:
    known = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return mock.patch.dict(
        os.environ, known | {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver_url, **more}, clear=True
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


class Told:
    """Results of one request of each kind. sent: headers that the upstreams got, by model."""

    def __init__(self, receiver: Receiver, sent: dict[str, list[dict[str, str]]]) -> None:
        self.receiver = receiver
        self.sent = sent

    def of(self, request_id: str) -> list[Span]:
        """The span of a request, and those of what was sent for it, in order."""
        spans = self.receiver.spans
        own = next(
            each
            for each in spans
            if attributes(each).get("anthropic_proxy.request_id") == request_id
        )
        children = [each for each in spans if each.parent_span_id == own.span_id]
        return [own, *sorted(children, key=lambda each: each.start_time_unix_nano)]


@pytest.fixture(scope="module")
def told() -> Iterator[Told]:
    with (
        Receiver() as receiver,
        environment(receiver.url, OTEL_EXPORTER_OTLP_HEADERS="api-key=canary-collector"),
    ):
        yield Told(receiver, {**_answered(), "elsewhere": _failed_over()})


def _answered() -> dict[str, list[dict[str, str]]]:
    sent = {}
    with ScriptedUpstream() as upstream, running_proxy(upstream.url, **SETTINGS) as proxy:
        for name, scripts in _SCRIPTS.items():
            upstream.then(*scripts)
            body = ASKED | {"model": name, "stream": name in ("stream", "broken", "truncated")}
            post(proxy, body, **PARENTS.get(name, {}), **{"x-request-id": name})
            sent[name] = [upstream.request().headers]
        post(proxy, {"model": "m"}, **{"x-request-id": "refused"})
        get(f"{proxy}/readyz", "probe")
        get(f"{proxy}/no/canary?canary", "missing")
        upstream.then(answers({"data": [{"id": "m"}]}))
        get(f"{proxy}/v1/models", "models")
        sent["models"] = [upstream.request().headers]
    return sent


def _failed_over() -> list[dict[str, str]]:
    with ScriptedUpstream() as first, ScriptedUpstream() as second:
        first.then(answers(REFUSED, 503))
        second.then(answers(CACHED))
        settings = SETTINGS | {"UPSTREAM_API_KEY": "canary-key;canary-2"}
        with running_proxy(f"{first.url};{second.url}", **settings) as proxy:
            assert post(proxy, ASKED, **{"x-request-id": "elsewhere"}) == 200
        return [first.request().headers, second.request().headers]


@pytest.mark.parametrize(
    "request_id", ["whole", "stream", "failed", "broken", "truncated", "elsewhere", "models"]
)
def test_upstreams_are_told_their_spans(told: Told, request_id: str) -> None:
    own, *children = told.of(request_id)
    assert (own.kind, {child.kind for child in children}) == (
        Span.SPAN_KIND_SERVER,
        {Span.SPAN_KIND_CLIENT},
    )
    parents = [f"00-{child.trace_id.hex()}-{child.span_id.hex()}" for child in children]
    assert [headers["traceparent"][:-3] for headers in told.sent[request_id]] == parents
    assert {child.trace_id for child in children} == {own.trace_id}
    for child in children:
        assert (
            own.start_time_unix_nano
            <= child.start_time_unix_nano
            <= child.end_time_unix_nano
            <= own.end_time_unix_nano
        )


def test_the_parent_is_the_clients(told: Told) -> None:
    own, _ = told.of("whole")
    assert (own.trace_id.hex(), own.parent_span_id.hex(), own.trace_state) == (TRACE, PARENT, STATE)
    assert told.sent["whole"][0]["tracestate"] == STATE
    assert told.sent["whole"][0]["traceparent"].endswith("-01")
    begun, _ = told.of("stream")
    assert begun.parent_span_id == b""
    assert "tracestate" not in told.sent["stream"][0]
    assert told.sent["stream"][0]["traceparent"].endswith("-03")


def test_what_is_not_sampled(told: Told) -> None:
    assert told.sent["unsampled"][0]["traceparent"].startswith(f"00-{TRACE}-")
    assert told.sent["unsampled"][0]["traceparent"].endswith("-00")
    assert PARENT not in told.sent["unsampled"][0]["traceparent"]
    assert "unsampled" not in {
        attributes(each).get("anthropic_proxy.request_id") for each in told.receiver.spans
    }


_ANSWERED = {
    "gen_ai.operation.name": "chat",
    "gen_ai.usage.input_tokens": 100,
    "gen_ai.usage.cache_read.input_tokens": 60,
    "gen_ai.usage.output_tokens": 20,
    "gen_ai.response.finish_reasons": ["end_turn"],
    "http.request.method": "POST",
    "http.response.status_code": 200,
    "server.address": "127.0.0.1",
}


def test_attributes_of_a_whole_answer(told: Told) -> None:
    own, child = told.of("whole")
    assert (own.name, child.name) == ("POST /v1/messages", "chat whole")
    assert attributes(own) == {
        "http.request.method": "POST",
        "http.route": "/v1/messages",
        "http.response.status_code": 200,
        "url.path": "/v1/messages",
        "url.scheme": "http",
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "whole",
        "anthropic_proxy.request_id": "whole",
        "anthropic_proxy.client_key": "alice",
        "anthropic_proxy.outcome": "complete",
    }
    said = attributes(child)
    assert said.items() >= _ANSWERED.items()
    assert said["gen_ai.request.model"] == said["gen_ai.response.model"] == "whole"
    assert said["gen_ai.provider.name"] == "openai"
    assert said["anthropic_proxy.upstream"] == f"127.0.0.1:{said['server.port']}"
    assert own.status.code == child.status.code == Status.STATUS_CODE_UNSET


def test_attributes_of_a_stream(told: Told) -> None:
    own, child = told.of("stream")
    said = attributes(child)
    assert said["gen_ai.request.stream"] is attributes(own)["gen_ai.request.stream"] is True
    assert 0 < said["gen_ai.response.time_to_first_chunk"] < DEADLINE
    assert (said["gen_ai.usage.input_tokens"], said["gen_ai.usage.output_tokens"]) == (11, 2)


@pytest.mark.parametrize(
    ("request_id", "own_error", "errors"),
    [
        ("failed", "api_error", ["500"]),
        ("broken", "api_error", ["body"]),
        ("truncated", "api_error", ["truncated"]),
        ("elsewhere", None, ["503", None]),
        ("refused", "invalid_request_error", []),
        ("missing", "not_found_error", []),
    ],
)
def test_errors(
    told: Told, request_id: str, own_error: str | None, errors: list[str | None]
) -> None:
    own, *children = told.of(request_id)
    assert attributes(own).get("error.type") == own_error
    assert [attributes(child).get("error.type") for child in children] == errors
    assert [child.status.code == Status.STATUS_CODE_ERROR for child in children] == [
        error is not None for error in errors
    ]
    # An error of the client's is none of ours.
    assert (own.status.code == Status.STATUS_CODE_ERROR) == (
        request_id in ("failed", "broken", "truncated")
    )
    answered = [child for child in children if "gen_ai.usage.input_tokens" in attributes(child)]
    assert answered == (children[-1:] if request_id in ("elsewhere", "broken", "truncated") else [])


def test_what_is_no_message(told: Told) -> None:
    models, asked = told.of("models")
    assert (models.name, asked.name) == ("GET /v1/models", "GET models")
    assert "gen_ai.operation.name" not in attributes(models)
    missing, *_ = told.of("missing")
    assert (missing.name, attributes(missing)["url.path"]) == ("GET", "/no/canary")
    assert "/readyz" not in {attributes(each).get("url.path") for each in told.receiver.spans}


def test_nothing_secret_is_told(told: Told) -> None:
    assert told.receiver.paths == {"/v1/traces"}
    assert told.receiver.raw.replace(b"/no/canary", b"").count(b"canary") == 0
    assert {each["service.name"] for each in told.receiver.resources} == {"anthropic-proxy"}


def test_each_worker_sends_its_own(command: Command) -> None:
    """The variables stand in a `.env` file; the sampler's do as well. The log names the spans."""
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

            def asked() -> int:
                upstream.then(answers(completion()))
                assert post(server.address, REQUEST) == 200
                return len({each["process.pid"] for each in receiver.resources}) == 2

            until(asked, "both workers have sent spans")
            code, log = server.end()
        lines = [
            json.loads(line) for line in log.splitlines() if '"event":"request finished"' in line
        ]
        assert code == 0
        own = {
            (each.trace_id.hex(), each.span_id.hex())
            for each in receiver.spans
            if each.kind == Span.SPAN_KIND_SERVER
        }
        assert own == {(line["trace_id"], line["span_id"]) for line in lines}
        assert {each["service.name"] for each in receiver.resources} == {"mine"}


# Which of them the exporter logs depends on how long its attempts take.
_EXPORT_FAILURES = (
    "Transient error",
    "Failed to export spans batch due to",
    "Failed to export spans batch code",
)


def test_a_collector_that_is_down(capfd: pytest.CaptureFixture[str]) -> None:
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


def test_what_the_exporter_says_is_told_now_and_then() -> None:
    log = mock.create_autospec(Log, instance=True)
    log.redact.side_effect = str
    said = _SDKLogHandler(log)
    said.install()
    try:
        for name in ("opentelemetry.exporter.x", "opentelemetry.sdk.x", "opentelemetry.util.re"):
            for number in range(3):
                logging.getLogger(name).warning("%s failed, %d", name, number)
                logging.getLogger(name).error(f"lost {'x' * 1000}")  # noqa: G004 - as some do
                logging.getLogger(name).info("not this")
    finally:
        said.remove()
    texts = [call.kwargs["said"] for call in log.warning.call_args_list]
    assert texts == ["opentelemetry.exporter.x failed, 0", "lost " + "x" * 295]
