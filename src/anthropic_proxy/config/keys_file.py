"""The file with the clients' keys (PROXY_API_KEYS_FILE): read, checked as a whole, and changed.

    {"keys": [{"name": "alice", "sha256": "...", "models": ["claude-*"], "expires": "2027-01-01T00:00:00Z"}]}

The commands write JSON; the same in YAML is for those who write it themselves, and is not changed, as its comments would
be lost. A change is made under a lock, and in one step, so that no reader ever sees half of it.
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
from anthropic_proxy.config.settings import KeySettings
from anthropic_proxy.config.yaml_toml import parse_text
from anthropic_proxy.errors import ConfigError
from anthropic_proxy.wire.json_codec import dumps, loads

_VARIABLE = "PROXY_API_KEYS_FILE"
_Limit = Annotated[int | None, Field(ge=1)]

# What `printf %s "$UNSET" | sha256sum` and `echo "$UNSET" | sha256sum` print.
_EMPTY = frozenset(map(hash_key, ("", "\n", "\r\n")))

_BUDGET_NEEDS_STORAGE = (
    "tokens_per_month needs RATE_LIMIT_STORAGE_URL, as what was used must outlive a restart: "
    "sqlite:////a/path/limits.db, or redis://host:6379 where several replicas serve"
)


def _check_hash(sha256: str) -> str:
    if sha256 in _EMPTY:
        raise ValueError("it is the hash of an empty key")
    return sha256


class _KeyEntry(BaseModel):
    # Built lazily: only needed with a keys file.
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, defer_build=True)

    name: Annotated[str, AfterValidator(validate_key_name)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$"), AfterValidator(_check_hash)]
    # A key that may use no model at all would be a mistake: an empty list means all of them elsewhere.
    models: Annotated[
        tuple[Annotated[str, Field(min_length=1)], ...] | None, Field(min_length=1)
    ] = None
    expires: AwareDatetime | None = None
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
    """Return the keys of a file. Raises ConfigError, which shows no key.

    name: of the file; its ending distinguishes JSON from YAML.
    """
    try:
        entries = _KeysFile.model_validate(_parse_values(text, name)).keys
        keys = tuple(each.to_api_key() for each in entries)
        ApiKeyRegistry(keys)
    except ValidationError as error:
        problems = (
            f"{'.'.join(map(str, each['loc'])) or 'the file'}: {each['msg']}"
            for each in error.errors()
        )
        raise ConfigError("\n".join(f"{_VARIABLE}: {name}: {each}" for each in problems)) from None
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
    """Return the keys of the settings; None when clients need none. Raises ConfigError.

    read: returns the text of a file.
    """
    if not settings.needs_key:
        if settings.key_limits != KeyLimits():
            raise ConfigError(
                "KEY_ limits are of clients' keys: set PROXY_API_KEYS or PROXY_API_KEYS_FILE, too"
            )
        return None
    secret, path = settings.proxy_api_keys, settings.proxy_api_keys_file
    variable_keys = parse_api_keys(secret.get_secret_value()) if secret else ()
    file_keys = parse_keys_file(_read_keys_file(path, read), str(path)) if path else ()
    keys = [
        replace(key, limits=key.limits.with_defaults(settings.key_limits))
        for key in (*variable_keys, *file_keys)
    ]
    if settings.counts_in_process and any(key.limits.tokens_per_month for key in keys):
        raise ConfigError(_BUDGET_NEEDS_STORAGE)
    try:
        return ApiKeyRegistry(keys)
    except ValueError as error:
        raise ConfigError(f"PROXY_API_KEYS and {_VARIABLE}: {error}") from None


def _read_keys_file(path: Path, read: Callable[[PurePath], str]) -> str:
    try:
        return read(path)
    except FileNotFoundError:
        hint = "`anthropic-proxy keys create NAME` makes it"
        raise ConfigError(f"{_VARIABLE}: {path} does not exist; {hint}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{_VARIABLE}: {path} can't be read: {error}") from None


def format_keys_file(keys: Iterable[ApiKey]) -> bytes:
    """Return the text of a file with these keys."""
    return b'{"keys": [\n  ' + b",\n  ".join(dumps(_to_entry(key)) for key in keys) + b"\n]}\n"


def _to_entry(key: ApiKey) -> dict[str, Any]:
    return {
        "name": key.name,
        "sha256": key.sha256,
        **({"models": list(key.models)} if key.models else {}),
        **({"expires": format_time(key.expires)} if key.expires else {}),
        **{name: limit for name, limit in asdict(key.limits).items() if limit is not None},
    }


def format_time(moment: datetime) -> str:
    """Return a time in UTC, as RFC 3339 writes it."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def change_keys_file(path: Path, edit: Callable[[tuple[ApiKey, ...]], tuple[ApiKey, ...]]) -> None:
    """Replace the keys of a file by those that `edit` returns for them; a missing file has none.

    Raises ConfigError, OSError, and what `edit` raises.
    """
    if path.suffix.lower() != ".json":
        raise ConfigError(
            f"{path}: the commands change .json files alone; of others the comments would be lost"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with _lock(path):
        before = parse_keys_file(path.read_text("utf-8"), str(path)) if path.exists() else ()
        keys = edit(before)
        ApiKeyRegistry(keys)
        _replace(path, format_keys_file(keys))


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold a lock on the file. The lock has a file of its own, as the other is replaced."""
    import fcntl  # there is none on Windows

    descriptor = os.open(
        path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
    )
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _replace(path: Path, content: bytes) -> None:
    """Replace a file in one step. Only its owner can read it, as `mkstemp` creates it."""
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
