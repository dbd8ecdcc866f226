"""How many requests an upstream gets for one request of a client, by default and with retries."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from anthropic_proxy.upstream import retry_plan
from anthropic_proxy.upstream.retry import RetryPolicy, effective_retries
from tests.support.running_command import REQUEST
from tests.support.running_proxy import running_proxy
from tests.support.scripted_upstream import (
    DEADLINE,
    Script,
    ScriptedUpstream,
    completion,
    text_chunks,
)
from tests.support.scripted_upstream import answers as answered

STREAM = REQUEST | {"stream": True}
CONTENT = answered(text_chunks("Hel")[0]).steps[0]


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry_plan, "_RECONNECT_POLICY", RetryPolicy(base_delay=0, max_delay=0))


class Upstream(ThreadingHTTPServer):
    """Keeps connections open. failure: of the requests from now on; None: it responds to them."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.failure: str | None = None
        self.posts = 0
        self.gets = 0
        self.connections: set[socket.socket] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients leave; that is no error of a test."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Upstream

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def do_GET(self) -> None:
        self.server.gets += 1
        self._respond({"object": "list", "data": [{"id": "m"}]})

    def do_POST(self) -> None:
        self.server.posts += 1
        self.rfile.read(int(self.headers["content-length"]))
        self._respond(completion())

    def _respond(self, body: Any) -> None:
        failure = self.server.failure
        if failure is None:
            script = answered(body)
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(script.steps[0])))
            self.end_headers()
            self.wfile.write(script.steps[0])
            return
        if failure.isdecimal():
            self.send_response(int(failure))
            self.send_header("content-length", "0")
            self.send_header("retry-after", "0")
            self.end_headers()
            return
        self.wfile.write(_BEFORE_THE_CUT[failure])
        self.wfile.flush()
        # Without a linger time the close is a reset.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Nothing."""


_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ntransfer-encoding: chunked\r\n\r\n"
_EVENT = b"data: " + CONTENT + b"\n\n"
_BEFORE_THE_CUT = {
    "before the head": b"",
    "in the head": b"HTTP/1.1 200 OK\r\ncontent-ty",
    "after the head": _HEAD % b"application/json",
    "after the head of a stream": _HEAD % b"text/event-stream",
    "in the body": _HEAD % b"text/event-stream" + b"%x\r\n%b\r\n" % (len(_EVENT), _EVENT),
}


