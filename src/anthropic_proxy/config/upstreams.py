"""Everything that is configured about upstreams, joined: the simple variables, or the file with several upstreams."""

import contextlib
import errno
import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import count
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from anthropic_proxy.config.file import ConfigFile, parse
from anthropic_proxy.config.file_models import RouteEntry, TargetEntry, UpstreamEntry
from anthropic_proxy.config.settings import Settings
from anthropic_proxy.errors import ConfigError
from anthropic_proxy.providers.base_url import api_address, host_of, is_deployment
from anthropic_proxy.providers.profiles import GENERIC, Dialect, dialect_of, named, with_facts
from anthropic_proxy.routing.router import TIERS, Groups, Routing, Rule, Target, targets_named
from anthropic_proxy.routing.upstream import Endpoint, Limits, Timeouts

# Dialects of self-hosted servers that answered a probe, by the name of the upstream.
DetectedProfiles = Mapping[str, Dialect]

Read = Callable[[PurePath], str]

# Of each file that is named in the configuration. A device or a pipe has no end.
MAX_FILE_BYTES = 16 * 1024 * 1024

_TWO_KINDS_OF_KEYS = (
    "PROXY_API_KEYS and PROXY_API_KEYS_FILE exclude UPSTREAM_API_KEY_PASSTHROUGH, and `passthrough` in the configuration "
    "file: a client sends one key, either the proxy's or the upstream's"
)


def text_of(path: PurePath) -> str:
    """Return the text of a UTF-8 file of at most MAX_FILE_BYTES. Raises OSError and UnicodeDecodeError."""
    with Path(path).expanduser().open("rb") as file:
        raw = file.read(MAX_FILE_BYTES + 1)
    if len(raw) > MAX_FILE_BYTES:
        raise OSError(errno.EFBIG, f"it is too large, expected at most {MAX_FILE_BYTES} bytes")
    return raw.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")


def load_routing(
    settings: Settings, detected: DetectedProfiles = MappingProxyType({}), read: Read = text_of
) -> Routing:
    """Return the upstreams and the rules of the configuration.

    read: returns the text of a file, and records which files were read. Raises ConfigError.
    """
    known = _configured(settings, detected, read)
    if settings.needs_key and any(endpoint.key_passthrough for endpoint in known.endpoints):
        raise ConfigError(_TWO_KINDS_OF_KEYS)
    return known


def _configured(settings: Settings, detected: DetectedProfiles, read: Read) -> Routing:
    if settings.config_file is None:
        return routing_from_settings(settings, upstreams_from_settings(settings, detected))
    file = _read(settings.config_file, settings, read)
    known = {name: _endpoint(name, entry, detected) for name, entry in file.upstreams.items()}
    simple = routing_from_settings(settings, tuple(known.values()))
    aliases = {name: (_targets([entry], known),) for name, entry in file.aliases.items()}
    rules = (_rule(entry, known) for entry in file.routes)
    return Routing(simple.endpoints, (*rules, *simple.rules), {**simple.aliases, **aliases})


