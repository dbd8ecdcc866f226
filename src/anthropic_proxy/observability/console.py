"""Console log format: one short line for each event, with colors on a terminal.

The line of a finished request begins with the most important fields: model, status, seconds, tokens
and outcome. `--debug` adds all other fields. Some values come from clients, so unprintable
characters are escaped.
"""

import os
import re
from collections.abc import Collection, Mapping, MutableMapping
from datetime import datetime
from typing import Any

REQUEST_FINISHED = "request finished"
UPSTREAM_PROBED = "upstream probed"
# Event whose `text` is written unchanged.
BANNER = "banner shown"

_COLORS = {"error": "\033[31m", "critical": "\033[31m", "warning": "\033[33m", "debug": "\033[2m"}
_RESET_COLOR = "\033[0m"
_PLAIN = re.compile(r"[^\s\"'=\\]+")
_MAX_MODEL_LENGTH = 60
_MAX_MESSAGE_LENGTH = 500
_SHORT_ID_LENGTH = 8

# Fields that every event has.
_COMMON_FIELDS = frozenset({"event", "level", "timestamp"})
# Fields in the short line of a request. The request id is not included, because the short line
# truncates it.
_COMPACT_FIELDS = _COMMON_FIELDS | {
    "model",
    "method",
    "path",
    "status",
    "seconds",
    "first_token_seconds",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_creation_tokens",
    "stop_reason",
    "retries",
    "failovers",
    "error_type",
    "message",
    "upstream_url",
    "hint",
}
_OUTCOME_WORDS = {"client_closed": "client disconnected", "truncated": "truncated"}


