"""CORS headers for browsers."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.running_proxy import running_proxy

PAGE = "https://app.example.com"


def _proxy(origins: str) -> Iterator[str]:
    settings: dict[str, Any] = {"PROXY_API_KEYS": "alice=key", "CORS_ALLOWED_ORIGINS": origins}
    with running_proxy("http://127.0.0.1:9", **settings) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def proxy() -> Iterator[str]:
    yield from _proxy(f"{PAGE};http://localhost:8080")


@pytest.fixture(scope="module")
def open_proxy() -> Iterator[str]:
    yield from _proxy("*")


@pytest.fixture(scope="module")
def closed_proxy() -> Iterator[str]:
    yield from _proxy("")


def _preflight(
    proxy: str, origin: str = PAGE, header_names: str = "x-api-key, content-type"
) -> httpx.Response:
    headers = {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": header_names,
    }
    return httpx.options(f"{proxy}/v1/messages", headers=headers, trust_env=False)


def test_an_allowed_origin_may_send_a_preflight_without_a_key(proxy: str) -> None:
    response = _preflight(proxy)
    assert (response.status_code, response.content) == (204, b"")
    expected = {"origin": PAGE, "methods": "GET, POST", "headers": "x-api-key, content-type"}
    assert {name: response.headers[f"access-control-allow-{name}"] for name in expected} == expected
    assert "access-control-allow-credentials" not in response.headers
    assert response.headers["vary"] == "origin"


def test_an_allowed_origin_may_read_responses_and_errors(proxy: str) -> None:
    response = httpx.get(f"{proxy}/v1/models", headers={"origin": PAGE}, trust_env=False)
    assert (response.status_code, response.headers["access-control-allow-origin"]) == (401, PAGE)
    assert "request-id" in response.headers["access-control-expose-headers"]
    assert "anthropic-ratelimit-tokens-reset" in response.headers["access-control-expose-headers"]


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example.com", "null", "http://app.example.com", f"{PAGE}:8443", f"{PAGE}.evil"],
)
def test_other_origins_get_no_cors_headers(proxy: str, origin: str) -> None:
    response = _preflight(proxy, origin)
    assert response.status_code == 401
    assert not any(name.startswith("access-control-") for name in response.headers)
    assert response.headers["vary"] == "origin"


def test_invalid_header_names_are_not_allowed(proxy: str) -> None:
    assert (
        "access-control-allow-headers"
        not in _preflight(proxy, header_names="x-a: <script>").headers
    )


def test_a_wildcard_allows_all_origins(open_proxy: str) -> None:
    assert (
        _preflight(open_proxy, "https://any.example").headers["access-control-allow-origin"]
        == "https://any.example"
    )


def test_cors_is_off_by_default(closed_proxy: str) -> None:
    response = _preflight(closed_proxy)
    assert response.status_code == 401
    assert not any(name.startswith("access-control-") for name in response.headers)
