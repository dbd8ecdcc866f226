"""Faults of upstreams on the wire, over real sockets: reported failures and retries."""

import asyncio
import gzip
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from anthropic_proxy.gateway.streams import base, deferred
from anthropic_proxy.routing.upstream import Timeouts
from anthropic_proxy.upstream import http_client
from anthropic_proxy.upstream.http_client import UpstreamError, UpstreamHTTPClient, UpstreamResponse
from tests.support.messages_api import REQUEST, STREAM, events_of, post
from tests.support.raw_server import CHUNKED, HEAD, NEXT, READ, RESET, STALL, WHOLE, RawServer
from tests.support.running_proxy import running_proxy
from tests.support.scripted_upstream import (
    Pause,
    Script,
    ScriptedUpstream,
    answers,
    streams,
    text_chunks,
)

SLOW = Timeouts(connect=20, first_byte=20, idle=20)
SILENCE = 0.01
NAME = "up:1"


def run(
    work: Callable[[RawServer, UpstreamHTTPClient], Awaitable[Any]],
    *scripts: list[Any],
    scheme: str = "http",
) -> Any:
    async def main() -> Any:
        upstream = UpstreamHTTPClient()
        async with RawServer(scripts).running(scheme) as server:
            try:
                return await work(server, upstream)
            finally:
                await upstream.aclose()

    return asyncio.run(main())


async def exchange(
    server: RawServer, upstream: UpstreamHTTPClient, timeouts: Timeouts, payload: bytes = b"{}"
) -> list[bytes]:
    """What is read of an answer, with b"" for silence."""
    reply = await upstream.post(server.url, payload, {}, timeouts, NAME)
    try:
        return await reads_of(reply, server)
    finally:
        await reply.aclose()


async def reads_of(reply: UpstreamResponse, server: RawServer) -> list[bytes]:
    loop, reads = asyncio.get_running_loop(), []
    while (received := await reply.read_available(loop.time() + SILENCE)) is not None:
        reads.append(received)
        if received:
            server.go()
    return reads


def test_a_closed_reply_is_at_its_end() -> None:
    async def work(server: RawServer, upstream: UpstreamHTTPClient) -> bytes | None:
        reply = await upstream.post(server.url, b"{}", {}, SLOW, NAME)
        await reply.aclose()
        return await reply.read_available()

    assert run(work, [READ, CHUNKED, b"2\r\nok\r\n", STALL]) is None


BROKE = (500, "closed the connection before the response was complete")
CLOSED = (500, f"{BROKE[1]}; if its port uses TLS, the URL must begin with https://")

