"""The command of the pod of `helm test`, against a real proxy: does the upstream respond?"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.chart.helm import Values, one
from tests.support.running_proxy import running_proxy
from tests.support.scripted_upstream import DEADLINE, ScriptedUpstream, answers

MODELS = {"object": "list", "data": [{"id": "qwen3:4b", "object": "model"}]}
KEY = "key-of-a-client"


def _run(address: str, key: str = "") -> subprocess.CompletedProcess[str]:
    """Run the pod's command against a proxy, at the path that it requests from the Service."""
    (container,) = one("Pod")["spec"]["containers"]
    python, *command = container["command"]
    assert python == "python"
    (path,) = [url.partition(":80")[2] for url in container["args"] if ":80/" in url]
    # Pods have no such proxy; one that is set must not matter.
    environment = {"CLIENT_KEY": key, "http_proxy": "http://127.0.0.1:1"}
    arguments = [sys.executable, *command, address + path]
    return subprocess.run(
        arguments, env=environment, capture_output=True, text=True, timeout=DEADLINE, check=False
    )


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_it_lists_the_models(tmp_path: Path, scheme: str) -> None:
    settings: dict[str, Any] = {}
    if scheme == "https":
        issued = trustme.CA().issue_cert("another.example.com")
        settings = {"TLS_CERT_FILE": tmp_path / "tls.crt", "TLS_KEY_FILE": tmp_path / "tls.key"}
        (tmp_path / "tls.crt").write_bytes(issued.cert_chain_pems[0].bytes())
        (tmp_path / "tls.key").write_bytes(issued.private_key_pem.bytes())
    with ScriptedUpstream() as upstream, running_proxy(upstream.url, **settings) as proxy:
        upstream.then(answers(MODELS))
        done = _run(proxy)
    assert proxy.startswith(f"{scheme}://")
    assert done.returncode == 0, done.stderr
    assert "/v1/models 200" in done.stdout
    assert "qwen3:4b" in done.stdout


def test_it_fails_with_the_upstream_and_says_why() -> None:
    with running_proxy("http://127.0.0.1:1") as proxy:
        done = _run(proxy)
    assert done.returncode == 1
    assert "refuses connections" in done.stdout
    assert "failed: see the response above" in done.stderr


def test_it_fails_where_nothing_listens() -> None:
    done = _run("http://127.0.0.1:1")
    assert done.returncode == 1
    assert "cannot be reached" in done.stderr


@pytest.mark.parametrize(
    ("key", "code", "text"),
    [
        ("", 0, "set tests.existingSecret"),
        (KEY, 0, "qwen3:4b"),
        ("another", 1, "invalid x-api-key"),
    ],
)
def test_clients_that_need_a_key(key: str, code: int, text: str) -> None:
    with (
        ScriptedUpstream() as upstream,
        running_proxy(upstream.url, PROXY_API_KEYS=f"test={KEY}") as proxy,
    ):
        upstream.then(answers(MODELS))
        done = _run(proxy, key)
    assert (done.returncode, text in done.stdout) == (code, True), done.stdout + done.stderr


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
def test_what_it_requests(values: Values, urls: list[str]) -> None:
    (container,) = one("Pod", values)["spec"]["containers"]
    assert container["args"] == urls


def test_the_key_that_it_sends() -> None:
    (container,) = one("Pod", {"tests": {"existingSecret": {"name": "a", "key": "b"}}})["spec"][
        "containers"
    ]
    assert container["env"] == [
        {"name": "CLIENT_KEY", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}}
    ]
    assert "env" not in one("Pod")["spec"]["containers"][0]
