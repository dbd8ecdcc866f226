"""Refuse an upstream whose address is certainly that of the proxy itself, which would send its requests to itself."""

import ipaddress
from urllib.parse import urlsplit

from anthropic_proxy.config.network_variables import PROXY_VARIABLES
from anthropic_proxy.config.settings import Settings
from anthropic_proxy.errors import ConfigError

_DEFAULT_PORTS = {"http": 80, "https": 443}
_LOOPBACK = {4: ipaddress.ip_address("127.0.0.1"), 6: ipaddress.ip_address("::1")}


def refuse_own_address(settings: Settings, base: str) -> None:
    """Raise ConfigError when the base URL of an upstream is where this server listens.

    Addresses that only may be (names, or through an HTTP proxy) pass; see `upstream.loop_detection` for these.
    """
    if settings.unix_socket is not None or _has_http_proxy(settings):
        return
    url = urlsplit(base)
    port = url.port or _DEFAULT_PORTS[url.scheme]
    if port == settings.port and _reaches(url.hostname or "", settings.listen_host):
        variable = "UPSTREAM_BASE_URL" if settings.config_file is None else "CONFIG_FILE"
        raise ConfigError(
            f"{variable}: {url.scheme}://{url.netloc} is the address of this proxy itself (PORT {settings.port}): set it "
            "to the address of the server that runs the models, or choose another port with --port or PORT"
        )


def _has_http_proxy(settings: Settings) -> bool:
    return any(
        value for name, value in settings.environment.items() if name.lower() in PROXY_VARIABLES
    )


def _reaches(host: str, listen_host: str) -> bool:
    """Return whether a connection to `host` on this machine certainly ends at a socket that listens on `listen_host`."""
    if host.lower() == listen_host.lower():
        return True
    try:
        target, listener = ipaddress.ip_address(host), ipaddress.ip_address(listen_host)
    except ValueError:
        return False
    # A connection to 0.0.0.0 or :: goes to this machine.
    is_this_machine = target.is_loopback or target.is_unspecified
    is_same_family = listener.version in {target.version, 6}
    if is_this_machine and listener.is_unspecified and is_same_family:
        return True
    return target.is_unspecified and listener == _LOOPBACK[target.version]
