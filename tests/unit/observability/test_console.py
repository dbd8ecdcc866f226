"""Console format of the log."""

from typing import Any

import pytest

from anthropic_proxy.observability.console import BANNER, REQUEST_FINISHED, ConsoleRenderer

_TIME = {"timestamp": "2026-11-30T07:14:10.000000Z"}
_CHAT = {
    "event": REQUEST_FINISHED,
    "level": "info",
    "request_id": "req_d488aaaabbbbccccddddeeee",
    "operation": "chat",
    "model": "qwen3:4b",
    "status": 200,
    "outcome": "complete",
    "seconds": 0.912,
}
_USED = {
    "input_tokens": 100,
    "cache_read_tokens": 9500,
    "output_tokens": 34,
    "stop_reason": "tool_use",
}
_FAILED = {"level": "error", "status": 500, "outcome": "upstream_error", "error_type": "api_error"}
_OTHER = {"operation": "other", "method": "GET", "path": "/x", "model": None}


@pytest.mark.parametrize(
    ("values", "line"),
    [
        (_USED, "qwen3:4b  200  0.9 s  9.6k in (9.5k cached) 34 out  tool_use  req_d488…"),
        (
            _USED | {"first_token_seconds": 0.2},
            "qwen3:4b  200  0.9 s (first 0.2)  9.6k in (9.5k cached) 34 out  tool_use  req_d488…",
        ),
        (
            {"input_tokens": 250_000, "output_tokens": 1, "seconds": 123.4},
            "qwen3:4b  200  123 s  250k in 1 out  req_d488…",
        ),
        (
            {"operation": "count_tokens", "input_tokens": 7},
            "qwen3:4b (count_tokens)  200  0.9 s  7 in  req_d488…",
        ),
        (_OTHER | {"status": 404}, "GET /x  404  0.9 s  req_d488…"),
        (_FAILED | {"message": "a\n b"}, "qwen3:4b  500  0.9 s  api_error: a b  req_d488…"),
        (
            _FAILED | {"message": "a", "hint": "do b"},
            "qwen3:4b  500  0.9 s  api_error: a (do b)  req_d488…",
        ),
        (
            _FAILED | {"message": "a", "upstream_url": "http://b"},
            "qwen3:4b  500  0.9 s  api_error: a (http://b)  req_d488…",
        ),
        (
            {"outcome": "client_closed", "status": None},
            "qwen3:4b  no response  0.9 s  client disconnected  req_d488…",
        ),
        ({"retries": 2, "failovers": 1}, "qwen3:4b  200  0.9 s  2 retries, 1 failover  req_d488…"),
        ({"retries": 1, "failovers": 2}, "qwen3:4b  200  0.9 s  1 retry, 2 failovers  req_d488…"),
        ({"model": "a\x1b[2Jb", "request_id": "mine"}, r"'a\x1b[2Jb'  200  0.9 s  mine"),
        ({"model": "m" * 999}, "m" * 60 + "  200  0.9 s  req_d488…"),
    ],
)
def test_finished_requests_are_rendered_on_one_line(values: dict[str, Any], line: str) -> None:
    event: dict[str, Any] = {**_TIME, **_CHAT, **values}
    rendered = ConsoleRenderer(is_terminal=False, details=False)(None, "", event)
    assert rendered == f"{_TIME['timestamp']} [{event['level']:<9}] {line}"


def test_details_follow_the_short_line() -> None:
    """The details are the fields that the short line omits, and the complete request id."""
    rendered = ConsoleRenderer(is_terminal=False, details=True)(
        None, "", {**_TIME, **_CHAT, "upstream": "up:1"}
    )
    assert rendered.endswith(
        "req_d488…  request_id=req_d488aaaabbbbccccddddeeee operation=chat outcome=complete "
        "upstream=up:1"
    )


@pytest.mark.parametrize(
    ("level", "colors", "prefix", "suffix"),
    [
        ("error", True, "\x1b[31m", "\x1b[0m"),
        ("warning", True, "\x1b[33m", "\x1b[0m"),
        ("info", True, "", "y=2"),
        ("error", False, "", "y=2"),
    ],
)
def test_errors_and_warnings_are_colored(
    monkeypatch: pytest.MonkeyPatch, *, level: str, colors: bool, prefix: str, suffix: str
) -> None:
    monkeypatch.setenv("NO_COLOR", "" if colors else "1")
    event = {**_TIME, "event": "x", "level": level, "y": 2}
    rendered = ConsoleRenderer(is_terminal=True, details=False)(None, "", event)
    assert rendered.startswith(prefix)
    assert rendered.endswith(suffix)
    assert ("\x1b" in rendered) is bool(prefix)


@pytest.mark.parametrize(
    ("event", "line"),
    [
        ({"event": "a b", "x": "1", "y": "c d", "z": ""}, "a b  x=1 y='c d' z=''"),
        ({"event": "a\nb"}, "a b"),
        ({"event": "a", "x": "\x1b[31m"}, r"a  x='\x1b[31m'"),
        (
            {"event": "upstream probed", "url": "http://u", "result": "reachable", "hint": "h"},
            "upstream probed  http://u: reachable; h",
        ),
    ],
)
def test_other_events_are_rendered_with_their_fields(event: dict[str, Any], line: str) -> None:
    rendered = ConsoleRenderer(is_terminal=False, details=False)(
        None, "", {**_TIME, "level": "info", **event}
    )
    assert rendered == f"{_TIME['timestamp']} [info     ] {line}"


def test_tracebacks_contain_only_printable_characters() -> None:
    """Line breaks, tabs and the letters of all languages remain."""
    rendered = ConsoleRenderer(is_terminal=True, details=False)(
        None,
        "error",
        {
            **_TIME,
            "event": "broken",
            "level": "info",
            "exception": "Traceback\n\tx\nValueError: é \x1b[2J\x9b\r\x00\u202e",
        },
    )
    assert rendered.split("\n")[1:] == [
        "Traceback",
        "\tx",
        "ValueError: é \\x1b[2J\\x9b\\r\\x00\\u202e",
    ]


def test_banners_and_tracebacks_are_rendered_on_several_lines() -> None:
    render = ConsoleRenderer(is_terminal=True, details=False)
    assert (
        render(None, "", {**_TIME, "event": BANNER, "level": "info", "text": "one\ntwo"})
        == "one\ntwo"
    )
    event = {**_TIME, "event": "broken", "level": "info", "exception": "Traceback\n  x"}
    assert render(None, "", event).endswith("[info] broken\nTraceback\n  x")