@pytest.fixture
def flaky() -> Iterator[Upstream]:
    with Upstream() as upstream:
        thread = threading.Thread(target=upstream.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield upstream
        upstream.shutdown()
        thread.join(DEADLINE)


def _post(proxy: str, body: object, path: str = "/v1/messages") -> httpx.Response:
    return httpx.post(f"{proxy}{path}", json=body, trust_env=False, timeout=DEADLINE)


def _has_failed(response: httpx.Response) -> bool:
    return response.status_code >= 400 or "event: error" in response.text


@pytest.mark.parametrize("body", [REQUEST, STREAM], ids=["whole", "stream"])
@pytest.mark.parametrize("is_reused", [False, True], ids=["fresh", "reused"])
@pytest.mark.parametrize(
    ("failure", "posts"),
    [
        ("before the head", 2),
        ("in the head", 2),
        ("after the head", 1),
        ("after the head of a stream", 1),
        ("in the body", 1),
        ("503", 1),
        ("429", 1),
        ("500", 1),
    ],
)
def test_one_upstream_gets_at_most_two_requests(
    flaky: Upstream, body: dict[str, Any], *, is_reused: bool, failure: str, posts: int
) -> None:
    with running_proxy(flaky.url) as proxy:
        if is_reused:
            assert _post(proxy, REQUEST).status_code == 200
        flaky.posts, flaky.failure = 0, failure
        assert _has_failed(_post(proxy, body))
        assert flaky.posts == posts


@pytest.mark.parametrize("body", [REQUEST, STREAM], ids=["whole", "stream"])
@pytest.mark.parametrize("retries", [0, 1, 2])
@pytest.mark.parametrize("failure", ["before the head", "503"])
def test_retries_and_resent_connections_do_not_add_up(
    flaky: Upstream, body: dict[str, Any], retries: int, failure: str
) -> None:
    with running_proxy(flaky.url, UPSTREAM_RETRIES=retries) as proxy:
        assert _post(proxy, REQUEST).status_code == 200
        flaky.posts, flaky.failure = 0, failure
        assert _has_failed(_post(proxy, body))
        assert flaky.posts == (
            1 if failure == "503" and not retries else 1 + effective_retries(retries)
        )


@pytest.mark.parametrize("body", [REQUEST, STREAM], ids=["whole", "stream"])
def test_a_refused_connection_is_tried_once_more(body: dict[str, Any]) -> None:
    with running_proxy("http://127.0.0.1:1") as proxy:
        assert _has_failed(_post(proxy, body))
        metrics = httpx.get(f"{proxy}/metrics", trust_env=False, timeout=DEADLINE).text
    assert (
        'anthropic_proxy_upstream_requests_total{status="connect",upstream="127.0.0.1:1"} 2.0'
        in metrics
    )


def test_a_resent_request_counts_as_a_retry(flaky: Upstream) -> None:
    with running_proxy(flaky.url) as proxy:
        assert _post(proxy, REQUEST).status_code == 200
        flaky.failure = "before the head"
        _post(proxy, REQUEST)
        metrics = httpx.get(f"{proxy}/metrics", trust_env=False, timeout=DEADLINE).text
    assert (
        "anthropic_proxy_upstream_retries_total"
        f'{{upstream="{flaky.url.removeprefix("http://")}"}} 1.0' in metrics
    )


def test_a_list_of_models_is_requested_at_most_twice(flaky: Upstream) -> None:
    with running_proxy(flaky.url) as proxy:
        models = f"{proxy}/v1/models"
        assert httpx.get(models, trust_env=False, timeout=DEADLINE).status_code == 200
        flaky.gets, flaky.failure = 0, "before the head"
        assert httpx.get(models, trust_env=False, timeout=DEADLINE).status_code == 500
        assert flaky.gets == 2


def test_each_key_is_tried_once_and_one_connection_more(flaky: Upstream) -> None:
    with running_proxy(flaky.url, UPSTREAM_API_KEY="a;b;c") as proxy:
        flaky.failure = "401"
        assert _has_failed(_post(proxy, REQUEST))
        assert flaky.posts == 3


def _refusal(field: str) -> Script:
    error = {"message": f"Unsupported parameter: '{field}'", "param": field, "type": "invalid"}
    return answered({"error": error}, 400)


class _EveryReasonUpstream(ScriptedUpstream):
    """Fails differently each time, so that every reason to send a request again occurs."""

    def respond_with_failures(self, count: int) -> None:
        failures = [
            answered({"error": {"message": "limited"}}, 429, {"retry-after": "0"}),
            _refusal("temperature"),
            answered({"error": {"message": "down"}}, 503, {"retry-after": "0"}),
            _refusal("top_p"),
        ]
        for number in range(count):
            self.then(failures[number % len(failures)])


@pytest.mark.parametrize("body", [REQUEST, STREAM], ids=["whole", "stream"])
@pytest.mark.parametrize(("limit", "requests"), [(None, 16), (1, 1), (2, 2), (7, 7), (20, 20)])
def test_all_reasons_together_are_limited(
    body: dict[str, Any], limit: int | None, requests: int
) -> None:
    """Three upstreams with three keys each, which may each be tried again up to nine times."""
    variables: dict[str, Any] = {"UPSTREAM_RETRIES": 9, "UPSTREAM_API_KEY": "a;b;c"}
    if limit is not None:
        variables["MAX_UPSTREAM_REQUESTS"] = limit
    sent = body | {"temperature": 0.5, "top_p": 0.5}
    with ExitStack() as stack:
        upstreams = [stack.enter_context(_EveryReasonUpstream()) for _ in range(3)]
        for upstream in upstreams:
            upstream.respond_with_failures(40)
        urls = ";".join(upstream.url for upstream in upstreams)
        proxy = stack.enter_context(running_proxy(urls, **variables))
        assert _has_failed(_post(proxy, sent))
        assert sum(len(upstream.requests) for upstream in upstreams) == requests


def test_a_change_is_remembered_although_the_limit_prevents_it() -> None:
    """Otherwise the model would never accept a request."""
    sent = REQUEST | {"temperature": 0.5}
    with (
        ScriptedUpstream() as upstream,
        running_proxy(upstream.url, MAX_UPSTREAM_REQUESTS=1) as proxy,
    ):
        upstream.then(_refusal("temperature"), answered(completion()))
        assert _post(proxy, sent).status_code == 400
        assert _post(proxy, sent).status_code == 200
        assert ["temperature" in request.body for request in upstream.requests] == [True, False]


def test_an_api_is_remembered_although_the_limit_prevents_it() -> None:
    text = "This model is only supported in v1/responses and not in v1/chat/completions."
    with (
        ScriptedUpstream() as upstream,
        running_proxy(upstream.url, MAX_UPSTREAM_REQUESTS=1) as proxy,
    ):
        upstream.then(answered({"error": {"message": text}}, 404), answered({}, 500))
        assert _post(proxy, REQUEST).status_code == 404
        assert _post(proxy, REQUEST).status_code == 500
        paths = [request.path.rpartition("/")[2] for request in upstream.requests]
        assert paths == ["completions", "responses"]
