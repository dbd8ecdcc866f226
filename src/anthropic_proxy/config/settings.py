"""Settings: one frozen object, loaded at start and by each reload.

Other modules read only variables that are not settings, such as XDG_RUNTIME_DIR and NO_COLOR.

Sources, strongest first: command-line flags, variables of the environment, the first `.env` file of
ENV_FILES (or the file of `--config`), defaults. An empty variable counts as not set. The variable
of a field is its name in capital letters, unless the field names others.
"""

import logging
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AliasChoices,
    AliasGenerator,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from anthropic_proxy.auth.api_keys import KeyLimits
from anthropic_proxy.config import api_keys, env_values, storage_url
from anthropic_proxy.config.download_policy import DownloadPolicy, DownloadScope, parse_hosts
from anthropic_proxy.config.env_file import read_env_file
from anthropic_proxy.config.messages import MISSING_URL_TYPE, WHOLE_SENTENCE, variable_problem
from anthropic_proxy.config.network_variables import (
    check_authorities,
    check_proxies,
    proxy_addresses,
)
from anthropic_proxy.config.upstream_settings import (
    Deprecation,
    UpstreamSettings,
    conflicting_variables,
    deprecated_variables,
    used_name,
)
from anthropic_proxy.errors import ConfigError
from anthropic_proxy.errors.redaction import Secret, find_url_secrets
from anthropic_proxy.observability.logs import LogFormat
from anthropic_proxy.providers.base_url import check_login

ReadinessRequirement = Literal["upstream", "config"]

_SETTINGS_CONFIG = SettingsConfigDict(
    alias_generator=AliasGenerator(validation_alias=str.upper),
    frozen=True,
    extra="ignore",
    env_ignore_empty=True,
    hide_input_in_errors=True,
)
_Pairs = Annotated[Mapping[str, str] | None, NoDecode]

_SECONDS = "a number of seconds above 0"
_ONE_FILE = "TLS_CERT_FILE and TLS_KEY_FILE belong together: set both, or neither"
_NO_SERVER_TLS = (
    "TLS_CLIENT_CA_FILE needs TLS_CERT_FILE and TLS_KEY_FILE: "
    "without TLS no client shows a certificate"
)

_LIMIT = "a number from 1 on, for each key that has none of its own"
# The storages of `limits` that work without a server or with Redis.
_STORAGE = re.compile(r"memory://|sqlite:///.+|(redis|rediss|redis\+unix)://.+")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s]+|null|\*")

# Variables of other programs that correspond to UPSTREAM_BASE_URL and UPSTREAM_API_KEY.
_OPENAI_URL = (
    "OPENAI_BASE_URL is set but not read here; "
    "if it is the upstream: UPSTREAM_BASE_URL=$OPENAI_BASE_URL"
)
_OPENAI_KEY = (
    "OPENAI_API_KEY is set but not read here; if OpenAI is the upstream: "
    "UPSTREAM_BASE_URL=https://api.openai.com UPSTREAM_API_KEY=$OPENAI_API_KEY"
)


class ServerSettings(BaseSettings):
    """Part of `Settings`."""

    host: str | None = Field(
        default=None,
        validation_alias=AliasChoices("HOST", "ANTHROPIC_PROXY_BIND"),
        description="a host name or IP address to listen on",
    )
    port: int = Field(default=3000, ge=0, le=65535, description="a number from 0 to 65535")
    unix_socket: Path | None = Field(
        default=None, description="a path to listen on instead of HOST and PORT"
    )
    workers: int = Field(default=1, ge=1, le=1024, description="a number from 1 to 1024")
    tls_cert_file: Path | None = Field(
        default=None, description="a PEM file with the server's certificate chain"
    )
    tls_key_file: Path | None = Field(
        default=None, description="a PEM file with the certificate's key"
    )
    tls_key_password: SecretStr | None = Field(
        default=None, description="the password of the key's file"
    )
    tls_client_ca_file: Path | None = Field(
        default=None,
        description="a PEM file with the authorities whose certificates clients must show",
    )
    max_concurrent_requests: int | None = Field(
        default=None, ge=1, description="a number from 1 on"
    )
    http2_max_concurrent_streams: int = Field(
        default=256, ge=1, le=2**31 - 1, description="a number from 1 on"
    )
    max_header_bytes: int = Field(
        default=65536, ge=8192, le=2**20, description="a number from 8192 to 1048576"
    )
    max_json_values: int = Field(default=1_000_000, ge=1, description="a number from 1 on")
    body_timeout: float = Field(default=600, gt=0, description=_SECONDS)
    write_timeout: float = Field(default=300, gt=0, description=_SECONDS)
    header_timeout: float = Field(default=75, gt=0, description=_SECONDS)
    # Clients keep idle connections for 5 to 60 seconds. A longer timeout avoids closing a
    # connection just when its client sends the next request.
    keepalive_timeout: float = Field(default=75, gt=0, description=_SECONDS)
    drain_timeout: float = Field(default=300, ge=0, description="a number of seconds from 0 on")
    reload_interval: float = Field(
        default=5, ge=0, description="a number of seconds, or 0 for never"
    )
    ready_requires: Annotated[frozenset[ReadinessRequirement], NoDecode] = Field(
        default=frozenset(), description="upstream, config or both, separated by ;"
    )

    @field_validator("host")
    @classmethod
    def _is_host(cls, value: str | None) -> str | None:
        if value is None:
            return None
        return env_values.listen_host(value)

    @field_validator("ready_requires", mode="before")
    @classmethod
    def _are_parts(cls, value: Any) -> Any:
        if isinstance(value, str):
            return env_values.split_list(value, r"[;,\n]")
        return value

    @model_validator(mode="after")
    def _tls_fits_together(self) -> Self:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise PydanticCustomError(WHOLE_SENTENCE, "{text}", {"text": _ONE_FILE})
        if self.tls_client_ca_file is not None and self.tls_cert_file is None:
            raise PydanticCustomError(WHOLE_SENTENCE, "{text}", {"text": _NO_SERVER_TLS})
        return self


