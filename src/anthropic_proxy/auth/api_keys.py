"""The keys that clients need: what each of them is, who has it, and what may be done with it.

Keys are known by their SHA-256 alone. They are long and random, so nothing can be guessed from a hash, and a slow hash,
as passwords need it, would only cost time with each request. A key is looked up by its hash: how long that takes tells
something of the hash of what was sent, which nobody can choose, and nothing of the keys.

Pure: the time comes in as an argument.
"""

import fnmatch
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Literal

from anthropic_proxy.errors import ApiError
from anthropic_proxy.errors.redaction import shown_name
from anthropic_proxy.wire.quoting import shorten

DenialReason = Literal[
    "no_key",
    "unknown_key",
    "expired_key",
    "model",
    "requests_per_minute",
    "tokens_per_minute",
    "tokens_per_month",
]

_NAME_PATTERN = re.compile(r"[A-Za-z0-9._@-]{1,64}")


class RequestDeniedError(ApiError):
    """A request that its key does not allow. reason: for the metrics."""

    def __init__(
        self,
        status: int,
        message: str,
        reason: DenialReason,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, headers)
        self.reason = reason


@dataclass(frozen=True)
class KeyLimits:
    """How much a key may use; None: as much as it likes. Tokens are those of input that was not cached, and of output."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    tokens_per_month: int | None = None

    @property
    def has_token_limit(self) -> bool:
        """Whether there is one of tokens."""
        return self.tokens_per_minute is not None or self.tokens_per_month is not None

    def with_defaults(self, defaults: "KeyLimits") -> "KeyLimits":
        """These, and those of `others` that are not among them."""
        return KeyLimits(
            **{name: getattr(self, name) or getattr(defaults, name) for name in LIMIT_NAMES}
        )


LIMIT_NAMES = tuple(each.name for each in fields(KeyLimits))


@dataclass(frozen=True)
class ApiKey:
    """One client's key. sha256: of the key, in hexadecimal. models: exact names or globs of the models that it may ask for,
    by the client's names; empty for all. expires: with its time zone.
    """

    name: str
    sha256: str
    models: tuple[str, ...] = ()
    expires: datetime | None = None
    limits: KeyLimits = KeyLimits()

    def allows_model(self, model: str) -> bool:
        """Whether it may ask for a model."""
        return not self.models or any(
            model == pattern or fnmatch.fnmatchcase(model, pattern) for pattern in self.models
        )

    def check_model(self, model: str) -> None:
        """Raises RefusedError (403) when it may not ask for a model."""
        if not self.allows_model(model):
            raise RequestDeniedError(
                403, f"Your API key does not allow the model {shorten(model)!r}", "model"
            )


# Of whoever asks where no key is needed.
UNRESTRICTED_KEY = ApiKey("", "")


class ApiKeyRegistry:
    """All keys. Raises ValueError when two of them have the same name, or are the same."""

    def __init__(self, keys: Iterable[ApiKey]) -> None:
        self._by_hash: dict[str, ApiKey] = {}
        self._by_name: dict[str, ApiKey] = {}
        for key in keys:
            if key.name in self._by_name:
                raise ValueError(f"the name {shown_name(key.name)} is given twice")
            if key.sha256 in self._by_hash:
                raise ValueError(
                    f"{shown_name(key.name)} has the same key as {shown_name(self._by_hash[key.sha256].name)}"
                )
            self._by_name[key.name] = key
            self._by_hash[key.sha256] = key

    def authenticate(self, secret: str, now: datetime) -> ApiKey:
        """The key that a request came with. Raises RefusedError (401) when it is none, or not one any more."""
        if not secret:
            raise RequestDeniedError(401, "x-api-key header is required", "no_key")
        key = self._by_hash.get(hash_key(secret))
        if key is None:
            raise RequestDeniedError(401, "invalid x-api-key", "unknown_key")
        if key.expires is not None and key.expires <= now:
            raise RequestDeniedError(401, "invalid x-api-key: it has expired", "expired_key")
        return key

    def contains(self, text: str) -> bool:
        """Return whether a text is one of the keys."""
        return hash_key(text) in self._by_hash

    def find(self, name: str) -> ApiKey | None:
        """The key with a name."""
        return self._by_name.get(name)


def hash_key(secret: str) -> str:
    """The SHA-256 of a key, in hexadecimal."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def validate_key_name(name: str) -> str:
    """What a key may be called: it stands in logs. Raises ValueError."""
    if not _NAME_PATTERN.fullmatch(name):
        raise ValueError("a name is 1 to 64 letters, digits, '.', '_', '@' or '-'")
    return name
