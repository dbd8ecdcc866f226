"""Settings: one frozen object, loaded at start and by each reload.

No other module reads settings from the environment. Some read variables that are not settings, such
as XDG_RUNTIME_DIR and NO_COLOR.

Sources, in the order of precedence: command line flags, environment variables, the `.env` file (of
`--config`, else the first existing file of ENV_FILES), defaults. An empty variable counts as not
set. The variable of a field is its name in upper case, unless the field has aliases.
"""

import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AliasChoices,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, NoDecode

from anthropic_proxy.config import env_values
from anthropic_proxy.config.download_policy import DownloadPolicy, DownloadScope, parse_hosts
from anthropic_proxy.config.env_file import read_env_file
from anthropic_proxy.config.key_settings import KeySettings
from anthropic_proxy.config.messages import MISSING_URL_TYPE, WHOLE_SENTENCE, variable_problem
from anthropic_proxy.config.network_variables import (
    check_authorities,
    check_proxies,
    proxy_addresses,
)
from anthropic_proxy.config.setting_fields import SETTINGS_CONFIG, Section, reference
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

ReadinessRequirement = Literal["upstream", "config"]

_Pairs = Annotated[Mapping[str, str] | None, NoDecode]

_SECONDS = "seconds above 0"
_ONE_FILE = "TLS_CERT_FILE and TLS_KEY_FILE require each other: set both, or neither"
_NO_SERVER_TLS = (
    "TLS_CLIENT_CA_FILE requires TLS_CERT_FILE and TLS_KEY_FILE: "
    "clients send certificates only over TLS"
)

# Variables of other programs that correspond to UPSTREAM_BASE_URL and UPSTREAM_API_KEY.
_OPENAI_URL = (
    "the proxy does not read OPENAI_BASE_URL; "
    "if it is the upstream, set UPSTREAM_BASE_URL=$OPENAI_BASE_URL"
)
_OPENAI_KEY = (
    "the proxy does not read OPENAI_API_KEY; if OpenAI is the upstream, set "
    "UPSTREAM_BASE_URL=https://api.openai.com UPSTREAM_API_KEY=$OPENAI_API_KEY"
)


