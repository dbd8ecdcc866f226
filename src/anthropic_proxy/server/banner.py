"""What a person who starts the server on a terminal sees first: where it listens, its upstream, and how to use it."""

from anthropic_proxy import __version__
from anthropic_proxy.config.settings import Settings
from anthropic_proxy.routing.router import Routing
from anthropic_proxy.routing.upstream import Upstream

_ALL_ADDRESSES = ("0.0.0.0", "[::]")  # noqa: S104 - compared, not listened on


def banner(settings: Settings, known: Routing, address: str) -> str:
    """Return the lines. address: base URL on which the server listens."""
    upstreams = [_upstream(endpoint) for endpoint in known.upstreams]
    lines = [
        f"anthropic-proxy {__version__}",
        f"  Listening on  {address}{_reach(settings, address)}",
        *(
            f"  {'Upstream' if number == 0 else '':<12}  {text}"
            for number, text in enumerate(upstreams)
        ),
        f"  Clients       {_clients(settings)}",
    ]
    if address.startswith("http"):
        lines.append(f"  Claude Code   {client_line(settings, address)}")
    return "\n".join(lines)


def client_line(settings: Settings, address: str) -> str:
    """Return the command that runs Claude Code with this server."""
    for each in _ALL_ADDRESSES:
        address = address.replace(f"//{each}:", "//localhost:")
    token = "YOUR-KEY" if settings.needs_key else "any"
    is_mapped = settings.config_file or settings.model_map or settings.completion_model
    model = "" if is_mapped else " --model MODEL"
    return f"ANTHROPIC_BASE_URL={address} ANTHROPIC_AUTH_TOKEN={token} claude{model}"


def key_summary(endpoint: Upstream) -> str:
    """Return which keys are sent to an upstream, without any of them."""
    if endpoint.key_passthrough:
        return "the client's"
    if len(endpoint.keys) > 1:
        return f"{len(endpoint.keys)} keys"
    return "set" if endpoint.keys else "not set"


def _upstream(endpoint: Upstream) -> str:
    kind = "" if endpoint.is_profile_guessed else f" ({endpoint.profile.name})"
    return f"{endpoint.base_url}{kind}, key {key_summary(endpoint)}"


def _reach(settings: Settings, address: str) -> str:
    is_local = settings.host is None and not settings.is_protected and address.startswith("http")
    return " (this machine only)" if is_local else ""


def _clients(settings: Settings) -> str:
    if settings.needs_key:
        return "need a key"
    return "need a certificate" if settings.is_protected else "need no key"
