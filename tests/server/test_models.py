"""The models routes, with the official SDK and a scripted upstream."""

import anthropic
import httpx
import pytest

from tests.running_proxy import running_proxy
from tests.scripted_upstream import DEADLINE, ScriptedUpstream, answers

LIST = {
    "object": "list",
    "data": [{"id": name, "created": 1, "context_length": 8192} for name in ("a", "openai/gpt:x", "c")],
}


def test_the_sdk_pages_through_them(upstream: ScriptedUpstream) -> None:
    upstream.then(*[answers(LIST) for _ in range(3)])
    with (
        running_proxy(upstream.url + "/v1", UPSTREAM_API_KEY="sk-secret") as proxy,
        anthropic.Anthropic(base_url=proxy, api_key="any", max_retries=0, _strict_response_validation=True) as client,
    ):
        assert [model.id for model in client.models.list(limit=2)] == ["a", "openai/gpt:x", "c"]
        found = client.models.retrieve("openai/gpt:x")
    assert (found.display_name, found.max_input_tokens) == ("openai/gpt:x", 8192)
    sent = upstream.request()
    assert (sent.method, sent.path, sent.headers["authorization"]) == ("GET", "/v1/models", "Bearer sk-secret")


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/v1/models/none", 404, "model: none"),
        ("/v1/models?limit=x", 400, "limit: Input should be a valid integer, not 'x'"),
        ("/v1/models?limit=0", 400, "limit: must be between 1 and 1000"),
    ],
)
def test_errors(proxy: str, upstream: ScriptedUpstream, path: str, status: int, text: str) -> None:
    upstream.then(answers(LIST))
    response = httpx.get(proxy + path, timeout=DEADLINE, trust_env=False)
    assert (response.status_code, response.json()["error"]["message"]) == (status, text)


def test_an_upstream_without_a_list(proxy: str, upstream: ScriptedUpstream) -> None:
    upstream.then(answers(b"404 page not found", 404), answers(b"<html>"))
    assert httpx.get(proxy + "/v1/models", timeout=DEADLINE, trust_env=False).status_code == 404
    assert httpx.get(proxy + "/v1/models", timeout=DEADLINE, trust_env=False).status_code == 500
