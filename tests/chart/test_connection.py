"""The command of the `helm test` pod, which checks the upstream, against a real proxy."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.chart.helm import Values, get_object
from tests.support.running_proxy import running_proxy
from tests.support.scripted_upstream import DEADLINE, ScriptedUpstream, answers

MODELS = {"object": "list", "data": [{"id": "qwen3:4b", "object": "model"}]}
KEY = "key-of-a-client"


def _run(address: str, key: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command of the pod with the address of a proxy instead of the Service."""
    (container,) = get_object("Pod")["spec"]["containers"]
    python, *command = container["command"]
    assert python == "python"
    (path,) = [url.partition(":80")[2] for url in container["args"] if ":80/" in url]
    # The command must ignore an HTTP proxy.
    environment = {"CLIENT_KEY": key, "http_proxy": "http://127.0.0.1:1"}
    arguments = [sys.executable, *command, address + path]
    return subprocess.run(
        arguments, env=environment, capture_output=True, text=True, timeout=DEADLINE, check=False
    )


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_command_lists_the_models(tmp_path: Path, scheme: str) -> None:
    settings: dict[str, Any] = {}
    if scheme == "https":
        issued = trustme.CA().issue_cert("another.example.com")
        settings = {"TLS_CERT_FILE": tmp_path / "tls.crt", "TLS_KEY_FILE": tmp_path / "tls.key"}
        (tmp_path / "tls.crt").write_bytes(issued.cert_chain_pems[0].bytes())
        (tmp_path / "tls.key").write_bytes(issued.private_key_pem.bytes())
    with ScriptedUpstream() as upstream, running_proxy(upstream.url, **settings) as proxy:
        upstream.then(answers(MODELS))
        result = _run(proxy)
    assert proxy.startswith(f"{scheme}://")
    assert result.returncode == 0, result.stderr
    assert "/v1/models 200" in result.stdout
    assert "qwen3:4b" in result.stdout


def test_an_upstream_failure_is_reported() -> None:
    with running_proxy("http://127.0.0.1:1") as proxy:
        result = _run(proxy)
    assert result.returncode == 1
    assert "refuses connections" in result.stdout
    assert "failed: see the response above" in result.stderr


def test_an_unreachable_proxy_is_reported() -> None:
    result = _run("http://127.0.0.1:1")
    assert result.returncode == 1
    assert "cannot be reached" in result.stderr


@pytest.mark.parametrize(
    ("key", "code", "text"),
    [
        ("", 0, "set tests.existingSecret"),
        (KEY, 0, "qwen3:4b"),
        ("another", 1, "invalid x-api-key"),
    ],
)
def test_the_client_key_is_sent(key: str, code: int, text: str) -> None:
    with (
        ScriptedUpstream() as upstream,
        running_proxy(upstream.url, PROXY_API_KEYS=f"test={KEY}") as proxy,
    ):
        upstream.then(answers(MODELS))
        result = _run(proxy, key)
    assert (result.returncode, text in result.stdout) == (code, True), result.stdout + result.stderr


@pytest.mark.parametrize(
    ("values", "urls"),
    [
        (
            {},
            ["http://demo-anthropic-proxy:9090/readyz", "http://demo-anthropic-proxy:80/v1/models"],
        ),
        (
            {"service": {"type": "NodePort"}},
            [
                "http://demo-anthropic-proxy-metrics:9090/readyz",
                "http://demo-anthropic-proxy:80/v1/models",
            ],
        ),
        (
            {"tls": {"existingSecret": "a"}},
            [
                "http://demo-anthropic-proxy:9090/readyz",
                "https://demo-anthropic-proxy:80/v1/models",
            ],
        ),
        (
            {"tls": {"existingSecret": "a", "clientCA": {"existingSecret": {"name": "b"}}}},
            ["http://demo-anthropic-proxy:9090/readyz"],
        ),
    ],
)
def test_the_command_requests_the_service_urls(values: Values, urls: list[str]) -> None:
    (container,) = get_object("Pod", values)["spec"]["containers"]
    assert container["args"] == urls


def test_the_client_key_comes_from_a_secret() -> None:
    (container,) = get_object("Pod", {"tests": {"existingSecret": {"name": "a", "key": "b"}}})[
        "spec"
    ]["containers"]
    assert container["env"] == [
        {"name": "CLIENT_KEY", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}}
    ]
    assert "env" not in get_object("Pod")["spec"]["containers"][0]
