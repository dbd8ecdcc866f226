"""Resolution of configured base URLs to API addresses."""

import re

import pytest

from anthropic_proxy.providers.base_url import (
    CHAT_COMPLETIONS,
    check_login,
    is_azure_deployment,
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
def test_urls_are_resolved(base: str, address: str) -> None:
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
def test_the_api_path_of_the_provider_is_added(url: str, api_path: str, base: str) -> None:
    assert resolve_api_address(url, api_path).base_url == base


def test_the_query_is_returned_separately() -> None:
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
def test_the_host_is_parsed(url: str, host: str) -> None:
    assert parse_host(url) == host


@pytest.mark.parametrize(
    ("base", "root"),
    [("http://a/v1", "http://a"), ("http://a/b/v4", "http://a/b"), ("http://a", "http://a")],
)
def test_the_version_is_removed_from_the_url(base: str, root: str) -> None:
    assert strip_version(base) == root


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://a b", "must not contain spaces"),
        ("http://a\tb", "must not contain spaces"),
        ("http://a b:8000/v1", "must not contain spaces"),
        ("http://a,http://b", "separate several URLs by ;"),
        ("http://a,b", "separate several URLs by ;"),
        ("http://a/v1, http://b/v1", "separate several URLs by ;"),
        ("http://a/v1/models", "remove /models"),
        ("http://a/V1/models/", "remove /models"),
        ("http://a/api/v4/models?x=1", "remove /models"),
    ],
)
def test_rejected_urls_get_a_hint(url: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        resolve_api_address(url)


_MUST_START = "must start with http:// or https://"
_PART = "must be a base URL or a complete URL that ends in /chat/completions, not a part of it"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("localhost:8000", _MUST_START),
        ("ftp://a.example", _MUST_START),
        ("http://a\u2100", "can't be parsed as a URL"),
        ("", _MUST_START),
        ("http://", "must contain a valid host name"),
        ("http://a\\b.example", "must contain a valid host name"),
        (f"http://{'a' * 64}.example", "must contain a valid host name"),
        ("http://a.example:x", "must have a port from 0 to 65535"),
        ("http://a.example:65536", "must have a port from 0 to 65535"),
        ("http://a.example/v1#x", "must not contain a fragment (#)"),
        ("http://[::1", "Invalid IPv6 URL"),
        ("http://a.example/v1/chat", _PART),
        ("http://a.example/v1/completions/", _PART),
    ],
)
def test_invalid_urls_are_rejected(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        resolve_api_address(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://user:hunter2@a.example",
        "http://user@a.example",
        "http://:hunter2@a.example",
        "http://user:hunter2/x@a.example",
        "http://user:hunter2[@a.example",
    ],
)
def test_a_login_is_rejected_and_not_shown(url: str) -> None:
    with pytest.raises(ValueError, match=r".") as error:
        resolve_api_address(url)
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    ("url", "is_accepted"),
    [
        ("redis://user:hunter2@a.example:6379/0", True),
        ("redis://a.example", True),
        ("sqlite:///a@b", True),
        ("redis://user:hunter2/x@a.example", False),
        ("redis://user:hunter2#x@a.example", False),
        ("redis://user/hunter2@a.example", False),
        ("redis://user:hunter2[@a.example", False),
        ("local@path", True),
    ],
)
def test_a_login_must_be_percent_encoded(url: str, *, is_accepted: bool) -> None:
    if is_accepted:
        check_login(url)
        return
    with pytest.raises(ValueError, match=r".") as error:
        check_login(url)
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    ("url", "base", "query"),
    [
        ("https://a.example/v1?a=b&c=d", "https://a.example/v1", {"a": "b", "c": "d"}),
        (
            "https://x.openai.azure.com/openai/deployments/gpt?api-version=1",
            "https://x.openai.azure.com/openai/deployments/gpt",
            {"api-version": "1"},
        ),
    ],
)
def test_parameters_are_separated_from_the_base_url(
    url: str, base: str, query: dict[str, str]
) -> None:
    address = resolve_api_address(url)
    assert (address.base_url, address.query) == (base, query)
    assert is_azure_deployment(base) == ("deployments" in url)
