"""Settings of API keys of clients, their rate limits, and origins of browsers."""

import re
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    Field,
    ModelWrapValidatorHandler,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode

from anthropic_proxy.auth.api_keys import KeyLimits
from anthropic_proxy.config import api_keys, env_values, storage_url
from anthropic_proxy.config.setting_fields import SETTINGS_CONFIG, Section, reference
from anthropic_proxy.providers.base_url import check_login

# The storages of the library `limits` that the proxy supports.
_STORAGE = re.compile(r"memory://|sqlite:///.+|(redis|rediss|redis\+unix)://.+")
# Variables whose values may begin and end with quotes.
_FREE_TEXTS = ("SIGNATURE_SECRET", "TLS_KEY_PASSWORD")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s]+|null|\*")


class KeySettings(BaseSettings):
    """Settings of the clients' API keys. `anthropic-proxy keys` loads only these."""

    model_config = SETTINGS_CONFIG

    proxy_api_keys: SecretStr | None = Field(
        default=None,
        description="API keys of the clients.",
        json_schema_extra=reference(
            Section.CLIENTS,
            "`name=key` or `key`, several with `;` or new lines between them",
            if_unset="none: no key required",
        ),
    )
    proxy_api_keys_file: Path | None = Field(
        default=None,
        description="File with the hashes of client keys, and with the models, limits and expiry "
        "of each key. `anthropic-proxy keys create` creates it.",
        json_schema_extra=reference(Section.CLIENTS, "the path of a JSON or YAML file"),
    )

    key_requests_per_minute: int | None = Field(
        default=None,
        ge=1,
        description="Maximum number of requests per minute for each key without a separate limit.",
        json_schema_extra=reference(Section.RATE_LIMITS, "1 or more", if_unset="no limit"),
    )
    key_tokens_per_minute: int | None = Field(
        default=None,
        ge=1,
        description="Maximum number of tokens per minute for each key without a separate limit.",
        json_schema_extra=reference(Section.RATE_LIMITS, "1 or more", if_unset="no limit"),
    )
    key_tokens_per_month: int | None = Field(
        default=None,
        ge=1,
        description="Maximum number of tokens per calendar month (UTC) for each key without a "
        "separate limit. It requires a storage other than memory.",
        json_schema_extra=reference(Section.RATE_LIMITS, "1 or more", if_unset="no limit"),
    )
    rate_limit_storage_url: SecretStr | None = Field(
        default=None,
        description="Storage of the counters: memory, a SQLite file, or Redis for several "
        "replicas.",
        json_schema_extra=reference(
            Section.RATE_LIMITS,
            "`memory://`, `sqlite:////path/limits.db`, `redis://host:6379/0`, `rediss://...` "
            "or `redis+unix://...`",
            if_unset="`memory://`",
        ),
    )
    cors_allowed_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Origins whose web pages may use the proxy from a browser. `*` allows all "
        "origins.",
        json_schema_extra=reference(
            Section.CLIENTS,
            "origins such as `https://app.example.com`, with `;` or new lines between them; or `*`",
        ),
    )

    # Not mode="before", which would run after the wrap validator of UpstreamSettings.
    @model_validator(mode="wrap")
    @classmethod
    def _strip_quotes(
        cls, values: dict[str, Any], handler: ModelWrapValidatorHandler[Self]
    ) -> Self:
        """Remove quotes around values. Only shells and `.env` files do so."""
        stripped = {}
        for name, value in values.items():
            is_text = isinstance(value, str) and name not in _FREE_TEXTS
            stripped[name] = env_values.strip_quotes(value) if is_text else value
        return handler(stripped)

    @field_validator("cors_allowed_origins", mode="before")
    @classmethod
    def _parse_origins(cls, value: Any) -> Any:
        origins = env_values.split_list(value) if isinstance(value, str) else value
        for origin in origins:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"{origin!r} is not an origin: expected a scheme and a host, without a path"
                )
        return origins

    @field_validator("rate_limit_storage_url", mode="after")
    @classmethod
    def _check_storage(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            if not _STORAGE.fullmatch(value.get_secret_value()):
                raise ValueError("unknown storage, or no path")
            storage_url.check_storage_url(value.get_secret_value())
            check_login(value.get_secret_value())
        return value

    @property
    def limit_storage(self) -> str:
        """The URL of the counter storage."""
        if self.rate_limit_storage_url is None:
            return "memory://"
        return self.rate_limit_storage_url.get_secret_value()

    @property
    def counts_in_process(self) -> bool:
        """Whether the counters are in the memory of one process."""
        return self.limit_storage in storage_url.IN_PROCESS

    def sharing_limits(self, directory: str) -> Self:
        """Return settings whose counters are in a file in `directory`, which all workers share."""
        if not self.counts_in_process:
            return self
        # Not .db: files with this suffix in the directory are metrics.
        url = SecretStr(f"sqlite:///{directory}/limits.sqlite")
        return self.model_copy(update={"rate_limit_storage_url": url})

    @property
    def key_limits(self) -> KeyLimits:
        """The limits of keys without separate limits."""
        return KeyLimits(
            self.key_requests_per_minute, self.key_tokens_per_minute, self.key_tokens_per_month
        )

    @field_validator("proxy_api_keys", mode="after")
    @classmethod
    def _check_keys(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            api_keys.parse_api_keys(value.get_secret_value())
        return value

    @property
    def needs_key(self) -> bool:
        """Whether clients need a key."""
        return self.proxy_api_keys is not None or self.proxy_api_keys_file is not None
