"""Authentication: paths that need a key, and responses to requests without a valid key."""

from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import pytest

from anthropic_proxy.auth.api_keys import ApiKey, hash_key
from anthropic_proxy.config.keys_file import format_keys_file
from anthropic_proxy.routing.model_names import to_claude_id
from tests.support.running_command import until
from tests.support.running_proxy import running_proxy
from tests.support.scripted_upstream import DEADLINE, ScriptedUpstream, answers, completion

KEY = "sk-ant-proxy-canary"
LIMITED = "sk-ant-proxy-limited"
REQUEST_FIELDS: dict[str, Any] = {
    "model": "gpt-5",
    "max_tokens": 5,
    "messages": [{"role": "user", "content": "Hi"}],
}


@pytest.fixture(scope="module")
def upstream_and_proxy(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[ScriptedUpstream, str]]:
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    path.write_bytes(format_keys_file([ApiKey("limited", hash_key(LIMITED), ("claude-*",))]))
    with ScriptedUpstream() as upstream:
        keys: dict[str, Any] = {"PROXY_API_KEYS": f"alice={KEY}", "PROXY_API_KEYS_FILE": path}
        with running_proxy(upstream.url, UPSTREAM_API_KEY="sk-upstream", **keys) as proxy:
            yield upstream, proxy


def _get(url: str, **headers: str) -> httpx.Response:
    return httpx.get(
        url,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
        trust_env=False,
    )


def _client(proxy: str, key: str) -> anthropic.Anthropic:
    return anthropic.Anthropic(
        base_url=proxy, api_key=key, timeout=DEADLINE, _strict_response_validation=True
    )


@pytest.mark.parametrize("path", ["/", "/health", "/livez", "/readyz", "/startupz", "/metrics"])
def test_probe_paths_need_no_key(
    upstream_and_proxy: tuple[ScriptedUpstream, str], path: str
) -> None:
    assert _get(upstream_and_proxy[1] + path).status_code == 200


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
@pytest.mark.parametrize(
    "path",
    [
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1/models",
        "/v1/models/a",
        "/v1/none",
        "/none",
        "//v1/messages",
        "/health/",
    ],
)
def test_all_other_paths_need_a_key(
    upstream_and_proxy: tuple[ScriptedUpstream, str], method: str, path: str
) -> None:
    response = httpx.request(method, upstream_and_proxy[1] + path, trust_env=False)
    assert response.status_code == 401
    assert response.json()["error"] == {
        "type": "authentication_error",
        "message": "x-api-key header is required",
    }
    assert response.headers["x-should-retry"] == "false"
    assert response.headers["request-id"] == response.json()["request_id"]


def test_the_key_is_read_from_both_headers(
    upstream_and_proxy: tuple[ScriptedUpstream, str],
) -> None:
    """If both headers are present, `x-api-key` takes precedence, as in the Anthropic API."""
    path = upstream_and_proxy[1] + "/v1/none"
    assert _get(path, x_api_key=KEY).status_code == 404
    assert _get(path, authorization=f"bearer {KEY}").status_code == 404
    assert _get(path, x_api_key=KEY, authorization="Bearer wrong").status_code == 404
    assert _get(path, x_api_key="wrong", authorization=f"Bearer {KEY}").status_code == 401
    assert _get(path, authorization=f"Basic {KEY}").status_code == 401


def test_the_sdk_authenticates(upstream_and_proxy: tuple[ScriptedUpstream, str]) -> None:
    upstream, proxy = upstream_and_proxy
    upstream.then(answers(completion("Hello")))
    with _client(proxy, KEY) as client:
        client.messages.create(**REQUEST_FIELDS)
    sent = upstream.request()
    assert sent.headers["authorization"] == "Bearer sk-upstream"
    assert KEY not in str(sent.headers) + sent.raw.decode()
    with (
        _client(proxy, "wrong") as client,
        pytest.raises(anthropic.AuthenticationError, match="invalid x-api-key"),
    ):
        client.messages.create(**REQUEST_FIELDS)


def test_a_key_allows_only_its_models(upstream_and_proxy: tuple[ScriptedUpstream, str]) -> None:
    upstream, proxy = upstream_and_proxy
    message = "Your API key does not allow the model 'gpt-5'"
    with _client(proxy, LIMITED) as client:
        with pytest.raises(anthropic.PermissionDeniedError, match=message):
            client.messages.create(**REQUEST_FIELDS)
        with pytest.raises(anthropic.PermissionDeniedError, match=message):
            client.messages.count_tokens(
                model="gpt-5", messages=[{"role": "user", "content": "Hi"}]
            )
        upstream.then(
            answers({"data": [{"id": "gpt-5"}, {"id": "claude-a"}]}), answers(completion("Hello"))
        )
        assert [model.id for model in client.models.list()] == ["claude-a"]
        with pytest.raises(anthropic.NotFoundError):
            client.models.retrieve("gpt-5")
        assert (
            client.messages.create(**{**REQUEST_FIELDS, "model": "claude-a"}).stop_reason
            == "end_turn"
        )


@pytest.mark.parametrize(
    ("model", "status"),
    [
        ("claude-a[1m]", 200),
        # Claude ids begin with `claude-`, whatever the name of the model is.
        (to_claude_id("gpt-5"), 403),
        (to_claude_id("gpt-5") + "[1m]", 403),
        ("gpt-5[1m]", 403),
    ],
)
def test_forms_of_a_name_do_not_extend_a_key(
    upstream_and_proxy: tuple[ScriptedUpstream, str], model: str, status: int
) -> None:
    upstream, proxy = upstream_and_proxy
    if status == 200:
        upstream.then(answers(completion("Hello")))
    response = httpx.post(
        f"{proxy}/v1/messages",
        json={**REQUEST_FIELDS, "model": model},
        headers={"x-api-key": LIMITED},
        timeout=DEADLINE,
        trust_env=False,
    )
    assert response.status_code == status
    if status == 200:
        assert upstream.requests[-1].body["model"] == "claude-a"
        assert response.json()["model"] == model


def test_rejected_requests_are_counted(upstream_and_proxy: tuple[ScriptedUpstream, str]) -> None:
    assert _get(upstream_and_proxy[1] + "/v1/models", x_api_key="wrong").status_code == 401
    series = 'anthropic_proxy_rejected_requests_total{reason="unknown_key"}'
    # The server caches the metrics for a second.
    until(
        lambda: series in _get(upstream_and_proxy[1] + "/metrics").text,
        "the rejected request is counted",
    )


def test_client_keys_are_not_forwarded_to_a_messages_upstream(upstream: ScriptedUpstream) -> None:
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [],
        "stop_reason": "end_turn",
    }
    upstream.then(answers({**message, "usage": {"input_tokens": 1, "output_tokens": 1}}))
    with running_proxy(upstream.url, UPSTREAM_API="messages", PROXY_API_KEYS=KEY) as proxy:
        headers = {
            "x-api-key": KEY,
            "authorization": f"Bearer {KEY}",
            "anthropic-version": "2023-06-01",
        }
        response = httpx.post(
            f"{proxy}/v1/messages",
            json=REQUEST_FIELDS,
            headers=headers,
            timeout=DEADLINE,
            trust_env=False,
        )
    assert response.status_code == 200
    sent = upstream.request()
    assert KEY not in str(sent.headers) + sent.path + sent.raw.decode()
