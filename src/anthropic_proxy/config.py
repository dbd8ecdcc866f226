"""Settings: one frozen object, read once at start. Nothing else reads the environment or a `.env` file.

Order, strongest first: command-line flags, variables of the environment, the first `.env` file found (of `--config`,
`./.env`, `~/.anthropic-proxy.env`, `/etc/anthropic-proxy/.env`), defaults. An empty variable counts as not set.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from dotenv import dotenv_values
from pydantic import (
    AliasChoices,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from anthropic_proxy import dialects, variables
from anthropic_proxy.addresses import api_address
from anthropic_proxy.config_problems import problem
from anthropic_proxy.download_policy import DownloadPolicy, Fetched, parse_hosts
from anthropic_proxy.wire.codec import JsonObject

ENV_FILES = (Path(".env"), Path("~/.anthropic-proxy.env"), Path("/etc/anthropic-proxy/.env"))

MISSING_URL = """UPSTREAM_BASE_URL is required: the address of an OpenAI-compatible server. Examples:
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

# What an upstream speaks: OpenAI's Chat Completions or Responses API, or the Messages API itself.
Api = Literal["chat_completions", "responses", "messages"]

Pairs = Annotated[Mapping[str, str] | None, NoDecode]


class ConfigError(Exception):
    """The configuration can't be used; the text says which variable, what was given and what is expected."""


