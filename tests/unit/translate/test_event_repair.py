"""Events without names or empty lines become events of the Messages API."""

from typing import Any

import pytest

from anthropic_proxy.errors import ApiError
from anthropic_proxy.translate.event_repair import EventRepairer
from anthropic_proxy.translate.upstream_failure import UpstreamIdentity
from tests.support.splits import byte_by_byte, random_splits, whole

_SPLITS = [whole, byte_by_byte, random_splits]
_LINE_ENDS = [b"\n", b"\r\n"]

_START = b'{"type":"message_start","message":{"usage":{"input_tokens":1}}}'
_DELTA = b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}'
_STOP = b'{"type":"message_stop"}'
_EVENTS = [(b"message_start", _START), (b"content_block_delta", _DELTA), (b"message_stop", _STOP)]

_REGULAR = b"".join(b"event: %b\ndata: %b\n\n" % event for event in _EVENTS)
_IRREGULAR = {
    "no empty lines": b"".join(b"event: %b\ndata: %b\n" % event for event in _EVENTS),
    "no names": b"".join(b"data: %b\n\n" % data for _, data in _EVENTS),
    "only data lines": b"".join(b"data: %b\n" % data for _, data in _EVENTS),
    "no spaces": b"".join(b"event:%b\ndata:%b\n" % event for event in _EVENTS),
    "comment first": b": hb\n\n" + b"".join(b"data: %b\n\n" % data for _, data in _EVENTS),
    "comments between": b"".join(b"data: %b\n\n: hb\n\n" % data for _, data in _EVENTS),
    "ids": b"".join(b"event: %b\ndata: %b\nid: 7\n" % event for event in _EVENTS),
    "keep-alives": b"".join(b"data: %b\n\ndata: ping\n\n" % data for _, data in _EVENTS),
}


def _repaired(reads: Any) -> bytes:
    repairer = EventRepairer(UpstreamIdentity("up"))
    return b"".join([*(repairer.feed(read) for read in reads), repairer.close()])


@pytest.mark.parametrize("split", _SPLITS)
@pytest.mark.parametrize("line_end", _LINE_ENDS)
@pytest.mark.parametrize("raw", _IRREGULAR.values(), ids=_IRREGULAR)
def test_irregular_streams(raw: bytes, line_end: bytes, split: Any) -> None:
    assert _repaired(split(raw.replace(b"\n", line_end))) == _REGULAR


@pytest.mark.parametrize("split", _SPLITS)
@pytest.mark.parametrize("line_end", [*_LINE_ENDS, b"\r"])
@pytest.mark.parametrize(
    "raw",
    [
        _REGULAR,
        b": comment\n\n" + _REGULAR,
        b"id: 1\nretry: 5\n" + _REGULAR,
        _REGULAR.replace(b": ", b":"),
        b'event: ping\ndata: {"type":\ndata: "ping"}\n\n' + _REGULAR,
        b"data: %b\nevent: message_start\n\n" % _START.replace(b"_start", b"_start.") + _REGULAR,
        b"data: text\n\n" + _REGULAR,
        b'data: {"new":1}\n\n' + _REGULAR,
        b"event: pi",
        b": hb\n\n" * 1000,
        b"",
    ],
)
def test_regular_streams_are_unchanged(raw: bytes, line_end: bytes, split: Any) -> None:
    raw = raw.replace(b"\n", line_end)
    assert _repaired(split(raw)) == raw


@pytest.mark.parametrize("split", _SPLITS)
@pytest.mark.parametrize(
    ("raw", "repaired"),
    [
        (
            b'data: {"error":{"message":"a"}}\n\n',
            b'event: error\ndata: {"error":{"message":"a"}}\n\n',
        ),
        (
            b'data: {"type":"error","error":{}}\n\n',
            b'event: error\ndata: {"type":"error","error":{}}\n\n',
        ),
        (
            b'data: {"code":500,"msg":"a","success":false}\n\n',
            b'event: error\ndata: {"code":500,"msg":"a","success":false}\n\n',
        ),
        (
            b"data: %b\n\nevent: error\ndata: died\n\n" % _STOP,
            b"event: message_stop\ndata: %b\n\nevent: error\ndata: died\n\n" % _STOP,
        ),
        (
            b"data: %b\n\ndata: [DONE]\n\n" % _STOP,
            b"event: message_stop\ndata: %b\n\ndata: [DONE]\n\n" % _STOP,
        ),
        (
            b'data: %b\n\ndata: {"new":1}\n\n' % _STOP,
            b'event: message_stop\ndata: %b\n\ndata: {"new":1}\n\n' % _STOP,
        ),
        (
            b'data: %b\n\ndata: {"type":"a\\nevent: error"}\n\n' % _STOP,
            b'event: message_stop\ndata: %b\n\ndata: {"type":"a\\nevent: error"}\n\n' % _STOP,
        ),
    ],
)
def test_other_events(raw: bytes, repaired: bytes, split: Any) -> None:
    assert _repaired(split(raw)) == repaired


def test_data_that_is_no_event_is_an_error() -> None:
    with pytest.raises(ApiError, match="invalid chunk"):
        _repaired([b"data: %b\n\ndata: {broken\n\n" % _START])


def test_a_regular_stream_needs_no_repairer_after_its_first_event() -> None:
    repairer = EventRepairer(UpstreamIdentity("up"))
    assert repairer.feed(b"event: message_start\n") == b""
    assert not repairer.is_regular
    repairer.feed(b"data: %b\n\n" % _START)
    assert repairer.is_regular
