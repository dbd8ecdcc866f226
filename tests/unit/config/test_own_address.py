from pathlib import Path
from typing import Any

import pytest

from anthropic_proxy.config.settings import Settings
from anthropic_proxy.config.upstreams import load_routing
from anthropic_proxy.errors import ConfigError

KEYS = {"PROXY_API_KEYS": "alice=sk-0123456789"}


@pytest.fixture(autouse=True)
def _no_http_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("url", "variables"),
    [
        ("http://127.0.0.1:3000", {}),
        ("http://127.0.0.1:3000/v1/chat/completions", {}),
        ("https://127.0.0.1:3000/v1", {}),
        ("http://0.0.0.0:3000", {}),
        ("https://api.openai.com;http://127.0.0.1:3000", {}),
        ("http://127.0.0.1:4000", {"PORT": 4000}),
        ("http://127.0.0.1", {"PORT": 80}),
        ("https://127.0.0.1", {"PORT": 443}),
        ("http://127.0.0.1:3000", KEYS),
        ("http://127.3.4.5:3000", KEYS),
        ("http://127.0.0.1:3000", {"HOST": "::"}),
        ("http://localhost:3000", {"HOST": "localhost"}),
        ("http://[::1]:3000", {"HOST": "::1"}),
        ("http://[::]:3000", {"HOST": "::1"}),
        ("http://10.1.2.3:3000", {"HOST": "10.1.2.3"}),
    ],
)
def test_an_own_address_is_refused(url: str, variables: dict[str, Any]) -> None:
    settings = Settings(_env_file=None, UPSTREAM_BASE_URL=url, **variables)
    with pytest.raises(ConfigError, match=r"UPSTREAM_BASE_URL: .* of this proxy itself"):
        load_routing(settings)


@pytest.mark.parametrize(
    ("url", "variables"),
    [
        ("http://127.0.0.1:3001", {}),
        # Another server may listen on ::1.
        ("http://localhost:3000", {}),
        ("http://[::1]:3000", {}),
        ("http://[::1]:3000", KEYS),
        ("http://127.0.0.2:3000", {}),
        ("http://10.1.2.3:3000", KEYS),
        ("http://127.0.0.1:3000", {"HOST": "10.1.2.3"}),
        ("http://127.0.0.1:3000", {"UNIX_SOCKET": "/tmp/socket"}),  # noqa: S108 - not opened
        ("http://example.com:3000", {}),
    ],
)
def test_others_are_not(url: str, variables: dict[str, Any]) -> None:
    load_routing(Settings(_env_file=None, UPSTREAM_BASE_URL=url, **variables))


def test_an_address_behind_an_http_proxy_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    load_routing(Settings(_env_file=None, UPSTREAM_BASE_URL="http://127.0.0.1:3000"))


def test_a_configuration_file(tmp_path: Path) -> None:
    file = tmp_path / "file.yaml"
    file.write_text("upstreams: {own: {url: 'http://127.0.0.1:3000'}}")
    with pytest.raises(ConfigError, match=r"CONFIG_FILE: http://127\.0\.0\.1:3000 is the address"):
        load_routing(Settings(_env_file=None, CONFIG_FILE=str(file)))
