"""Find and parse the `.env` file."""

import codecs
import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from dotenv.main import DotEnv, resolve_variables
from dotenv.variables import Atom, Variable, parse_variables

from anthropic_proxy.errors import ConfigError

# Limit for the file and for each of its values.
MAX_ENV_BYTES = 1024 * 1024

ENV_FILES = (Path(".env"), Path("~/.anthropic-proxy.env"), Path("/etc/anthropic-proxy/.env"))


def find_env_file(explicit: Path | None) -> Path | None:
    """Return the path of the `.env` file: `explicit`, or the first that exists of ENV_FILES."""
    if explicit is not None:
        return explicit
    return next((path for path in map(_expand, ENV_FILES) if path.is_file()), None)


def _expand(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:  # a user without a home directory, as in containers
        return path


def read_env_file(path: Path | None) -> dict[str, str]:
    """Return the variables of a `.env` file, with variables in their values replaced.

    Raises ConfigError.
    """
    if path is None:
        return {}
    try:
        if path.stat().st_size > MAX_ENV_BYTES:
            raise ConfigError(
                f"{path}: the file is too large, expected at most {MAX_ENV_BYTES} bytes"
            )
        text = _decode(path.read_bytes(), path)
        values = list(DotEnv(None, io.StringIO(text, newline=None)).parse())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} can't be read: {error}") from None
    _check_lengths(path, values)
    resolved = resolve_variables(values, override=True)
    return {name: value for name, value in resolved.items() if value is not None}


def _decode(raw: bytes, path: Path) -> str:
    """Return a file's text. Raises UnicodeDecodeError, and ConfigError for UTF-16."""
    # UTF-16 without a byte order mark has a zero byte beside each ASCII character.
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ConfigError(f"{path}: the file is UTF-16: save it as UTF-8")
    if b"\0" in raw:
        raise ConfigError(f"{path}: the file has zero bytes, as UTF-16 has: save it as UTF-8")
    return raw.decode("utf-8-sig")


def _check_lengths(path: Path, values: Iterable[tuple[str, str | None]]) -> None:
    """Raise ConfigError for values that are too long after the replacement of variables.

    Each value may contain an earlier value twice, so a few lines can expand to gigabytes.
    """
    lengths = {name: len(value) for name, value in os.environ.items()}
    for name, value in values:
        length = sum(_max_length(atom, lengths) for atom in parse_variables(value or ""))
        if length > MAX_ENV_BYTES:
            raise ConfigError(
                f"{path}: {name}: the value is too long, "
                f"expected at most {MAX_ENV_BYTES} characters"
            )
        lengths[name] = max(length, lengths.get(name, 0))


def _max_length(atom: Atom, lengths: Mapping[str, int]) -> int:
    """Return the maximum length of a part of a value (text or variable) after replacement."""
    if isinstance(atom, Variable):
        return max(lengths.get(atom.name, 0), len(atom.default or ""))
    return len(atom.resolve({}))
