"""Headers of upstream requests: the key, and the forwarded headers of the client."""

from typing import Any

import pytest

from anthropic_proxy.auth.caller import Caller
from anthropic_proxy.errors import ApiError
from anthropic_proxy.providers.profiles import find_profile_by_host
from anthropic_proxy.routing.upstream import Upstream
from anthropic_proxy.upstream.headers import build_headers

CLIENT = Caller(
    {
        "host": "localhost",
        "content-length": "2",
        "connection": "keep-alive",
        "cookie": "a=b",
        "accept-encoding": "gzip",
        "x-forwarded-for": "10.0.0.1",
        "x-api-key": "theirs",
        "x-odd": "1",
        "accept": "application/json",
        "content-type": "application/json",
        "user-agent": "claude-cli/2",
        "x-app": "cli",
        "x-stainless-lang": "js",
        "x-claude-code-session-id": "s",
        "anthropic-beta": "a,b",
        "anthropic-dangerous-direct-browser-access": "true",
        "anthropic-odd": "caf\u00e9",
    }
)
FORWARDED = {
    "accept": "application/json",
    "content-type": "application/json",
    "user-agent": "claude-cli/2",
    "x-app": "cli",
    "x-stainless-lang": "js",
    "x-claude-code-session-id": "s",
    "anthropic-beta": "a,b",
    "anthropic-dangerous-direct-browser-access": "true",
    "anthropic-version": "2023-06-01",
}


def build_upstream(host: str, **fields: Any) -> Upstream:
    return Upstream(
        "e", f"https://{host}/v1", find_profile_by_host(host), **({"api": "messages"} | fields)
    )


@pytest.mark.parametrize(
    ("host", "key", "expected"),
    [
        pytest.param(
            "api.anthropic.com", "sk-ant-api", {"x-api-key": "sk-ant-api"}, id="anthropic"
        ),
        pytest.param(
            "api.anthropic.com",
            "sk-ant-oat01-x",
            {"authorization": "Bearer sk-ant-oat01-x", "anthropic-beta": "a,b,oauth-2025-04-20"},
            id="login",
        ),
        pytest.param("localhost", "k", {"x-api-key": "k", "authorization": "Bearer k"}, id="other"),
        pytest.param(
            "a.services.ai.azure.com", "k", {"x-api-key": "k", "api-key": "k"}, id="foundry"
        ),
        pytest.param("api.anthropic.com", None, {}, id="none"),
    ],
)
def test_a_messages_upstream_receives_the_key_and_client_headers(
    host: str, key: str | None, expected: dict[str, str]
) -> None:
    assert build_headers(build_upstream(host), key, CLIENT) == FORWARDED | expected


@pytest.mark.parametrize(
    "keys",
    [
        {"x-api-key": "theirs"},
        {"authorization": "Bearer theirs"},
        {"x-api-key": "one", "authorization": "bearer other"},
    ],
    ids=["key", "bearer", "both"],
)
def test_the_key_headers_of_the_client_are_forwarded_unchanged(keys: dict[str, str]) -> None:
    sent = build_headers(
        build_upstream("api.anthropic.com", key_passthrough=True),
        None,
        Caller({"x-odd": "1", **keys}),
    )
    assert sent == {"anthropic-version": "2023-06-01", **keys}


@pytest.mark.parametrize("api", ["messages", "chat_completions"])
def test_a_client_without_a_key_is_rejected(api: str) -> None:
    with pytest.raises(ApiError) as error:
        build_headers(
            build_upstream("localhost", api=api, key_passthrough=True),
            None,
            Caller({"authorization": "Basic x"}),
        )
    assert error.value.status == 401


def test_other_upstreams_receive_no_client_headers() -> None:
    assert build_headers(build_upstream("localhost", api="chat_completions"), "k", CLIENT) == {
        "authorization": "Bearer k"
    }


def test_configured_headers_take_precedence() -> None:
    configured = {"User-Agent": "mine", "X-Api-Key": "other", "Anthropic-Version": "2026-10-21"}
    sent = build_headers(build_upstream("api.anthropic.com", headers=configured), "k", CLIENT)
    assert sent == FORWARDED | {
        "user-agent": "mine",
        "x-api-key": "other",
        "anthropic-version": "2026-10-21",
    }
