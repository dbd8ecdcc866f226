"""Settings of the one upstream, or several alike, that the environment describes; or the file that describes them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    AliasChoices,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, NoDecode

from anthropic_proxy.config import env_values
from anthropic_proxy.providers import profiles
from anthropic_proxy.providers.base_url import api_address
from anthropic_proxy.routing.upstream import Api
from anthropic_proxy.wire.json_codec import JsonObject

MISSING_URL = """UPSTREAM_BASE_URL is required: the address of an OpenAI-compatible server, set as a variable or in ./.env:
  OpenRouter  UPSTREAM_BASE_URL=https://openrouter.ai/api
  OpenAI      UPSTREAM_BASE_URL=https://api.openai.com
  Ollama      UPSTREAM_BASE_URL=http://localhost:11434"""

_TWO_KEYS = (
    "UPSTREAM_API_KEY and UPSTREAM_API_KEY_PASSTHROUGH exclude each other: the upstream is sent either the proxy's key or "
    "the client's own"
)
_TWO_SOURCES = (
    "UPSTREAM_BASE_URL and CONFIG_FILE exclude each other: with CONFIG_FILE all upstreams stand in the file, and the "
    "variables that begin with UPSTREAM_ don't apply"
)

Pairs = Annotated[Mapping[str, str] | None, NoDecode]


class UpstreamSettings(BaseSettings):
    """Part of `config.Settings`."""

    config_file: Path | None = Field(
        default=None,
        validation_alias="CONFIG_FILE",
        description="a YAML or TOML file with upstreams and routes",
    )
    upstream_base_url: str | None = Field(
        default=None,
        validate_default=True,
        validation_alias=AliasChoices("UPSTREAM_BASE_URL", "ANTHROPIC_PROXY_BASE_URL"),
        description="an http(s) address of an OpenAI-compatible server, or several separated by ;",
    )
    upstream_api_key: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("UPSTREAM_API_KEY", "OPENROUTER_API_KEY"),
        description="the key that is sent to the upstream, or several separated by ;",
    )
    upstream_api_key_passthrough: bool = Field(
        default=False, validation_alias="UPSTREAM_API_KEY_PASSTHROUGH", description="true or false"
    )
    upstream_api: Api = Field(
        default="chat_completions",
        validation_alias="UPSTREAM_API",
        description="chat_completions, responses or messages",
    )
    upstream_dialect: str | None = Field(
        default=None,
        validation_alias="UPSTREAM_DIALECT",
        description="the name of a kind of server",
    )
    upstream_facts: Pairs = Field(
        default=None,
        validation_alias="UPSTREAM_FACTS",
        description="a list of fact=value of the dialect, separated by ; or new lines",
    )
    upstream_headers: Pairs = Field(
        default=None,
        validation_alias="UPSTREAM_HEADERS",
        description="a list of name=value or a JSON object of headers",
    )
    upstream_extra_body: Annotated[JsonObject | None, NoDecode] = Field(
        default=None,
        validation_alias="UPSTREAM_EXTRA_BODY",
        description="a JSON object of request fields",
    )
    upstream_connect_timeout: float = Field(
        default=10,
        gt=0,
        validation_alias="UPSTREAM_CONNECT_TIMEOUT",
        description="a number of seconds above 0",
    )
    upstream_first_byte_timeout: float = Field(
        default=600,
        gt=0,
        validation_alias="UPSTREAM_FIRST_BYTE_TIMEOUT",
        description="a number of seconds above 0",
    )
    upstream_idle_timeout: float = Field(
        default=600,
        gt=0,
        validation_alias="UPSTREAM_IDLE_TIMEOUT",
        description="a number of seconds above 0",
    )
    upstream_total_timeout: float | None = Field(
        default=None,
        gt=0,
        validation_alias="UPSTREAM_TOTAL_TIMEOUT",
        description="a number of seconds above 0",
    )
    upstream_concurrency: int | None = Field(
        default=None,
        ge=1,
        validation_alias="UPSTREAM_CONCURRENCY",
        description="a number from 1 on",
    )
    upstream_queue: int = Field(
        default=100, ge=0, validation_alias="UPSTREAM_QUEUE", description="a number from 0 on"
    )
    upstream_queue_timeout: float = Field(
        default=30,
        gt=0,
        validation_alias="UPSTREAM_QUEUE_TIMEOUT",
        description="a number of seconds above 0",
    )
    upstream_retries: int = Field(
        default=0,
        ge=0,
        le=10,
        validation_alias="UPSTREAM_RETRIES",
        description="a number from 0 to 10",
    )
    max_upstream_bytes: int = Field(
        default=64 * 1024 * 1024,
        ge=2**20,
        validation_alias="MAX_UPSTREAM_BYTES",
        description="a number of bytes from 1048576 on",
    )

    @field_validator("upstream_base_url")
    @classmethod
    def _url_is_usable(cls, value: str | None, info: ValidationInfo) -> str | None:
        if not env_values.parts(value or "") and not info.data.get("config_file"):
            raise PydanticCustomError("missing_upstream", "{text}", {"text": MISSING_URL})
        for url in env_values.parts(value or ""):
            api_address(url)
        return value

    @field_validator("upstream_api_key")
    @classmethod
    def _key_is_usable(cls, value: SecretStr | None) -> SecretStr | None:
        """Mounted secrets end with a newline; what else can't stand in a header is a mistake."""
        keys = env_values.parts(value.get_secret_value(), ";") if value else ()
        if not all(key.isascii() and key.isprintable() for key in keys):
            raise ValueError("must be printable ASCII characters")
        return SecretStr(";".join(keys)) if keys else None

    @field_validator("upstream_dialect")
    @classmethod
    def _dialect_is_known(cls, value: str | None) -> str | None:
        return profiles.named(value).name if value else None

    @field_validator("upstream_facts", mode="before")
    @classmethod
    def _are_pairs(cls, value: Any) -> Any:
        return env_values.pairs(value) if isinstance(value, str) else value

    @field_validator("upstream_headers", mode="before")
    @classmethod
    def _are_headers(cls, value: Any) -> Any:
        return env_values.headers(value) if isinstance(value, str) else value

    @field_validator("upstream_facts")
    @classmethod
    def _facts_are_known(cls, value: Mapping[str, str] | None) -> Mapping[str, str] | None:
        profiles.with_facts(profiles.GENERIC, value or {})
        return value

    @field_validator("upstream_extra_body", mode="before")
    @classmethod
    def _is_object(cls, value: Any) -> Any:
        return (
            env_values.extra_body(env_values.json_object(value))
            if isinstance(value, str)
            else value
        )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.upstream_api_key and self.upstream_api_key_passthrough:
            raise PydanticCustomError("excluded", "{text}", {"text": _TWO_KEYS})
        if self.upstream_base_url and self.config_file:
            raise PydanticCustomError("excluded", "{text}", {"text": _TWO_SOURCES})
        return self

    @property
    def upstream_urls(self) -> tuple[str, ...]:
        """The base URLs, in their order."""
        return env_values.parts(self.upstream_base_url or "")

    @property
    def upstream_keys(self) -> tuple[str, ...]:
        """The keys themselves."""
        return (
            env_values.parts(self.upstream_api_key.get_secret_value(), ";")
            if self.upstream_api_key
            else ()
        )
