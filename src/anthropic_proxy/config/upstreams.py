"""Build the routing from the variables or the configuration file."""

import contextlib
import errno
import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import urlsplit

from anthropic_proxy.config.file import ConfigFile, parse_config
from anthropic_proxy.config.file_models import RouteEntry, TargetEntry
from anthropic_proxy.config.network_variables import proxy_addresses
from anthropic_proxy.config.settings import Settings
from anthropic_proxy.config.upstream_config import FORMER_NAMES, UpstreamConfig
from anthropic_proxy.config.upstream_settings import Deprecation
from anthropic_proxy.errors import ConfigError
from anthropic_proxy.providers.base_url import is_azure_deployment, parse_host, resolve_api_address
from anthropic_proxy.providers.profiles import (
    GENERIC,
    ProviderProfile,
    find_profile_by_host,
    find_profile_by_name,
    override_profile,
)
from anthropic_proxy.routing.router import (
    TIERS,
    Routing,
    RoutingRule,
    Target,
    TargetGroups,
    find_named_targets,
)
from anthropic_proxy.routing.upstream import Upstream

# Profiles of self-hosted servers, detected by a probe, by the name of the upstream.
DetectedProfiles = Mapping[str, ProviderProfile]

ReadText = Callable[[PurePath], str]

# Limit for each file of the configuration, because devices and pipes are endless.
MAX_FILE_BYTES = 16 * 1024 * 1024

_TWO_KINDS_OF_KEYS = (
    "PROXY_API_KEYS and PROXY_API_KEYS_FILE exclude UPSTREAM_API_KEY_PASSTHROUGH, "
    "and `passthrough` in the configuration file: "
    "a client sends one key, either the proxy's or the upstream's"
)

_DEFAULT_PORTS = {"http": 80, "https": 443}
_LOOPBACK = {4: ipaddress.ip_address("127.0.0.1"), 6: ipaddress.ip_address("::1")}


def read_text(path: PurePath) -> str:
    """Return the text of a UTF-8 file of at most MAX_FILE_BYTES.

    Raises OSError and UnicodeDecodeError.
    """
    with Path(path).expanduser().open("rb") as file:
        raw = file.read(MAX_FILE_BYTES + 1)
    if len(raw) > MAX_FILE_BYTES:
        raise OSError(errno.EFBIG, f"it is too large, expected at most {MAX_FILE_BYTES} bytes")
    return raw.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")


def load_routing(
    settings: Settings,
    detected: DetectedProfiles = MappingProxyType({}),
    read: ReadText = read_text,
    warn: Callable[[Deprecation], None] | None = None,
) -> Routing:
    """Return the upstreams and the rules of the configuration.

    read: returns the text of a file, and records which files were read. warn: is called with each
    deprecated name that is set. Raises ConfigError.
    """
    file = _read_file(settings.config_file, settings, read) if settings.config_file else None
    if warn is not None:
        for each in _deprecations(settings, file):
            warn(each)
    routing = _routing(settings, file, detected)
    if settings.needs_key and any(upstream.key_passthrough for upstream in routing.upstreams):
        raise ConfigError(_TWO_KINDS_OF_KEYS)
    for upstream in routing.upstreams:
        _reject_own_address(settings, upstream.base_url)
    return routing


def _reject_own_address(settings: Settings, base_url: str) -> None:
    """Raise ConfigError if an upstream is certainly this server, which would be a loop.

    At run time, `upstream.loop_detection` recognizes loops through names and HTTP proxies.
    """
    if settings.unix_socket is not None or proxy_addresses(settings.environment):
        return
    url = urlsplit(base_url)
    port = url.port or _DEFAULT_PORTS[url.scheme]
    if port == settings.port and _reaches(url.hostname or "", settings.listen_host):
        variable = "UPSTREAM_BASE_URL" if settings.config_file is None else "CONFIG_FILE"
        raise ConfigError(
            f"{variable}: {url.scheme}://{url.netloc} is the address of this proxy itself "
            f"(PORT {settings.port}): set it to the address of the server that runs the models, "
            "or choose another port with --port or PORT"
        )


def _reaches(host: str, listen_host: str) -> bool:
    """Return whether connections to `host` certainly reach a listener on `listen_host`."""
    if host.lower() == listen_host.lower():
        return True
    try:
        target, listener = ipaddress.ip_address(host), ipaddress.ip_address(listen_host)
    except ValueError:
        return False
    # A connection to 0.0.0.0 or :: reaches this machine.
    is_this_machine = target.is_loopback or target.is_unspecified
    is_same_family = listener.version in {target.version, 6}
    if is_this_machine and listener.is_unspecified and is_same_family:
        return True
    return target.is_unspecified and listener == _LOOPBACK[target.version]


def _deprecations(settings: Settings, file: ConfigFile | None) -> Iterator[Deprecation]:
    yield from settings.deprecations
    if file is not None:
        for former in file.former_names:
            yield Deprecation(former, FORMER_NAMES[former], str(settings.config_file))


def _routing(settings: Settings, file: ConfigFile | None, detected: DetectedProfiles) -> Routing:
    if file is None:
        return routing_from_settings(settings, upstreams_from_settings(settings, detected))
    upstreams = {name: _upstream(name, config, detected) for name, config in file.upstreams.items()}
    simple = routing_from_settings(settings, tuple(upstreams.values()))
    aliases = {name: (_targets([entry], upstreams),) for name, entry in file.aliases.items()}
    rules = (_rule(entry, upstreams) for entry in file.routes)
    return replace(simple, rules=(*rules, *simple.rules), aliases={**simple.aliases, **aliases})


