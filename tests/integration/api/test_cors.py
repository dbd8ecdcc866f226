"""What browsers are told of pages that may use this server."""

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
    proxy: str, origin: str = PAGE, names: str = "x-api-key, content-type"
) -> httpx.Response:
    asked = {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": names,
    }
    return httpx.options(f"{proxy}/v1/messages", headers=asked, trust_env=False)


def test_a_page_may_ask_without_a_key_what_it_may_send(proxy: str) -> None:
    told = _preflight(proxy)
    assert (told.status_code, told.content) == (204, b"")
    expected = {"origin": PAGE, "methods": "GET, POST", "headers": "x-api-key, content-type"}
    assert {name: told.headers[f"access-control-allow-{name}"] for name in expected} == expected
    assert "access-control-allow-credentials" not in told.headers
    assert told.headers["vary"] == "origin"


def test_a_page_may_read_answers_and_errors(proxy: str) -> None:
    told = httpx.get(f"{proxy}/v1/models", headers={"origin": PAGE}, trust_env=False)
    assert (told.status_code, told.headers["access-control-allow-origin"]) == (401, PAGE)
    assert "request-id" in told.headers["access-control-expose-headers"]
    assert "anthropic-ratelimit-tokens-reset" in told.headers["access-control-expose-headers"]


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example.com", "null", "http://app.example.com", f"{PAGE}:8443", f"{PAGE}.evil"],
)
def test_others_may_not(proxy: str, origin: str) -> None:
    told = _preflight(proxy, origin)
    assert told.status_code == 401
    assert not any(name.startswith("access-control-") for name in told.headers)
    assert told.headers["vary"] == "origin"


def test_names_of_headers_are_names(proxy: str) -> None:
    assert "access-control-allow-headers" not in _preflight(proxy, names="x-a: <script>").headers


def test_all_pages(open_proxy: str) -> None:
    assert (
        _preflight(open_proxy, "https://any.example").headers["access-control-allow-origin"]
        == "https://any.example"
    )


def test_it_is_off_by_default(closed_proxy: str) -> None:
    told = _preflight(closed_proxy)
    assert told.status_code == 401
    assert not any(name.startswith("access-control-") for name in told.headers)
