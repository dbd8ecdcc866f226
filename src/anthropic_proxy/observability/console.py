"""Log lines for people: one short line for each event, in colour on a terminal.

A finished request shows what an operator looks at first: model, status, seconds, tokens, how it ended. `--debug` adds all
other fields. Clients choose some of the values, so nothing is written to a terminal that is not printable.
"""

import os
import re
from collections.abc import Mapping, MutableMapping
from datetime import datetime
from typing import Any

REQUEST_FINISHED = "request finished"
UPSTREAM_PROBED = "upstream probed"
# An event whose `text` is shown as it is.
BANNER = "started"

_COLORS = {"error": "\033[31m", "critical": "\033[31m", "warning": "\033[33m", "debug": "\033[2m"}
_END = "\033[0m"
_PLAIN = re.compile(r"[^\s\"'=\\]+")
_LONGEST_MODEL = 60
_LONGEST_MESSAGE = 500
_SHOWN_OF_ID = 8

# Fields that the short line of a request has in a form of its own. With `--debug` the whole id is shown as well.
_SHORT = frozenset(
    {
        *(
            "event",
            "level",
            "timestamp",
            "model",
            "method",
            "path",
            "status",
            "seconds",
            "first_token_seconds",
        ),
        *(
            "input_tokens",
            "output_tokens",
            "cache_read_tokens",
            "cache_creation_tokens",
            "stop_reason",
        ),
        *("retries", "failovers", "error_type", "message", "upstream_url", "hint"),
    }
)


class ConsoleRenderer:
    """Renders an event as a line: the last processor of structlog."""

    def __init__(self, *, is_terminal: bool, details: bool) -> None:
        """is_terminal: show the local time of day, and colours. details: show all fields of requests."""
        self._is_terminal = is_terminal
        self._has_colors = is_terminal and not os.environ.get("NO_COLOR")
        self._details = details

    def __call__(self, _logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
        """Return the line, without its end."""
        if event["event"] == BANNER and "text" in event:
            return str(event["text"])
        level = str(event.get("level", "info"))
        is_request = event["event"] == REQUEST_FINISHED
        exception = event.pop("exception", None)
        text = self._request(event) if is_request else self._other_event(event)
        line = f"{self._prefix(event, level, is_request=is_request)}{text}"
        if self._has_colors and level in _COLORS:
            line = f"{_COLORS[level]}{line}{_END}"
        return f"{line}\n{_traceback(str(exception))}" if exception else line

    def _prefix(self, event: Mapping[str, Any], level: str, *, is_request: bool) -> str:
        timestamp = str(event["timestamp"])
        if not self._is_terminal:
            return f"{timestamp} [{level:<9}] "
        time = f"{datetime.fromisoformat(timestamp).astimezone():%H:%M:%S}  "
        return time if is_request else f"{time}[{level}] "

    def _other_event(self, event: Mapping[str, Any]) -> str:
        if event["event"] != UPSTREAM_PROBED or self._details:
            return _any_event(event)
        hint = f"; {event['hint']}" if event.get("hint") else ""
        models = f" ({event['first_models']})" if event.get("first_models") else ""
        text = f"{event['url']}: {event['result']}{models}{hint}"
        return f"{UPSTREAM_PROBED}  {_one_line(text)}"

    def _request(self, event: Mapping[str, Any]) -> str:
        line = "  ".join(filter(None, _request_columns(event)))
        if not self._details:
            return line
        others = {name: value for name, value in event.items() if name not in _SHORT}
        return f"{line}  {_fields(others)}"


def _traceback(text: str) -> str:
    """Return a traceback with escapes for what is not printable: errors may repeat what others sent."""
    return "\n".join(line if line.isprintable() else _escaped(line) for line in text.split("\n"))


def _escaped(line: str) -> str:
    return "".join(
        each if each.isprintable() or each == "\t" else ascii(each)[1:-1] for each in line
    )


def _request_columns(event: Mapping[str, Any]) -> list[str]:
    operation = event.get("operation")
    name = _shown(str(event.get("model") or operation or ""))[:_LONGEST_MODEL]
    if operation == "other":
        name = f"{_shown(str(event.get('method')))} {_shown(str(event.get('path')))}"
    elif operation != "chat" and event.get("model"):
        name = f"{name} ({operation})"
    return [
        name,
        str(event.get("status") or "no response"),
        _seconds(event),
        _tokens(event),
        _ending(event),
        _failure(event),
        _short_id(str(event.get("request_id", ""))),
    ]


def _seconds(event: Mapping[str, Any]) -> str:
    first = event.get("first_token_seconds")
    total = f"{_number_of_seconds(event.get('seconds', 0))} s"
    return total if first is None else f"{total} (first {_number_of_seconds(first)})"


def _number_of_seconds(seconds: float) -> str:
    return f"{seconds:.0f}" if seconds >= 100 else f"{seconds:.1f}"


def _tokens(event: Mapping[str, Any]) -> str:
    cached = event.get("cache_read_tokens", 0)
    read = event.get("input_tokens", 0) + cached + event.get("cache_creation_tokens", 0)
    written = event.get("output_tokens", 0)
    if not read and not written:
        return ""
    if event.get("operation") == "count_tokens":
        return f"{_count(read)} in"
    shown_cached = f" ({_count(cached)} cached)" if cached else ""
    return f"{_count(read)} in{shown_cached} {_count(written)} out"


def _count(tokens: int) -> str:
    if tokens < 1000:
        return str(tokens)
    return f"{tokens / 1000:.1f}k" if tokens < 100_000 else f"{tokens // 1000}k"


def _ending(event: Mapping[str, Any]) -> str:
    outcome = event.get("outcome", "complete")
    ends = {"client_closed": "client left", "truncated": "truncated"}
    words = [_shown(str(event["stop_reason"]))] if event.get("stop_reason") else []
    words += [ends[outcome]] if outcome in ends else []
    words += [f"{event[name]} {name}" for name in ("retries", "failovers") if event.get(name)]
    return ", ".join(words)


def _failure(event: Mapping[str, Any]) -> str:
    kind, message = event.get("error_type"), str(event.get("message") or "")
    if not kind:
        return ""
    additions = [str(event[name]) for name in ("upstream_url", "hint") if event.get(name)]
    addition = f" ({_one_line('; '.join(additions))})" if additions else ""
    return f"{_shown(str(kind))}: {_one_line(message)[:_LONGEST_MESSAGE]}{addition}"


def _short_id(request_id: str) -> str:
    return request_id if len(request_id) <= _SHOWN_OF_ID + 1 else f"{request_id[:_SHOWN_OF_ID]}…"


def _any_event(event: Mapping[str, Any]) -> str:
    fields = {
        name: value for name, value in event.items() if name not in ("event", "level", "timestamp")
    }
    name = _one_line(str(event["event"]))
    return f"{name}  {_fields(fields)}" if fields else name


def _fields(values: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={_shown(str(value))}" for name, value in values.items())


def _shown(value: str) -> str:
    """Return a value as it is, or quoted and escaped where it is empty, has spaces, or is not printable."""
    return value if _PLAIN.fullmatch(value) and value.isprintable() else repr(value)


def _one_line(text: str) -> str:
    """Return a text with spaces for line ends, and escapes for what is not printable."""
    joined = " ".join(text.split())
    return joined if joined.isprintable() else repr(joined)
