"""Framing of server-sent events: every form that the standard allows, cut anywhere."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anthropic_proxy.wire import sse
from anthropic_proxy.wire.sse import (
    EventTooLargeError,
    SSEDecoder,
    encode_event,
    get_stray_text,
    is_error_event,
    parse_data,
)
from tests.support.splits import byte_by_byte, random_splits, whole

# Everything that means something to the decoder, and a character of several bytes.
_PIECES = st.sampled_from(
    [
        b"data: ",
        b"data:",
        b"da",
        b"ta",
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\n",
        b":",
        b" ",
        b"x",
        "😀".encode(),
        b"\xff",
    ]
)
_LINE = st.binary(max_size=20).map(lambda line: line.replace(b"\r", b"").replace(b"\n", b""))


def _decoded(*reads: bytes) -> list[bytes]:
    decoder = SSEDecoder()
    return [payload for read in reads for payload in decoder.feed(read)] + decoder.close()


def _cut(text: bytes, places: list[int]) -> list[bytes]:
    """`text` in parts, cut at `places` (taken modulo its length)."""
    cuts = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[start:end] for start, end in itertools.pairwise(cuts)]


@pytest.mark.parametrize(
    ("text", "payloads"),
    [
        pytest.param(b"data: one\n\ndata: two\n\n", [b"one", b"two"], id="two-events"),
        pytest.param(b"data: one\r\n\r\ndata: two\r\n\r\n", [b"one", b"two"], id="CRLF"),
        pytest.param(b"data: one\r\rdata: two\r\r", [b"one", b"two"], id="CR"),
        pytest.param(b"data: one\r\n\ndata: two\n\r\n", [b"one", b"two"], id="mixed-line-ends"),
        pytest.param(b"data:one\n\n", [b"one"], id="no-space"),
        pytest.param(b"data:  one \n\n", [b" one "], id="only-one-space-belongs-to-the-field"),
        pytest.param(b"data: one\ndata: two\n\n", [b"one\ntwo"], id="lines-of-one-event"),
        pytest.param(b"data: one\ndata:\ndata: two\n\n", [b"one\n\ntwo"], id="empty-line-of-data"),
        pytest.param(b"data:\n\n", [b""], id="empty-data"),
        pytest.param(b": OPENROUTER PROCESSING\n\ndata: one\n\n", [b"one"], id="comment"),
        pytest.param(b"data: a\n: b\ndata: c\n\n", [b"a\nc"], id="comment-inside-an-event"),
        pytest.param(
            b"event: message\nid: 7\nretry: 10\ndata: one\n\n", [b"one"], id="other-fields"
        ),
        pytest.param(b"event: ping\n\n", [], id="event-without-data"),
        pytest.param(
            b"database: one\n data: two\nDATA: three\n\n", [], id="fields-that-look-like-data"
        ),
        pytest.param(b"\n\n\ndata: one\n\n\n\n", [b"one"], id="more-empty-lines"),
        pytest.param(b"data: a: b\n\n", [b"a: b"], id="colon-in-data"),
        pytest.param("data: 😀ü\n\n".encode(), ["😀ü".encode()], id="UTF-8"),
        pytest.param(b"data: \xff\xfe\n\n", [b"\xff\xfe"], id="no-UTF-8"),
        pytest.param(
            b"data: \x0b\x0c\x1c\xc2\x85\xe2\x80\xa8\n\n",
            [b"\x0b\x0c\x1c\xc2\x85\xe2\x80\xa8"],
            id="line-ends-of-others",
        ),
        pytest.param(b"data: [DONE]\n\n", [sse.DONE], id="done"),
        pytest.param(b"", [], id="nothing"),
        pytest.param(b"data: one\n\ndata: two", [b"one", b"two"], id="ends-within-a-line"),
        pytest.param(
            b"data: one\n\ndata: two\n", [b"one", b"two"], id="ends-without-an-empty-line"
        ),
        pytest.param(b"data: one\r\n\r\ndata: two\r", [b"one", b"two"], id="ends-within-CRLF"),
        pytest.param(b"data: one\r\n\r", [b"one"], id="ends-within-the-last-CRLF"),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3, 1000], ids="reads-of-{}".format)
def test_payloads(text: bytes, payloads: list[bytes], size: int) -> None:
    assert (
        _decoded(*(text[start : start + size] for start in range(0, len(text), size))) == payloads
    )


@given(
    st.lists(_PIECES, max_size=30).map(b"".join), st.lists(st.integers(min_value=0), max_size=10)
)
@settings(deadline=None)
def test_cuts_do_not_matter(text: bytes, places: list[int]) -> None:
    whole = _decoded(text)
    assert _decoded(*_cut(text, places)) == whole
    assert _decoded(*_cut(text, list(range(len(text))))) == whole


@given(st.lists(st.lists(_LINE, min_size=1, max_size=3)), st.sampled_from([b"\n", b"\r\n", b"\r"]))
@settings(deadline=None)
def test_every_payload_arrives_as_it_was_sent(events: list[list[bytes]], end: bytes) -> None:
    text = b"".join(b"".join(b"data: " + line + end for line in lines) + end for lines in events)
    assert _decoded(text) == [b"\n".join(lines) for lines in events]


def test_a_payload_is_given_as_soon_as_its_event_ends() -> None:
    decoder = SSEDecoder()
    assert decoder.feed(b"data: one\n\ndata: t") == [b"one"]
    assert decoder.feed(b"wo\n") == []
    assert decoder.feed(b"\n") == [b"two"]
    assert decoder.close() == []


_LONG = b"x" * 5000


@pytest.mark.parametrize(
    ("reads", "payloads"),
    [
        ([b"\n\n"], [[_LONG]]),
        ([b"\n", b"\n"], [[], [_LONG]]),
        ([b"\r\n", b"\r\n"], [[], [_LONG]]),
        ([b"z\n\ndata: y\n", b"\n"], [[_LONG + b"z"], [b"y"]]),
        ([b"z", b"\n\ndata: y\n\n"], [[], [_LONG + b"z", b"y"]]),
        ([b"\ndata: z", b"\n\n"], [[], [_LONG + b"\nz"]]),
    ],
)
def test_a_long_payload_is_given_as_soon_as_its_event_ends(
    reads: list[bytes], payloads: list[list[bytes]]
) -> None:
    decoder = SSEDecoder()
    assert decoder.feed(b"data: " + _LONG) == []
    assert [decoder.feed(read) for read in reads] == payloads
    assert decoder.close() == []


def test_nothing_comes_twice_out_of_close() -> None:
    decoder = SSEDecoder()
    decoder.feed(b"data: one")
    assert [decoder.close(), decoder.close()] == [[b"one"], []]


def test_a_line_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 100)
    decoder = SSEDecoder()
    assert decoder.feed(b"data: " + b"x" * 94) == []
    with pytest.raises(EventTooLargeError, match=r"^an event of more than 100 bytes$"):
        decoder.feed(b"x")


def test_a_large_event_is_no_trouble() -> None:
    payload = b"x" * (1024 * 1024)
    assert _decoded(*_cut(b"data: " + payload + b"\n\n", list(range(0, len(payload), 65536)))) == [
        payload
    ]


@pytest.mark.parametrize(
    ("event", "encoded"),
    [
        pytest.param({"type": "ping"}, b'event: ping\ndata: {"type":"ping"}\n\n', id="ping"),
        pytest.param(
            {"type": "message_stop", "text": "ü\n\r\n😀"},
            'event: message_stop\ndata: {"type":"message_stop","text":"ü\\n\\r\\n😀"}\n\n'.encode(),
            id="line-ends-are-escaped",
        ),
    ],
)
def test_encoded(event: dict[str, Any], encoded: bytes) -> None:
    assert encode_event(event) == encoded


@given(st.text(), st.lists(st.integers(min_value=0), max_size=5))
@settings(deadline=None)
def test_what_is_encoded_can_be_decoded(text: str, places: list[int]) -> None:
    event = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": text}}
    payloads = _decoded(*_cut(encode_event(event) + encode_event({"type": "ping"}), places))
    assert [json.loads(payload) for payload in payloads] == [event, {"type": "ping"}]


@pytest.mark.parametrize("cut", range(6))
def test_a_byte_order_mark_is_no_part_of_the_first_line(cut: int) -> None:
    raw = b"\xef\xbb\xbfdata: a\n\ndata: \xef\xbb\xbfb\n\n"
    decoder = SSEDecoder()
    assert decoder.feed(raw[:cut]) + decoder.feed(raw[cut:]) == [b"a", b"\xef\xbb\xbfb"]


def test_an_event_of_many_lines_has_a_bound_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 100)
    decoder = SSEDecoder()
    assert decoder.feed(b"data: " + b"x" * 60 + b"\n") == []
    with pytest.raises(EventTooLargeError):
        decoder.feed(b"data: " + b"x" * 60 + b"\n")


@pytest.mark.parametrize("blank", [b"\n", b"\r", b"\r\n"])
@pytest.mark.parametrize("size", [1, 7, 65536])
def test_blank_lines_are_no_events(blank: bytes, size: int) -> None:
    sent = blank * 20_000 + b"data: a" + blank * 1_000 + b"data: b\ndata: c" + blank * 3
    decoder = SSEDecoder()
    events = [
        event
        for at in range(0, len(sent), size)
        for event in decoder.split_events(sent[at : at + size])
    ]
    assert [payload for payload in map(parse_data, events) if payload is not None] == [
        b"a",
        b"b\nc",
    ]
    assert size < 100 or len(events) < 10


@pytest.mark.parametrize(
    ("event", "is_error"),
    [
        (b"event: error\ndata: {}", True),
        (b"event:error", True),
        (b'data: {"message":"a"}\nevent: error', True),
        (b"event: message\ndata: event: error", False),
        (b"event: errors\ndata: {}", False),
        (b"event: response.error\ndata: {}", False),
        (b'data: {"content":"event: error"}', False),
        (b'data: {"content":"\\nevent: error\\n"}', False),
        (b"data: a\ndata: event: error", False),
        (b": event: error", False),
        (b"", False),
    ],
)
def test_events_named_error(event: bytes, is_error: bool) -> None:
    assert is_error_event(event) == is_error


@pytest.mark.parametrize(
    ("event", "is_error", "stray"),
    [
        (b"data: {}", False, b""),
        (b"event: error\ndata: {}", True, b""),
        (b"data: a\nevent:error", True, b""),
        (b"event: errors\ndata: event: error", False, b""),
        (b'{"error": 1}', False, b'{"error": 1}'),
        (b": comment\nid: 7\nretry: 1", False, b""),
        (b'{\n  "a": 1\n}\ndata: x', False, b'{\n  "a": 1\n}'),
        (b"", False, b""),
    ],
)
def test_errors_and_text_outside_of_events(event: bytes, *, is_error: bool, stray: bytes) -> None:
    assert is_error_event(event) is is_error
    assert get_stray_text(event) == stray


_LINES = {
    "data": b'data: {"a":1}\ndata: {"b":[2]}\ndata: [DONE]\n',
    "names": b'event: a\ndata: {"a":1}\nevent: b\ndata: {"b":[2]}\nevent: c\ndata: [DONE]\n',
    "no line end": b'data: {"a":1}\ndata: {"b":[2]}\ndata: [DONE]',
    "no spaces": b'data:{"a":1}\ndata:{"b":[2]}\ndata:[DONE]\n',
    "one empty line": b'data: {"a":1}\ndata: {"b":[2]}\n\ndata: [DONE]\n\n',
    "last empty line": b'data: {"a":1}\ndata: {"b":[2]}\ndata: [DONE]\n\n',
    "comments": b': hb\n\ndata: {"a":1}\n: hb\ndata: {"b":[2]}\n: hb\ndata: [DONE]\n',
    "ids": b'id: 1\ndata: {"a":1}\nid: 2\ndata: {"b":[2]}\nid: 3\ndata: [DONE]\n',
    "byte order mark": b'\xef\xbb\xbfdata: {"a":1}\ndata: {"b":[2]}\ndata: [DONE]\n',
}


@pytest.mark.parametrize("split", [whole, byte_by_byte, random_splits])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("raw", _LINES.values(), ids=_LINES)
def test_events_without_empty_lines_between(raw: bytes, line_end: bytes, split: Any) -> None:
    """Each line of data is an event, as some gateways send it."""
    decoder = SSEDecoder()
    payloads = []
    for read in split(raw.replace(b"\n", line_end)):
        payloads += decoder.feed(read)
    assert [*payloads, *decoder.close()] == [b'{"a":1}', b'{"b":[2]}', b"[DONE]"]


def test_a_line_is_an_event_as_soon_as_the_next_one_begins() -> None:
    decoder = SSEDecoder()
    assert decoder.feed(b'data: {"a":1}\n') == []
    assert decoder.feed(b'data: {"b":2}\n') == [b'{"a":1}', b'{"b":2}']
    assert decoder.feed(b'data: {"c":3}\n') == [b'{"c":3}']


@pytest.mark.parametrize("split", [whole, byte_by_byte, random_splits])
@pytest.mark.parametrize(
    "raw",
    [
        b'data: {"a":\ndata: 1}\n\n',
        b"data: text\ndata: more\n\n",
        b"data: [DONE]\ndata: more\n\n",
        b"data: \ndata: {}\n\n",
        # Only the first event shows the form of a stream.
        b'data: {}\n\ndata: {"a":1}\ndata: {"a":1}\n\n',
    ],
)
def test_data_in_several_lines(raw: bytes, split: Any) -> None:
    decoder = SSEDecoder()
    payloads = []
    for read in split(raw):
        payloads += decoder.feed(read)
    expected = [event.replace(b"data: ", b"") for event in raw.split(b"\n\n")[:-1]]
    assert payloads == expected


def test_a_line_without_an_end_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 100)
    decoder = SSEDecoder()
    decoder.feed(b"data: {}\ndata: {}\ndata: ")
    decoder.feed(b"x" * 94)
    with pytest.raises(EventTooLargeError):
        decoder.feed(b"x")
