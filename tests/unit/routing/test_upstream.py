"""Upstream configuration: defaults, addresses and secrets."""

import dataclasses
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from anthropic_proxy.providers.profiles import PROFILES
from anthropic_proxy.routing.upstream import ConcurrencyLimits, Timeouts, Upstream


def test_defaults_forward_no_client_keys_and_do_not_retry() -> None:
    upstream = Upstream("a", "https://example.com/v1", PROFILES[0])
    assert upstream.api == "chat_completions"
    assert (upstream.keys, upstream.key_passthrough) == ((), False)
    assert (upstream.headers, upstream.query, upstream.extra_body) == ({}, {}, {})
    assert upstream.retries == 0
    assert upstream.is_profile_guessed is False


@pytest.mark.parametrize("model", [Timeouts, ConcurrencyLimits])
@pytest.mark.parametrize("seconds", [float("inf"), float("nan"), "inf"])
def test_infinite_seconds_are_rejected(model: type[BaseModel], seconds: object) -> None:
    name = "idle" if model is Timeouts else "queue_seconds"
    with pytest.raises(ValidationError, match="finite"):
        model.model_validate({name: seconds})


def _upstream(base_url: str, name: str = "a", **fields: Any) -> Upstream:
    return Upstream(name, base_url, PROFILES[0], **fields)


@pytest.mark.parametrize(
    ("base_url", "host", "port", "address"),
    [
        ("https://a.example/v1", "a.example", 443, "a.example"),
        ("http://a.example/v1", "a.example", 80, "a.example"),
        ("http://[::1]:8080/v1", "::1", 8080, "[::1]:8080"),
    ],
)
def test_host_and_port_are_parsed(base_url: str, host: str, port: int, address: str) -> None:
    upstream = _upstream(base_url)
    assert (upstream.host, upstream.port, upstream.address) == (host, port, address)


@pytest.mark.parametrize(
    ("parameters", "query", "url"),
    [
        ({}, "", "https://a.example/v1/models"),
        ({}, "limit=1", "https://a.example/v1/models?limit=1"),
        ({"v": "1 2"}, "", "https://a.example/v1/models?v=1+2"),
        ({"v": "1"}, "limit=1", "https://a.example/v1/models?v=1&limit=1"),
    ],
)
def test_urls_contain_the_query(parameters: dict[str, str], query: str, url: str) -> None:
    assert _upstream("https://a.example/v1", query=parameters).build_url("/models", query) == url


def test_the_root_url_has_no_api_path() -> None:
    upstream = _upstream("https://a.example/v1", query={"v": "1"})
    assert upstream.build_root_url("/tokenize") == "https://a.example/tokenize?v=1"


def test_secrets_are_collected_from_all_settings() -> None:
    upstream = _upstream(
        "https://a.example/v1",
        keys=("key-0123456789",),
        headers={"authorization": "Bearer header-0123456789"},
        query={"api-key": "query-0123456789"},
        extra_body={"api_key": "body-0123456789"},
    )
    values = {secret.value for secret in upstream.secrets}
    sources = ("key", "header", "query", "body")
    assert values >= {f"{source}-0123456789" for source in sources}
    for source in sources:
        assert upstream.redactor.redact(f"<{source}-0123456789>") == "<***>"


@pytest.mark.parametrize(
    ("name", "base_url", "text", "expected"),
    [
        ("a.example", "https://a.example/v1", "at a.example", "at a.example"),
        ("private", "https://a.example/v1", "at a.example", "at ***"),
        ("private", "https://a.example:8000/v1", "at a.example", "at ***"),
        ("private", "https://a.example/v1", "at https://a.example/v1 or", "at https://*** or"),
        ("private", "http://server/v1", "at server/v1", "at ***"),
        ("private", "http://server:81/v1", "the server failed", "the server failed"),
    ],
)
def test_an_address_is_hidden_unless_it_is_the_name(
    name: str, base_url: str, text: str, expected: str
) -> None:
    upstream = _upstream(base_url, name)
    assert upstream.has_public_address == (name == "a.example")
    assert upstream.redactor.redact(text) == expected


@pytest.mark.parametrize("value", [True, False])
@pytest.mark.parametrize("model", [Timeouts, ConcurrencyLimits])
def test_booleans_are_rejected_as_numbers(model: Any, value: object) -> None:
    for name in model.model_fields if hasattr(model, "model_fields") else _fields(model):
        with pytest.raises(ValueError, match="should be a number"):
            TypeAdapter(model).validate_python({name: value})


def _fields(model: Any) -> list[str]:
    return [each.name for each in dataclasses.fields(model)]