class ServerSettings(BaseSettings):
    """Settings of the server. A reload does not apply them."""

    host: str | None = Field(
        default=None,
        validation_alias=AliasChoices("HOST", "ANTHROPIC_PROXY_BIND"),
        description="Address to listen on. Without client keys or client certificates, every host "
        "that reaches it can use the upstream.",
        json_schema_extra=reference(
            Section.SERVER,
            "a host name or IP address",
            if_unset="`127.0.0.1`, or `0.0.0.0` with client keys or `TLS_CLIENT_CA_FILE`",
        ),
    )
    port: int = Field(
        default=3000,
        ge=0,
        le=65535,
        description="Port to listen on. `0` selects a free port.",
        json_schema_extra=reference(Section.SERVER, "0 to 65535"),
    )
    unix_socket: Path | None = Field(
        default=None,
        description="Unix socket to listen on, instead of `HOST` and `PORT`.",
        json_schema_extra=reference(Section.SERVER, "a path"),
    )
    workers: int = Field(
        default=1,
        ge=1,
        le=1024,
        description="Processes that serve requests (Unix only). The proxy replaces a worker that "
        "exits.",
        json_schema_extra=reference(Section.SERVER, "1 to 1024"),
    )
    tls_cert_file: Path | None = Field(
        default=None,
        description="Certificate chain of the server, for HTTPS and HTTP/2. The proxy reloads "
        "changed contents of the file.",
        json_schema_extra=reference(Section.TLS, "the path of a PEM file"),
    )
    tls_key_file: Path | None = Field(
        default=None,
        description="Private key of the certificate. The proxy reloads changed contents of the "
        "file.",
        json_schema_extra=reference(Section.TLS, "the path of a PEM file"),
    )
    tls_key_password: SecretStr | None = Field(
        default=None,
        description="Password of the private key.",
        json_schema_extra=reference(Section.TLS, "a password"),
    )
    tls_client_ca_file: Path | None = Field(
        default=None,
        description="Certificate authorities of the clients; the proxy rejects connections "
        "without a client certificate from one of them. A change of the file takes effect after "
        "a restart.",
        json_schema_extra=reference(Section.TLS, "the path of a PEM file"),
    )
    max_concurrent_requests: int | None = Field(
        default=None,
        ge=1,
        description="Maximum number of concurrent requests in each process. The proxy rejects "
        "additional requests with status 529.",
        json_schema_extra=reference(Section.LIMITS, "1 or more", if_unset="no limit"),
    )
    http2_max_concurrent_streams: int = Field(
        default=256,
        ge=1,
        le=2**31 - 1,
        description="Maximum number of concurrent requests on one HTTP/2 connection.",
        json_schema_extra=reference(Section.LIMITS, "1 to 2147483647"),
    )
    max_header_bytes: int = Field(
        default=65536,
        ge=8192,
        le=2**20,
        description="Maximum size of the headers of a request.",
        json_schema_extra=reference(Section.LIMITS, "bytes, 8192 to 1048576"),
    )
    max_json_values: int = Field(
        default=1_000_000,
        ge=1,
        description="Maximum number of JSON values in the body of a request: objects, arrays, "
        "strings, numbers and literals, but not names. The proxy rejects larger bodies with "
        "status 400.",
        json_schema_extra=reference(Section.LIMITS, "1 or more"),
    )
    body_timeout: float = Field(
        default=600,
        gt=0,
        description="Maximum time to receive the body of a request.",
        json_schema_extra=reference(Section.LIMITS, _SECONDS),
    )
    write_timeout: float = Field(
        default=300,
        gt=0,
        description="Maximum time during which a client reads nothing of its response. Then the "
        "proxy closes the connection, or resets the HTTP/2 stream.",
        json_schema_extra=reference(Section.LIMITS, _SECONDS),
    )
    header_timeout: float = Field(
        default=75,
        gt=0,
        description="Maximum time to receive the headers of a request.",
        json_schema_extra=reference(Section.LIMITS, _SECONDS),
    )
    # Clients keep idle connections for 5 to 60 seconds. A longer timeout avoids closing a
    # connection just when its client sends the next request.
    keepalive_timeout: float = Field(
        default=75,
        gt=0,
        description="Maximum idle time of a connection between requests. It must exceed the idle "
        "timeout of a front proxy.",
        json_schema_extra=reference(Section.LIMITS, _SECONDS),
    )
    drain_timeout: float = Field(
        default=300,
        ge=0,
        description="Maximum time for open requests to finish after SIGTERM.",
        json_schema_extra=reference(Section.SERVER, "seconds, 0 or more"),
    )
    reload_interval: float = Field(
        default=5,
        ge=0,
        description="Interval at which the proxy checks its configuration files for changes. With "
        "`0`, only SIGHUP reloads them.",
        json_schema_extra=reference(Section.SERVER, "seconds, 0 or more"),
    )
    ready_requires: Annotated[frozenset[ReadinessRequirement], NoDecode] = Field(
        default=frozenset(),
        description="Additional conditions for status 200 of `/readyz`: an upstream is available "
        "(`upstream`), the last reload succeeded (`config`).",
        json_schema_extra=reference(
            Section.SERVER, "`upstream`, `config` or both, separated by `;`"
        ),
    )

    @field_validator("host")
    @classmethod
    def _parse_host(cls, value: str | None) -> str | None:
        if value is None:
            return None
        return env_values.listen_host(value)

    @field_validator("ready_requires", mode="before")
    @classmethod
    def _split_requirements(cls, value: Any) -> Any:
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
    """Settings of logs and metrics. A reload does not apply them."""

    log_format: LogFormat = Field(
        default="auto",
        description="`console` writes short lines for people, `json` one JSON object for each "
        "line. `auto` selects `console` on a terminal and `json` elsewhere.",
        json_schema_extra=reference(Section.OBSERVABILITY, "`auto`, `console` or `json`"),
    )
    metrics_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="Separate port for `/metrics` and the health probes.",
        json_schema_extra=reference(
            Section.OBSERVABILITY, "0 to 65535", if_unset="none: `/metrics` is on `PORT`"
        ),
    )
    metrics_max_models: int = Field(
        default=100,
        ge=0,
        description="Maximum number of (upstream, model) pairs with separate metric series. All "
        "others share the label `other`.",
        json_schema_extra=reference(Section.OBSERVABILITY, "0 or more"),
    )
    debug: bool = Field(
        default=False,
        description="Log debug messages, and all details of each request.",
        json_schema_extra=reference(Section.OBSERVABILITY, "`true` or `false`"),
    )
    verbose: bool = Field(
        default=False,
        description="Log the bodies as well, without keys and with truncated images. It includes "
        "`DEBUG`.",
        json_schema_extra=reference(Section.OBSERVABILITY, "`true` or `false`"),
    )


