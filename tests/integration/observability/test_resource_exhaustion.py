"""Exhausted file descriptors and buffers.

The client gets a clear error, the log gets one line, and the upstream does not count as failed.
"""

import asyncio
import contextlib
import errno
import os
import re
import socket
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import aiohttp
import httpx
import pytest

from anthropic_proxy.errors import ApiError
from anthropic_proxy.gateway.downloads import FileDownloader
from anthropic_proxy.observability import resource_exhaustion
from anthropic_proxy.observability.resource_exhaustion import (
    FILES,
    ExhaustionLog,
    OpenFiles,
    count_open_files,
    find_exhausted_resource,
)
from anthropic_proxy.routing.upstream import Timeouts
from anthropic_proxy.server import main as serve
from anthropic_proxy.upstream.http_client import (
    LocalShortageError,
    UpstreamError,
    UpstreamHTTPClient,
)
from tests.support.running_command import REQUEST, Command, Running, until
from tests.support.scripted_upstream import (
    DEADLINE,
    ScriptedUpstream,
    answers,
    completion,
    streams,
    text_chunks,
)

KEY: Any = mock.Mock(host="up", port=1, ssl=True)
FULL = OSError(errno.EMFILE, "Too many open files")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")


def _id(value: object) -> str:
    """Return an id without the addresses of mocks, which differ between processes."""
    return type(value).__name__ if isinstance(value, Exception) else str(value)


@pytest.mark.parametrize(
    ("error", "resource"),
    [
        (FULL, FILES),
        (OSError(errno.ENFILE, "full"), FILES),
        (aiohttp.ClientConnectorError(KEY, FULL), FILES),
        (aiohttp.ClientConnectorDNSError(KEY, FULL), FILES),
        (OSError(errno.ENOBUFS, "full"), "buffers for connections"),
        (OSError(errno.ENOMEM, "full"), "memory for connections"),
        (aiohttp.ClientConnectorError(KEY, OSError(errno.EADDRNOTAVAIL, "none")), None),
        (
            aiohttp.ClientConnectorError(
                KEY, ConnectionRefusedError(errno.ECONNREFUSED, "refused")
            ),
            None,
        ),
        (aiohttp.ClientConnectorDNSError(KEY, socket.gaierror(socket.EAI_NONAME, "unknown")), None),
        # Error numbers that do not come from errno.
        (aiohttp.ClientConnectorDNSError(KEY, socket.gaierror(errno.ENOMEM, "unknown")), None),
        (aiohttp.ClientConnectorSSLError(KEY, ssl.SSLError(errno.ENOMEM, "bad")), None),
        (OSError("Multiple exceptions: refused, unreachable"), None),
        (httpx.ConnectError("x"), None),
        (ValueError("x"), None),
    ],
    ids=_id,
)
def test_exhausted_resources_are_detected(error: Exception, resource: str | None) -> None:
    assert find_exhausted_resource(error) == resource


@pytest.mark.parametrize(
    "error",
    [
        aiohttp.ClientConnectorDNSError(KEY, socket.gaierror(socket.EAI_NONAME, "unknown")),
        aiohttp.ClientConnectorError(
            KEY, OSError("Multiple exceptions: refused, too many open files")
        ),
    ],
    ids=_id,
)
def test_exhaustion_is_detected_behind_other_errors(error: Exception) -> None:
    """A resolver that can't open its files reports an unknown name."""
    with mock.patch.object(os, "open", side_effect=FULL):
        assert find_exhausted_resource(error) == FILES


def test_open_files_are_counted() -> None:
    before = count_open_files()
    assert before is not None
    with contextlib.ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(Path(os.devnull).open("rb"))
        after = count_open_files()
    assert after is not None
    assert after.count >= before.count + 290
    assert after.limit == before.limit


def test_open_files_can_be_uncountable() -> None:
    with mock.patch.object(os, "open", side_effect=FULL):
        assert count_open_files() == OpenFiles(
            limit := (count_open_files() or OpenFiles(0, 0)).limit, limit
        )
    with (
        mock.patch.object(os, "open", side_effect=PermissionError()),
        mock.patch.object(resource_exhaustion, "_OPEN_FILES", Path("/nowhere")),
    ):
        assert (count_open_files() or OpenFiles(1, 1)).count == 0


def test_exhaustion_is_logged_once_a_minute() -> None:
    log, now = mock.Mock(), [0.0]
    reporter = ExhaustionLog(log, lambda: now[0])
    reporter.check_files(None)
    reporter.check_files(OpenFiles(89, 100))
    assert not log.error.called
    reporter.check_files(OpenFiles(90, 100))
    reporter.check_files(OpenFiles(100, 100))
    reporter.report(FILES)
    assert log.error.call_count == 1
    assert log.error.call_args.kwargs | {"hint": ""} == {
        "resource": FILES,
        "used": 90,
        "limit": 100,
        "hint": "",
    }
    reporter.report("buffers for connections")
    assert log.error.call_count == 2
    now[0] = 60.0
    reporter.report(FILES)
    assert log.error.call_count == 3


