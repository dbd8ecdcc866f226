"""Records of the configured upstreams: address, profile, credentials, timeouts and limits.

State that is learned at run time, such as whether an upstream is up, belongs to the packages
upstream and gateway.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, Literal
from urllib.parse import urlencode, urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from anthropic_proxy.errors.redaction import (
    Redactor,
    Secret,
    find_field_secrets,
    find_header_secrets,
    find_parameter_secrets,
)
from anthropic_proxy.providers.base_url import strip_version
from anthropic_proxy.providers.provider_profile import ProviderProfile

# The API of an upstream: OpenAI's Chat Completions or Responses API, or the Messages API itself.
UpstreamApi = Literal["chat_completions", "responses", "messages"]


def _reject_boolean(value: Any) -> Any:
    # pydantic takes true and false as 1 and 0.
    if isinstance(value, bool):
        raise ValueError("should be a number")  # noqa: TRY004 - pydantic collects ValueErrors
    return value


Integer = Annotated[int, BeforeValidator(_reject_boolean)]
Number = Annotated[float, BeforeValidator(_reject_boolean)]
Seconds = Annotated[Number, Field(gt=0)]

# For records that are also sections of the configuration file: an unknown name is an error.
# Validators are built when they are first needed, which is not at each start.
RECORD_CONFIG = ConfigDict(
    frozen=True,
    extra="forbid",
    allow_inf_nan=False,
    hide_input_in_errors=True,
    defer_build=True,
)


class Timeouts(BaseModel):
    """Seconds that an upstream may take. The documentation shows descriptions and defaults."""

    model_config = RECORD_CONFIG

    connect: Seconds = Field(10, description="to accept a connection")
    first_byte: Seconds = Field(600, description="to send the head of its answer")
    idle: Seconds = Field(600, description="to send the next bytes of it")
    total: Seconds | None = Field(None, description="for all of it")


class ConcurrencyLimits(BaseModel):
    """Bounds on concurrent requests to an upstream; None: unlimited."""

    model_config = RECORD_CONFIG

    concurrency: Annotated[Integer, Field(ge=1)] | None = Field(
        None, description="requests at a time"
    )
    queue: Annotated[Integer, Field(ge=0)] = Field(
        100, description="requests that may wait for their turn"
    )
    queue_seconds: Annotated[Number, Field(ge=0)] = Field(
        30, description="how long they may wait, in seconds"
    )


@dataclass(frozen=True)
class Upstream:
    """One configured upstream."""

    # unique among the upstreams; shown in logs, metrics and responses
    name: str
    # address of the API without a slash at its end; paths such as `/chat/completions` are appended
    base_url: str
    profile: ProviderProfile
    api: UpstreamApi = "chat_completions"
    # API keys, used in turn
    keys: tuple[str, ...] = field(default=(), repr=False)
    # whether the caller's own key is sent instead of `keys`
    key_passthrough: bool = False
    # added to every request
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    # parameters of every URL
    query: Mapping[str, str] = field(default_factory=dict)
    # fields that override those of every request
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    timeouts: Timeouts = field(default_factory=Timeouts)
    limits: ConcurrencyLimits = field(default_factory=ConcurrencyLimits)
    # how often a request that failed for a transient reason is sent again to this upstream
    retries: int = 0
    # whether neither the configuration, the host nor a probe selected the profile
    is_profile_guessed: bool = False

    def build_url(self, path: str, query: str = "") -> str:
        """Return the URL of a path of the API (`/chat/completions`). `query` holds more parameters,
        encoded.
        """
        return self._append_query(self.base_url + path, query)

    def build_root_url(self, path: str) -> str:
        """Return the URL of a path of the server itself, beside its `/v1` (`/tokenize`)."""
        return self._append_query(strip_version(self.base_url) + path)

    @property
    def host(self) -> str:
        """Host name, without port."""
        return urlsplit(self.base_url).hostname or ""

    @property
    def port(self) -> int:
        """Port of the base URL, else the default port of its scheme."""
        parts = urlsplit(self.base_url)
        return parts.port or (443 if parts.scheme == "https" else 80)

    @property
    def address(self) -> str:
        """Host and port."""
        return urlsplit(self.base_url).netloc

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """Values that must not leave the process: keys, header values, query values and credentials
        in `extra_body`.
        """
        secrets = [Secret(key) for key in self.keys]
        for name, value in self.headers.items():
            secrets += find_header_secrets(name, value)
        for name, value in self.query.items():
            secrets += find_parameter_secrets(name, value)
        secrets += find_field_secrets(self.extra_body)
        return tuple(secrets)

    @property
    def has_public_address(self) -> bool:
        """Whether callers may see the address: it is the upstream's name then."""
        return self.name.startswith(self.address)

    @cached_property
    def redactor(self) -> Redactor:
        """Removes secrets from texts for callers, and addresses that the name hides."""
        if self.has_public_address:
            return Redactor(self.secrets)
        addresses = [self.base_url.partition("://")[2], self.address]
        # A host name without a dot may be an ordinary word.
        if "." in self.host:
            addresses.append(self.host)
        return Redactor(self.secrets, addresses)

    def _append_query(self, url: str, query: str = "") -> str:
        parameters = "&".join(part for part in (urlencode(self.query), query) if part)
        return f"{url}?{parameters}" if parameters else url