class ConsoleRenderer:
    """Render an event as a line. This is the last processor of structlog."""

    def __init__(self, *, is_terminal: bool, details: bool) -> None:
        """Create a renderer. is_terminal: local times and colors. details: all request fields."""
        self._is_terminal = is_terminal
        self._has_colors = is_terminal and not os.environ.get("NO_COLOR")
        self._shows_details = details

    def __call__(self, _logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
        """Return the line without a newline."""
        if event["event"] == BANNER and "text" in event:
            return str(event["text"])
        level = str(event.get("level", "info"))
        exception = event.pop("exception", None)
        line = self._format_prefix(event, level) + self._format_event(event)
        if self._has_colors and level in _COLORS:
            line = f"{_COLORS[level]}{line}{_RESET_COLOR}"
        if exception:
            line = f"{line}\n{_escape_lines(str(exception))}"
        return line

    def _format_prefix(self, event: Mapping[str, Any], level: str) -> str:
        timestamp = str(event["timestamp"])
        if not self._is_terminal:
            return f"{timestamp} [{level:<9}] "
        time = f"{datetime.fromisoformat(timestamp).astimezone():%H:%M:%S}"
        if event["event"] == REQUEST_FINISHED:
            return f"{time}  "
        return f"{time}  [{level}] "

    def _format_event(self, event: Mapping[str, Any]) -> str:
        if event["event"] == REQUEST_FINISHED:
            return self._format_request(event)
        if event["event"] == UPSTREAM_PROBED and not self._shows_details:
            return _format_probe(event)
        name = _to_one_line(str(event["event"]))
        fields = _format_fields(event, left_out=_COMMON_FIELDS)
        return f"{name}  {fields}" if fields else name

    def _format_request(self, event: Mapping[str, Any]) -> str:
        line = "  ".join(filter(None, _format_request_columns(event)))
        if not self._shows_details:
            return line
        return f"{line}  {_format_fields(event, left_out=_COMPACT_FIELDS)}"


def _escape_lines(text: str) -> str:
    """Escape unprintable characters of a traceback: errors may contain text from clients."""
    characters = []
    for character in text:
        if character.isprintable() or character in "\n\t":
            characters.append(character)
        else:
            characters.append(ascii(character)[1:-1])
    return "".join(characters)


def _format_probe(event: Mapping[str, Any]) -> str:
    text = f"{event['url']}: {event['result']}"
    if event.get("first_models"):
        text += f" ({event['first_models']})"
    if event.get("hint"):
        text += f"; {event['hint']}"
    return f"{UPSTREAM_PROBED}  {_to_one_line(text)}"


def _format_request_columns(event: Mapping[str, Any]) -> list[str]:
    operation = event.get("operation")
    name = _quote(str(event.get("model") or operation or ""))[:_MAX_MODEL_LENGTH]
    if operation == "other":
        name = f"{_quote(str(event.get('method')))} {_quote(str(event.get('path')))}"
    elif operation != "chat" and event.get("model"):
        name = f"{name} ({operation})"
    return [
        name,
        str(event.get("status") or "no response"),
        _format_times(event),
        _format_tokens(event),
        _format_outcome(event),
        _format_failure(event),
        _shorten_id(str(event.get("request_id", ""))),
    ]


def _format_times(event: Mapping[str, Any]) -> str:
    times = f"{_format_seconds(event.get('seconds', 0))} s"
    if event.get("first_token_seconds") is not None:
        times += f" (first {_format_seconds(event['first_token_seconds'])})"
    return times


def _format_seconds(seconds: float) -> str:
    return f"{seconds:.0f}" if seconds >= 100 else f"{seconds:.1f}"


def _format_tokens(event: Mapping[str, Any]) -> str:
    cached = event.get("cache_read_tokens", 0)
    input_tokens = event.get("input_tokens", 0) + cached + event.get("cache_creation_tokens", 0)
    output_tokens = event.get("output_tokens", 0)
    if not input_tokens and not output_tokens:
        return ""
    if event.get("operation") == "count_tokens":
        return f"{_format_count(input_tokens)} in"
    tokens = f"{_format_count(input_tokens)} in"
    if cached:
        tokens += f" ({_format_count(cached)} cached)"
    return f"{tokens} {_format_count(output_tokens)} out"


def _format_count(tokens: int) -> str:
    if tokens < 1000:
        return str(tokens)
    if tokens < 100_000:
        return f"{tokens / 1000:.1f}k"
    return f"{tokens // 1000}k"


def _format_outcome(event: Mapping[str, Any]) -> str:
    words = []
    if event.get("stop_reason"):
        words.append(_quote(str(event["stop_reason"])))
    if event.get("outcome") in _OUTCOME_WORDS:
        words.append(_OUTCOME_WORDS[event["outcome"]])
    for name, one in (("retries", "retry"), ("failovers", "failover")):
        if event.get(name):
            words.append(f"{event[name]} {one if event[name] == 1 else name}")
    return ", ".join(words)


def _format_failure(event: Mapping[str, Any]) -> str:
    if not event.get("error_type"):
        return ""
    message = _to_one_line(str(event.get("message") or ""))[:_MAX_MESSAGE_LENGTH]
    failure = f"{_quote(str(event['error_type']))}: {message}"
    notes = [str(event[name]) for name in ("upstream_url", "hint") if event.get(name)]
    if notes:
        failure += f" ({_to_one_line('; '.join(notes))})"
    return failure


def _shorten_id(request_id: str) -> str:
    if len(request_id) <= _SHORT_ID_LENGTH + 1:
        return request_id
    return f"{request_id[:_SHORT_ID_LENGTH]}…"


def _format_fields(event: Mapping[str, Any], left_out: Collection[str]) -> str:
    fields = []
    for name, value in event.items():
        if name not in left_out:
            fields.append(f"{name}={_quote(str(value))}")
    return " ".join(fields)


def _quote(value: str) -> str:
    """Return a plain value unchanged, and other values as a quoted literal."""
    is_plain = _PLAIN.fullmatch(value) and value.isprintable()
    return value if is_plain else repr(value)


def _to_one_line(text: str) -> str:
    """Replace line ends by spaces, and escape unprintable characters."""
    joined = " ".join(text.split())
    return joined if joined.isprintable() else repr(joined)
