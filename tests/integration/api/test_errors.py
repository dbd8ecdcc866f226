"""Errors of all routes, in the error envelope of the Anthropic API."""

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


def read_error(response: httpx.Response) -> tuple[int, str, str]:
    """Check the error envelope and return status, type and message."""
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert body["type"] == "error"
    assert body["request_id"] == response.headers["request-id"]
    assert set(body["error"]) == {"type", "message"}
    return response.status_code, body["error"]["type"], body["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "status", "error_type"),
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
def test_unknown_paths_and_methods_are_rejected(
    proxy: str, method: str, path: str, status: int, error_type: str
) -> None:
    response = send(method, proxy + path)
    assert read_error(response)[:2] == (status, error_type)
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
def test_invalid_bodies_are_rejected(proxy: str, raw: bytes, message: str, path: str) -> None:
    status, error_type, actual = read_error(send("POST", proxy + path, content=raw))
    assert (status, error_type) == (400, "invalid_request_error")
    assert actual.startswith(message)


# Nine values: the body, its four fields, the message with its two texts, and the id.
NINE: dict[str, Any] = {**REQUEST, "metadata": {"user_id": "[],[],[],[],"}}
TOO_MANY_VALUES = (
    "The request body contains more than 9 JSON values, the limit of this server "
    "(MAX_JSON_VALUES). Send a request with fewer values"
)


@pytest.mark.parametrize("api", ["chat_completions", "messages"])
def test_bodies_with_too_many_values_are_rejected(upstream: ScriptedUpstream, api: str) -> None:
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
            assert read_error(send("POST", proxy + path, json={**NINE, "top_k": 1})) == (
                400,
                "invalid_request_error",
                TOO_MANY_VALUES,
            )
    assert len(upstream.requests) == 1


LONG = "n" * 1_000_000


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32-be"])
def test_bodies_that_are_not_utf_8_are_rejected(proxy: str, encoding: str) -> None:
    body = json.dumps(
        {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "Hi"}]}
    )
    response = httpx.post(f"{proxy}/v1/messages", content=body.encode(encoding), trust_env=False)
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


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
            id="source type",
        ),
        pytest.param(
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {
                                "type": block_type,
                                "source": {"type": "base64", "media_type": LONG, "data": "YQ=="},
                            }
                        ],
                    }
                    for block_type in ("image", "document")
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
        pytest.param({"tools": [{"type": "web_search_1", "name": LONG}]}, id="server tool"),
        pytest.param(
            {"tools": [{"name": LONG, "input_schema": {}, "allowed_callers": ["x"]}]},
            id="tool with other callers",
        ),
        pytest.param({"tools": [{"type": f"mcp_toolset{LONG}"}]}, id="tool type"),
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
def test_long_values_are_truncated_in_messages(proxy: str, fields: dict[str, Any]) -> None:
    response = send("POST", proxy + "/v1/messages", json={**REQUEST, **fields})
    assert read_error(response)[:2] == (400, "invalid_request_error")
    assert len(response.content) < 5000


@pytest.mark.parametrize("framing", ["content-length", "chunked"])
def test_bodies_above_the_limit_are_rejected(proxy: str, framing: str) -> None:
    size = 33 * 1024 * 1024
    content: Any = (
        b"x" * size if framing == "content-length" else (b"x" * 65536 for _ in range(size // 65536))
    )
    assert read_error(send("POST", proxy + "/v1/messages", content=content))[:2] == (
        413,
        "request_too_large",
    )


def test_bodies_just_below_the_limit_are_accepted(proxy: str, upstream: ScriptedUpstream) -> None:
    upstream.then(answers({"error": {"message": "arrived"}}, 400))
    image = {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": "A" * 31 * 1024 * 1024},
    }
    body = {**REQUEST, "messages": [{"role": "user", "content": [image]}]}
    assert read_error(send("POST", proxy + "/v1/messages", json=body)) == (
        400,
        "invalid_request_error",
        "arrived",
    )
    assert len(upstream.request().raw) > 31 * 1024 * 1024


@pytest.mark.parametrize("encoding", ["identity", "Identity", ""])
def test_the_identity_encoding_is_accepted(
    proxy: str, upstream: ScriptedUpstream, encoding: str
) -> None:
    upstream.then(answers({"error": {"message": "arrived"}}, 400))
    response = send(
        "POST", proxy + "/v1/messages", json=REQUEST, headers={"content-encoding": encoding}
    )
    assert read_error(response)[2] == "arrived"


def test_compressed_bodies_are_rejected(proxy: str) -> None:
    status, _, message = read_error(
        send("POST", proxy + "/v1/messages", content=b"x", headers={"content-encoding": "gzip"})
    )
    assert status == 400
    assert "content-encoding 'gzip' is not supported" in message


def test_an_unreachable_upstream_is_reported() -> None:
    with running_proxy("http://127.0.0.1:9", UPSTREAM_API_KEY="sk-secret") as proxy:
        for stream in (True, False):
            response = send("POST", proxy + "/v1/messages", json={**REQUEST, "stream": stream})
            status, error_type, message = read_error(response)
            assert (status, error_type) == (500, "api_error")
            assert (
                message == "The upstream 127.0.0.1:9 refuses connections or can't be reached; "
                "check that it is running"
            )
            assert "sk-secret" not in response.text


def test_the_upstream_key_is_redacted_in_errors(upstream: ScriptedUpstream) -> None:
    upstream.then(
        answers({"error": {"message": "Incorrect API key provided: sk-secret. Try again."}}, 401)
    )
    with running_proxy(upstream.url, UPSTREAM_API_KEY="sk-secret") as proxy:
        response = send("POST", proxy + "/v1/messages", json=REQUEST)
    status, error_type, message = read_error(response)
    assert (status, error_type) == (500, "api_error")
    assert message.endswith("Incorrect API key provided: ***. Try again.")
    assert response.headers["x-should-retry"] == "false"


def test_the_upstream_key_is_redacted_in_streams(upstream: ScriptedUpstream) -> None:
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


def test_invalid_upstream_responses_are_reported(proxy: str, upstream: ScriptedUpstream) -> None:
    upstream.then(answers(b"<html>hello</html>"), answers(b"[1]"))
    for _ in range(2):
        status, error_type, message = read_error(send("POST", proxy + "/v1/messages", json=REQUEST))
        assert (status, error_type) == (500, "api_error")
        assert "returned status 200 and a body that is not a chat completion" in message


def test_internal_errors_contain_no_details(monkeypatch: pytest.MonkeyPatch) -> None:
    async def raise_error(*_: object) -> None:
        raise RuntimeError("a secret of the code")

    monkeypatch.setattr(UpstreamHTTPClient, "post", raise_error)
    with running_proxy("http://127.0.0.1:9") as proxy:
        response = send("POST", proxy + "/v1/messages", json=REQUEST)
    assert read_error(response) == (500, "api_error", "Internal server error")
    assert "secret" not in json.dumps(dict(response.headers)) + response.text


@pytest.mark.parametrize(
    "path",
    ["/health", "/v1/nothing", "//v1/messages", "/v1//messages", "/v1/messages/", "/metrics"],
)
@pytest.mark.parametrize("method", ["GET", "TRACE", "OPTIONS", "BREW"])
def test_responses_have_security_headers(proxy: str, method: str, path: str) -> None:
    """No response is a page, a redirect or content that a browser would show or cache."""
    response = httpx.request(method, proxy + path, trust_env=False)
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["content-security-policy"].startswith("default-src 'none'")
    assert "server" not in response.headers
    assert response.status_code not in range(300, 400)
    assert "html" not in response.headers["content-type"] + response.text
