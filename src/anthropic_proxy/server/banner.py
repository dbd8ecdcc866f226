"""Report the start of the server: a banner on a terminal, log lines elsewhere."""

import socket

from anthropic_proxy import __version__
from anthropic_proxy.config.api_keys import MIN_CHARACTERS, short_keys
from anthropic_proxy.config.settings import Settings
from anthropic_proxy.observability.logs import Log, is_json, is_terminal
from anthropic_proxy.routing.router import Routing
from anthropic_proxy.routing.upstream import Upstream
from anthropic_proxy.server.sockets import format_base_url, is_loopback

_LOOPBACK_HINT = (
    "to serve other machines, set PROXY_API_KEYS or PROXY_API_KEYS_FILE, "
    "or HOST=0.0.0.0 without keys"
)
_NO_KEYS_HINT = (
    "other machines can use the server without a key: "
    "set PROXY_API_KEYS or PROXY_API_KEYS_FILE, or HOST=127.0.0.1"
)

_WILDCARD_ADDRESSES = ("0.0.0.0", "[::]")  # noqa: S104 - compared, not listened on


def render_banner(settings: Settings, routing: Routing, address: str) -> str:
    """Return the banner. address: base URL of the server."""
    lines = [
        f"anthropic-proxy {__version__}",
        f"  Listening on  {address}{_describe_reach(settings, address)}",
    ]
    label = "Upstream"
    for upstream in routing.upstreams:
        lines.append(f"  {label:<12}  {_describe_upstream(upstream)}")
        label = ""
    lines.append(f"  Clients       {_describe_access(settings)}")
    if address.startswith("http"):
        lines.append(f"  Claude Code   {format_claude_code_command(settings, address)}")
    return "\n".join(lines)


def format_claude_code_command(settings: Settings, address: str) -> str:
    """Return the shell command that runs Claude Code with this server."""
    for wildcard in _WILDCARD_ADDRESSES:
        address = address.replace(f"//{wildcard}:", "//localhost:")
    token = "YOUR-KEY" if settings.needs_key else "any"
    is_mapped = settings.config_file or settings.model_map or settings.completion_model
    model = "" if is_mapped else " --model MODEL"
    return f"ANTHROPIC_BASE_URL={address} ANTHROPIC_AUTH_TOKEN={token} claude{model}"


def describe_keys(upstream: Upstream) -> str:
    """Describe the API keys of an upstream without their values."""
    if upstream.key_passthrough:
        return "the client's"
    if len(upstream.keys) > 1:
        return f"{len(upstream.keys)} keys"
    return "set" if upstream.keys else "not set"


def _describe_upstream(upstream: Upstream) -> str:
    kind = "" if upstream.is_profile_guessed else f" ({upstream.profile.name})"
    return f"{upstream.base_url}{kind}, key {describe_keys(upstream)}"


def _describe_reach(settings: Settings, address: str) -> str:
    is_local = settings.host is None and not settings.is_protected and address.startswith("http")
    return " (this machine only)" if is_local else ""


def _describe_access(settings: Settings) -> str:
    if settings.needs_key:
        return "need a key"
    return "need a certificate" if settings.is_protected else "need no key"


def log_server_start(
    log: Log, settings: Settings, routing: Routing, listener: socket.socket, *, is_first: bool
) -> None:
    """Log the address, the upstreams, and problems of the access control.

    On a terminal a banner shows address and upstreams. With several workers, the supervisor prints
    it. is_first: whether this process logs events that concern all processes.
    """
    address = format_base_url(listener, tls=settings.tls_cert_file is not None)
    shows_banner = has_banner(settings)
    log_start = log.debug if shows_banner or not is_first else log.info
    log_start("server started", address=address, version=__version__)
    for upstream in routing.upstreams:
        log_start("upstream configured", **_upstream_fields(upstream))
    if shows_banner and settings.workers == 1:
        log.print_banner(render_banner(settings, routing, address))
    if not is_first:
        return
    _report_short_keys(settings, log)
    if settings.is_protected:
        return
    if not is_loopback(listener):
        log.warning("server exposed without keys", hint=_NO_KEYS_HINT)
    elif settings.host is None and settings.unix_socket is None:
        log_start("server restricted to this host", hint=_LOOPBACK_HINT)


def _report_short_keys(settings: Settings, log: Log) -> None:
    keys = settings.proxy_api_keys
    names = short_keys(keys.get_secret_value()) if keys else []
    if names:
        hint = (
            f"keys of fewer than {MIN_CHARACTERS} characters are easy to guess: "
            "use `openssl rand -hex 32`"
        )
        log.warning("short client keys found", names=", ".join(names), hint=hint)


def has_banner(settings: Settings) -> bool:
    """Return whether the server prints a banner: on a terminal, unless the log is JSON."""
    return is_terminal() and not is_json(settings.log_format)


def _upstream_fields(upstream: Upstream) -> dict[str, str]:
    return {
        "name": upstream.name,
        "url": upstream.base_url,
        "api": upstream.api,
        "provider": upstream.profile.name,
        "key": describe_keys(upstream),
    }
