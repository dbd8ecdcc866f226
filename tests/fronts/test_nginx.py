"""nginx with deploy/nginx/anthropic-proxy.conf: large requests and unbuffered streams."""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anthropic
import httpx
import pytest

from anthropic_proxy.config.settings import Settings
from tests.support.paths import ROOT
from tests.support.running_command import until
from tests.support.running_proxy import running_proxy
from tests.support.scripted_upstream import (
    DEADLINE,
    Pause,
    ScriptedUpstream,
    answers,
    completion,
    streams,
    text_chunks,
)

SNIPPET = (ROOT / "deploy/nginx/anthropic-proxy.conf").read_text()
# Debian installs nginx outside the PATH of users.
NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
MEGABYTE = 2**20
HEADERS = {"x-api-key": "none", "anthropic-version": "2023-06-01"}

pytestmark = pytest.mark.skipif(
    NGINX is None, reason="nginx is not installed: apt-get install nginx-light"
)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def _nginx(folder: Path, proxy: str) -> Iterator[str]:
    """Run nginx with the snippet in front of a proxy and yield its address."""
    port = _free_port()
    snippet = SNIPPET
    for old, new in (
        ("server 127.0.0.1:3000;", f"server {proxy.partition('//')[2]};"),
        ("listen 80;", f"listen 127.0.0.1:{port};"),
    ):
        assert snippet.count(old) == 1
        snippet = snippet.replace(old, new)
    (folder / "anthropic-proxy.conf").write_text(snippet)
    (folder / "nginx.conf").write_text(f"""
        daemon off;
        pid {folder}/nginx.pid;
        {"user root;" if os.geteuid() == 0 else ""}
        events {{}}
        http {{
            access_log off;
            client_body_temp_path {folder}/body;
            proxy_temp_path {folder}/proxy;
            fastcgi_temp_path {folder}/fastcgi;
            uwsgi_temp_path {folder}/uwsgi;
            scgi_temp_path {folder}/scgi;
            include {folder}/anthropic-proxy.conf;
        }}
    """)
    command = [str(NGINX), "-p", str(folder), "-c", "nginx.conf", "-e", str(folder / "error.log")]
    with subprocess.Popen(command) as process:
        try:
            until(lambda: _listens(port), "nginx listens")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(DEADLINE)


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, ScriptedUpstream]]:
    folder = tmp_path_factory.mktemp("nginx")
    with (
        ScriptedUpstream() as upstream,
        running_proxy(upstream.url) as proxy,
        _nginx(folder, proxy) as address,
    ):
        yield address, upstream


def _send_request(address: str, length: int) -> httpx.Response:
    """Send a request with a body of `length` bytes."""
    head = b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"'
    tail = b'"}]}'
    body = head + b"x" * (length - len(head) - len(tail)) + tail
    return httpx.post(
        f"{address}/v1/messages", content=body, headers=HEADERS, trust_env=False, timeout=DEADLINE
    )


@pytest.mark.parametrize("length", [1000, int(1.2 * MEGABYTE), 20 * MEGABYTE, 32 * MEGABYTE])
def test_large_requests_are_forwarded(front: tuple[str, ScriptedUpstream], length: int) -> None:
    address, upstream = front
    upstream.then(answers(completion("Hello")))
    response = _send_request(address, length)
    assert response.status_code == 200, response.text
    assert response.json()["content"][0]["text"] == "Hello"


@pytest.mark.parametrize("length", [33 * MEGABYTE, 40 * MEGABYTE])
def test_requests_above_the_proxy_limit_get_the_proxy_error(
    front: tuple[str, ScriptedUpstream], length: int
) -> None:
    """nginx forwards the error of the proxy."""
    response = _send_request(front[0], length)
    assert response.status_code == 413
    assert response.json()["error"]["type"] == "request_too_large"


def test_requests_above_the_nginx_limit_get_an_nginx_error(
    front: tuple[str, ScriptedUpstream],
) -> None:
    response = _send_request(front[0], 65 * MEGABYTE)
    assert response.status_code == 413
    assert response.headers["content-type"] == "text/html"


def test_streams_are_not_buffered(front: tuple[str, ScriptedUpstream]) -> None:
    address, upstream = front
    pause = Pause()
    upstream.then(streams([text_chunks("Hel")[0], pause, *text_chunks("lo")]))
    with (
        anthropic.Anthropic(
            base_url=address, api_key="none", max_retries=0, timeout=DEADLINE
        ) as client,
        client.messages.stream(
            model="m", max_tokens=9, messages=[{"role": "user", "content": "Hi"}]
        ) as stream,
    ):
        deltas = iter(stream.text_stream)
        # nginx forwards the first delta while the upstream waits.
        assert next(deltas) == "Hel"
        pause.go.set()
        assert "".join(deltas) == "lo"


def test_the_keepalive_timeout_of_nginx_is_shorter_than_that_of_the_proxy() -> None:
    (seconds,) = re.findall(r"keepalive_timeout (\d+)s;", SNIPPET)
    assert int(seconds) < Settings.model_fields["keepalive_timeout"].default


def test_the_documentation_contains_the_same_configuration() -> None:
    assert f"```\n{SNIPPET}```\n" in (ROOT / "docs/front-proxies.md").read_text()
