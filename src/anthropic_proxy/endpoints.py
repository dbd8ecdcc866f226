"""The upstreams as they are configured: where each one is, how it is spoken to, and what it is given.

Records only. Nothing here knows whether an upstream is up; what is learned of it while running lives in sending.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal
from urllib.parse import urlencode, urlsplit

from anthropic_proxy.addresses import without_version
from anthropic_proxy.dialects import Dialect

# What an upstream speaks: OpenAI's Chat Completions or Responses API, or the Messages API itself.
Api = Literal["chat_completions", "responses", "messages"]

NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Timeouts:
    """Seconds that an upstream may take: to accept a connection, to send the head of its answer, to send the next bytes
    of it, and for all of it (None: as long as it likes).
    """

    connect: float = 10
    first_byte: float = 600
    idle: float = 600
    total: float | None = None


@dataclass(frozen=True)
class Limits:
    """concurrency: requests that an upstream is given at a time (None: all there are). queue: requests that may wait for
    their turn. queue_seconds: how long they may.
    """

    concurrency: int | None = None
    queue: int = 100
    queue_seconds: float = 30


@dataclass(frozen=True)
class Endpoint:
    """One upstream.

    name: unique among the endpoints; in logs and headers. base: address of its API, without a slash at the end, to which
    paths as `/chat/completions` are added. query: parameters of every address. keys: used in turn. key_passthrough:
    whether the client's own key is sent in their place. headers: added to every request. extra_body: fields that
    override those of every request. retries: how often a request that failed for a passing reason is sent again here.
    """

    name: str
    base: str
    dialect: Dialect
    api: Api = "chat_completions"
    keys: tuple[str, ...] = field(default=(), repr=False)
    key_passthrough: bool = False
    headers: Mapping[str, str] = field(default=NOTHING, repr=False)
    query: Mapping[str, str] = NOTHING
    extra_body: Mapping[str, Any] = NOTHING
    timeouts: Timeouts = Timeouts()
    limits: Limits = Limits()
    retries: int = 0

    def url(self, path: str) -> str:
        """The full address of a path of the API (`/chat/completions`, `/models`)."""
        return self._with_query(self.base + path)

    def root_url(self, path: str) -> str:
        """The full address of a path of the server itself, beside its `/v1` (`/tokenize`)."""
        return self._with_query(without_version(self.base) + path)

    @property
    def host(self) -> str:
        """Host name, without port."""
        return urlsplit(self.base).hostname or ""

    @property
    def address(self) -> str:
        """Host and port, as they are named in errors."""
        return urlsplit(self.base).netloc

    def _with_query(self, url: str) -> str:
        return f"{url}?{urlencode(self.query)}" if self.query else url