class ObservabilitySettings(BaseSettings):
    """Part of `Settings`."""

    log_format: LogFormat = Field(default="auto", description="auto, console or json")
    metrics_port: int | None = Field(
        default=None, ge=0, le=65535, description="a number from 0 to 65535"
    )
    metrics_max_models: int = Field(default=100, ge=0, description="a number from 0 on")
    debug: bool = Field(default=False, description="true or false")
    verbose: bool = Field(default=False, description="true or false")


class KeySettings(BaseSettings):
    """Part of `Settings`. `anthropic-proxy keys` loads it alone."""

    model_config = _SETTINGS_CONFIG

    proxy_api_keys: SecretStr | None = Field(
        default=None, description="a list of name=key, or of keys, separated by ; or new lines"
    )
    proxy_api_keys_file: Path | None = Field(
        default=None, description="a JSON or YAML file with keys"
    )

    key_requests_per_minute: int | None = Field(default=None, ge=1, description=_LIMIT)
    key_tokens_per_minute: int | None = Field(default=None, ge=1, description=_LIMIT)
    key_tokens_per_month: int | None = Field(default=None, ge=1, description=_LIMIT)
    rate_limit_storage_url: SecretStr | None = Field(
        default=None,
        description="memory://, sqlite:////a/path/limits.db, redis://host:6379/0, rediss:// "
        "or redis+unix://",
    )
    cors_allowed_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="a list of origins such as https://app.example.com, "
        "separated by ; or new lines, or *",
    )

    @field_validator("cors_allowed_origins", mode="before")
    @classmethod
    def _are_origins(cls, value: Any) -> Any:
        origins = env_values.split_list(value) if isinstance(value, str) else value
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
            storage_url.check_storage_url(value.get_secret_value())
            check_login(value.get_secret_value())
        return value

    @property
    def limit_storage(self) -> str:
        """The URL of the storage of counters."""
        if self.rate_limit_storage_url is None:
            return "memory://"
        return self.rate_limit_storage_url.get_secret_value()

    @property
    def counts_in_process(self) -> bool:
        """Whether counters end with the process, invisible to other processes."""
        return self.limit_storage in storage_url.IN_PROCESS

    def sharing_limits(self, directory: str) -> Self:
        """Return settings whose counters all processes share, in a file in `directory`."""
        if not self.counts_in_process:
            return self
        # The directory also holds metrics, in files with the ending .db.
        url = SecretStr(f"sqlite:///{directory}/limits.sqlite")
        return self.model_copy(update={"rate_limit_storage_url": url})

    @property
    def key_limits(self) -> KeyLimits:
        """The limits of keys without limits of their own."""
        return KeyLimits(
            self.key_requests_per_minute, self.key_tokens_per_minute, self.key_tokens_per_month
        )

    @field_validator("proxy_api_keys", mode="after")
    @classmethod
    def _are_keys(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            api_keys.parse_api_keys(value.get_secret_value())
        return value

    @property
    def needs_key(self) -> bool:
        """Whether clients need a key."""
        return self.proxy_api_keys is not None or self.proxy_api_keys_file is not None


class Settings(ObservabilitySettings, KeySettings, ServerSettings, UpstreamSettings):
    """All settings of the environment. README and `.env.example` document each field.

    Fields and error messages are in the order of the bases, the last one first.
    """

    model_config = _SETTINGS_CONFIG

    # For `${VARIABLE}` in the configuration file.
    _environment: Mapping[str, str] = PrivateAttr(default_factory=lambda: dict(os.environ))
    _env_file: Path | None = PrivateAttr(default=None)

    signature_secret: SecretStr | None = Field(
        default=None, description="a secret that thinking blocks are signed with"
    )
    reasoning_model: str | None = Field(
        default=None, description="an upstream model for requests with thinking"
    )
    completion_model: str | None = Field(
        default=None, description="an upstream model for all other requests"
    )
    model_map: _Pairs = Field(
        default=None,
        description="a list of asked-model=upstream-model, separated by ; or new lines",
    )
    model_aliases: _Pairs = Field(
        default=None, description="a list of alias=upstream-model, separated by ; or new lines"
    )
    downloads: DownloadScope = Field(default="public", description="public, off or all")
    download_allowed_hosts: Annotated[tuple[str, ...] | None, NoDecode] = Field(
        default=None, description="a list of host names, separated by commas"
    )
    tool_call_recovery: Literal["auto", "off"] = Field(default="auto", description="auto or off")

    @field_validator("model_aliases", "model_map", mode="before")
    @classmethod
    def _models_are_pairs(cls, value: Any) -> Any:
        if isinstance(value, str):
            return env_values.parse_models(value)
        return value

    @field_validator("download_allowed_hosts", mode="before")
    @classmethod
    def _hosts_are_names(cls, value: Any) -> Any:
        if isinstance(value, str):
            return parse_hosts(value)
        return value

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        if self.unix_socket is None and self.port != 0 and self.metrics_port == self.port:
            text = (
                f"METRICS_PORT equals PORT ({self.port}): choose another one, "
                "or unset it to serve /metrics on PORT"
            )
            raise PydanticCustomError(WHOLE_SENTENCE, "{text}", {"text": text})
        return self

    @property
    def listen_host(self) -> str:
        """HOST; without it all addresses of a protected server, and only 127.0.0.1 of others.

        Every host that reaches an unprotected server can use the upstream's key.
        """
        if self.host is not None:
            return self.host
        if self.is_protected:
            return "0.0.0.0"  # noqa: S104 - see above
        return "127.0.0.1"

    @property
    def is_protected(self) -> bool:
        """Whether clients need a key or a certificate."""
        return self.needs_key or self.tls_client_ca_file is not None

    @property
    def download_policy(self) -> DownloadPolicy:
        """Which hosts files are downloaded from."""
        return DownloadPolicy(self.downloads, self.download_allowed_hosts or ())

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """Texts to redact everywhere, besides the credentials of upstreams."""
        secrets = []
        for setting in (self.signature_secret, self.tls_key_password):
            if setting is not None:
                secrets.append(Secret(setting.get_secret_value()))
        for url in (self.limit_storage, *proxy_addresses(self._environment).values()):
            secrets.extend(find_url_secrets(url))
        return tuple(secrets)

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables of the environment, and of the `.env` file."""
        return self._environment

    @property
    def deprecations(self) -> tuple[Deprecation, ...]:
        """Former names of variables that are set."""
        return deprecated_variables(self._environment)

    @property
    def env_file(self) -> Path | None:
        """The `.env` file that was read."""
        return self._env_file


def load_settings(env_file: Path | None, flags: Mapping[str, Any] | None = None) -> Settings:
    """Return the settings of `flags`, environment and `env_file`.

    flags: values by variable; None counts as not given. Raises ConfigError with a line for each
    problem.
    """
    # The library warns of each invalid line, without the file's name; `env_notices` reports them.
    logging.getLogger("dotenv.main").setLevel(logging.ERROR)
    environment = read_env_file(env_file) | dict(os.environ)
    values = {name: value for name, value in (flags or {}).items() if value is not None}
    problems = list(conflicting_variables(environment))
    try:
        settings = Settings(_env_file=env_file, **values)
    except ValidationError as error:
        raise ConfigError("\n".join([*_problems(error, environment), *problems])) from None
    if problems:
        raise ConfigError("\n".join(problems))
    settings._environment, settings._env_file = environment, env_file  # noqa: SLF001 - same module
    check_proxies(environment)
    check_authorities(environment)
    return settings


def _problems(error: ValidationError, environment: Mapping[str, str]) -> Iterator[str]:
    for each in error.errors(include_url=False):
        text = variable_problem(each, Settings.model_fields)
        variable = str(each["loc"][0]) if each["loc"] else ""
        name = used_name(variable, environment)
        if name != variable:
            text = name + text.removeprefix(variable)
        yield text
        if each["type"] == MISSING_URL_TYPE:
            if environment.get("OPENAI_BASE_URL"):
                yield f"  {_OPENAI_URL}"
            elif environment.get("OPENAI_API_KEY"):
                yield f"  {_OPENAI_KEY}"
