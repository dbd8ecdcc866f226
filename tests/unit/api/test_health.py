"""Routes for whoever probes the server."""

import httpx
import pytest

from anthropic_proxy import __version__


@pytest.mark.parametrize("path", ["/", "/health"])
def test_probes(proxy: str, path: str) -> None:
    for method in ("GET", "HEAD"):
        response = httpx.request(method, proxy + path, trust_env=False)
        assert response.status_code == 200
        assert response.headers["request-id"].startswith("req_")
        assert bool(response.content) == (method == "GET")
        assert "server" not in response.headers


def test_what_they_say(proxy: str) -> None:
    assert httpx.get(proxy + "/", trust_env=False).json() == {
        "name": "anthropic-proxy",
        "version": __version__,
    }
    assert httpx.get(proxy + "/health", trust_env=False).text == "OK"
