"""Startup messages, before the log is configured: text for people, or JSON log lines."""

import contextlib
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from anthropic_proxy.config import env_notices
from anthropic_proxy.config.env_file import MAX_ENV_BYTES
from anthropic_proxy.config.upstream_config import key_hint
from anthropic_proxy.config.upstream_settings import Deprecation
from anthropic_proxy.observability.logs import LogFormat, format_json_line, is_json
from anthropic_proxy.routing.upstream import Upstream

_LOG_FORMATS: tuple[LogFormat, ...] = ("auto", "console", "json")


def read_log_format(env_file: Path | None) -> LogFormat:
    """Return LOG_FORMAT before the settings are validated.

    An invalid value returns `auto`; validation reports it later.
    """
    value = env_notices.variable(_read_text(env_file), "LOG_FORMAT", os.environ)
    for log_format in _LOG_FORMATS:
        if log_format == value:
            return log_format
    return "auto"


class StartMessages:
    """Write startup messages to standard error."""

    def __init__(self, log_format: LogFormat, *, is_server: bool) -> None:
        """Select the format: JSON if `log_format` selects it and this process is the server."""
        self._is_json = is_server and is_json(log_format)

    def info(self, event: str, text: str, **values: object) -> None:
        """Write `text`, or in JSON `event` and `values`."""
        self._write("info", event, text, values)

    def report_env_file(self, path: Path | None) -> None:
        """Report the `.env` file that is read."""
        if path is None:
            self.info(
                ".env file not found",
                "ℹ️  No .env file found, using environment variables only",  # noqa: RUF001 - a sign
            )
        else:
            self.info(".env file read", f"📄 Loaded config from: {path}", file=str(path))

    def report_ignored_settings(self, env_file: Path | None, config_file: Path | None) -> None:
        """Report variables and lines of the `.env` file that have no effect."""
        texts = (_read_text(env_file), _read_text(config_file))
        for problem in env_notices.environment_notices(os.environ, *texts):
            fields: dict[str, object] = {"file": "environment", "reason": problem}
            self._write("warning", "setting ignored", f"! environment: {problem}", fields)
        if env_file is None:
            return
        for notice in env_notices.notices(env_file, _read_text(env_file), _read_text(config_file)):
            values = {"file": str(env_file), "line": notice.line, "reason": notice.problem}
            self._write("warning", "setting ignored", f"! {notice}", values)

    def report_suspicious_keys(self, upstreams: Iterable[Upstream], *, is_file: bool) -> None:
        """Report keys of upstreams that are probably wrong.

        is_file: whether the keys are from CONFIG_FILE.
        """
        reasons = set()
        for upstream in upstreams:
            place = f"CONFIG_FILE: upstream {upstream.name}" if is_file else "UPSTREAM_API_KEY"
            for key in upstream.keys:
                hint = key_hint(key)
                if hint:
                    reasons.add(f"{place}: {hint}")
        for reason in sorted(reasons):
            self._write("warning", "key looks wrong", f"! {reason}", {"reason": reason})

    def report_deprecation(self, deprecation: Deprecation) -> None:
        """Report a setting that is used by its former name."""
        self._write("warning", "deprecated setting used", f"! {deprecation}", deprecation._asdict())

    def report_failure(self, reason: str) -> None:
        """Report the reason for which the server cannot start."""
        self._write("error", "start failed", f"✗ {reason}", {"reason": reason})

    def _write(self, level: str, event: str, text: str, values: dict[str, object]) -> None:
        if sys.stderr is None:
            return
        line = format_json_line(level, event, **values) if self._is_json else text
        # The reader may have exited (`2>&1 | head`), which must not end the server.
        with contextlib.suppress(OSError):
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()


def _read_text(path: Path | None) -> str:
    """Return the text of a regular file of a plausible size, else an empty string.

    Errors are reported later, when the settings are loaded. Pipes are not read here, because they
    can be read only once.
    """
    if path is None:
        return ""
    try:
        path = path.expanduser()
        if path.is_file() and path.stat().st_size <= MAX_ENV_BYTES:
            return path.read_text(encoding="utf-8")
    except (OSError, RuntimeError, UnicodeDecodeError):
        pass
    return ""
