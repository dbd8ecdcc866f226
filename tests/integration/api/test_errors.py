"""Errors on every path, in Anthropic's envelope."""

import json
from typing import Any

import httpx
import pytest

from anthropic_proxy.upstream.http_client import UpstreamHTTPClient
from tests.support.running_proxy import running_proxy
from tests.support.scripted_upstream import (
    DEADLINE,
    Pause,
    ScriptedUpstream,
    answers,
    streams,
    text_chunks,
)

REQUEST = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "Hi"}]}


def send(method: str, url: str, **options: Any) -> httpx.Response:
    return httpx.request(method, url, timeout=DEADLINE, trust_env=False, **options)


def told(response: httpx.Response) -> tuple[int, str, str]:
    """Status, type and message, after a look at the envelope."""
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert body["type"] == "error"
    assert body["request_id"] == response.headers["request-id"]
    assert set(body["error"]) == {"type", "message"}
    return response.status_code, body["error"]["type"], body["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("GET", "/nope", 404, "not_found_error"),
        ("POST", "/v1/complete", 404, "not_found_error"),
        ("GET", "/v1/messages/", 405, "invalid_request_error"),
        ("DELETE", "/v1/organizations/me", 404, "not_found_error"),
        ("GET", "/v1/messages", 405, "invalid_request_error"),
        ("PUT", "/v1/messages/count_tokens", 405, "invalid_request_error"),
        ("POST", "/health", 405, "invalid_request_error"),
    ],
)
def test_paths_and_methods(proxy: str, method: str, path: str, status: int, kind: str) -> None:
    response = send(method, proxy + path)
    assert told(response)[:2] == (status, kind)
    assert ("allow" in response.headers) == (status == 405)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "The request body is not valid JSON: EOF while parsing a value at line 1 column 0"),
        (
            b"{",
            "The request body is not valid JSON: EOF while parsing an object at line 1 column 1",
        ),
        (b'{"max_tokens":1,"messages":[{"role":"user","content":"x"}]}', "model: Field required"),
        (
            b'{"model":"m","max_tokens":1,"messages":[{"role":"user","content":5}]}',
            "messages.0.content: ",
        ),
        (
            b'{"model":"m","max_tokens":1,"messages":[]}',
            "messages: at least one message is required",
        ),
    ],
)
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
def test_bodies(proxy: str, raw: bytes, message: str, path: str) -> None:
    status, kind, text = told(send("POST", proxy + path, content=raw))
    assert (status, kind) == (400, "invalid_request_error")
    assert text.startswith(message)


# Nine values: the body, those of its four fields, the message with two texts, and the id.
NINE: dict[str, Any] = {**REQUEST, "metadata": {"user_id": "[],[],[],[],"}}
TOO_MANY_VALUES = (
    "The request body contains more than 9 JSON values, the limit of this server "
    "(MAX_JSON_VALUES). Send a request with fewer values"
)


@pytest.mark.parametrize("api", ["chat_completions", "messages"])
def test_too_many_values(upstream: ScriptedUpstream, api: str) -> None:
    upstream.then(
        answers(
            {"type": "error", "error": {"type": "invalid_request_error", "message": "arrived"}}, 400
        )
    )
    with running_proxy(upstream.url, UPSTREAM_API=api, MAX_JSON_VALUES=9) as proxy:
        assert (
            send("POST", proxy + "/v1/messages", json=NINE).json()["error"]["message"] == "arrived"
        )
        for path in ("/v1/messages", "/v1/messages/count_tokens"):
            assert told(send("POST", proxy + path, json={**NINE, "top_k": 1})) == (
                400,
                "invalid_request_error",
                TOO_MANY_VALUES,
            )
    assert len(upstream.requests) == 1


LONG = "n" * 1_000_000


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32-be"])
def test_bodies_are_utf_8(proxy: str, encoding: str) -> None:
    body = json.dumps(
        {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "Hi"}]}
    )
    answer = httpx.post(f"{proxy}/v1/messages", content=body.encode(encoding), trust_env=False)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"messages": [{"role": LONG, "content": "x"}]}, id="role"),
        pytest.param(
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image", "source": {"type": LONG}}]}
                ]
            },
            id="type of a source",
        ),
        pytest.param(
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {
                                "type": kind,
                                "source": {"type": "base64", "media_type": LONG, "data": "YQ=="},
                            }
                        ],
                    }
                    for kind in ("image", "document")
                ]
            },
            id="media type",
        ),
        pytest.param(
            {
                "tools": [{"name": "a", "input_schema": {}}],
                "tool_choice": {"type": "tool", "name": LONG},
            },
            id="tool_choice",
        ),
        pytest.param({"tools": [{"type": "web_search_1", "name": LONG}]}, id="tool of a server"),
        pytest.param(
            {"tools": [{"name": LONG, "input_schema": {}, "allowed_callers": ["x"]}]},
            id="tool of another caller",
        ),
        pytest.param({"tools": [{"type": f"mcp_toolset{LONG}"}]}, id="type of a tool"),
        pytest.param(
            {"tools": [{"type": "bash_20250124", "name": f"{n}"} for n in range(21)]},
            id="many tools of a type",
        ),
        pytest.param(
            {"mcp_servers": [{"name": f"{number}{LONG}"} for number in range(5)]}, id="MCP servers"
        ),
        pytest.param(
            {"mcp_servers": [{"name": f"server_{number}"} for number in range(9999)]},
            id="many MCP servers",
        ),
    ],
)
def test_long_values_are_cut(proxy: str, fields: dict[str, Any]) -> None:
    response = send("POST", proxy + "/v1/messages", json={**REQUEST, **fields})
    assert told(response)[:2] == (400, "invalid_request_error")
    assert len(response.content) < 5000


