"""Read, check and change the file with client keys (PROXY_API_KEYS_FILE).

    {"keys": [{"name": "alice", "sha256": "...", "models": ["claude-*"], "expires":
    "2027-01-01T00:00:00Z"}]}

`anthropic-proxy keys` writes JSON. Operators may write YAML, which the commands do not change,
because its comments would be lost. A change holds a lock and replaces the file atomically.
"""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from anthropic_proxy.auth.api_keys import (
    LIMIT_NAMES,
    ApiKey,
    ApiKeyRegistry,
    KeyLimits,
    hash_key,
    validate_key_name,
)
from anthropic_proxy.config.api_keys import parse_api_keys
from anthropic_proxy.config.key_settings import KeySettings
from anthropic_proxy.config.yaml_toml import parse_text
from anthropic_proxy.errors import ConfigError
from anthropic_proxy.wire.json_codec import dumps, loads

_VARIABLE = "PROXY_API_KEYS_FILE"
_Limit = Annotated[int | None, Field(ge=1)]

# The output of `printf %s "$UNSET" | sha256sum` and `echo "$UNSET" | sha256sum`.
_EMPTY = frozenset(map(hash_key, ("", "\n", "\r\n")))

_BUDGET_NEEDS_STORAGE = (
    "tokens_per_month requires RATE_LIMIT_STORAGE_URL, as its counters must survive a restart: "
    "sqlite:////path/limits.db, or redis://host:6379 for several replicas"
)


def _to_utc(time: datetime) -> datetime:
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise ValueError("the time is out of range in UTC") from None


def _check_hash(sha256: str) -> str:
    if sha256 in _EMPTY:
        raise ValueError("this is the hash of an empty key")
    return sha256


class _KeyEntry(BaseModel):
    # Built lazily, because only configurations with a keys file need it.
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, defer_build=True)

    name: Annotated[str, AfterValidator(validate_key_name)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$"), AfterValidator(_check_hash)]
    # An empty list is an error: it looks like "no model", but means all models in `ApiKey`.
    models: Annotated[
        tuple[Annotated[str, Field(min_length=1)], ...] | None, Field(min_length=1)
    ] = None
    expires: Annotated[AwareDatetime, AfterValidator(_to_utc)] | None = None
    requests_per_minute: _Limit = None
    tokens_per_minute: _Limit = None
    tokens_per_month: _Limit = None

    def to_api_key(self) -> ApiKey:
        limits = KeyLimits(**{name: getattr(self, name) for name in LIMIT_NAMES})
        return ApiKey(self.name, self.sha256, self.models or (), self.expires, limits)


class _KeysFile(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, defer_build=True)

    keys: tuple[_KeyEntry, ...]


def parse_keys_file(text: str, name: str) -> tuple[ApiKey, ...]:
    """Return the keys of a file. Raises ConfigError, whose message never shows a key.

    name: of the file; its suffix selects JSON or YAML.
    """
    try:
        entries = _KeysFile.model_validate(_parse_values(text, name)).keys
        keys = tuple(each.to_api_key() for each in entries)
        ApiKeyRegistry(keys)
    except ValidationError as error:
        lines = []
        for each in error.errors():
            path = ".".join(map(str, each["loc"])) or "the file"
            lines.append(f"{_VARIABLE}: {name}: {path}: {each['msg']}")
        raise ConfigError("\n".join(lines)) from None
    except ValueError as error:
        raise ConfigError(f"{_VARIABLE}: {name}: {error}") from None
    except ConfigError as error:
        raise ConfigError(f"{_VARIABLE}: {error}") from None
    return keys


def _parse_values(text: str, name: str) -> Any:
    ending = PurePath(name).suffix.lower()
    if ending == ".json":
        return loads(text)
    if ending not in (".yaml", ".yml"):
        raise ValueError("the file's name must end in .json, .yaml or .yml")
    return parse_text(text, name).value


def load_api_keys(settings: KeySettings, read: Callable[[PurePath], str]) -> ApiKeyRegistry | None:
    """Return the API keys; None if clients need no key. Raises ConfigError.

    read: returns the text of a file.
    """
    if not settings.needs_key:
        if settings.key_limits != KeyLimits():
            raise ConfigError(
                "the limits KEY_* require client keys: set PROXY_API_KEYS or PROXY_API_KEYS_FILE"
            )
        return None
    secret, path = settings.proxy_api_keys, settings.proxy_api_keys_file
    configured: list[ApiKey] = []
    if secret:
        configured += parse_api_keys(secret.get_secret_value())
    if path:
        configured += parse_keys_file(_read_keys_file(path, read), str(path))
    keys = []
    for key in configured:
        keys.append(replace(key, limits=key.limits.with_defaults(settings.key_limits)))
    limited = [key.name for key in keys if key.limits.tokens_per_month]
    if settings.counts_in_process and limited:
        raise ConfigError(f"{_BUDGET_NEEDS_STORAGE} (first key with this limit: {limited[0]})")
    try:
        return ApiKeyRegistry(keys)
    except ValueError as error:
        raise ConfigError(f"PROXY_API_KEYS and {_VARIABLE}: {error}") from None


def _read_keys_file(path: Path, read: Callable[[PurePath], str]) -> str:
    try:
        return read(path)
    except FileNotFoundError:
        hint = "`anthropic-proxy keys create NAME` creates it"
        raise ConfigError(f"{_VARIABLE}: {path} does not exist; {hint}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{_VARIABLE}: {path} can't be read: {error}") from None


def format_keys_file(keys: Iterable[ApiKey]) -> bytes:
    """Return the text of a file with these keys."""
    return b'{"keys": [\n  ' + b",\n  ".join(dumps(_to_entry(key)) for key in keys) + b"\n]}\n"


def _to_entry(key: ApiKey) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": key.name, "sha256": key.sha256}
    if key.models:
        entry["models"] = list(key.models)
    if key.expires:
        entry["expires"] = format_time(key.expires)
    for name, limit in asdict(key.limits).items():
        if limit is not None:
            entry[name] = limit
    return entry


def format_time(moment: datetime) -> str:
    """Return a time in UTC in the format of RFC 3339."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def change_keys_file(
    path: Path, edit: Callable[[tuple[ApiKey, ...]], tuple[ApiKey, ...]]
) -> tuple[ApiKey, ...]:
    """Replace the keys of a file with the result of `edit`, and return it.

    A missing file has no keys. Raises ConfigError, OSError, and what `edit` raises.
    """
    if path.suffix.lower() != ".json":
        raise ConfigError(
            f"{path}: the commands change only .json files, as comments in others would be lost"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with _lock(path):
        before = parse_keys_file(path.read_text("utf-8"), str(path)) if path.exists() else ()
        keys = edit(before)
        ApiKeyRegistry(keys)
        _replace(path, format_keys_file(keys))
    return keys


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold the lock of the keys file, a separate file because changes replace the keys file."""
    import fcntl  # not available on Windows

    descriptor = os.open(
        path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
    )
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _replace(path: Path, content: bytes) -> None:
    """Replace a file atomically. Only its owner can read it, because `mkstemp` creates it."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
