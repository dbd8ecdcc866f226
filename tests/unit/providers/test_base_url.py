"""What users write for the address of an upstream, and the address that is meant."""

import pytest

from anthropic_proxy.providers.base_url import (
    CHAT_COMPLETIONS,
    parse_host,
    resolve_api_address,
    strip_version,
)


@pytest.mark.parametrize(
    ("base", "address"),
    [
        ("https://openrouter.ai/api", "https://openrouter.ai/api/v1/chat/completions"),
        ("https://api.openai.com/", "https://api.openai.com/v1/chat/completions"),
        ("http://localhost:11434/v1", "http://localhost:11434/v1/chat/completions"),
        ("http://localhost:11434/v1/", "http://localhost:11434/v1/chat/completions"),
        ("https://a.example/api/paas/v4", "https://a.example/api/paas/v4/chat/completions"),
        ("https://a.example/v1beta", "https://a.example/v1beta/chat/completions"),
        ("https://a.example/v1/chat/completions", "https://a.example/v1/chat/completions"),
        ("https://a.example/v1/chat/completions/", "https://a.example/v1/chat/completions"),
        ("https://a.example/chat/completions", "https://a.example/chat/completions"),
        ("http://[::1]:8080/v1", "http://[::1]:8080/v1/chat/completions"),
        ("  https://a.example\n", "https://a.example/v1/chat/completions"),
        ("HTTPS://a.example", "https://a.example/v1/chat/completions"),
        ("HTTP://h/V1/", "http://h/V1/chat/completions"),
        ("https://a.example/models", "https://a.example/models/v1/chat/completions"),
    ],
)
def test_urls(base: str, address: str) -> None:
    assert resolve_api_address(base) == (address.removesuffix(CHAT_COMPLETIONS), {})


@pytest.mark.parametrize(
    ("url", "api_path", "base"),
    [
        ("https://a.example", "/v1beta/openai", "https://a.example/v1beta/openai"),
        ("https://a.example/v1beta/openai/", "/v1beta/openai", "https://a.example/v1beta/openai"),
        (
            "https://a.example/v1beta/openai/chat/completions",
            "/v1beta/openai",
            "https://a.example/v1beta/openai",
        ),
        ("https://a.example/v1", "/openai/v1", "https://a.example/v1"),
        ("https://a.example/openai/v1/responses", "/v1", "https://a.example/openai/v1"),
    ],
)
def test_apis_that_stand_elsewhere(url: str, api_path: str, base: str) -> None:
    assert resolve_api_address(url, api_path).base_url == base


def test_a_query_is_for_every_address() -> None:
    address = resolve_api_address(
        "https://a.example/v1/chat/completions?api-version=2024-10-21&x=a%20b"
    )
    assert address == ("https://a.example/v1", {"api-version": "2024-10-21", "x": "a b"})


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://API.openai.com/v1", "api.openai.com"),
        ("http://[::1]:8080", "::1"),
        ("http://[::1", ""),
    ],
)
def test_host(url: str, host: str) -> None:
    assert parse_host(url) == host


@pytest.mark.parametrize(
    ("base", "root"),
    [("http://a/v1", "http://a"), ("http://a/b/v4", "http://a/b"), ("http://a", "http://a")],
)
def test_the_server_beside_its_version(base: str, root: str) -> None:
    assert strip_version(base) == root


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://a b", "must not hold blanks"),
        ("http://a\tb", "must not hold blanks"),
        ("http://a b:8000/v1", "must not hold blanks"),
        ("http://a,http://b", "several are separated by ;"),
        ("http://a,b", "several are separated by ;"),
        ("http://a/v1, http://b/v1", "several are separated by ;"),
        ("http://a/v1/models", "leave out /models"),
        ("http://a/V1/models/", "leave out /models"),
        ("http://a/api/v4/models?x=1", "leave out /models"),
    ],
)
def test_urls_with_a_hint(url: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        resolve_api_address(url)