@pytest.mark.parametrize("framing", ["content-length", "chunked"])
def test_too_large(proxy: str, framing: str) -> None:
    size = 33 * 1024 * 1024
    content: Any = (
        b"x" * size if framing == "content-length" else (b"x" * 65536 for _ in range(size // 65536))
    )
    assert told(send("POST", proxy + "/v1/messages", content=content))[:2] == (
        413,
        "request_too_large",
    )


def test_just_within_the_limit(proxy: str, upstream: ScriptedUpstream) -> None:
    upstream.then(answers({"error": {"message": "arrived"}}, 400))
    image = {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": "A" * 31 * 1024 * 1024},
    }
    body = {**REQUEST, "messages": [{"role": "user", "content": [image]}]}
    assert told(send("POST", proxy + "/v1/messages", json=body)) == (
        400,
        "invalid_request_error",
        "arrived",
    )
    assert len(upstream.request().raw) > 31 * 1024 * 1024


@pytest.mark.parametrize("encoding", ["identity", "Identity", ""])
def test_no_encoding_by_any_name(proxy: str, upstream: ScriptedUpstream, encoding: str) -> None:
    upstream.then(answers({"error": {"message": "arrived"}}, 400))
    response = send(
        "POST", proxy + "/v1/messages", json=REQUEST, headers={"content-encoding": encoding}
    )
    assert told(response)[2] == "arrived"


def test_compressed_bodies_are_refused_clearly(proxy: str) -> None:
    status, _, text = told(
        send("POST", proxy + "/v1/messages", content=b"x", headers={"content-encoding": "gzip"})
    )
    assert status == 400
    assert "content-encoding 'gzip' is not supported" in text


def test_an_upstream_that_is_down() -> None:
    with running_proxy("http://127.0.0.1:9", UPSTREAM_API_KEY="sk-secret") as proxy:
        for stream in (True, False):
            response = send("POST", proxy + "/v1/messages", json={**REQUEST, "stream": stream})
            status, kind, text = told(response)
            assert (status, kind) == (500, "api_error")
            assert (
                text == "The upstream 127.0.0.1:9 refuses connections or can't be reached: "
                "is it running?"
            )
            assert "sk-secret" not in response.text


def test_the_key_is_never_told(upstream: ScriptedUpstream) -> None:
    upstream.then(
        answers({"error": {"message": "Incorrect API key provided: sk-secret. Try again."}}, 401)
    )
    with running_proxy(upstream.url, UPSTREAM_API_KEY="sk-secret") as proxy:
        response = send("POST", proxy + "/v1/messages", json=REQUEST)
    status, kind, text = told(response)
    assert (status, kind) == (500, "api_error")
    assert text.endswith("Incorrect API key provided: ***. Try again.")
    assert response.headers["x-should-retry"] == "false"


def test_the_key_is_never_told_within_a_stream(upstream: ScriptedUpstream) -> None:
    pause = Pause()
    first, *_ = text_chunks("one")
    error = {"error": {"message": "key sk-secret has no credit", "code": 402}}
    upstream.then(streams([first, pause, error], done=False))
    with (
        running_proxy(upstream.url, UPSTREAM_API_KEY="sk-secret") as proxy,
        httpx.stream(
            "POST", proxy + "/v1/messages", json={**REQUEST, "stream": True}, trust_env=False
        ) as response,
    ):
        received = ""
        for text in response.iter_text():
            received += text
            pause.go.set()
    assert "key *** has no credit" in received
    assert "sk-secret" not in received


def test_an_upstream_that_says_nothing_sensible(proxy: str, upstream: ScriptedUpstream) -> None:
    upstream.then(answers(b"<html>hello</html>"), answers(b"[1]"))
    for _ in range(2):
        status, kind, text = told(send("POST", proxy + "/v1/messages", json=REQUEST))
        assert (status, kind) == (500, "api_error")
        assert "returned status 200 and a body that is not a chat completion" in text


def test_our_own_mistakes_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("a secret of the code")

    monkeypatch.setattr(UpstreamHTTPClient, "post", broken)
    with running_proxy("http://127.0.0.1:9") as proxy:
        response = send("POST", proxy + "/v1/messages", json=REQUEST)
    assert told(response) == (500, "api_error", "Internal server error")
    assert "secret" not in json.dumps(dict(response.headers)) + response.text


@pytest.mark.parametrize(
    "path",
    ["/health", "/v1/nothing", "//v1/messages", "/v1//messages", "/v1/messages/", "/metrics"],
)
@pytest.mark.parametrize("method", ["GET", "TRACE", "OPTIONS", "BREW"])
def test_nothing_for_browsers(proxy: str, method: str, path: str) -> None:
    """No page, no redirect, nothing that a browser would show or keep."""
    response = httpx.request(method, proxy + path, trust_env=False)
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["content-security-policy"].startswith("default-src 'none'")
    assert "server" not in response.headers
    assert response.status_code not in range(300, 400)
    assert "html" not in response.headers["content-type"] + response.text
