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
BANNER = "banner shown"

_COLORS = {"error": "\033[31m", "critical": "\033[31m", "warning": "\033[33m", "debug": "\033[2m"}
_RESET_COLOR = "\033[0m"
_PLAIN = re.compile(r"[^\s\"'=\\]+")
_MAX_MODEL_LENGTH = 60
_MAX_MESSAGE_LENGTH = 500
_SHORT_ID_LENGTH = 8

# Fields that the short line of a request has in a form of its own. With `--debug` the whole id is shown as well.
_COMPACT_FIELDS = frozenset(
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
        self._shows_details = details

    def __call__(self, _logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
        """Return the line, without its end."""
        if event["event"] == BANNER and "text" in event:
            return str(event["text"])
        level = str(event.get("level", "info"))
        is_request = event["event"] == REQUEST_FINISHED
        exception = event.pop("exception", None)
        text = self._format_request(event) if is_request else self._format_other_event(event)
        line = f"{self._format_prefix(event, level, is_request=is_request)}{text}"
        if self._has_colors and level in _COLORS:
            line = f"{_COLORS[level]}{line}{_RESET_COLOR}"
        return f"{line}\n{_traceback(str(exception))}" if exception else line

    def _format_prefix(self, event: Mapping[str, Any], level: str, *, is_request: bool) -> str:
        timestamp = str(event["timestamp"])
        if not self._is_terminal:
            return f"{timestamp} [{level:<9}] "
        time = f"{datetime.fromisoformat(timestamp).astimezone():%H:%M:%S}  "
        return time if is_request else f"{time}[{level}] "

    def _format_other_event(self, event: Mapping[str, Any]) -> str:
        if event["event"] != UPSTREAM_PROBED or self._shows_details:
            return _format_event(event)
        hint = f"; {event['hint']}" if event.get("hint") else ""
        models = f" ({event['first_models']})" if event.get("first_models") else ""
        text = f"{event['url']}: {event['result']}{models}{hint}"
        return f"{UPSTREAM_PROBED}  {_to_one_line(text)}"

    def _format_request(self, event: Mapping[str, Any]) -> str:
        line = "  ".join(filter(None, _format_request_columns(event)))
        if not self._shows_details:
            return line
        others = {name: value for name, value in event.items() if name not in _COMPACT_FIELDS}
        return f"{line}  {_format_fields(others)}"


def _traceback(text: str) -> str:
    """Return a traceback with escapes for what is not printable: errors may repeat what others sent."""
    return "\n".join(line if line.isprintable() else _escaped(line) for line in text.split("\n"))


def _escaped(line: str) -> str:
    return "".join(
        each if each.isprintable() or each == "\t" else ascii(each)[1:-1] for each in line
    )


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
    first = event.get("first_token_seconds")
    total = f"{_format_seconds(event.get('seconds', 0))} s"
    return total if first is None else f"{total} (first {_format_seconds(first)})"


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
    cache_note = f" ({_format_count(cached)} cached)" if cached else ""
    return f"{_format_count(input_tokens)} in{cache_note} {_format_count(output_tokens)} out"


def _format_count(tokens: int) -> str:
    if tokens < 1000:
        return str(tokens)
    return f"{tokens / 1000:.1f}k" if tokens < 100_000 else f"{tokens // 1000}k"


def _format_outcome(event: Mapping[str, Any]) -> str:
    outcome = event.get("outcome", "complete")
    outcome_words = {"client_closed": "client left", "truncated": "truncated"}
    words = [_quote(str(event["stop_reason"]))] if event.get("stop_reason") else []
    words += [outcome_words[outcome]] if outcome in outcome_words else []
    words += [f"{event[name]} {name}" for name in ("retries", "failovers") if event.get(name)]
    return ", ".join(words)


def _format_failure(event: Mapping[str, Any]) -> str:
    kind, message = event.get("error_type"), str(event.get("message") or "")
    if not kind:
        return ""
    additions = [str(event[name]) for name in ("upstream_url", "hint") if event.get(name)]
    addition = f" ({_to_one_line('; '.join(additions))})" if additions else ""
    return f"{_quote(str(kind))}: {_to_one_line(message)[:_MAX_MESSAGE_LENGTH]}{addition}"


def _shorten_id(request_id: str) -> str:
    return (
        request_id
        if len(request_id) <= _SHORT_ID_LENGTH + 1
        else f"{request_id[:_SHORT_ID_LENGTH]}…"
    )


def _format_event(event: Mapping[str, Any]) -> str:
    fields = {
        name: value for name, value in event.items() if name not in ("event", "level", "timestamp")
    }
    name = _to_one_line(str(event["event"]))
    return f"{name}  {_format_fields(fields)}" if fields else name


def _format_fields(values: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={_quote(str(value))}" for name, value in values.items())


def _quote(value: str) -> str:
    """Return a value as it is, or quoted and escaped where it is empty, has spaces, or is not printable."""
    return value if _PLAIN.fullmatch(value) and value.isprintable() else repr(value)


def _to_one_line(text: str) -> str:
    """Return a text with spaces for line ends, and escapes for what is not printable."""
    joined = " ".join(text.split())
    return joined if joined.isprintable() else repr(joined)
