"""Everything that is configured about upstreams, joined: the simple variables, or the file with several upstreams."""

import errno
from collections.abc import Callable, Iterable
from pathlib import Path, PurePath
from types import MappingProxyType

from anthropic_proxy import endpoints, routing
from anthropic_proxy.config import Settings
from anthropic_proxy.config_entries import RouteEntry, TargetEntry, UpstreamEntry
from anthropic_proxy.config_file import ConfigFile, parse
from anthropic_proxy.endpoints import Endpoint, Found, Limits, Timeouts
from anthropic_proxy.errors import ConfigError
from anthropic_proxy.routing import Routing, Rule, Target

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


def configured(settings: Settings, found: Found = MappingProxyType({}), read: Read = text_of) -> Routing:
    """The upstreams, and which requests go where. found: what was found out by asking. read: gives the text of a file; it
    sees which ones are read. Raises ConfigError.
    """
    known = _configured(settings, found, read)
    if settings.needs_key and any(endpoint.key_passthrough for endpoint in known.endpoints):
        raise ConfigError(_TWO_KINDS_OF_KEYS)
    return known


def _configured(settings: Settings, found: Found, read: Read) -> Routing:
    if settings.config_file is None:
        return routing.of_settings(settings, endpoints.of_settings(settings, found))
    file = _read(settings.config_file, settings, read)
    known = {name: _endpoint(name, entry, found) for name, entry in file.upstreams.items()}
    simple = routing.of_settings(settings, tuple(known.values()))
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


def _endpoint(name: str, entry: UpstreamEntry, found: Found) -> Endpoint:
    place = endpoints.placed(entry.url, entry.dialect, entry.facts, found.get(name), entry.query)
    return Endpoint(
        name=name,
        **place._asdict(),
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
