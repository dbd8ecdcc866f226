"""The upstreams as they are configured: where each one is, how it is spoken to, and what it is given.

Records only. Nothing here knows whether an upstream is up; what is learned of it while running lives in sending.
"""

import contextlib
import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, count
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

from anthropic_proxy.addresses import api_address, host_of, is_deployment, without_version
from anthropic_proxy.config import Settings
from anthropic_proxy.dialects import GENERIC, Dialect, dialect_of, named, with_facts
from anthropic_proxy.redaction import Redactor, Secret, field_secrets, header_secrets, parameter_secrets
from anthropic_proxy.upstream_settings import Api

# Dialects that were found out by asking, by the endpoint's name.
Found = Mapping[str, Dialect]


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

    name: unique among the endpoints; in logs and metrics, and clients are told it. base: address of its API, without a
    slash at the end, to which paths as `/chat/completions` are added. query: parameters of every address. keys: used in
    turn. key_passthrough: whether the client's own key is sent in their place. headers: added to every request.
    extra_body: fields that override those of every request. retries: how often a request that failed for a passing
    reason is sent again here.
    is_guessed: whether nothing has told its dialect.
    """

    name: str
    base: str
    dialect: Dialect
    api: Api = "chat_completions"
    keys: tuple[str, ...] = field(default=(), repr=False)
    key_passthrough: bool = False
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    query: Mapping[str, str] = field(default_factory=dict)
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    timeouts: Timeouts = Timeouts()
    limits: Limits = Limits()
    retries: int = 0
    is_guessed: bool = False

    def url(self, path: str, query: str = "") -> str:
        """The full address of a path of the API (`/chat/completions`, `/models`). query: more parameters, encoded."""
        return self._with_query(self.base + path, query)

    def root_url(self, path: str) -> str:
        """The full address of a path of the server itself, beside its `/v1` (`/tokenize`)."""
        return self._with_query(without_version(self.base) + path)

    @property
    def host(self) -> str:
        """Host name, without port."""
        return urlsplit(self.base).hostname or ""

    @property
    def port(self) -> int:
        """As the address has it, or as its scheme has it."""
        parts = urlsplit(self.base)
        return parts.port or (443 if parts.scheme == "https" else 80)

    @property
    def address(self) -> str:
        """Host and port."""
        return urlsplit(self.base).netloc

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """What no text may repeat: the keys, and the values of the headers, of the query and of credentials in the body."""
        return (
            *map(Secret, self.keys),
            *chain.from_iterable(header_secrets(name, value) for name, value in self.headers.items()),
            *chain.from_iterable(parameter_secrets(name, value) for name, value in self.query.items()),
            *field_secrets(self.extra_body),
        )

    @property
    def is_open(self) -> bool:
        """Whether clients may see its address, which is its name then."""
        return self.name.startswith(self.address)

    @cached_property
    def redactor(self) -> Redactor:
        """Removes from texts for clients what they must not learn: the secrets, and addresses that the name hides."""
        if self.is_open:
            return Redactor(self.secrets)
        # A host without a dot may be any word.
        host = [self.host] if "." in self.host else []
        return Redactor(self.secrets, [self.base.partition("://")[2], self.address, *host])

    def _with_query(self, url: str, query: str = "") -> str:
        whole = "&".join(filter(None, (urlencode(self.query), query)))
        return f"{url}?{whole}" if whole else url


def of_settings(settings: Settings, found: Found = MappingProxyType({})) -> tuple[Endpoint, ...]:
    """The upstreams of the simple variables: one for each URL, in their order. Each is named by its host and port, where
    these tell nothing of a network that clients need not know of, else by its place.

    A single upstream of a server that anybody may use is named by its address as well: its clients are as a rule the
    person who set it. Of several the names are in the ids of models, and stay the same when clients get keys.
    """
    is_own = len(settings.upstream_urls) == 1 and not settings.is_protected
    made: dict[str, Endpoint] = {}
    for number, url in enumerate(settings.upstream_urls, 1):
        address = urlsplit(url).netloc if is_own or _may_be_told(url) else f"private-{number}"
        name = next(each for each in _names(address) if each not in made)
        made[name] = _of_url(name, url, settings, found)
    return tuple(made.values())


def _of_url(name: str, url: str, settings: Settings, found: Found) -> Endpoint:
    place = placed(url, settings.upstream_dialect, settings.upstream_facts or {}, found.get(name))
    return Endpoint(
        name=name,
        **place._asdict(),
        api=settings.upstream_api,
        keys=settings.upstream_keys,
        key_passthrough=settings.upstream_api_key_passthrough,
        headers=settings.upstream_headers or {},
        extra_body=settings.upstream_extra_body or {},
        timeouts=Timeouts(
            settings.upstream_connect_timeout,
            settings.upstream_first_byte_timeout,
            settings.upstream_idle_timeout,
            settings.upstream_total_timeout,
        ),
        limits=Limits(settings.upstream_concurrency, settings.upstream_queue, settings.upstream_queue_timeout),
        retries=settings.upstream_retries,
    )


class Place(NamedTuple):
    """What a URL says of an upstream: the fields of its `Endpoint` of these names."""

    base: str
    query: Mapping[str, str]
    dialect: Dialect
    is_guessed: bool


def placed(
    url: str,
    dialect: str | None,
    facts: Mapping[str, Any],
    found: Dialect | None,
    query: Mapping[str, str] = MappingProxyType({}),
) -> Place:
    """Where the API at `url` is, and how it is spoken to, with the parameters that this kind of server wants and those
    given. dialect: the name of one, where it is configured. found: the one that was found out. Raises ValueError.
    """
    chosen = _chosen(url, dialect, found)
    spoken = with_facts(chosen or GENERIC, facts)
    base, own = api_address(url, spoken.api_path)
    wanted = {"api-version": spoken.api_version} if spoken.api_version and is_deployment(base) else {}
    return Place(base, {**wanted, **own, **query}, spoken, is_guessed=chosen is None)


def _chosen(url: str, name: str | None, found: Dialect | None) -> Dialect | None:
    """The dialect of that name, else the one of the URL's host, else the one that was found; None when nothing tells."""
    if name:
        return named(name)
    dialect = dialect_of(host_of(url))
    return found if dialect is GENERIC else dialect


def _may_be_told(url: str) -> bool:
    """Whether it is a provider that everybody knows, or a server on the machine itself."""
    host = host_of(url)
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost" or dialect_of(host) is not GENERIC


def _names(address: str) -> Iterator[str]:
    yield address
    yield from (f"{address}-{number}" for number in count(2))
