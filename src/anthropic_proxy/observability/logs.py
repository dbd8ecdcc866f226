"""Logs on standard error.

There is a line for each finished request, and for each event that needs the operator's attention.
`--debug` adds a line for each started request; `--verbose` adds all bodies. `Log.redact` redacts
all lines, including tracebacks. Warnings and errors of libraries have the same format.
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

# console: for people. json: one object per line. auto: console on a terminal, else json.
LogFormat = Literal["auto", "console", "json"]

# Base64 data (images, documents) of at least this length is truncated.
_MIN_BASE64_LENGTH = 200
_BASE64 = re.compile(rf"[A-Za-z0-9+/]{{{_MIN_BASE64_LENGTH},}}={{0,2}}")
_BASE64_PREFIX_LENGTH = 24
# Maximum number of ignored fields that are logged (once each). Clients choose their names.
_MAX_KINDS = 1000


def configure_logging(
    *, debug: bool, log_format: LogFormat = "auto", in_thread: bool = False
) -> LogWriter | None:
    """Set up logging for this process.

    debug: also log the debug level. in_thread: write in a thread, and return its writer; processes
    that are forked later have their own threads. Without a thread, each line is written at once and
    None is returned. This is always the case if standard error is not a file descriptor, and on
    Windows, where consoles accept only characters.
    """
    # pypdf logs every defect that it repairs in a PDF.
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
        # One write for each line, because several processes share the stream.
        logger_factory=structlog.WriteLoggerFactory(stream),
    )
    return writer


def _create_writer(base_processors: list[Processor], renderer: Processor) -> LogWriter | None:
    if sys.platform == "win32":
        return None
    try:
        descriptor = sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):  # missing, closed or in-memory standard error
        return None

    def format_drop_note(dropped: int) -> str:
        line: Any = {"event": "log lines dropped", "lines": dropped}
        for processor in (*base_processors, renderer):
            line = processor(None, "warning", line)
        return f"{line}\n"

    # JSON is UTF-8 in all locales (RFC 8259, 8.1).
    return LogWriter(descriptor, "utf-8", format_drop_note)


def is_json(log_format: LogFormat) -> bool:
    """Return whether this format writes JSON lines."""
    return log_format == "json" or (log_format == "auto" and not is_terminal())


def is_terminal() -> bool:
    """Return whether standard error is a terminal."""
    return sys.stderr is not None and sys.stderr.isatty()


def format_json_line(level: str, event: str, **values: object) -> str:
    """Return a JSON log line, for messages before the log is configured."""
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
    """Write the logs of libraries, redacted: their errors may contain URLs with credentials."""

    redact: Callable[[str], str] = staticmethod(str)

    def format(self, record: logging.LogRecord) -> str:
        return self.redact(super().format(record))


class _TolerantStream:
    """Output stream that ignores errors, so that a lost reader (`2>&1 | head`) fails no request.

    Lines are UTF-8 in all locales, because JSON requires it.
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


# Redacts the credentials of the request that the current task serves.
_request_redactor: ContextVar[Redactor] = ContextVar("request_redactor", default=NO_SECRETS)


def hide_in_current_task(secrets: Iterable[str]) -> None:
    """Redact secrets in all log lines of the current task and of tasks that it starts later."""
    _request_redactor.set(Redactor(map(Secret, secrets)))


def _is_never_key(_: str) -> bool:
    return False


class Log:
    """The log of the process."""

    def __init__(
        self,
        *,
        verbose: bool = False,
        secrets: Iterable[Secret] = (),
        is_api_key: Callable[[str], bool] = _is_never_key,
    ) -> None:
        """Create the log. secrets: values to redact. is_api_key: detects other keys to redact."""
        self.verbose = verbose
        self._secrets = dict.fromkeys(secrets)
        self._redactor = Redactor(self._secrets)
        self.is_api_key = is_api_key
        self._logged_kinds: set[str] = set()
        self._logger: FilteringBoundLogger = structlog.get_logger()

    def add_secrets(self, secrets: Iterable[Secret]) -> None:
        """Redact additional secrets."""
        # New objects, because other threads may be using the previous objects.
        self._secrets = {**self._secrets, **dict.fromkeys(secrets)}
        self._redactor = Redactor(self._secrets)

    def redact_libraries(self) -> None:
        """Also redact the logs of libraries."""
        for handler in logging.root.handlers:
            if isinstance(handler, _LibraryHandler):
                handler.redact = self.redact

    def redact(self, text: str) -> str:
        """Redact secrets and keys of clients, and truncate long base64 data."""
        text = _request_redactor.get().redact(self._redactor.redact(text))
        if len(text) >= _MIN_BASE64_LENGTH:
            text = _BASE64.sub(_shorten_base64, text)
        if self.is_api_key is not _is_never_key:
            text = mask_api_keys(text, self.is_api_key)
        return text

    def info(self, event: str, **values: object) -> None:
        self._logger.info(event, **self._redact_values(values))

    def print_banner(self, text: str) -> None:
        """Write the startup banner. Callers check that the log has the console format."""
        self._logger.info(BANNER, text=self.redact(text))

    def debug(self, event: str, **values: object) -> None:
        if self._logger.is_enabled_for(logging.DEBUG):
            self._logger.debug(event, **self._redact_values(values))

    def warning(self, event: str, **values: object) -> None:
        """Log an event that the operator should act on."""
        self._logger.warning(event, **self._redact_values(values))

    def error(self, event: str, **values: object) -> None:
        """Log an error. In an `except` block, `exc_info=True` adds the traceback."""
        self._logger.error(event, **self._redact_values(values))

    def log_stream_failure(self, request_id: str, error: Exception) -> None:
        """Log an unexpected error that ended a stream. ApiErrors are in the line of the request."""
        if not isinstance(error, ApiError):
            self.error("internal error", request_id=request_id, exc_info=error)

    def log_body(self, event: str, request_id: str, body: bytes) -> None:
        """Log a complete body (only with --verbose)."""
        if self.verbose:
            self.debug(event, request_id=request_id, body=body.decode("utf-8", "replace"))

    def log_ignored(self, kinds: set[str]) -> None:
        """Log kinds of request features that are not supported or not known, each kind once."""
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
