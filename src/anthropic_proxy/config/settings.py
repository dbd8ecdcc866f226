"""Settings: one frozen object, read once at start. Nothing else reads the environment or a `.env` file.

Order, strongest first: command-line flags, variables of the environment, the first `.env` file found (of `--config`,
`./.env`, `~/.anthropic-proxy.env`, `/etc/anthropic-proxy/.env`), defaults. An empty variable counts as not set.
"""

import logging
import os
import ssl
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal

from dotenv import dotenv_values
from dotenv.variables import Atom, Variable, parse_variables
from pydantic import (
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic_settings import NoDecode, SettingsConfigDict

from anthropic_proxy.config import env_values
from anthropic_proxy.config.download_policy import DownloadPolicy, Fetched, parse_hosts
from anthropic_proxy.config.env_errors import problem
from anthropic_proxy.config.key_settings import KeySettings
from anthropic_proxy.config.observability_settings import ObserveSettings
from anthropic_proxy.config.server_settings import ServerSettings
from anthropic_proxy.config.upstream_settings import Pairs, UpstreamSettings
from anthropic_proxy.errors import ConfigError
from anthropic_proxy.errors.redaction import Secret, url_secrets
from anthropic_proxy.providers.base_url import check_login

# Of the `.env` file, and of each of its values.
MAX_ENV_BYTES = 1024 * 1024

ENV_FILES = (Path(".env"), Path("~/.anthropic-proxy.env"), Path("/etc/anthropic-proxy/.env"))

# In lower case: variables of the environment that name proxies, perhaps with logins.
_PROXY_VARIABLES = frozenset({"http_proxy", "https_proxy", "all_proxy"})

# In lower case: what libraries read from the environment of the process: the HTTP proxies, and the authorities whose
# certificates are trusted.
NETWORK_VARIABLES = (*sorted(_PROXY_VARIABLES), "no_proxy", "ssl_cert_file", "ssl_cert_dir")

# Variables of other programs for what UPSTREAM_BASE_URL and UPSTREAM_API_KEY are.
_OPENAI_URL = "OPENAI_BASE_URL is set but not read here; if it is the upstream: UPSTREAM_BASE_URL=$OPENAI_BASE_URL"
_OPENAI_KEY = (
    "OPENAI_API_KEY is set but not read here; if OpenAI is the upstream: UPSTREAM_BASE_URL=https://api.openai.com "
    "UPSTREAM_API_KEY=$OPENAI_API_KEY"
)


class Settings(ObserveSettings, KeySettings, ServerSettings, UpstreamSettings):
    """Everything that can be configured. Each field is documented by its description, in README and `.env.example`.

    What is wrong with them is told in the order of the bases, the last one first.
    """

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    # What `${VARIABLE}` in the configuration file stands for.
    _environment: Mapping[str, str] = PrivateAttr(default_factory=lambda: dict(os.environ))
    _env_file: Path | None = PrivateAttr(default=None)

    signature_secret: SecretStr | None = Field(
        default=None,
        validation_alias="SIGNATURE_SECRET",
        description="a secret that thinking blocks are signed with",
    )
    reasoning_model: str | None = Field(
        default=None,
        validation_alias="REASONING_MODEL",
        description="an upstream model for requests with thinking",
    )
    completion_model: str | None = Field(
        default=None,
        validation_alias="COMPLETION_MODEL",
        description="an upstream model for all other requests",
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
    downloads: Fetched = Field(
        default="public", validation_alias="DOWNLOADS", description="public, off or all"
    )
    download_allowed_hosts: Annotated[tuple[str, ...] | None, NoDecode] = Field(
        default=None,
        validation_alias="DOWNLOAD_ALLOWED_HOSTS",
        description="a list of host names, separated by commas",
    )
    tool_call_recovery: Literal["auto", "off"] = Field(
        default="auto", validation_alias="TOOL_CALL_RECOVERY", description="auto or off"
    )

    @field_validator("model_aliases", "model_map", mode="before")
    @classmethod
    def _models_are_pairs(cls, value: Any) -> Any:
        return env_values.models(value) if isinstance(value, str) else value

    @field_validator("download_allowed_hosts", mode="before")
    @classmethod
    def _hosts_are_names(cls, value: Any) -> Any:
        return parse_hosts(value) if isinstance(value, str) else value

    @property
    def listen_host(self) -> str:
        """HOST; without it all addresses where clients show a key or a certificate, and else this machine alone.

        A server without either would let all who reach it spend the upstream's key.
        """
        if self.host is not None:
            return self.host
        return "0.0.0.0" if self.is_protected else "127.0.0.1"  # noqa: S104 - see above

    @property
    def is_protected(self) -> bool:
        """Whether clients have to show a key or a certificate."""
        return self.needs_key or self.tls_client_ca_file is not None

    @property
    def download_policy(self) -> DownloadPolicy:
        """Whose files are fetched."""
        return DownloadPolicy(self.downloads, self.download_allowed_hosts or ())

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """What no text may repeat, besides the credentials of upstreams."""
        secrets = (self.signature_secret, self.tls_key_password)
        proxies = (
            value for name, value in self._environment.items() if name.lower() in _PROXY_VARIABLES
        )
        return (
            *(Secret(each.get_secret_value()) for each in secrets if each is not None),
            *chain.from_iterable(map(url_secrets, (self.limit_storage, *proxies))),
        )

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables of the environment, and of the `.env` file."""
        return self._environment

    @property
    def env_file(self) -> Path | None:
        """The `.env` file that was read."""
        return self._env_file


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
    # It warns of each line that it cannot parse, without the file's name and each time; see `env_file`.
    logging.getLogger("dotenv.main").setLevel(logging.ERROR)
    try:
        _check_size(env_file)
        settings = Settings(_env_file=env_file, **given)
    except ValidationError as error:
        raise ConfigError("\n".join(_problems(error, _variables(env_file)))) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{env_file} can't be read: {error}") from None
    settings._environment, settings._env_file = _variables(env_file), env_file  # noqa: SLF001 - made here
    _check_proxies(settings.environment)
    _check_authorities(settings.environment)
    return settings


def _problems(error: ValidationError, environment: Mapping[str, str]) -> Iterator[str]:
    for each in error.errors(include_url=False):
        yield problem(each, Settings.model_fields)
        if each["type"] == "missing_upstream":
            if environment.get("OPENAI_BASE_URL"):
                yield f"  {_OPENAI_URL}"
            elif environment.get("OPENAI_API_KEY"):
                yield f"  {_OPENAI_KEY}"


def export_network_variables(settings: Settings) -> None:
    """Put the variables of a `.env` file that libraries read into the environment of the process, which wins over the
    file. To be called before these libraries are imported.
    """
    present = {name.lower() for name, value in os.environ.items() if value}
    for name, value in settings.environment.items():
        if name.lower() in NETWORK_VARIABLES and name.lower() not in present:
            os.environ[name.upper()] = value


def _check_size(env_file: Path | None) -> None:
    """Refuse a file that is too large, or whose values are once the variables in them are replaced by their values.

    Each value may hold the one before twice, so some lines can stand for gigabytes. Raises ConfigError and OSError.
    """
    if env_file is None:
        return
    if env_file.stat().st_size > MAX_ENV_BYTES:
        raise ConfigError(
            f"{env_file}: the file is too large, expected at most {MAX_ENV_BYTES} bytes"
        )
    lengths = {name: len(value) for name, value in os.environ.items()}
    for name, value in dotenv_values(env_file, encoding="utf-8", interpolate=False).items():
        length = sum(_length(atom, lengths) for atom in parse_variables(value or ""))
        if length > MAX_ENV_BYTES:
            raise ConfigError(
                f"{env_file}: {name}: the value is too long, expected at most {MAX_ENV_BYTES} characters"
            )
        lengths[name] = max(length, lengths.get(name, 0))


def _length(atom: Atom, lengths: Mapping[str, int]) -> int:
    """Return the most characters that a part of a value, a text or a variable, is replaced by."""
    if isinstance(atom, Variable):
        return max(lengths.get(atom.name, 0), len(atom.default or ""))
    return len(atom.resolve({}))


def _check_proxies(environment: Mapping[str, str]) -> None:
    """Check the addresses of HTTP proxies, which the HTTP client reads itself: its errors repeat a part of a password.

    Raises ConfigError.
    """
    for name, address in environment.items():
        if name.lower() not in _PROXY_VARIABLES:
            continue
        try:
            check_login(address)
        except ValueError as error:
            raise ConfigError(f"{name}: the given value {error}") from None


def _check_authorities(environment: Mapping[str, str]) -> None:
    """Check SSL_CERT_FILE and SSL_CERT_DIR: OpenSSL ignores what it cannot read, and then trusts no certificate.

    Raises ConfigError.
    """
    given = {name.upper(): value for name, value in environment.items() if value}
    file, directory = given.get("SSL_CERT_FILE"), given.get("SSL_CERT_DIR")
    if file:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=file)
        except ssl.SSLError:
            raise ConfigError(
                f"SSL_CERT_FILE: {file!r} is not a PEM file with certificates"
            ) from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(f"SSL_CERT_FILE: {file!r} can't be read: {reason}") from None
    # OpenSSL takes several directories.
    for each in (directory or "").split(os.pathsep):
        if each and not Path(each).is_dir():
            raise ConfigError(f"SSL_CERT_DIR: {each!r} is not a directory")


def _variables(env_file: Path | None) -> dict[str, str]:
    found = dotenv_values(env_file, encoding="utf-8") if env_file else {}
    return {name: value for name, value in found.items() if value is not None} | dict(os.environ)
