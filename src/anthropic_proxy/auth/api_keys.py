"""The API keys of callers: their names, models, limits and expiry.

Only the SHA-256 hash of a key is stored. Keys are long and random, so their hash does not reveal
them, and a slow hash, as for passwords, would only delay requests. The duration of a look-up
depends on the hash of the key that the caller sent. The caller cannot choose that hash, so the
duration does not reveal stored keys.

This module does not read a clock: the time is an argument.
"""

import fnmatch
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Literal

from anthropic_proxy.errors import ApiError
from anthropic_proxy.errors.redaction import quote_name
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
    """The API key of a request is missing or invalid, or does not allow the request."""

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
    """Limits on the use of a key; None means no limit. Tokens of cached input do not count."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    tokens_per_month: int | None = None

    @property
    def has_token_limit(self) -> bool:
        """True if a limit on tokens is set."""
        return self.tokens_per_minute is not None or self.tokens_per_month is not None

    def with_defaults(self, defaults: "KeyLimits") -> "KeyLimits":
        """Return a copy in which the limits of `defaults` replace the limits that are not set."""
        limits = {name: getattr(self, name) or getattr(defaults, name) for name in LIMIT_NAMES}
        return KeyLimits(**limits)


LIMIT_NAMES = tuple(each.name for each in fields(KeyLimits))


def describe_limit(name: str, amount: int) -> str:
    """Return a limit in words, such as `30 requests per minute`. name: of LIMIT_NAMES."""
    unit, _, period = name.partition("_")
    if amount == 1:
        unit = unit.removesuffix("s")
    return f"{amount} {unit} {period.replace('_', ' ')}"


@dataclass(frozen=True)
class ApiKey:
    """The key of a caller."""

    name: str
    # Hash of the key, in hexadecimal.
    sha256: str
    # Names or globs of the models that the key allows, as clients name them; empty: all models.
    models: tuple[str, ...] = ()
    # With a time zone; None: never.
    expires: datetime | None = None
    limits: KeyLimits = KeyLimits()

    def allows_model(self, names: Iterable[str]) -> bool:
        """Return whether the key allows a model, by one of its names."""
        return not self.models or any(self._allows_name(name) for name in names)

    def check_model(self, model: str, names: Iterable[str]) -> None:
        """Raise RequestDeniedError (403) unless the key allows a model, by one of its names.

        model: the name in the request, for the message.
        """
        if not self.allows_model(names):
            raise RequestDeniedError(
                403, f"Your API key does not allow the model {shorten(model)!r}", "model"
            )

    def _allows_name(self, name: str) -> bool:
        # The name of a model may contain glob characters: `claude-opus-4-6[1m]`.
        return name in self.models or any(
            fnmatch.fnmatchcase(name, pattern) for pattern in self.models
        )


# The key of every caller if the server requires no key.
UNRESTRICTED_KEY = ApiKey("", "")


class ApiKeyRegistry:
    """All configured keys. Raises ValueError if two keys have the same name or the same hash."""

    def __init__(self, keys: Iterable[ApiKey]) -> None:
        self._by_hash: dict[str, ApiKey] = {}
        self._by_name: dict[str, ApiKey] = {}
        for key in keys:
            if key.name in self._by_name:
                raise ValueError(f"the name {quote_name(key.name)} is given twice")
            if key.sha256 in self._by_hash:
                other_name = quote_name(self._by_hash[key.sha256].name)
                raise ValueError(f"{quote_name(key.name)} and {other_name} have the same key")
            self._by_name[key.name] = key
            self._by_hash[key.sha256] = key

    def authenticate(self, secret: str, now: datetime) -> ApiKey:
        """Return the record of a key that a caller sent.

        Raises RequestDeniedError (401) if the key is missing, unknown or expired.
        """
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
        """Return the key with this name, or None."""
        return self._by_name.get(name)


def hash_key(secret: str) -> str:
    """Return the SHA-256 of a key, in hexadecimal."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def validate_key_name(name: str) -> str:
    """Return the name of a key. Raises ValueError for a name that is not safe in logs."""
    if not _NAME_PATTERN.fullmatch(name):
        raise ValueError("a name is 1 to 64 letters, digits, '.', '_', '@' or '-'")
    return name
