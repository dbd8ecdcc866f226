"""Records of the configured upstreams: address, profile, credentials, timeouts and limits.

The packages `upstream` and `gateway` contain the state that changes at run time, such as the state
of circuit breakers.
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

# The API of an upstream: OpenAI's Chat Completions or Responses API, or the Messages API.
UpstreamApi = Literal["chat_completions", "responses", "messages"]


def _reject_boolean(value: Any) -> Any:
    # pydantic would accept true and false as 1 and 0.
    if isinstance(value, bool):
        raise ValueError("should be a number")  # noqa: TRY004 - pydantic collects ValueErrors
    return value


Integer = Annotated[int, BeforeValidator(_reject_boolean)]
Number = Annotated[float, BeforeValidator(_reject_boolean)]
Seconds = Annotated[Number, Field(gt=0)]

# For records that are also sections of the configuration file, where unknown names are errors.
# `defer_build` saves time: most starts of the server do not need these validators.
RECORD_CONFIG = ConfigDict(
    frozen=True,
    extra="forbid",
    allow_inf_nan=False,
    hide_input_in_errors=True,
    defer_build=True,
)


class Timeouts(BaseModel):
    """Time limits in seconds. docs/configuration.md shows the descriptions and defaults."""

    model_config = RECORD_CONFIG

    connect: Seconds = Field(10, description="to connect")
    first_byte: Seconds = Field(600, description="until the response headers")
    first_token: Seconds | None = Field(
        None,
        description="until the first content of a stream; "
        "default: 60 if the request has another target",
    )
    idle: Seconds = Field(600, description="between two reads of the response")
    total: Seconds | None = Field(None, description="for the complete response")


class ConcurrencyLimits(BaseModel):
    """Limits on concurrent requests to an upstream. docs/configuration.md shows them."""

    model_config = RECORD_CONFIG

    concurrency: Annotated[Integer, Field(ge=1)] | None = Field(
        None, description="concurrent requests; default: no limit"
    )
    queue: Annotated[Integer, Field(ge=0)] = Field(100, description="requests that may wait")
    queue_seconds: Annotated[Number, Field(ge=0)] = Field(
        30, description="seconds that a request may wait"
    )


@dataclass(frozen=True)
class Upstream:
    """One configured upstream."""

    # Unique among the upstreams. Logs, metrics and responses contain it.
    name: str
    # URL of the API, without a slash at its end. Paths such as `/chat/completions` are appended.
    base_url: str
    profile: ProviderProfile
    api: UpstreamApi = "chat_completions"
    # API keys, used in turn.
    keys: tuple[str, ...] = field(default=(), repr=False)
    # Whether the caller's own key is sent instead of `keys`.
    key_passthrough: bool = False
    # Headers that are added to every request.
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    # Query parameters that are added to every URL.
    query: Mapping[str, str] = field(default_factory=dict)
    # Fields that are added to every request body. They replace fields with the same names.
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    timeouts: Timeouts = field(default_factory=Timeouts)
    limits: ConcurrencyLimits = field(default_factory=ConcurrencyLimits)
    # Maximum number of retries of a request at this upstream, after transient failures.
    retries: int = 0
    # True if the profile is a default: the configuration, the host and a probe did not select it.
    is_profile_guessed: bool = False

    def build_url(self, path: str, query: str = "") -> str:
        """Return the URL of a path of the API, such as `/chat/completions`.

        query: additional parameters, already encoded.
        """
        return self._append_query(self.base_url + path, query)

    def build_root_url(self, path: str) -> str:
        """Return the URL of a path outside of the API's `/v1`, such as `/tokenize`."""
        return self._append_query(strip_version(self.base_url) + path)

    @property
    def host(self) -> str:
        """The host name, without the port."""
        return urlsplit(self.base_url).hostname or ""

    @property
    def port(self) -> int:
        """The port in the base URL, otherwise the default port of its scheme."""
        parts = urlsplit(self.base_url)
        return parts.port or (443 if parts.scheme == "https" else 80)

    @property
    def address(self) -> str:
        """The host and the port, as in the base URL."""
        return urlsplit(self.base_url).netloc

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """The values that must not leave the process.

        Keys, values of headers and query parameters, and credentials in `extra_body`.
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
        """True if callers may see the address, because it is also the name of the upstream."""
        return self.name.startswith(self.address)

    @cached_property
    def redactor(self) -> Redactor:
        """Redacts the secrets, and the address if callers must not see it."""
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