FAULTS: dict[str, tuple[list[Any], Timeouts, str, int, str]] = {
    "closed before the head": ([READ], SLOW, "head", *CLOSED),
    "reset before the head": ([READ, RESET], SLOW, "head", *CLOSED),
    "an alert of TLS": (
        [READ, b"\x15\x03\x01\x00\x02\x02\x46"],
        SLOW,
        "head",
        500,
        ("sent an invalid HTTP response; if its port uses TLS, the URL must begin with https://"),
    ),
    "half a head": ([READ, b"HTTP/1.1 200 OK\r\ncontent-ty"], SLOW, "head", *BROKE),
    "no HTTP": (
        [READ, b"\x16\x03\x01 hello\r\n\r\n"],
        SLOW,
        "head",
        500,
        "sent an invalid HTTP response",
    ),
    "silent before the head": (
        [READ, STALL],
        Timeouts(first_byte=0.05),
        "head",
        504,
        "did not begin its response within 0.05 s",
    ),
    "half a head and silent": (
        [READ, b"HTTP/1.1 200", STALL],
        Timeouts(first_byte=0.05),
        "head",
        504,
        "did not begin its response within 0.05 s",
    ),
    "reset after the head": ([READ, CHUNKED, b"2\r\nok\r\n", NEXT, RESET], SLOW, "body", *BROKE),
    "half a chunk": ([READ, CHUNKED, b"9\r\nok"], SLOW, "body", *BROKE),
    "less than announced": (
        [READ, HEAD, b"content-length: 9\r\n\r\n", b"ok"],
        SLOW,
        "body",
        *BROKE,
    ),
    "no chunk": ([READ, CHUNKED, b"2\r\nok\r\n", NEXT, b"zz\r\n", STALL], SLOW, "body", *BROKE),
    "silent in the body": (
        [READ, CHUNKED, b"2\r\nok\r\n", STALL],
        Timeouts(idle=0.3),
        "body",
        504,
        "sent no more data of its response within 0.3 s",
    ),
    "silent in all": (
        [READ, CHUNKED, b"2\r\nok\r\n", STALL],
        Timeouts(total=0.1),
        "body",
        504,
        "did not complete its response within 0.1 s",
    ),
    "never silent and never done": (
        [READ, CHUNKED, b"1\r\nx\r\n", *[NEXT, b"1\r\nx\r\n"] * 100_000],
        Timeouts(total=0.1),
        "body",
        504,
        "did not complete its response within 0.1 s",
    ),
    "silent before the head, limited as a whole": (
        [READ, STALL],
        Timeouts(total=0.05),
        "head",
        504,
        "did not complete its response within 0.05 s",
    ),
    "a body of which nothing is read": (
        [STALL],
        Timeouts(first_byte=0.05),
        "head",
        504,
        "did not begin its response within 0.05 s",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(fault: str) -> None:
    script, timeouts, phase, status, text = FAULTS[fault]
    payload = b"x" * 20_000_000 if fault.startswith("a body") else b"{}"

    async def work(server: RawServer, upstream: UpstreamHTTPClient) -> None:
        with pytest.raises(UpstreamError) as caught:
            await exchange(server, upstream, timeouts, payload)
        assert (caught.value.phase, caught.value.status) == (phase, status)
        assert caught.value.message == f"The upstream {NAME} {text}"
        assert server.connections == 1, "sent again"

    run(work, script)


def test_refused() -> None:
    async def work(server: RawServer, upstream: UpstreamHTTPClient) -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            server.url = f"http://127.0.0.1:{closed.getsockname()[1]}/"
            with pytest.raises(UpstreamError, match="refuses connections") as caught:
                await exchange(server, upstream, SLOW)
        assert (caught.value.phase, caught.value.status) == ("connect", 500)

    run(work)


def test_a_connection_that_is_not_accepted() -> None:
    """A TLS handshake without an answer."""

    async def work(server: RawServer, upstream: UpstreamHTTPClient) -> None:
        with pytest.raises(
            UpstreamError, match=r"did not accept a connection within 0\.05 s"
        ) as caught:
            await exchange(server, upstream, Timeouts(connect=0.05))
        assert (caught.value.phase, caught.value.status) == ("connect", 504)

    run(work, [STALL], scheme="https")


def test_silence_is_no_failure() -> None:
    async def work(server: RawServer, upstream: UpstreamHTTPClient) -> list[bytes]:
        reply = await upstream.post(server.url, b"{}", {}, SLOW, NAME)
        loop = asyncio.get_running_loop()
        reads = [await reply.read_available(loop.time() + SILENCE) for _ in range(3)]
        server.go()
        reads += await reads_of(reply, server)
        await reply.aclose()
        return [read for read in reads if read is not None]

    reads = run(work, [READ, CHUNKED, NEXT, b"2\r\nok\r\n0\r\n\r\n"])
    assert reads[:3] == [b""] * 3
    assert b"".join(reads) == b"ok"


def test_one_byte_at_a_time() -> None:
    body = b"data: {}\n\n"
    steps = [step for byte in body for step in (b"1\r\n%c\r\n" % byte, NEXT)]

    async def work(server: RawServer, upstream: UpstreamHTTPClient) -> list[bytes]:
        return await exchange(server, upstream, SLOW)

    reads = [read for read in run(work, [READ, CHUNKED, *steps, b"0\r\n\r\n"]) if read]
    assert reads == [bytes([byte]) for byte in body]


def test_a_compressed_body_is_read_all_the_same() -> None:
    packed = gzip.compress(b"data: {}\n\n")
    head = HEAD + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(packed)

    async def work(server: RawServer, upstream: UpstreamHTTPClient) -> list[bytes]:
        return await exchange(server, upstream, SLOW)

    assert b"".join(run(work, [READ, head, packed])) == b"data: {}\n\n"


def test_an_answer_before_the_request_is_read() -> None:
    async def work(server: RawServer, upstream: UpstreamHTTPClient) -> int:
        reply = await upstream.post(server.url, b"x" * 20_000_000, {}, SLOW, NAME)
        await reply.aclose()
        return reply.status

    assert run(work, [b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n", STALL]) == 413


def test_the_end_of_the_client_does_not_wait_for_an_upload() -> None:
    async def work(server: RawServer, upstream: UpstreamHTTPClient) -> None:
        post = upstream.post(server.url, b"x" * 20_000_000, {}, SLOW, NAME)
        upload = asyncio.ensure_future(post)
        # Until the buffers of the connection are full.
        for _ in range(2000):
            await asyncio.sleep(0)
        assert server.connections == 1
        await upstream.aclose()
        upload.cancel()
        await asyncio.wait([upload])

    run(work, [STALL])


class _Observer:
    """Counts the events of a response."""

    def __init__(self) -> None:
        self.ends = 0
        self.failures = 0

    def body_started(self) -> None:
        """Nothing is counted."""

    def body_completed(self) -> None:
        """Nothing is counted."""

    def body_failed(self, _: UpstreamError) -> None:
        self.failures += 1

    def closed(self) -> None:
        self.ends += 1


async def _released(server: RawServer, upstream: UpstreamHTTPClient) -> None:
    """Release a response after its first chunk. Its observers learn that it has ended."""
    reply = await upstream.post(server.url, b"{}", {}, SLOW, NAME)
    observer = _Observer()
    reply.observers.append(observer)
    assert await reply.read_available() == b"a"
    await reply.release()
    assert (observer.ends, observer.failures) == (1, 0)


async def _until_drained(upstream: UpstreamHTTPClient) -> None:
    while upstream.is_draining:  # noqa: ASYNC110 - a task of the same loop ends it
        await asyncio.sleep(0)


_CHUNK = CHUNKED + b"1\r\na\r\n"
_LAST_CHUNK = b"0\r\n\r\n"


def test_a_released_connection_is_reused_when_its_response_ends() -> None:
    async def work(server: RawServer, upstream: UpstreamHTTPClient) -> None:
        await _released(server, upstream)
        assert upstream.is_draining
        server.go()
        await _until_drained(upstream)
        assert b"".join(await exchange(server, upstream, SLOW)) == b"{}"
        assert server.connections == 1

    run(work, [READ, _CHUNK, NEXT, b"1\r\nb\r\n" + _LAST_CHUNK, READ, WHOLE])


@pytest.mark.parametrize(
    "rest", [[STALL], [RESET], [b"1\r\nb\r\n", STALL]], ids=["silent", "reset", "more"]
)
def test_other_released_connections_are_closed(
    rest: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_client, "DRAIN_SECONDS", 0.01)

    async def work(server: RawServer, upstream: UpstreamHTTPClient) -> None:
        await _released(server, upstream)
        server.go()
        await _until_drained(upstream)
        assert b"".join(await exchange(server, upstream, SLOW)) == b"{}"
        assert server.connections == 2

    run(work, [READ, _CHUNK, NEXT, *rest], [READ, WHOLE])


def test_the_end_of_the_client_does_not_wait_for_released_responses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_client, "DRAIN_SECONDS", 3600)

    async def work(server: RawServer, upstream: UpstreamHTTPClient) -> None:
        await _released(server, upstream)
        await upstream.aclose()
        assert not upstream.is_draining

    run(work, [READ, _CHUNK, STALL])


@pytest.mark.parametrize("end", [[], [RESET]], ids=["closed", "reset"])
def test_a_reused_connection_that_ends_is_replaced(end: list[Any]) -> None:
    async def work(server: RawServer, upstream: UpstreamHTTPClient) -> None:
        for _ in range(2):
            assert b"".join(await exchange(server, upstream, SLOW)) == b"{}"
        assert (server.connections, server.requests) == (2, 3)

    run(work, [READ, WHOLE, READ, *end], [READ, WHOLE, STALL])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([READ, WHOLE, READ, b"HTTP/1.1 200 OK\r\ncontent-ty"], [READ, WHOLE]),
        ([READ, WHOLE, READ, CHUNKED], [READ, WHOLE]),
    ],
    ids=["in the head", "in the body"],
)
def test_a_reused_connection_that_has_begun_to_answer_is_not(
    first: list[Any], second: list[Any]
) -> None:
    async def work(server: RawServer, upstream: UpstreamHTTPClient) -> None:
        await exchange(server, upstream, SLOW)
        with pytest.raises(UpstreamError, match="closed the connection"):
            await exchange(server, upstream, SLOW)
        assert (server.connections, server.requests) == (1, 2)

    run(work, first, second)


def test_a_request_is_not_sent_again_for_ever() -> None:
    async def work(server: RawServer, upstream: UpstreamHTTPClient) -> None:
        await exchange(server, upstream, SLOW)
        with pytest.raises(UpstreamError, match="closed the connection") as caught:
            await exchange(server, upstream, SLOW)
        assert caught.value.phase == "head"
        assert (server.connections, server.requests) == (2, 3)

    run(work, [READ, WHOLE, READ], [READ])


@pytest.mark.parametrize("end", [[], [RESET]], ids=["closed", "reset"])
def test_a_reused_connection_that_ends_later_is_not_replaced(
    monkeypatch: pytest.MonkeyPatch, end: list[Any]
) -> None:
    """The server may have worked on the request for minutes, which may cost money."""
    monkeypatch.setattr(http_client, "_IDLE_CLOSE_SECONDS", -1)

    async def work(server: RawServer, upstream: UpstreamHTTPClient) -> None:
        await exchange(server, upstream, SLOW)
        with pytest.raises(UpstreamError, match="closed the connection"):
            await exchange(server, upstream, SLOW)
        assert (server.connections, server.requests) == (1, 2)

    run(work, [READ, WHOLE, READ, *end], [READ, WHOLE, STALL])


@pytest.mark.parametrize("phase", ["head", "body"])
def test_no_first_token_in_time(phase: str) -> None:
    head = [CHUNKED] if phase == "body" else []

    async def work(server: RawServer, upstream: UpstreamHTTPClient) -> None:
        with pytest.raises(UpstreamError, match=r"sent no content within 0\.05 s") as caught:
            await exchange(server, upstream, Timeouts(first_token=0.05))
        assert (caught.value.status, caught.value.phase) == (504, phase)

    run(work, [READ, *head, STALL])


def test_a_shorter_limit_of_the_first_byte_applies() -> None:
    async def work(server: RawServer, upstream: UpstreamHTTPClient) -> None:
        with pytest.raises(UpstreamError, match=r"did not begin its response within 0\.05 s"):
            await exchange(server, upstream, Timeouts(first_byte=0.05, first_token=9))

    run(work, [READ, STALL])


def test_after_the_first_token_its_limit_has_ended() -> None:
    limit = 0.3

    async def work(server: RawServer, upstream: UpstreamHTTPClient) -> bytes:
        timeouts = Timeouts(first_token=limit)
        reply = await upstream.post(server.url, b"{}", {}, timeouts, NAME)
        loop = asyncio.get_running_loop()
        # Silence does not end the limit.
        assert await reply.read_available(loop.time() + SILENCE) == b""
        reply.end_first_token_limit()
        assert await reply.read_available(loop.time() + limit) == b""
        server.go()
        reads = await reads_of(reply, server)
        await reply.aclose()
        return b"".join(reads)

    assert run(work, [READ, CHUNKED, NEXT, b"2\r\nok\r\n0\r\n\r\n"]) == b"ok"


def test_a_silent_reused_connection_is_not_replaced() -> None:
    async def work(server: RawServer, upstream: UpstreamHTTPClient) -> None:
        await exchange(server, upstream, SLOW)
        with pytest.raises(UpstreamError, match="did not begin its response"):
            await exchange(server, upstream, Timeouts(first_byte=0.05))
        assert (server.connections, server.requests) == (1, 2)

    run(work, [READ, WHOLE, READ, STALL])


def test_a_read_that_was_cancelled_loses_nothing() -> None:
    async def work(server: RawServer, upstream: UpstreamHTTPClient) -> list[bytes]:
        reply = await upstream.post(server.url, b"{}", {}, SLOW, NAME)
        reading = asyncio.ensure_future(reply.read_available())
        await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait({reading})
        assert reading.cancelled()
        server.go()
        reads = await reads_of(reply, server)
        await reply.aclose()
        return reads

    assert b"".join(run(work, [READ, CHUNKED, NEXT, b"2\r\nok\r\n0\r\n\r\n"])) == b"ok"


@pytest.mark.parametrize("body", [REQUEST, STREAM], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"retry-after": "3"}, "3"),
        (
            {
                "retry-after": "Sun, 22 Nov 2026 10:00:30 GMT",
                "date": "Sun, 22 Nov 2026 10:00:00 GMT",
            },
            "30",
        ),
        ({"retry-after-ms": "1500"}, "1.5"),
        ({"retry-after": "99999999999999999999"}, "31622400"),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
    ids=str,
)
def test_when_to_ask_again(
    proxy: str,
    upstream: ScriptedUpstream,
    said: dict[str, str],
    told: str | None,
    body: dict[str, Any],
) -> None:
    upstream.then(answers({"error": {"message": "slow down"}}, 429, said))
    response = post(proxy, body)
    assert (response.status_code, response.headers.get("retry-after")) == (429, told)
    assert response.json()["error"] == {"type": "rate_limit_error", "message": "slow down"}