def _read(path: Path, settings: Settings, read: Read) -> ConfigFile:
    try:
        text = read(path)
    except OSError as error:
        raise ConfigError(f"CONFIG_FILE: {path} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"CONFIG_FILE: {path} can't be read: it is not UTF-8") from error
    return parse(text, str(path), settings.environment, read)


def _endpoint(name: str, entry: UpstreamEntry, detected: DetectedProfiles) -> Endpoint:
    resolved = resolve_url(entry.url, entry.dialect, entry.facts, detected.get(name), entry.query)
    return Endpoint(
        name=name,
        **resolved._asdict(),
        api=entry.api,
        keys=entry.keys,
        key_passthrough=entry.key_passthrough,
        headers=entry.headers,
        extra_body=entry.extra_body,
        timeouts=Timeouts(**entry.timeouts.model_dump()),
        limits=Limits(**entry.limits.model_dump()),
        retries=entry.retries,
    )


def _rule(entry: RouteEntry, known: dict[str, Endpoint]) -> Rule:
    return Rule(
        groups=tuple(_targets(group, known) for group in entry.targets),
        models=entry.models or (),
        tiers=frozenset(entry.tier or ()),
        thinking=entry.thinking,
        images=entry.images,
        min_input_tokens=entry.min_input_tokens,
    )


def _targets(entries: Iterable[TargetEntry], known: dict[str, Endpoint]) -> tuple[Target, ...]:
    return tuple(Target(known[entry.upstream], entry.model, entry.weight) for entry in entries)


def upstreams_from_settings(
    settings: Settings, detected: DetectedProfiles = MappingProxyType({})
) -> tuple[Endpoint, ...]:
    """The upstreams of the simple variables: one for each URL, in their order. Each is named by its host and port, where
    these tell nothing of a network that clients need not know of, else by its place.

    A single upstream of a server that anybody may use is named by its address as well: its clients are as a rule the
    person who set it. Of several the names are in the ids of models, and stay the same when clients get keys.
    """
    is_own = len(settings.upstream_urls) == 1 and not settings.is_protected
    made: dict[str, Endpoint] = {}
    for number, url in enumerate(settings.upstream_urls, 1):
        address = urlsplit(url).netloc if is_own or _is_public_name(url) else f"private-{number}"
        name = next(each for each in _names(address) if each not in made)
        made[name] = _of_url(name, url, settings, detected)
    return tuple(made.values())


def _of_url(name: str, url: str, settings: Settings, detected: DetectedProfiles) -> Endpoint:
    resolved = resolve_url(
        url, settings.upstream_dialect, settings.upstream_facts or {}, detected.get(name)
    )
    return Endpoint(
        name=name,
        **resolved._asdict(),
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
        limits=Limits(
            settings.upstream_concurrency, settings.upstream_queue, settings.upstream_queue_timeout
        ),
        retries=settings.upstream_retries,
    )


class ResolvedURL(NamedTuple):
    """What a URL says of an upstream: the fields of its `Endpoint` of these names."""

    base: str
    query: Mapping[str, str]
    dialect: Dialect
    is_guessed: bool


def resolve_url(
    url: str,
    dialect: str | None,
    facts: Mapping[str, Any],
    found: Dialect | None,
    query: Mapping[str, str] = MappingProxyType({}),
) -> ResolvedURL:
    """Where the API at `url` is, and how it is spoken to, with the parameters that this kind of server wants and those
    given. dialect: the name of one, where it is configured. found: the one that was found out. Raises ValueError.
    """
    chosen = _chosen(url, dialect, found)
    spoken = with_facts(chosen or GENERIC, facts)
    base, own = api_address(url, spoken.api_path)
    wanted = (
        {"api-version": spoken.api_version} if spoken.api_version and is_deployment(base) else {}
    )
    return ResolvedURL(base, {**wanted, **own, **query}, spoken, is_guessed=chosen is None)


def _chosen(url: str, name: str | None, found: Dialect | None) -> Dialect | None:
    """The dialect of that name, else the one of the URL's host, else the one that was found; None when nothing tells."""
    if name:
        return named(name)
    dialect = dialect_of(host_of(url))
    return found if dialect is GENERIC else dialect


def _is_public_name(url: str) -> bool:
    """Whether it is a provider that everybody knows, or a server on the machine itself."""
    host = host_of(url)
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost" or dialect_of(host) is not GENERIC


def _names(address: str) -> Iterator[str]:
    yield address
    yield from (f"{address}-{number}" for number in count(2))


def routing_from_settings(settings: Settings, endpoints: tuple[Endpoint, ...]) -> Routing:
    """The routing of the simple variables: MODEL_ALIASES, then MODEL_MAP (exact names before patterns, and tiers last),
    then REASONING_MODEL with thinking and COMPLETION_MODEL without.
    """
    mapped = sorted((settings.model_map or {}).items(), key=lambda pair: _generality(pair[0]))
    rules = [_mapping_rule(source, _groups(endpoints, model)) for source, model in mapped]
    if settings.reasoning_model:
        rules.append(Rule(_groups(endpoints, settings.reasoning_model), thinking=True))
    if settings.completion_model:
        rules.append(Rule(_groups(endpoints, settings.completion_model), thinking=False))
    aliases = {
        alias: _groups(endpoints, model) for alias, model in (settings.model_aliases or {}).items()
    }
    return Routing(endpoints, tuple(rules), aliases)


def _groups(endpoints: tuple[Endpoint, ...], model: str) -> Groups:
    """Each upstream in turn; or, where the model's name says which, that one alone."""
    return targets_named(endpoints, model) or tuple((Target(each, model),) for each in endpoints)


def _generality(source: str) -> int:
    if source.lower() in TIERS:
        return 2
    return 1 if re.search(r"[*?\[]", source) else 0


def _mapping_rule(source: str, groups: Groups) -> Rule:
    if source.lower() in TIERS:
        return Rule(groups, tiers=frozenset({source.lower()}))
    return Rule(groups, models=(source,))
