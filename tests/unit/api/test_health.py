"""Routes for health probes."""

import httpx
import pytest

from anthropic_proxy import __version__


@pytest.mark.parametrize("path", ["/", "/health"])
def test_probe_routes_support_get_and_head(proxy: str, path: str) -> None:
    for method in ("GET", "HEAD"):
        response = httpx.request(method, proxy + path, trust_env=False)
        assert response.status_code == 200
        assert response.headers["request-id"].startswith("req_")
        assert bool(response.content) == (method == "GET")
        assert "server" not in response.headers


def test_probe_routes_return_name_version_and_status(proxy: str) -> None:
    assert httpx.get(proxy + "/", trust_env=False).json() == {
        "name": "anthropic-proxy",
        "version": __version__,
    }
    assert httpx.get(proxy + "/health", trust_env=False).text == "OK"
