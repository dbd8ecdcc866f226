"""JSON, keep-alives and end marks in the data of events."""

from typing import Any

import pytest

from anthropic_proxy.wire.payloads import (
    InvalidPayloadError,
    is_done,
    is_json,
    parse_json_body,
    parse_payload,
    strip_leading,
)


@pytest.mark.parametrize(
    ("payload", "done"),
    [
        (b"[DONE]", True),
        (b"[DONE] ", True),
        (b"\t[DONE]", True),
        (b'"[DONE]"', True),
        (b"[done]", True),
        (b"data: [DONE]", True),
        (b"[DONE", False),
        (b"DONE", False),
        (b"[DONE] {}", False),
        (b'{"content":"[DONE]"}', False),
        (b"[DONE]" + b" " * 100, False),
        (b"", False),
    ],
)
def test_end_marks(payload: bytes, done: bool) -> None:
    assert is_done(payload) is done


@pytest.mark.parametrize(
    ("payload", "objects"),
    [
        (b'{"a":1}', [{"a": 1}]),
        (b' {"a":1} ', [{"a": 1}]),
        (b'[{"a":1},{}]', [{"a": 1}, {}]),
        (b'data: {"a":1}', [{"a": 1}]),
        (b'{"a":"\xff"}', [{"a": "\ufffd"}]),
        (b"[]", []),
        (b"", []),
        (b"null", []),
        (b'""', []),
        (b"ping", []),
        (b'"heartbeat"', []),
        (b"HEARTBEAT", []),
        (b"keep-alive", []),
        (b"Processing...", []),
        (b"still working", []),
        (b"Keep alive", []),
        (b"keep_alive", []),
        (b"KEEPALIVE", []),
        (b"pong", []),
        (b"OPENROUTER PROCESSING", []),
        (b"true", []),
        (b"1764530000", []),
        (b"1764530000123", []),
        (b"1764530000.5", []),
        (b": comment", []),
        (b" : comment", []),
    ],
)
def test_payloads(payload: bytes, objects: list[Any]) -> None:
    assert parse_payload(payload) == objects


@pytest.mark.parametrize(
    "payload",
    [
        b"{",
        b'{"a"',
        b"[1]",
        b'[{"a":1},2]',
        b"[",
        b'"a',
        b'a"',
        b"two words",
        b"Hello",
        b"Yes.",
        b'"Sure"',
        b"42",
        b"12.5",
        b"-1",
        b"1764530000123456",
        b"ping pong",
        b"null null",
        b"false",
        b'"ping',
        b"error",
        b"Unauthorized",
        b"rate_limit_exceeded",
        b"<html>",
        b"data: {",
        b"data: data: {}",
        b"a" * 65,
        b"1" * 5000,
    ],
)
def test_invalid_payloads(payload: bytes) -> None:
    with pytest.raises(InvalidPayloadError):
        parse_payload(payload)


@pytest.mark.parametrize(
    ("body", "objects"),
    [
        (b'{"a":1}', [{"a": 1}]),
        (b'[{"a":1}]', [{"a": 1}]),
        (b'{"a":1}\n{"a":2}\n', [{"a": 1}, {"a": 2}]),
        (b'{"a":1}\r\n\r\n{"a":2}', [{"a": 1}, {"a": 2}]),
        (b'{"a":"\xff"}\n{"a":2}', [{"a": "\ufffd"}, {"a": 2}]),
        (b'{"a":1}\n{"a":', None),
        (b'{"a":1}\nping', None),
        (b"[1]", None),
        (b'{\n"a":', None),
        (b"{}\n" * 1_000_001, None),
    ],
    ids=map(str, range(10)),
)
def test_json_bodies(body: bytes, objects: list[Any] | None) -> None:
    assert parse_json_body(body) == objects


@pytest.mark.parametrize(
    ("body", "json"),
    [
        (b'{"a"', True),
        (b"[", True),
        (b'\n\t {"a"', True),
        (b"\xef\xbb\xbf{", True),
        (b"\xef\xbb", False),
        (b"data: {}", False),
        (b": {", False),
        (b"<html>", False),
        (b"", False),
    ],
)
def test_formats(body: bytes, json: bool) -> None:
    assert is_json(strip_leading(body)) is json