def _read_file(path: Path, settings: Settings, read: ReadText) -> ConfigFile:
    try:
        text = read(path)
    except OSError as error:
        raise ConfigError(f"CONFIG_FILE: {path} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"CONFIG_FILE: {path} can't be read: it is not UTF-8") from error
    return parse_config(text, str(path), settings.environment, read)


def _upstream(name: str, config: UpstreamConfig, detected: DetectedProfiles) -> Upstream:
    resolved = resolve_url(config, detected.get(name))
    return Upstream(
        name=name,
        **resolved._asdict(),
        api=config.api,
        keys=config.all_keys,
        key_passthrough=config.passthrough,
        headers=config.headers,
        extra_body=config.extra_body,
        timeouts=config.timeouts,
        limits=config.limits,
        retries=config.retries,
    )


def _rule(entry: RouteEntry, upstreams: dict[str, Upstream]) -> RoutingRule:
    return RoutingRule(
        groups=tuple(_targets(group, upstreams) for group in entry.targets),
        models=entry.models or (),
        tiers=frozenset(entry.tier or ()),
        thinking=entry.thinking,
        images=entry.images,
        min_input_tokens=entry.min_input_tokens,
    )


def _targets(entries: Iterable[TargetEntry], upstreams: dict[str, Upstream]) -> tuple[Target, ...]:
    return tuple(Target(upstreams[entry.upstream], entry.model, entry.weight) for entry in entries)


def upstreams_from_settings(
    settings: Settings, detected: DetectedProfiles = MappingProxyType({})
) -> tuple[Upstream, ...]:
    """Return the upstreams of the variables, one for each URL, in their order.

    The name of an upstream is its host and port if they are public. Otherwise it is its position,
    to hide names of an internal network from clients. A single upstream of an unprotected server
    also has its address as its name, because the client is usually the operator. Several upstreams
    keep their names when client keys are added, because model ids contain these names.
    """
    is_private_server = len(settings.upstreams) == 1 and not settings.is_protected
    upstreams: dict[str, Upstream] = {}
    for number, config in enumerate(settings.upstreams, 1):
        shows_address = is_private_server or _is_public_name(config.url)
        address = urlsplit(config.url).netloc if shows_address else f"private-{number}"
        name = next(each for each in _candidate_names(address) if each not in upstreams)
        upstreams[name] = _upstream(name, config, detected)
    return tuple(upstreams.values())


class ResolvedURL(NamedTuple):
    """The fields of an `Upstream` that its URL and provider determine."""

    base_url: str
    query: Mapping[str, str]
    profile: ProviderProfile
    is_profile_guessed: bool


def resolve_url(config: UpstreamConfig, detected: ProviderProfile | None) -> ResolvedURL:
    """Return the address of an upstream's API, with the parameters of provider and configuration.

    detected: the profile of the server that responded to a probe. Raises ValueError.
    """
    profile = _profile(config, detected)
    effective = override_profile(profile or GENERIC, config.provider_settings)
    base, url_query = resolve_api_address(config.url, effective.api_path)
    query = {**url_query, **config.query}
    if effective.api_version and is_azure_deployment(base):
        query = {"api-version": effective.api_version, **query}
    return ResolvedURL(base, query, effective, is_profile_guessed=profile is None)


def _profile(config: UpstreamConfig, detected: ProviderProfile | None) -> ProviderProfile | None:
    """Return the configured profile, else the profile of the host, else the detected profile."""
    if config.provider:
        return find_profile_by_name(config.provider)
    profile = find_profile_by_host(parse_host(config.url))
    return detected if profile is GENERIC else profile


def _is_public_name(url: str) -> bool:
    """Return whether the host of a URL belongs to a public provider, or is this machine."""
    host = parse_host(url)
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost" or find_profile_by_host(host) is not GENERIC


def _candidate_names(address: str) -> Iterator[str]:
    yield address
    yield from (f"{address}-{number}" for number in count(2))


def routing_from_settings(settings: Settings, upstreams: tuple[Upstream, ...]) -> Routing:
    """Return the routing of the variables.

    Order: MODEL_ALIASES, MODEL_MAP (exact names before patterns, tiers last), REASONING_MODEL for
    requests with thinking, COMPLETION_MODEL for others.
    """
    model_map = settings.model_map or {}
    rules = []
    for source in sorted(model_map, key=_generality):
        rules.append(_mapping_rule(source, _target_groups(upstreams, model_map[source])))
    if settings.reasoning_model:
        groups = _target_groups(upstreams, settings.reasoning_model)
        rules.append(RoutingRule(groups, thinking=True))
    if settings.completion_model:
        groups = _target_groups(upstreams, settings.completion_model)
        rules.append(RoutingRule(groups, thinking=False))
    aliases = {}
    for alias, model in (settings.model_aliases or {}).items():
        aliases[alias] = _target_groups(upstreams, model)
    return Routing(upstreams, tuple(rules), aliases, settings.claude_model_ids)


def _target_groups(upstreams: tuple[Upstream, ...], model: str) -> TargetGroups:
    """Return the upstream that the name of the model contains, else all upstreams in order."""
    named = find_named_targets(upstreams, model)
    if named:
        return named
    return tuple((Target(upstream, model),) for upstream in upstreams)


def _generality(source: str) -> int:
    """Return the position in the order of MODEL_MAP: 0 for names, 1 for patterns, 2 for tiers."""
    if source.lower() in TIERS:
        return 2
    if re.search(r"[*?\[]", source):
        return 1
    return 0


def _mapping_rule(source: str, groups: TargetGroups) -> RoutingRule:
    if source.lower() in TIERS:
        return RoutingRule(groups, tiers=frozenset({source.lower()}))
    return RoutingRule(groups, models=(source,))
