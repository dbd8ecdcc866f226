"""Logs on standard error.

Each finished request has a line, and so have events that need the operator's attention. `--debug`
adds a line for each started request; `--verbose` adds all bodies. `Log.redact` processes
everything, tracebacks too. Warnings and errors of libraries have the same format.
"""

import contextlib
import io
import logging
import re
import sys
import traceback
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal, TextIO, cast

import structlog
from structlog.typing import FilteringBoundLogger, Processor

from anthropic_proxy.errors import ApiError
from anthropic_proxy.errors.redaction import NO_SECRETS, Redactor, Secret, mask_api_keys
from anthropic_proxy.observability.console import BANNER, ConsoleRenderer
from anthropic_proxy.observability.log_writer import LogWriter
from anthropic_proxy.wire.json_codec import dumps
from anthropic_proxy.wire.quoting import shorten

# console: for humans. json: one object per line. auto: console on a terminal.
LogFormat = Literal["auto", "console", "json"]

# Images and documents: only their beginning is informative.
_MIN_BASE64_LENGTH = 200
_BASE64 = re.compile(rf"[A-Za-z0-9+/]{{{_MIN_BASE64_LENGTH},}}={{0,2}}")
_BASE64_PREFIX_LENGTH = 24
# Of ignored fields, each logged once. Clients choose the names, so their number is bounded.
_MAX_KINDS = 1000


def configure_logging(
    *, debug: bool, log_format: LogFormat = "auto", in_thread: bool = False
) -> LogWriter | None:
    """Set up logging for this process.

    debug: log the debug level too. in_thread: write in a thread, with the writer that is returned;
    processes that are forked later have threads of their own. Returns None, and writes each line at
    once, if standard error is no file descriptor, and on Windows, whose consoles accept only
    characters.
    """
    # It logs every flaw that it repairs in a PDF.
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    base_processors: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer = _create_renderer(log_format, details=debug)
    writer = _create_writer(base_processors, renderer) if in_thread else None
    stream = cast("TextIO", writer or _TolerantStream(sys.stderr))
    _configure_libraries(base_processors, renderer, stream)
    structlog.configure(
        processors=[*base_processors, renderer],
        wrapper_class=structlog.make_filtering_bound_logger("debug" if debug else "info"),
        # One write for each line, as several processes share the stream.
        logger_factory=structlog.WriteLoggerFactory(stream),
    )
    return writer


def _create_writer(base_processors: list[Processor], renderer: Processor) -> LogWriter | None:
    if sys.platform == "win32":
        return None
    try:
        descriptor = sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):  # no standard error, or a closed or in-memory one
        return None

    def format_drop_note(dropped: int) -> str:
        line: Any = {"event": "log lines dropped", "lines": dropped}
        for processor in (*base_processors, renderer):
            line = processor(None, "warning", line)
        return f"{line}\n"

    # JSON is UTF-8 in all locales (RFC 8259, 8.1).
    return LogWriter(descriptor, "utf-8", format_drop_note)


def is_json(log_format: LogFormat) -> bool:
    """Return whether the log has JSON lines in this format."""
    return log_format == "json" or (log_format == "auto" and not is_terminal())


def is_terminal() -> bool:
    """Return whether standard error is a terminal."""
    return sys.stderr is not None and sys.stderr.isatty()


def format_json_line(level: str, event: str, **values: object) -> str:
    """Return a line of the JSON log, for reports before the log is set up and after its end."""
    line = {
        **values,
        "event": event,
        "level": level,
        "timestamp": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}",
    }
    return dumps(line).decode()


def _create_renderer(log_format: LogFormat, *, details: bool) -> Processor:
    if is_json(log_format):
        return structlog.processors.JSONRenderer(serializer=lambda line, **_: dumps(line).decode())
    return ConsoleRenderer(is_terminal=is_terminal(), details=details)


def _configure_libraries(
    base_processors: list[Processor], renderer: Processor, stream: TextIO
) -> None:
    handler = _LibraryHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*base_processors, structlog.processors.format_exc_info],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


class _LibraryHandler(logging.StreamHandler[TextIO]):
    """Writes the logs of libraries. Their errors may repeat addresses with credentials."""

    redact: Callable[[str], str] = staticmethod(str)

    def format(self, record: logging.LogRecord) -> str:
        return self.redact(super().format(record))


