"""Requests with files, end to end: what the upstream gets. Reading them delays no other request."""

import asyncio
import errno
import gc
import json
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import pytest

from anthropic_proxy.errors import ApiError
from anthropic_proxy.gateway import pdf_process, request_translation
from anthropic_proxy.gateway.downloads import FileDownloader
from anthropic_proxy.gateway.pdf_process import PdfReader
from anthropic_proxy.gateway.request_translation import RequestTranslator
from anthropic_proxy.gateway.translation_threads import TranslationThreads
from anthropic_proxy.providers.profiles import GENERIC
from anthropic_proxy.routing.router import Route
from anthropic_proxy.routing.upstream import Upstream
from anthropic_proxy.translate.reasoning.signatures import UNSIGNED
from anthropic_proxy.translate.request.chat_request import to_chat_request
from anthropic_proxy.translate.request.pdf import read_pages
from tests.support.pdfs import base64_of, pdf, slow
from tests.support.running_command import until
from tests.support.running_proxy import running_proxy
from tests.support.scripted_upstream import DEADLINE, ScriptedUpstream, answers, completion

Json = dict[str, Any]
INSIDE = "[page 1 of 1]\nInside."


def asking(source: Json, kind: str = "document") -> Json:
    content = [{"type": kind, "source": source}, {"type": "text", "text": "Sum it up"}]
    return {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": content}]}


def pdf_source() -> Json:
    return {"type": "base64", "media_type": "application/pdf", "data": base64_of(pdf("Inside."))}


def post(proxy: str, body: Json, path: str = "") -> httpx.Response:
    return httpx.post(f"{proxy}/v1/messages{path}", json=body, timeout=DEADLINE, trust_env=False)


def test_a_pdf_is_read(proxy: str, upstream: ScriptedUpstream) -> None:
    upstream.then(answers(completion()))
    assert post(proxy, asking(pdf_source())).status_code == 200
    assert upstream.request().body["messages"][0]["content"].startswith(INSIDE)


@pytest.mark.parametrize(("kind", "data"), [("document", pdf("Inside.")), ("image", b"GIF89a")])
def test_an_address_is_fetched(upstream: ScriptedUpstream, kind: str, data: bytes) -> None:
    upstream.then(answers(data), answers(completion()))
    with running_proxy(upstream.url, UPSTREAM_API_KEY="sk-secret", DOWNLOADS="all") as proxy:
        assert (
            post(proxy, asking({"type": "url", "url": upstream.url + "/f"}, kind)).status_code
            == 200
        )
    fetched, asked = upstream.request(), upstream.request()
    assert (fetched.method, fetched.path) == ("GET", "/f")
    assert "authorization" not in fetched.headers, "the upstream's key is for the upstream"
    content = asked.body["messages"][0]["content"]
    if kind == "image":
        image = {"type": "image_url", "image_url": {"url": "data:image/gif;base64,R0lGODlh"}}
        assert content[0] == image
    else:
        assert content.startswith(INSIDE)


def test_private_addresses_are_refused(proxy: str, upstream: ScriptedUpstream) -> None:
    response = post(proxy, asking({"type": "url", "url": upstream.url}))
    assert response.status_code == 400
    assert "its host has no public address" in response.json()["error"]["message"]
    assert upstream.requests == []


def test_counting_fetches_nothing(proxy: str, upstream: ScriptedUpstream) -> None:
    upstream.then(*[answers({}, 404)] * 6)
    for kind in ("image", "document"):
        response = post(proxy, asking({"type": "url", "url": upstream.url}, kind), "/count_tokens")
        assert response.status_code == 200, json.dumps(response.json())
        assert response.json()["input_tokens"] > 1000
    assert {each.method for each in upstream.requests} == {"POST"}


SLOW = base64_of(slow())
ROUTE = Route(Upstream("up", "http://up/v1", GENERIC), "m")


async def _reached(condition: Callable[[], bool]) -> None:
    await asyncio.to_thread(until, condition, "what is waited for")


def _readers() -> list[Path]:
    """The processes of this one that read PDFs, by their directories in /proc."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = (directory / "stat").read_text().rpartition(")")[2].split()[1]
            if (
                parent == str(os.getpid())
                and b"pdf_process" in (directory / "cmdline").read_bytes()
            ):
                found.append(directory)
    return found


def test_reading_holds_up_nobody_and_ends_with_its_client() -> None:
    async def main() -> None:
        reader = PdfReader(mock.Mock())
        slow_ones = [asyncio.create_task(reader.read(SLOW, "")) for _ in range(3)]
        await _reached(lambda: len(_readers()) == 2)
        waiting = asyncio.create_task(reader.read(base64_of(pdf("Inside.")), ""))
        # The second one's process goes on, and the third waits before the fourth.
        slow_ones[0].cancel()
        slow_ones[2].cancel()
        assert await waiting == ["Inside."]
        slow_ones[1].cancel()
        assert all(
            isinstance(each, asyncio.CancelledError)
            for each in await asyncio.gather(*slow_ones, return_exceptions=True)
        )
        assert _readers() == []

    asyncio.run(main())


def test_a_caller_has_one_document_read_at_a_time() -> None:
    async def main() -> None:
        reader = PdfReader(mock.Mock())
        slow_ones = [asyncio.create_task(reader.read(SLOW, "a")) for _ in range(3)]
        await _reached(lambda: len(_readers()) == 1)
        assert await reader.read(base64_of(pdf("Inside.")), "b") == ["Inside."]
        assert len(_readers()) == 1
        reader.close()
        for told in await asyncio.gather(*slow_ones, return_exceptions=True):
            assert isinstance(told, ApiError)
            assert (told.status, told.headers) == (529, {"retry-after": "1"})
            assert "This server is stopping" in told.message
        assert _readers() == []

    asyncio.run(main())


def test_a_reader_that_starts_while_the_server_ends() -> None:
    async def main() -> None:
        reader = PdfReader(mock.Mock())
        reading = asyncio.create_task(reader.read(SLOW, ""))
        # The process is being started.
        await asyncio.sleep(0)
        reader.close()
        with pytest.raises(ApiError, match=r"^529 .* is stopping"):
            await asyncio.wait_for(reading, DEADLINE)
        with pytest.raises(ApiError, match=r"^529 .* is stopping"):
            await reader.read(SLOW, "")
        assert _readers() == []

    asyncio.run(main())


def test_signals_to_all_processes_do_not_end_a_reader() -> None:
    """Ctrl-C signals the server's process group, a service manager's SIGTERM each process."""

    async def main() -> None:
        reader = PdfReader(mock.Mock())
        reading = asyncio.create_task(reader.read(SLOW, ""))
        ignores_term = 1 << (signal.SIGTERM - 1)
        await _reached(
            lambda: bool(_readers()) and bool(_ignored_signals(_readers()[0]) & ignores_term)
        )
        process = int(_readers()[0].name)
        assert os.getpgid(process) == process
        os.kill(process, signal.SIGTERM)
        assert [directory.name for directory in _readers()] == [str(process)]
        reading.cancel()
        await asyncio.wait([reading])

    asyncio.run(main())


def _ignored_signals(process: Path) -> int:
    """Return the bit mask of the signals that a process ignores."""
    return int(re.findall(r"SigIgn:\s+(\w+)", (process / "status").read_text())[0], 16)


def test_a_document_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf_process, "MAX_SECONDS", 0.1)
    with pytest.raises(ApiError, match=r"^400 .* was not valid: it takes more than 120 s to read"):
        asyncio.run(PdfReader(mock.Mock()).read(SLOW, ""))
    assert _readers() == []


def test_what_a_reader_says_of_a_document() -> None:
    with pytest.raises(
        ApiError,
        match=r"^400 invalid_request_error: The PDF specified was not valid: it cannot be parsed",
    ):
        asyncio.run(PdfReader(mock.Mock()).read(base64_of(b"%PDF-"), ""))


_NO_CORE = "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))"


@pytest.mark.parametrize(
    ("program", "code", "error", "logged"),
    [
        ("os.kill(os.getpid(), 9)", -9, r"^400 .* was not valid: it takes too much memory", ""),
        ("raise MemoryError", 1, r"^400 .* was not valid: it takes too much memory", "MemoryError"),
        (
            "os.kill(os.getpid(), signal.SIGXCPU)",
            -24,
            r"^400 .* was not valid: it takes more than 120 s",
            "",
        ),
        (
            "os.kill(os.getpid(), signal.SIGTERM)",
            -15,
            r"^500 api_error: This server failed to read a PDF",
            "",
        ),
        (
            "raise SystemError('MemoryError')",
            1,
            r"^500 api_error: This server failed",
            "SystemError: MemoryError",
        ),
        ("sys.exit(0)", 0, r"^500 api_error: This server failed", ""),
        ("print('{\"pages\"')", 0, r"^500 api_error: This server failed", ""),
        (
            "sys.stderr.write('x' * 1_000_000 + 'end'); sys.exit(3)",
            3,
            r"^500 api_error: This server failed",
            "end",
        ),
        ("os.close(0); sys.exit('unread')", 1, r"^500 api_error: This server failed", "unread"),
    ],
    ids=[
        "killed",
        "memory",
        "CPU time",
        "signal",
        "exception",
        "no output",
        "half an output",
        "many errors",
        "no input",
    ],
)
def test_a_reader_that_dies(
    tmp_path: Path, program: str, code: int, error: str, logged: str
) -> None:
    interpreter = tmp_path / "python"
    interpreter.write_text(
        f"#!{sys.executable}\nimport os, resource, signal, sys\n{_NO_CORE}\n{program}\n"
    )
    interpreter.chmod(0o700)
    log = mock.Mock()
    with (
        mock.patch.object(sys, "executable", str(interpreter)),
        pytest.raises(ApiError, match=error),
    ):
        asyncio.run(PdfReader(log).read(SLOW, ""))
    log.error.assert_called_once_with("PDF reader failed", exit_code=code, stderr=mock.ANY)
    stderr = log.error.call_args.kwargs["stderr"]
    assert stderr.rstrip().endswith(logged)
    assert len(stderr) <= 4096


@pytest.mark.parametrize(
    ("raised", "resource"),
    [
        (OSError(errno.EMFILE, "full"), "file descriptors"),
        (OSError(errno.ENOMEM, "full"), "memory for connections"),
        (PermissionError(errno.EACCES, "no"), None),
    ],
    ids=repr,
)
def test_a_reader_that_can_not_be_started(raised: OSError, resource: str | None) -> None:
    reported: list[str] = []
    reader = PdfReader(mock.Mock(), on_shortage=reported.append)
    start = mock.patch.object(asyncio, "create_subprocess_exec", side_effect=raised)
    with start, pytest.raises(OSError if resource is None else ApiError) as caught:
        asyncio.run(reader.read(SLOW, ""))
    assert reported == ([] if resource is None else [resource])
    if isinstance(caught.value, ApiError):
        assert (
            caught.value.message
            == f"This server has run out of {resource}, so it can't read a PDF. Retry in 1 s."
        )
        assert (caught.value.status, caught.value.headers) == (500, {"retry-after": "1"})


def test_a_reader_has_limits_and_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPSTREAM_API_KEY", "canary")

    async def main() -> None:
        reader = PdfReader(mock.Mock())
        reading = asyncio.create_task(reader.read(SLOW, ""))
        await _reached(
            lambda: (
                bool(_readers())
                and b"Max cpu time              120 " in (_readers()[0] / "limits").read_bytes()
            )
        )
        directory = _readers()[0]
        assert b"canary" not in (directory / "environ").read_bytes()
        assert re.search(
            rf"Max address space +{768 * 1024 * 1024} ", (directory / "limits").read_text()
        )
        reading.cancel()
        await asyncio.wait([reading])

    asyncio.run(main())


def test_what_was_read_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    async def reading(_: PdfReader, data: str, caller: str) -> list[str]:
        read.append(caller)
        return read_pages(data)

    monkeypatch.setattr(PdfReader, "read", reading)

    async def main() -> None:
        threads = TranslationThreads()
        translator = RequestTranslator(UNSIGNED, FileDownloader(), PdfReader(mock.Mock()), threads)
        twice = asking(pdf_source())
        twice["messages"][0]["content"] *= 2
        for _ in range(2):
            translated = await translator.translate(twice, ROUTE, "alice")
            assert translated.body["messages"][0]["content"].count(INSIDE) == 2
        await translator.translate_for_counting(twice, ROUTE)
        await translator.aclose()
        threads.close()

    asyncio.run(main())
    assert read == ["alice"]


def test_a_client_that_leaves_ends_the_reading(proxy: str) -> None:
    body = json.dumps(
        asking({"type": "base64", "media_type": "application/pdf", "data": SLOW})
    ).encode()
    url = httpx.URL(proxy)
    head = (
        "POST /v1/messages HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((url.host, url.port), timeout=DEADLINE) as connection:
        connection.sendall(head.encode() + body)
        until(_readers, "it is read")
    until(lambda: not _readers(), "the reading has ended")


@pytest.mark.parametrize(
    ("fields", "thread"),
    [
        ({"messages": [{"role": "user", "content": "a"}] * 4001}, "translator_0"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}] * 4001}]},
            "translator_0",
        ),
        (
            {"tools": [{"name": f"t{number}", "input_schema": {}} for number in range(2001)]},
            "translator_0",
        ),
        ({}, "MainThread"),
    ],
    ids=["messages", "blocks", "tools", "few"],
)
def test_many_parts_are_translated_in_a_thread(
    monkeypatch: pytest.MonkeyPatch, fields: Json, thread: str
) -> None:
    threads: list[str] = []

    def translate(request: Json, *arguments: Any) -> Any:
        threads.append(threading.current_thread().name)
        return to_chat_request(request, *arguments)

    monkeypatch.setattr(request_translation, "to_chat_request", translate)
    request = {
        "model": "m",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "a"}],
        **fields,
    }

    async def main() -> Any:
        threads = TranslationThreads()
        translator = RequestTranslator(UNSIGNED, FileDownloader(), PdfReader(mock.Mock()), threads)
        try:
            return await translator.translate(
                request, Route(Upstream("up", "http://up/v1", GENERIC), "m")
            )
        finally:
            await translator.aclose()
            threads.close()

    assert asyncio.run(main()).body["model"] == "m"
    assert threads == [thread]
    assert gc.isenabled()
