"""HTTP/2 (RFC 9113) with clients that do not read, and with floods of control frames."""

import contextlib
import json
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import httpx
import pytest
from hyperframe.frame import (
    DataFrame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from tests.support.http2_client import Http2Client
from tests.support.running_command import REQUEST, Command, refuses_connections, until
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

STREAM = json.dumps(REQUEST | {"stream": True}).encode()
NOT_STREAMED = json.dumps(REQUEST).encode()
BIG = {"choices": [{"index": 0, "delta": {"content": "x" * 65536}}]}
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@pytest.fixture(scope="module")
def proxy_and_upstream() -> Iterator[tuple[str, ScriptedUpstream]]:
    with ScriptedUpstream() as upstream, running_proxy(upstream.url) as proxy:
        yield proxy, upstream


@pytest.fixture
def proxy(proxy_and_upstream: tuple[str, ScriptedUpstream]) -> str:
    return proxy_and_upstream[0]


# Clients that do not read.


def test_a_client_that_does_not_read_pauses_its_upstream(upstream: ScriptedUpstream) -> None:
    """WRITE_TIMEOUT resets the stream, and the connection can be used for other streams."""
    pause = Pause()
    # The data exceeds the socket buffers between upstream and proxy.
    upstream.then(streams([*[BIG] * 600, pause]))
    with (
        running_proxy(upstream.url, WRITE_TIMEOUT=0.2) as proxy,
        Http2Client(proxy, acknowledges=False) as client,
    ):
        stream = client.request("POST", "/v1/messages", STREAM)
        assert upstream.request().gone.wait(DEADLINE)
        assert not pause.reached.is_set()
        client.read_until(lambda each: each.has_ended(stream))
        assert [reset.error_code for reset in client.of(stream, h2.events.StreamReset)] == [
            h2.errors.ErrorCodes.CANCEL
        ]
        assert client.status(stream) == 200
        client.connection.increment_flow_control_window(2**20)
        client.flush()
        probe = client.request("GET", "/health")
        client.read_until(lambda each: each.has_ended(probe))
        assert (client.status(probe), client.body(probe)) == (200, b"OK")


def test_a_response_that_is_not_read_is_reset(upstream: ScriptedUpstream) -> None:
    upstream.then(answers(completion("x" * 200_000)))
    with (
        running_proxy(upstream.url, WRITE_TIMEOUT=0.2) as proxy,
        Http2Client(proxy, acknowledges=False) as client,
    ):
        stream = client.request("POST", "/v1/messages", NOT_STREAMED)
        client.read_until(lambda each: each.has_ended(stream))
        assert client.of(stream, h2.events.StreamReset)
        assert not client.is_closed


@pytest.mark.parametrize("path", ["/health", "/readyz", "/metrics", "/openapi.json", "/"])
@pytest.mark.parametrize("port", ["main", "metrics"])
def test_probes_that_are_not_read_are_reset(
    upstream: ScriptedUpstream, tmp_path: Path, path: str, port: str
) -> None:
    """Probes are exempt from the limit of concurrent requests, but not from WRITE_TIMEOUT."""
    with Command(tmp_path).serving(
        UPSTREAM_BASE_URL=upstream.url, WRITE_TIMEOUT="0.2", METRICS_PORT="0"
    ) as server:
        metrics = re.search(r"address=(\S+)/metrics", server.log.read_text())
        assert metrics is not None
        address = server.address if port == "main" else metrics[1]
        with Http2Client(address, acknowledges=False) as client:
            client.connection.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0})
            stream = client.request("GET", path)
            client.read_until(lambda each: each.has_ended(stream))
            assert client.of(stream, h2.events.StreamReset)