class _TolerantStream:
    """A stream that ignores a lost reader (`2>&1 | head`), because no request may fail with it.

    Lines are UTF-8, as JSON requires, in all locales.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._buffer = None
        if sys.platform != "win32":
            self._buffer = getattr(stream, "buffer", None)

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            if isinstance(self._buffer, io.BufferedIOBase):
                self._stream.flush()
                self._buffer.write(text.encode("utf-8", "backslashreplace"))
            else:
                self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()


# Removes the credentials of the request that the current task serves.
_request_redactor: ContextVar[Redactor] = ContextVar("request_redactor", default=NO_SECRETS)


def hide_in_current_task(secrets: Iterable[str]) -> None:
    """Redact secrets in all lines of the current task, and of tasks that it starts later."""
    _request_redactor.set(Redactor(map(Secret, secrets)))


def _is_never_key(_: str) -> bool:
    return False


class Log:
    """The process's log."""

    def __init__(
        self,
        *,
        verbose: bool = False,
        secrets: Iterable[Secret] = (),
        is_api_key: Callable[[str], bool] = _is_never_key,
    ) -> None:
        """secrets: removed from every line. is_api_key: detects clients' keys, also removed."""
        self.verbose = verbose
        self._secrets = dict.fromkeys(secrets)
        self._redactor = Redactor(self._secrets)
        self.is_api_key = is_api_key
        self._logged_kinds: set[str] = set()
        self._logger: FilteringBoundLogger = structlog.get_logger()

    def add_secrets(self, secrets: Iterable[Secret]) -> None:
        """Remove these too from every line."""
        # New objects, because other threads may be using the old ones.
        self._secrets = {**self._secrets, **dict.fromkeys(secrets)}
        self._redactor = Redactor(self._secrets)

    def redact_libraries(self) -> None:
        """Redact the logs of libraries, too."""
        for handler in logging.root.handlers:
            if isinstance(handler, _LibraryHandler):
                handler.redact = self.redact

    def redact(self, text: str) -> str:
        """Return the text without secrets and keys of clients, and with long base64 data cut."""
        text = _request_redactor.get().redact(self._redactor.redact(text))
        if len(text) >= _MIN_BASE64_LENGTH:
            text = _BASE64.sub(_shorten_base64, text)
        if self.is_api_key is not _is_never_key:
            text = mask_api_keys(text, self.is_api_key)
        return text

    def info(self, event: str, **values: object) -> None:
        self._logger.info(event, **self._redact_values(values))

    def print_banner(self, text: str) -> None:
        """Write lines for people, if the log has their format."""
        self._logger.info(BANNER, text=self.redact(text))

    def debug(self, event: str, **values: object) -> None:
        if self._logger.is_enabled_for(logging.DEBUG):
            self._logger.debug(event, **self._redact_values(values))

    def warning(self, event: str, **values: object) -> None:
        """Log what the operator should change."""
        self._logger.warning(event, **self._redact_values(values))

    def error(self, event: str, **values: object) -> None:
        """Log an error. Within an `except` block, `exc_info=True` adds the traceback."""
        self._logger.error(event, **self._redact_values(values))

    def log_stream_failure(self, request_id: str, error: Exception) -> None:
        """Log the error that ended a stream, except ApiErrors, which the request's line has."""
        if not isinstance(error, ApiError):
            self.error("internal error", request_id=request_id, exc_info=error)

    def log_body(self, event: str, request_id: str, body: bytes) -> None:
        """Log a whole body; only with --verbose."""
        if self.verbose:
            self.debug(event, request_id=request_id, body=body.decode("utf-8", "replace"))

    def log_ignored(self, kinds: set[str]) -> None:
        """Log kinds of request features that were left out or not understood, each once."""
        new_kinds = {shorten(kind) for kind in kinds} - self._logged_kinds
        for kind in sorted(new_kinds):
            if len(self._logged_kinds) < _MAX_KINDS:
                self._logged_kinds.add(kind)
                self.debug("request feature ignored", kind=kind)

    def _redact_values(self, values: dict[str, object]) -> dict[str, object]:
        error = values.pop("exc_info", None)
        if error:
            exception = error if isinstance(error, BaseException) else sys.exc_info()[1]
            values["exception"] = "".join(traceback.format_exception(exception)).rstrip()
        redacted = {}
        for name, value in values.items():
            redacted[name] = self.redact(value) if isinstance(value, str) else value
        return redacted


def _shorten_base64(data: re.Match[str]) -> str:
    return f"{data[0][:_BASE64_PREFIX_LENGTH]}...[{len(data[0])} base64 characters]"