@pytest.mark.parametrize("body", [REQUEST, STREAM], ids=["whole", "stream"])
def test_a_gateway_without_json(
    proxy: str, upstream: ScriptedUpstream, body: dict[str, Any]
) -> None:
    upstream.then(
        answers(
            b"<html><body><h1>502 Bad Gateway</h1></body></html>",
            502,
            {"content-type": "text/html"},
        )
    )
    response = post(proxy, body)
    assert response.status_code == 500
    assert response.json()["error"]["message"].endswith(
        "returned status 502 without an error message"
    )


def test_a_stream_that_falls_silent(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "SILENCE_SECONDS", 0.01)
    pause = Pause()
    upstream.then(streams([text_chunks("one")[0], pause]))
    with running_proxy(upstream.url, UPSTREAM_IDLE_TIMEOUT=0.3) as proxy:
        events = events_of(post(proxy, STREAM).text)
    pause.go.set()
    assert [event["type"] for event in events[-2:]] == ["ping", "error"]
    assert events[-1]["error"]["type"] == "timeout_error"
    assert events[-1]["error"]["message"].endswith("sent no more data of its response within 0.3 s")


def test_a_stream_that_stays_silent_from_its_beginning(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deferred, "FIRST_CONTENT_SECONDS", 0.01)
    monkeypatch.setattr(deferred, "SILENCE_SECONDS", 0.01)
    pause = Pause()
    upstream.then(streams([pause]))
    with running_proxy(upstream.url, UPSTREAM_IDLE_TIMEOUT=0.3) as proxy:
        kinds = [event["type"] for event in events_of(post(proxy, STREAM).text)]
    pause.go.set()
    assert (kinds[:2], kinds[-1]) == (["message_start", "ping"], "error")
    assert kinds.count("ping") > 1


def test_an_upstream_that_is_too_slow_to_begin(upstream: ScriptedUpstream) -> None:
    pause = Pause()
    upstream.then(Script(None, [pause]))
    with running_proxy(upstream.url, UPSTREAM_FIRST_BYTE_TIMEOUT=0.05) as proxy:
        response = post(proxy, STREAM)
    pause.go.set()
    assert (response.status_code, response.json()["error"]["type"]) == (504, "timeout_error")
