"""Settings of who may ask, and how much: the keys of clients, and their limits."""

import re
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from anthropic_proxy.auth.api_keys import KeyLimits
from anthropic_proxy.config import api_keys, env_values, storage_url
from anthropic_proxy.providers.base_url import check_login

_NUMBER = "a number from 1 on, for each key that has none of its own"
# The storages of `limits` that work without a server or with Redis.
_STORAGE = re.compile(r"memory://|sqlite:///.+|(redis|rediss|redis\+unix)://.+")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s]+|null|\*")


class KeySettings(BaseSettings):
    """Part of `config.Settings`."""

    # For those who read these alone.
    model_config = SettingsConfigDict(
        extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    proxy_api_keys: SecretStr | None = Field(
        default=None,
        validation_alias="PROXY_API_KEYS",
        description="a list of name=key, or of keys, separated by ; or new lines",
    )
    proxy_api_keys_file: Path | None = Field(
        default=None,
        validation_alias="PROXY_API_KEYS_FILE",
        description="a JSON or YAML file with keys",
    )

    key_requests_per_minute: int | None = Field(
        default=None, ge=1, validation_alias="KEY_REQUESTS_PER_MINUTE", description=_NUMBER
    )
    key_tokens_per_minute: int | None = Field(
        default=None, ge=1, validation_alias="KEY_TOKENS_PER_MINUTE", description=_NUMBER
    )
    key_tokens_per_month: int | None = Field(
        default=None, ge=1, validation_alias="KEY_TOKENS_PER_MONTH", description=_NUMBER
    )
    rate_limit_storage_url: SecretStr | None = Field(
        default=None,
        validation_alias="RATE_LIMIT_STORAGE_URL",
        description="memory://, sqlite:////a/path/limits.db, redis://host:6379/0, rediss:// or redis+unix://",
    )
    cors_allowed_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        validation_alias="CORS_ALLOWED_ORIGINS",
        description="a list of origins such as https://app.example.com, separated by ; or new lines, or *",
    )

    @field_validator("cors_allowed_origins", mode="before")
    @classmethod
    def _are_origins(cls, value: Any) -> Any:
        origins = env_values.parts(value) if isinstance(value, str) else value
        for origin in origins:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"{origin!r} is no origin: it has a scheme and a host, and no path"
                )
        return origins

    @field_validator("rate_limit_storage_url", mode="after")
    @classmethod
    def _is_storage(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            if not _STORAGE.fullmatch(value.get_secret_value()):
                raise ValueError("no storage of counters")
            storage_url.check(value.get_secret_value())
            check_login(value.get_secret_value())
        return value

    @property
    def limit_storage(self) -> str:
        """The URL of the storage of counters."""
        return (
            self.rate_limit_storage_url.get_secret_value()
            if self.rate_limit_storage_url
            else "memory://"
        )

    @property
    def counts_in_process(self) -> bool:
        """Whether counters end with the process, and other processes do not see them."""
        return self.limit_storage in storage_url.IN_PROCESS

    def sharing_limits(self, directory: str) -> Self:
        """Return settings with counters that processes share: in a directory, where they would be in each process."""
        if not self.counts_in_process:
            return self
        # Files called .db are metrics there.
        return self.model_copy(
            update={"rate_limit_storage_url": SecretStr(f"sqlite:///{directory}/limits.sqlite")}
        )

    @property
    def key_limits(self) -> KeyLimits:
        """Of each key that has none of its own."""
        return KeyLimits(
            self.key_requests_per_minute, self.key_tokens_per_minute, self.key_tokens_per_month
        )

    @field_validator("proxy_api_keys", mode="after")
    @classmethod
    def _are_keys(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            api_keys.parse(value.get_secret_value())
        return value

    @property
    def needs_key(self) -> bool:
        """Whether clients need a key."""
        return self.proxy_api_keys is not None or self.proxy_api_keys_file is not None