@pytest.mark.parametrize(
    ("exception", "error_class"),
    [
        (FULL, LocalShortageError),
        (OSError(errno.ENOBUFS, "x"), LocalShortageError),
        (OSError("x"), UpstreamError),
    ],
    ids=_id,
)
def test_local_exhaustion_is_not_an_upstream_error(
    exception: Exception, error_class: type[UpstreamError]
) -> None:
    reported: list[str] = []

    def handler(_: httpx.Request) -> httpx.Response:
        raise exception

    async def main() -> UpstreamError:
        upstream = UpstreamHTTPClient(httpx.MockTransport(handler), on_shortage=reported.append)
        with pytest.raises(UpstreamError) as error_info:
            await upstream.post("http://up:1", b"{}", {}, Timeouts(), "up:1")
        return error_info.value

    error = asyncio.run(main())
    assert type(error) is error_class
    assert len(reported) == (error_class is LocalShortageError)
    if error_class is LocalShortageError:
        assert (
            error.message == f"This server has run out of {reported[0]}, "
            "so it can't connect to the upstream up:1. Retry in 1 s."
        )
        assert (error.status, error.headers) == (500, {"retry-after": "1"})


@pytest.mark.parametrize(
    ("error", "is_logged"), [(FULL, False), (OSError(errno.ENOMEM, "x"), True)], ids=_id
)
def test_asyncio_does_not_log_exhausted_files_repeatedly(
    error: OSError, *, is_logged: bool
) -> None:
    loop = mock.Mock()
    serve._handle_loop_error(
        loop, {"message": "socket.accept() out of system resource", "exception": error}
    )
    assert loop.default_exception_handler.called is is_logged


def test_a_download_without_file_descriptors_is_retryable() -> None:
    """The request is not invalid, so the status is one that clients retry and not 400."""
    reported: list[str] = []

    async def main() -> ApiError:
        downloads = FileDownloader(on_shortage=reported.append)
        with (
            mock.patch.object(downloads, "_get", side_effect=FULL),
            pytest.raises(ApiError) as error_info,
        ):
            await downloads._fetch("http://example.com/a.png", mock.Mock())
        await downloads.aclose()
        return error_info.value

    error = asyncio.run(main())
    assert (error.status, error.headers) == (500, {"retry-after": "1"})
    assert reported == [FILES]
    assert (
        error.message
        == "This server has run out of file descriptors, so it can't download a file. "
        "Retry in 1 s."
    )


@pytest.fixture
def server(tmp_path: Path, upstream: ScriptedUpstream) -> Iterator[Running]:
    with Command(tmp_path).serving(UPSTREAM_BASE_URL=upstream.url) as server:
        yield server


@contextlib.contextmanager
def _without_files(server: Running) -> Iterator[None]:
    """Prevent the process from opening files; open files remain usable."""
    resource = pytest.importorskip("resource")
    if not hasattr(resource, "prlimit"):
        pytest.skip("limits of other processes can't be set here")
    limits = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        yield
    finally:
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, limits)


def _lines(server: Running) -> list[str]:
    return re.findall(r"resource (?:nearly )?exhausted.*", server.log.read_text())


@pytest.mark.parametrize("body", [REQUEST, REQUEST | {"stream": True}], ids=["complete", "stream"])
def test_requests_get_a_clear_error_and_the_upstream_does_not_count_as_failed(
    server: Running, upstream: ScriptedUpstream, body: dict[str, Any]
) -> None:
    url = f"{server.address}/v1/messages"
    with httpx.Client(trust_env=False, timeout=DEADLINE) as client:
        assert client.get(f"{server.address}/health").status_code == 200
        with _without_files(server):
            for _ in range(6):
                response = client.post(url, json=body)
                assert (response.status_code, response.headers["retry-after"]) == (500, "1")
                assert (
                    "This server has run out of file descriptors"
                    in response.json()["error"]["message"]
                )
        upstream.then(
            streams(text_chunks("Hello")) if "stream" in body else answers(completion("Hello"))
        )
        assert "Hello" in client.post(url, json=body).text
        metrics = client.get(f"{server.address}/metrics").text
    assert re.search(r'upstream_breaker_state\{state="closed",upstream="[^"]+"\} 1.0', metrics)
    assert "anthropic_proxy_upstream_errors_total{" not in metrics
    assert len(_lines(server)) == 1
    assert "Traceback" not in server.log.read_text()


def test_connections_that_can_not_be_accepted_are_logged(server: Running) -> None:
    with _without_files(server):
        port = int(server.address.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), DEADLINE):
            until(lambda: _lines(server), "the exhaustion is logged")
    assert (
        httpx.get(f"{server.address}/health", trust_env=False, timeout=DEADLINE).status_code == 200
    )
    assert len(_lines(server)) == 1
