"""Proxies that are their own upstreams: a request comes back once, and not again and again."""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from anthropic_proxy.upstream.loop_detection import HOPS_HEADER, MAX_HOPS, PROXY_ID
from tests.support.running_command import REQUEST, Command, Running
from tests.support.running_proxy import running_proxy
from tests.support.scripted_upstream import DEADLINE, ScriptedUpstream, answers, completion

OTHER = "0123456789abcdef"
REFUSED = "this proxy has received its own request"


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        return [each.getsockname()[1] for each in sockets]


@contextlib.contextmanager
def _circle(home: Path, length: int, **variables: str) -> Iterator[list[Running]]:
    """Proxies of which each is the upstream of the one before, by a host name."""
    ports = _free_ports(length)
    with contextlib.ExitStack() as stack:
        proxies = []
        for number, port in enumerate(ports):
            directory = home / str(number)
            directory.mkdir()
            url = f"http://localhost:{ports[(number + 1) % length]}"
            command = Command(directory)
            arguments = ("-p", str(port), "-d")
            proxies.append(
                stack.enter_context(
                    command.serving(
                        *arguments, UPSTREAM_BASE_URL=url, UPSTREAM_RETRIES="2", **variables
                    )
                )
            )
        yield proxies


@pytest.mark.parametrize(
    ("length", "api", "keys"),
    [
        (1, "chat_completions", ""),
        (1, "messages", "alice=sk-0123456789"),
        (2, "responses", ""),
        (2, "messages", ""),
    ],
)
def test_a_circle(tmp_path: Path, length: int, api: str, keys: str) -> None:
    variables = {"UPSTREAM_API": api, "PROXY_API_KEYS": keys, "HOST": "127.0.0.1"}
    with _circle(tmp_path, length, **variables) as proxies:
        headers = {"x-api-key": "sk-0123456789"}
        address = proxies[0].address
        responses = [
            httpx.get(f"{address}/v1/models", headers=headers, timeout=DEADLINE),
            httpx.post(f"{address}/v1/messages", json=REQUEST, headers=headers, timeout=DEADLINE),
        ]
        logged = [each.end()[1] for each in proxies]
    # A proxy has no path for Chat Completions or Responses: the circle ends at the second one.
    expected = responses if length == 1 or api == "messages" else responses[:1]
    # Where callers need a key, the request that comes back has none and gets no further than that.
    status, text = (500, "refused the request (401)") if keys else (400, REFUSED)
    for response in expected:
        assert (response.status_code, response.json()["type"]) == (status, "error")
        assert text in response.json()["error"]["message"]
    for log in logged:
        # One of the client or the proxy before, and one that came back.
        assert log.count("path=/v1/messages ") <= 4
        # Probes ask for the list as well.
        assert log.count("path=/v1/models ") <= 20


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as running:
        yield running


@pytest.fixture(scope="module")
def proxy(upstream: ScriptedUpstream) -> Iterator[str]:
    with running_proxy(upstream.url) as address:
        yield address


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({}, PROXY_ID),
        ({HOPS_HEADER: OTHER}, f"{OTHER}, {PROXY_ID}"),
        ({HOPS_HEADER: f"{OTHER},{OTHER}"}, f"{OTHER}, {OTHER}, {PROXY_ID}"),
        ({HOPS_HEADER: "secret words, x" * 100}, PROXY_ID),
    ],
    ids=["none", "one", "two", "other texts"],
)
def test_the_upstream_receives_ids_alone(
    proxy: str, upstream: ScriptedUpstream, given: dict[str, str], sent: str
) -> None:
    upstream.then(answers(completion()))
    response = httpx.post(f"{proxy}/v1/messages", json=REQUEST, headers=given, timeout=DEADLINE)
    assert response.status_code == 200
    assert upstream.request().headers[HOPS_HEADER] == sent
    assert len(PROXY_ID) == 16


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/messages"),
        ("POST", "/v1/messages/count_tokens"),
        ("GET", "/v1/models"),
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/responses"),
    ],
)
@pytest.mark.parametrize(
    ("hops", "reason"),
    [
        (f"{OTHER}, {PROXY_ID}", "Request loop: this proxy"),
        (", ".join([OTHER] * MAX_HOPS), "Probable request loop"),
    ],
    ids=["own", "many"],
)
def test_what_comes_back_is_refused(
    proxy: str, method: str, path: str, hops: str, reason: str
) -> None:
    response = httpx.request(
        method, f"{proxy}{path}", json=REQUEST, headers={HOPS_HEADER: hops}, timeout=DEADLINE
    )
    assert (response.status_code, response.json()["error"]["type"]) == (
        400,
        "invalid_request_error",
    )
    assert reason in response.json()["error"]["message"]
