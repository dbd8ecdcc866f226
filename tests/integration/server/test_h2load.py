"""Many concurrent streams over few HTTP/2 connections from h2load, an external load generator."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.running_proxy import running_proxy
from tests.support.scripted_upstream import Received, Script, ScriptedUpstream, streams, text_chunks

H2LOAD = shutil.which("h2load") or ""
REQUESTS = 300

pytestmark = pytest.mark.skipif(
    not H2LOAD, reason="h2load is not installed (apt-get install nghttp2-client)"
)


class _Streaming(ScriptedUpstream):
    def script_for(self, received: Received) -> Script:  # noqa: ARG002 - all get the same
        return streams(text_chunks("Hel", "lo", " you"))


@pytest.fixture(scope="module")
def proxy() -> Iterator[str]:
    with _Streaming() as upstream, running_proxy(upstream.url) as address:
        yield address


@pytest.mark.parametrize("path", ["/v1/messages", "/health"])
def test_all_requests_succeed(proxy: str, tmp_path: Path, path: str) -> None:
    body = tmp_path / "body.json"
    request = {
        "model": "m",
        "max_tokens": 5,
        "stream": True,
        "messages": [{"role": "user", "content": "Hi"}],
    }
    body.write_text(json.dumps(request))
    post = (
        ["-d", str(body), "-H", "content-type: application/json"] if path == "/v1/messages" else []
    )
    command = [H2LOAD, "-n", str(REQUESTS), "-c", "3", "-m", "30", *post, proxy + path]
    output = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True).stdout
    assert re.search(
        rf"requests: {REQUESTS} total, .* {REQUESTS} succeeded, 0 failed, 0 errored, 0 timeout",
        output,
    ), output
    assert f"status codes: {REQUESTS} 2xx" in output