class Settings(BaseSettings):
    """Everything that can be configured. Each field is documented by its description, in README and `.env.example`."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True)

    # What `${VARIABLE}` in the configuration file stands for.
    _environment: Mapping[str, str] = PrivateAttr(default_factory=lambda: dict(os.environ))

    config_file: Path | None = Field(
        default=None, validation_alias="CONFIG_FILE", description="a YAML or TOML file with upstreams and routes"
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
        default=None, validation_alias="UPSTREAM_DIALECT", description="the name of a kind of server"
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
        default=None, validation_alias="UPSTREAM_EXTRA_BODY", description="a JSON object of request fields"
    )
    upstream_connect_timeout: float = Field(
        default=10, gt=0, validation_alias="UPSTREAM_CONNECT_TIMEOUT", description="a number of seconds above 0"
    )
    upstream_first_byte_timeout: float = Field(
        default=600, gt=0, validation_alias="UPSTREAM_FIRST_BYTE_TIMEOUT", description="a number of seconds above 0"
    )
    upstream_idle_timeout: float = Field(
        default=600, gt=0, validation_alias="UPSTREAM_IDLE_TIMEOUT", description="a number of seconds above 0"
    )
    upstream_total_timeout: float | None = Field(
        default=None, gt=0, validation_alias="UPSTREAM_TOTAL_TIMEOUT", description="a number of seconds above 0"
    )
    upstream_concurrency: int | None = Field(
        default=None, ge=1, validation_alias="UPSTREAM_CONCURRENCY", description="a number from 1 on"
    )
    upstream_queue: int = Field(default=100, ge=0, validation_alias="UPSTREAM_QUEUE", description="a number from 0 on")
    upstream_queue_timeout: float = Field(
        default=30, gt=0, validation_alias="UPSTREAM_QUEUE_TIMEOUT", description="a number of seconds above 0"
    )
    upstream_retries: int = Field(
        default=0, ge=0, le=10, validation_alias="UPSTREAM_RETRIES", description="a number from 0 to 10"
    )
    host: str = Field(
        default="0.0.0.0",  # noqa: S104 - documented default: containers need it
        validation_alias=AliasChoices("HOST", "ANTHROPIC_PROXY_BIND"),
        description="a host name or IP address to listen on",
    )
    port: int = Field(default=3000, ge=0, le=65535, validation_alias="PORT", description="a number from 0 to 65535")
    signature_secret: SecretStr | None = Field(
        default=None, validation_alias="SIGNATURE_SECRET", description="a secret that thinking blocks are signed with"
    )
    reasoning_model: str | None = Field(
        default=None, validation_alias="REASONING_MODEL", description="an upstream model for requests with thinking"
    )
    completion_model: str | None = Field(
        default=None, validation_alias="COMPLETION_MODEL", description="an upstream model for all other requests"
    )
    model_map: Pairs = Field(
        default=None,
        validation_alias="MODEL_MAP",
        description="a list of asked-model=upstream-model, separated by ; or new lines",
    )
    model_aliases: Pairs = Field(
        default=None,
        validation_alias="MODEL_ALIASES",
        description="a list of alias=upstream-model, separated by ; or new lines",
    )
    downloads: Fetched = Field(default="public", validation_alias="DOWNLOADS", description="public, off or all")
    download_allowed_hosts: Annotated[tuple[str, ...] | None, NoDecode] = Field(
        default=None,
        validation_alias="DOWNLOAD_ALLOWED_HOSTS",
        description="a list of host names, separated by commas",
    )
    tool_call_recovery: Literal["auto", "off"] = Field(
        default="auto", validation_alias="TOOL_CALL_RECOVERY", description="auto or off"
    )
    debug: bool = Field(default=False, validation_alias="DEBUG", description="true or false")
    verbose: bool = Field(default=False, validation_alias="VERBOSE", description="true or false")

    @field_validator("upstream_base_url")
    @classmethod
    def _url_is_usable(cls, value: str | None, info: ValidationInfo) -> str | None:
        if not variables.parts(value or "") and not info.data.get("config_file"):
            raise PydanticCustomError("missing_upstream", "{text}", {"text": MISSING_URL})
        for url in variables.parts(value or ""):
            api_address(url)
        return value

    @field_validator("upstream_api_key")
    @classmethod
    def _key_is_usable(cls, value: SecretStr | None) -> SecretStr | None:
        """Mounted secrets end with a newline; what else can't stand in a header is a mistake."""
        keys = variables.parts(value.get_secret_value(), ";") if value else ()
        if not all(key.isascii() and key.isprintable() for key in keys):
            raise ValueError("must be printable ASCII characters")
        return SecretStr(";".join(keys)) if keys else None

    @field_validator("upstream_dialect")
    @classmethod
    def _dialect_is_known(cls, value: str | None) -> str | None:
        return dialects.named(value).name if value else None

    @field_validator("model_aliases", "model_map", mode="before")
    @classmethod
    def _models_are_pairs(cls, value: Any) -> Any:
        return variables.models(value) if isinstance(value, str) else value

    @field_validator("upstream_facts", mode="before")
    @classmethod
    def _are_pairs(cls, value: Any) -> Any:
        return variables.pairs(value) if isinstance(value, str) else value

    @field_validator("upstream_headers", mode="before")
    @classmethod
    def _are_headers(cls, value: Any) -> Any:
        return variables.headers(value) if isinstance(value, str) else value

    @field_validator("upstream_facts")
    @classmethod
    def _facts_are_known(cls, value: Mapping[str, str] | None) -> Mapping[str, str] | None:
        dialects.with_facts(dialects.GENERIC, value or {})
        return value

    @field_validator("upstream_extra_body", mode="before")
    @classmethod
    def _is_object(cls, value: Any) -> Any:
        return variables.extra_body(variables.json_object(value)) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.upstream_api_key and self.upstream_api_key_passthrough:
            raise PydanticCustomError("excluded", "{text}", {"text": _TWO_KEYS})
        if self.upstream_base_url and self.config_file:
            raise PydanticCustomError("excluded", "{text}", {"text": _TWO_SOURCES})
        return self

    @field_validator("download_allowed_hosts", mode="before")
    @classmethod
    def _hosts_are_names(cls, value: Any) -> Any:
        return parse_hosts(value) if isinstance(value, str) else value

    @property
    def download_policy(self) -> DownloadPolicy:
        """Whose files are fetched."""
        return DownloadPolicy(self.downloads, self.download_allowed_hosts or ())

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables of the environment, and of the `.env` file."""
        return self._environment

    @property
    def upstream_urls(self) -> tuple[str, ...]:
        """The base URLs, in their order."""
        return variables.parts(self.upstream_base_url or "")

    @property
    def upstream_keys(self) -> tuple[str, ...]:
        """The keys themselves."""
        return variables.parts(self.upstream_api_key.get_secret_value(), ";") if self.upstream_api_key else ()


def find_env_file(explicit: Path | None) -> Path | None:
    """The one `.env` file that is read: `explicit` if given, else the first of ENV_FILES that exists."""
    if explicit is not None:
        return explicit
    return next((path for path in map(_expanded, ENV_FILES) if path.is_file()), None)


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:  # a user without a home, as containers have them
        return path


def load(env_file: Path | None, flags: Mapping[str, Any] | None = None) -> Settings:
    """Settings from `flags` (values by variable name, None = not given), environment and `env_file`.

    Raises ConfigError.
    """
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    try:
        settings = Settings(_env_file=env_file, **given)
    except ValidationError as error:
        raise ConfigError(
            "\n".join(problem(each, Settings.model_fields) for each in error.errors(include_url=False))
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{env_file} can't be read: {error}") from None
    settings._environment = _variables(env_file)  # noqa: SLF001 - made here
    return settings


def _variables(env_file: Path | None) -> dict[str, str]:
    found = dotenv_values(env_file, encoding="utf-8") if env_file else {}
    return {name: value for name, value in found.items() if value is not None} | dict(os.environ)