def test_streams_that_are_not_read_do_not_block_other_connections(
    upstream: ScriptedUpstream,
) -> None:
    count = 30
    upstream.then(*(streams([BIG] * 100) for _ in range(count)))
    with (
        running_proxy(upstream.url, WRITE_TIMEOUT=0.2) as proxy,
        Http2Client(proxy, acknowledges=False) as client,
    ):
        stuck = [client.request("POST", "/v1/messages", STREAM) for _ in range(count)]
        with Http2Client(proxy) as other:
            probe = other.request("GET", "/health")
            assert other.read_until(lambda each: each.has_ended(probe)).status(probe) == 200
        client.read_until(lambda each: all(map(each.has_ended, stuck)))
        assert client.goodbyes() == []


def test_a_connection_that_is_not_read_is_closed(upstream: ScriptedUpstream) -> None:
    upstream.then(streams([BIG] * 600))
    with running_proxy(upstream.url, WRITE_TIMEOUT=0.2) as proxy, Http2Client(proxy) as client:
        client.connection.increment_flow_control_window(2**30)
        client.connection.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 2**30})
        client.request("POST", "/v1/messages", STREAM)
        assert upstream.request().gone.wait(DEADLINE)
        client.read_until(lambda each: each.is_closed)


def test_a_slow_client_receives_the_complete_stream(
    proxy_and_upstream: tuple[str, ScriptedUpstream],
) -> None:
    """The flow control window is smaller than one event."""
    proxy, upstream = proxy_and_upstream
    upstream.then(streams([BIG] * 5 + text_chunks("end")))
    with Http2Client(proxy) as client:
        client.connection.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 1000})
        stream = client.request("POST", "/v1/messages", STREAM)
        client.read_until(lambda each: each.has_ended(stream))
        body = client.body(stream)
    assert body.count(b"x" * 65536) == 5
    assert body.endswith(b'event: message_stop\ndata: {"type":"message_stop"}\n\n')


# Frames that cost the server work and the client nothing.


# No content, a type that RFC 9113 does not define, no flags, stream 0.
UNKNOWN = b"\x00\x00\x00\xf0\x00\x00\x00\x00\x00"

FLOOD_FRAMES = {
    "settings": SettingsFrame(0).serialize(),
    "settings with values": SettingsFrame(0, {SettingsFrame.INITIAL_WINDOW_SIZE: 1000}).serialize(),
    "ping": PingFrame(0, b"12345678").serialize(),
    "window updates": WindowUpdateFrame(0, 1).serialize(),
    "window updates of a stream": WindowUpdateFrame(1, 1).serialize(),
    "priorities": PriorityFrame(1, 0, 1).serialize(),
    "priorities of future streams": b"".join(
        PriorityFrame(number, 0, 1).serialize() for number in range(3, 9999, 2)
    ),
    "resets": RstStreamFrame(1).serialize(),
    "unknown frames": UNKNOWN,
    "empty data": DataFrame(1).serialize(),
}