class Settings(ObservabilitySettings, KeySettings, ServerSettings, UpstreamSettings):
    """All settings of the environment; docs/settings.md is generated from them.

    Fields and error messages are in the order of the base classes; the last base class comes first.
    """

    model_config = SETTINGS_CONFIG

    # For `${VARIABLE}` in the configuration file.
    _environment: Mapping[str, str] = PrivateAttr(default_factory=lambda: dict(os.environ))
    _env_file: Path | None = PrivateAttr(default=None)

    signature_secret: SecretStr | None = Field(
        default=None,
        description="Secret that signs thinking blocks; the proxy drops blocks that a client has "
        "changed. All replicas need the same secret.",
        json_schema_extra=reference(
            Section.CONTENT, "a text", if_unset="none: changes are not detected"
        ),
    )
    reasoning_model: str | None = Field(
        default=None,
        description="Upstream model for requests with thinking (`enabled` or `adaptive`).",
        json_schema_extra=reference(
            Section.MODELS, "the name of a model", if_unset="the client's model"
        ),
    )
    completion_model: str | None = Field(
        default=None,
        description="Upstream model for all other requests.",
        json_schema_extra=reference(
            Section.MODELS, "the name of a model", if_unset="the client's model"
        ),
    )
    model_map: _Pairs = Field(
        default=None,
        description="Upstream models for the models that clients request: names, patterns "
        "(`claude-*`) or tiers (`haiku`, `sonnet`, `opus`, `fable`).",
        json_schema_extra=reference(
            Section.MODELS,
            "`client-model=upstream-model`, several with `;` or new lines between them",
        ),
    )
    model_aliases: _Pairs = Field(
        default=None,
        description="Additional model names for clients. The model picker of Claude Code lists "
        "those that contain `claude`, with `CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY=1`.",
        json_schema_extra=reference(
            Section.MODELS, "`alias=upstream-model`, several with `;` or new lines between them"
        ),
    )
    claude_model_ids: bool = Field(
        default=False,
        description="List models under ids that begin with `claude-`, so that the model pickers of "
        "Claude Desktop and Claude Code show [all models](models.md#claude-ids).",
        json_schema_extra=reference(Section.MODELS, "`true` or `false`"),
    )
    downloads: DownloadScope = Field(
        default="public",
        description="Hosts from which the proxy downloads images and PDFs that requests name by "
        "URL: public hosts, none, or all. With `all`, clients can read images and PDFs of your "
        "network, and the proxy uses `HTTP_PROXY`.",
        json_schema_extra=reference(Section.CONTENT, "`public`, `off` or `all`"),
    )
    download_allowed_hosts: Annotated[tuple[str, ...] | None, NoDecode] = Field(
        default=None,
        description="The only hosts for downloads, which may be private. `.example.com` includes "
        "all hosts below `example.com`.",
        json_schema_extra=reference(
            Section.CONTENT,
            "host names or IP addresses, separated by commas",
            if_unset="all hosts of `DOWNLOADS`",
        ),
    )
    tool_call_recovery: Literal["auto", "off"] = Field(
        default="auto",
        description="`auto` converts tool calls that a model wrote as text into tool calls. `off` "
        "keeps the text.",
        json_schema_extra=reference(Section.CONTENT, "`auto` or `off`"),
    )

    @field_validator("model_aliases", "model_map", mode="before")
    @classmethod
    def _parse_models(cls, value: Any) -> Any:
        if isinstance(value, str):
            return env_values.parse_models(value)
        return value

    @field_validator("download_allowed_hosts", mode="before")
    @classmethod
    def _parse_hosts(cls, value: Any) -> Any:
        if isinstance(value, str):
            return parse_hosts(value)
        return value

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        if self.unix_socket is None and self.port != 0 and self.metrics_port == self.port:
            text = (
                f"METRICS_PORT equals PORT ({self.port}): choose another port, "
                "or unset METRICS_PORT to serve /metrics on PORT"
            )
            raise PydanticCustomError(WHOLE_SENTENCE, "{text}", {"text": text})
        return self

    @property
    def listen_host(self) -> str:
        """HOST, else 0.0.0.0 for a protected server, and 127.0.0.1 for others.

        Every host that reaches an unprotected server can use the key of the upstream.
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
        """The hosts from which files may be downloaded."""
        return DownloadPolicy(self.downloads, self.download_allowed_hosts or ())

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """Secrets to redact everywhere, except the credentials of upstreams."""
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

    flags: values by variable; None counts as not set. Raises ConfigError with a line for each
    problem.
    """
    # The library logs each invalid line without the name of the file; `env_notices` reports them.
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
        if each["loc"]:
            variable = str(each["loc"][0])
            text = text.replace(variable, used_name(variable, environment), 1)
        yield text
        if each["type"] == MISSING_URL_TYPE:
            if environment.get("OPENAI_BASE_URL"):
                yield f"  {_OPENAI_URL}"
            elif environment.get("OPENAI_API_KEY"):
                yield f"  {_OPENAI_KEY}"
