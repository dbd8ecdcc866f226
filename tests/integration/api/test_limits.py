"""Rate limits of client keys, with the official SDK."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import pytest

from tests.support.running_command import Command, until
from tests.support.running_proxy import running_proxy
from tests.support.scripted_upstream import (
    DEADLINE,
    ScriptedUpstream,
    answers,
    completion,
    streams,
    text_chunks,
)

REQUEST_FIELDS: dict[str, Any] = {
    "model": "gpt-5",
    "max_tokens": 5,
    "messages": [{"role": "user", "content": "Hi"}],
}
USAGE = {
    "prompt_tokens": 40,
    "completion_tokens": 30,
    "prompt_tokens_details": {"cached_tokens": 15},
}


@pytest.fixture(scope="module")
def upstream_and_proxy(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[ScriptedUpstream, str]]:
    settings: dict[str, Any] = {
        "PROXY_API_KEYS": "first=first;second=second;third=third",
        "KEY_REQUESTS_PER_MINUTE": 2,
        "KEY_TOKENS_PER_MONTH": 50,
        "RATE_LIMIT_STORAGE_URL": f"sqlite:///{tmp_path_factory.mktemp('limits')}/limits.db",
    }
    with ScriptedUpstream() as upstream, running_proxy(upstream.url, **settings) as proxy:
        yield upstream, proxy


def _client(proxy: str, key: str) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=proxy, api_key=key, timeout=DEADLINE, max_retries=2)


def test_requests_per_minute_are_limited(upstream_and_proxy: tuple[ScriptedUpstream, str]) -> None:
    upstream, proxy = upstream_and_proxy
    small_response = completion("Hello") | {"usage": {"prompt_tokens": 1, "completion_tokens": 0}}
    with _client(proxy, "first").with_options(max_retries=0) as client:
        upstream.then(answers(small_response), answers(small_response))
        headers = client.messages.with_raw_response.create(**REQUEST_FIELDS).headers
        assert (
            headers["anthropic-ratelimit-requests-limit"],
            headers["anthropic-ratelimit-requests-remaining"],
        ) == ("2", "1")
        client.messages.create(**REQUEST_FIELDS)
        with pytest.raises(anthropic.RateLimitError) as error:
            client.messages.create(**REQUEST_FIELDS)
    assert error.value.response.json()["error"]["type"] == "rate_limit_error"
    assert int(error.value.response.headers["retry-after"]) > 0
    assert error.value.response.headers["anthropic-ratelimit-requests-remaining"] == "0"
    metrics = httpx.get(f"{proxy}/metrics", trust_env=False).text
    assert 'anthropic_proxy_rejected_requests_total{reason="requests_per_minute"} 1.0' in metrics


def test_tokens_per_month_are_limited(upstream_and_proxy: tuple[ScriptedUpstream, str]) -> None:
    """Tokens of a stream count, except cached tokens. The response disables useless retries."""
    upstream, proxy = upstream_and_proxy
    with _client(proxy, "second") as client:
        upstream.then(streams([*text_chunks("Hello")[:-1], {"choices": [], "usage": USAGE}]))
        with client.messages.stream(**REQUEST_FIELDS) as stream:
            assert stream.response.headers["anthropic-ratelimit-tokens-remaining"] == "50"
            stream.until_done()

        def find_error() -> anthropic.RateLimitError | None:
            try:
                client.messages.count_tokens(model="gpt-5", messages=REQUEST_FIELDS["messages"])
                client.messages.create(**REQUEST_FIELDS)
            except anthropic.RateLimitError as error:
                return error
            return None

        error_response = until(find_error, "the tokens are counted")
    assert "50 tokens per month" in error_response.message
    assert error_response.response.headers["x-should-retry"] == "false"
    assert error_response.response.headers["anthropic-ratelimit-tokens-limit"] == "50"


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


@pytest.mark.parametrize(
    "storage", [{}, {"RATE_LIMIT_STORAGE_URL": "memory://"}], ids=["unset", "memory"]
)
def test_workers_share_their_counters(
    command: Command, upstream: ScriptedUpstream, storage: dict[str, str]
) -> None:
    """Ten requests are admitted, regardless of the process that accepts a connection."""
    limits = {"WORKERS": "2", "PROXY_API_KEYS": "a=a", "KEY_REQUESTS_PER_MINUTE": "10"}
    upstream.then(*[answers(completion("Hello"))] * 10)
    with command.serving(UPSTREAM_BASE_URL=upstream.url, **limits, **storage) as server:
        url, headers = f"{server.address}/v1/messages", {"x-api-key": "a"}
        statuses = [
            httpx.post(
                url, json=REQUEST_FIELDS, headers=headers, trust_env=False, timeout=DEADLINE
            ).status_code
            for _ in range(40)
        ]
    assert Counter(statuses) == {200: 10, 429: 30}


@pytest.mark.parametrize("url", [None, "memory://", "sqlite:///:memory:"])
def test_monthly_limits_require_a_persistent_storage(url: str | None) -> None:
    from anthropic_proxy.config.keys_file import load_api_keys
    from anthropic_proxy.config.settings import Settings
    from anthropic_proxy.errors import ConfigError

    variables: dict[str, Any] = {
        "PROXY_API_KEYS": "a=a",
        "KEY_TOKENS_PER_MONTH": 10,
        "RATE_LIMIT_STORAGE_URL": url,
    }
    settings = Settings(_env_file=None, UPSTREAM_BASE_URL="http://localhost:1", **variables)
    assert settings.sharing_limits("/a").limit_storage == "sqlite:////a/limits.sqlite"
    with pytest.raises(ConfigError, match="requires RATE_LIMIT_STORAGE_URL"):
        load_api_keys(settings, lambda _: "")


def test_several_processes_share_a_counter_file(tmp_path: Path) -> None:
    """All processes use the same file without a setting."""
    from anthropic_proxy.config.settings import Settings

    settings = Settings(_env_file=None, UPSTREAM_BASE_URL="http://localhost:1")
    assert settings.limit_storage == "memory://"
    assert (
        settings.sharing_limits(str(tmp_path)).limit_storage
        == f"sqlite:///{tmp_path}/limits.sqlite"
    )
    shared = settings.model_copy(
        update={"rate_limit_storage_url": settings.sharing_limits("/a").rate_limit_storage_url}
    )
    assert shared.sharing_limits("/b").limit_storage == "sqlite:////a/limits.sqlite"