@pytest.mark.parametrize("case", FLOOD_FRAMES)
def test_a_flood_of_control_frames_closes_the_connection(proxy: str, case: str) -> None:
    with Http2Client(proxy) as client:
        client.request("POST", "/v1/messages", ends=False)
        for _ in range(20):
            client.send(FLOOD_FRAMES[case] * max(9000 // len(FLOOD_FRAMES[case]), 1))
        client.read_until(lambda each: each.is_closed)
        # Frames of a closed stream may close the connection earlier.
        codes = {h2.errors.ErrorCodes.ENHANCE_YOUR_CALM, h2.errors.ErrorCodes.STREAM_CLOSED}
        assert set(client.goodbyes()) <= codes
    assert httpx.get(f"{proxy}/health", trust_env=False).status_code == 200


def test_normal_control_frames_are_accepted(
    proxy_and_upstream: tuple[str, ScriptedUpstream],
) -> None:
    """The client sends pings and acknowledges each data frame for the stream and connection."""
    proxy, upstream = proxy_and_upstream
    upstream.then(streams([*text_chunks(*["word "] * 3000)]))
    with Http2Client(proxy, acknowledges=False) as client:
        client.send(PingFrame(0, b"12345678").serialize() * 200)
        stream = client.request("POST", "/v1/messages", STREAM)
        acknowledged = 0
        while not (client.has_ended(stream) or client.is_closed):
            client.read()
            for event in client.of(stream, h2.events.DataReceived)[acknowledged:]:
                acknowledged += 1
                if not event.data:
                    continue
                with contextlib.suppress(h2.exceptions.ProtocolError):  # the stream has ended
                    client.connection.increment_flow_control_window(event.flow_controlled_length)
                    client.connection.increment_flow_control_window(
                        event.flow_controlled_length, stream
                    )
                client.flush()
        assert client.goodbyes() == []
        assert client.body(stream).count(b"word ") == 3000


def test_a_body_in_tiny_frames_is_read(proxy_and_upstream: tuple[str, ScriptedUpstream]) -> None:
    proxy, upstream = proxy_and_upstream
    upstream.then(answers(completion("Hello")))
    with Http2Client(proxy) as client:
        stream = client.request("POST", "/v1/messages", ends=False)
        body = json.dumps(REQUEST | {"system": "s" * 2000}).encode()
        frames = [
            DataFrame(stream, body[start : start + 1]).serialize() for start in range(len(body))
        ]
        client.send(b"".join(frames) + DataFrame(stream, flags=["END_STREAM"]).serialize())
        client.read_until(lambda each: each.has_ended(stream))
        assert client.status(stream) == 200
        assert b"Hello" in client.body(stream)


def _reset_requests(client: Http2Client, count: int) -> None:
    for _ in range(count):
        client.connection.reset_stream(client.request("GET", "/health"))
    client.flush()


def test_a_flood_of_reset_requests_closes_the_connection(proxy: str) -> None:
    with Http2Client(proxy) as client:
        _reset_requests(client, 5000)
        client.read_until(lambda each: each.is_closed)
        assert set(client.goodbyes()) <= {h2.errors.ErrorCodes.ENHANCE_YOUR_CALM}


def test_some_requests_may_be_reset_immediately(proxy: str) -> None:
    with Http2Client(proxy) as client:
        _reset_requests(client, 500)
        probe = client.request("GET", "/health")
        assert client.read_until(lambda each: each.has_ended(probe)).status(probe) == 200


# Invalid requests.


def test_connect_requests_are_rejected(proxy: str) -> None:
    with Http2Client(proxy) as client:
        stream = client.connection.get_next_available_stream_id()
        client.connection.send_headers(stream, [(":method", "CONNECT"), (":authority", "a:443")])
        client.flush()
        client.read_until(lambda each: each.status(stream) is not None)
        assert client.status(stream) in {404, 405}
        probe = client.request("GET", "/health")
        assert client.read_until(lambda each: each.has_ended(probe)).status(probe) == 200


def test_websockets_are_not_offered(proxy: str) -> None:
    with Http2Client(proxy) as client:
        client.read_until(
            lambda each: any(
                isinstance(event, h2.events.RemoteSettingsChanged) for event in each.events
            )
        )
        assert client.connection.remote_settings.enable_connect_protocol == 0
        stream = client.connection.get_next_available_stream_id()
        pseudo_headers = [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "http"),
            (":path", "/"),
            (":authority", "a"),
        ]
        client.connection.send_headers(stream, pseudo_headers)
        client.flush()
        client.read_until(lambda each: each.has_ended(stream) or each.status(stream) is not None)
        assert client.status(stream) in {None, 404, 405}


@pytest.mark.parametrize("path", ["/\xff", "http://[::1/v1/messages", "http://a]/v1/messages"])
def test_malformed_paths_reset_their_stream(proxy: str, path: str) -> None:
    with Http2Client(proxy) as client:
        stream = client.request("POST", path, NOT_STREAMED)
        client.read_until(lambda each: each.has_ended(stream))
        assert client.status(stream) is None
        probe = client.request("GET", "/health")
        assert client.read_until(lambda each: each.has_ended(probe)).status(probe) == 200


def test_a_body_that_continues_after_its_response_is_discarded(proxy: str) -> None:
    """The connection remains usable after a response to a partially read request."""
    with Http2Client(proxy) as client:
        stream = client.request("POST", "/v1/nothing", b"x" * 1000, ends=False)
        client.read_until(lambda each: each.has_ended(stream))
        assert client.status(stream) == 404
        client.send(b"".join(DataFrame(stream, b"x" * 1000).serialize() for _ in range(30)))
        probe = client.request("GET", "/health")
        client.read_until(lambda each: each.has_ended(probe) or each.is_closed)
        assert client.status(probe) == 200


def test_more_than_a_thousand_streams_are_accepted(upstream: ScriptedUpstream) -> None:
    count = 1100
    with (
        running_proxy(upstream.url, HTTP2_MAX_CONCURRENT_STREAMS=2000) as proxy,
        Http2Client(proxy) as client,
    ):
        client.read_until(
            lambda each: each.connection.max_outbound_frame_size > 0 and bool(each.events)
        )
        open_streams = [client.request("POST", "/v1/messages", ends=False) for _ in range(count)]
        probe = client.request("GET", "/health")
        assert client.read_until(lambda each: each.has_ended(probe)).status(probe) == 200
        assert not any(map(client.has_ended, open_streams))


# End of connections.


@pytest.mark.parametrize("split", [1, 5, 17])
def test_open_streams_are_completed_after_goaway_from_the_client(
    proxy_and_upstream: tuple[str, ScriptedUpstream], split: int
) -> None:
    """RFC 9113, 6.8. GOAWAY arrives in two parts. The connection closes with the last stream."""
    proxy, upstream = proxy_and_upstream
    pause = Pause()
    first, *rest = text_chunks("Hel", "lo")
    upstream.then(streams([first, pause, *rest]))
    goaway = GoAwayFrame(0, last_stream_id=0, error_code=0).serialize()
    with Http2Client(proxy) as client:
        stream = client.request("POST", "/v1/messages", STREAM)
        client.read_until(lambda each: b"Hel" in each.body(stream))
        client.send(goaway[:split])
        assert pause.reached.wait(DEADLINE)
        client.send(goaway[split:])
        client.send(WindowUpdateFrame(0, window_increment=1000).serialize())
        pause.go.set()
        client.read_until(lambda each: each.is_closed)
        assert client.body(stream).endswith(b'data: {"type":"message_stop"}\n\n')
        assert client.goodbyes() == [0]


def test_goaway_without_open_streams_closes_the_connection(proxy: str) -> None:
    with Http2Client(proxy) as client:
        client.send(
            GoAwayFrame(0, last_stream_id=0, error_code=0, additional_data=b"bye").serialize()
        )
        client.read_until(lambda each: each.is_closed)
        assert client.goodbyes() == [0]


# Idle connections.

# `GET /\xff` in HPACK encoding.
_NOT_ASCII = b"\x82\x86\x04\x02/\xff\x01\x01a"

IDLE = {
    "nothing": b"",
    "a partial preface": PREFACE[:10],
    "a preface": PREFACE,
    "a preface and settings": PREFACE + SettingsFrame(0).serialize(),
    "a partial frame": PREFACE
    + SettingsFrame(0).serialize()
    + PingFrame(0, b"12345678").serialize()[:5],
    "a frame without its content": PREFACE + SettingsFrame(0).serialize() + b"\x00\x40\x00\x01",
    "headers without an end": PREFACE
    + SettingsFrame(0).serialize()
    + HeadersFrame(1, b"\x82").serialize(),
    "a request with a path that is not ASCII": PREFACE
    + SettingsFrame(0).serialize()
    + HeadersFrame(1, _NOT_ASCII, flags=["END_HEADERS", "END_STREAM"]).serialize(),
    "pings": PREFACE + SettingsFrame(0).serialize() + PingFrame(0, b"12345678").serialize() * 3,
    "an upgrade": b"GET /health HTTP/1.1\r\nhost: a\r\n"
    b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\n"
    b"http2-settings: AAMAAABkAAQAAP__\r\n\r\n",
}


@pytest.fixture(scope="module")
def short_timeout_proxy() -> Iterator[str]:
    with running_proxy("http://127.0.0.1:1", HEADER_TIMEOUT=0.2, KEEPALIVE_TIMEOUT=0.2) as proxy:
        yield proxy


@pytest.mark.parametrize("case", IDLE)
def test_idle_connections_are_closed(short_timeout_proxy: str, case: str) -> None:
    url = httpx.URL(short_timeout_proxy)
    with socket.create_connection((url.host, url.port), timeout=DEADLINE) as connection:
        connection.sendall(IDLE[case])
        with contextlib.suppress(ConnectionResetError):
            while connection.recv(65536):
                pass


def test_pings_do_not_keep_a_connection_open(short_timeout_proxy: str) -> None:
    with Http2Client(short_timeout_proxy) as client:
        while not client.is_closed:
            client.send(PingFrame(0, b"12345678").serialize())
            client.read()


def test_a_connection_is_idle_after_a_stream_that_was_reset(short_timeout_proxy: str) -> None:
    with Http2Client(short_timeout_proxy) as client:
        stream = client.request("POST", "/v1/messages", ends=False)
        client.connection.reset_stream(stream)
        client.flush()
        client.read_until(lambda each: each.is_closed)


def test_a_connection_with_an_open_stream_is_not_idle(short_timeout_proxy: str) -> None:
    with Http2Client(short_timeout_proxy) as client, Http2Client(short_timeout_proxy) as idle:
        stream = client.request("POST", "/v1/messages", NOT_STREAMED[:10], ends=False)
        idle.read_until(lambda each: each.is_closed)
        client.connection.send_data(stream, NOT_STREAMED[10:], end_stream=True)
        client.flush()
        # No upstream is running.
        assert client.read_until(lambda each: each.has_ended(stream)).status(stream) == 500


# Server shutdown.


@pytest.mark.parametrize("workers", ["1", "2"])
def test_draining_sends_goaway_when_no_stream_is_open(
    tmp_path: Path, upstream: ScriptedUpstream, workers: str
) -> None:
    pause = Pause()
    first, *rest = text_chunks("Hel", "lo")
    upstream.then(streams([first, pause, *rest]))
    with (
        Command(tmp_path).serving(UPSTREAM_BASE_URL=upstream.url, WORKERS=workers) as server,
        Http2Client(server.address) as idle,
        Http2Client(server.address) as busy,
    ):
        probe = idle.request("GET", "/health")
        idle.read_until(lambda each: each.has_ended(probe))
        stream = busy.request("POST", "/v1/messages", STREAM)
        busy.read_until(lambda each: b"Hel" in each.body(stream))
        server.process.send_signal(signal.SIGTERM)
        assert idle.read_until(lambda each: bool(each.goodbyes())).goodbyes() == [0]
        until(lambda: refuses_connections(server.address), "no more is accepted")
        second = busy.request("GET", "/v1/nothing")
        assert busy.read_until(lambda each: each.has_ended(second)).status(second) == 404
        assert busy.goodbyes() == []
        pause.go.set()
        busy.read_until(lambda each: bool(each.goodbyes()))
        assert busy.body(stream).endswith(b'data: {"type":"message_stop"}\n\n')
        assert busy.goodbyes()[0] == 0
        assert server.process.wait(DEADLINE) == 0


def test_a_client_that_does_not_read_does_not_delay_shutdown(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    """The server can't send on the connection, not even GOAWAY."""
    upstream.then(streams([BIG] * 600))
    with (
        Command(tmp_path).serving(UPSTREAM_BASE_URL=upstream.url) as server,
        Http2Client(server.address) as client,
    ):
        client.connection.increment_flow_control_window(2**30)
        client.connection.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 2**30})
        stream = client.request("POST", "/v1/messages", STREAM)
        request = upstream.request()
        # The proxy stops reading when the socket buffers between it and the client are full.
        assert not request.gone.wait(1)
        client.connection.reset_stream(stream)
        client.flush()
        assert request.gone.wait(DEADLINE)
        assert server.end()[0] == 0
