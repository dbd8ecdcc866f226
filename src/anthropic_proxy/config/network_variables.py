"""Variables that the HTTP and TLS libraries read from the environment of the process."""

import os
import ssl
from collections.abc import Mapping
from pathlib import Path

from anthropic_proxy.config.messages import show_value
from anthropic_proxy.errors import ConfigError
from anthropic_proxy.providers.base_url import check_login

# In lower case. Their URLs may contain passwords.
_PROXY_VARIABLES = ("all_proxy", "http_proxy", "https_proxy")

# In lower case: HTTP proxies and trusted certificate authorities.
NETWORK_VARIABLES = (*_PROXY_VARIABLES, "no_proxy", "ssl_cert_file", "ssl_cert_dir")


def proxy_addresses(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the URLs of HTTP proxies by variable."""
    addresses = {}
    for name, address in environment.items():
        if address and name.lower() in _PROXY_VARIABLES:
            addresses[name] = address
    return addresses


def exempt_from_proxies(environment: Mapping[str, str], *hosts: str) -> dict[str, str]:
    """Return the variables with which programs connect to hosts without an HTTP proxy.

    They extend the exemptions in `environment`. Programs read one of the two names.
    """
    exempt = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    present = [each.strip() for each in exempt.split(",") if each.strip()]
    if "*" not in present:
        present += [host for host in hosts if host not in present]
    value = ",".join(present)
    return {"NO_PROXY": value, "no_proxy": value}


def export_network_variables(environment: Mapping[str, str]) -> None:
    """Add the network variables of the `.env` file to the environment of the process.

    Call it before the import of the libraries. Variables that are set do not change. environment:
    includes the variables of the `.env` file.
    """
    present = {name.lower() for name, value in os.environ.items() if value}
    for name, value in environment.items():
        if name.lower() in NETWORK_VARIABLES and name.lower() not in present:
            os.environ[name.upper()] = value


def check_proxies(environment: Mapping[str, str]) -> None:
    """Raise ConfigError for an invalid URL of an HTTP proxy.

    The HTTP client reads these variables itself, and its errors may show a part of a password.
    """
    for name, address in proxy_addresses(environment).items():
        if "@" in address and "://" not in address:
            raise ConfigError(
                f"invalid {name}: it has a login but no scheme, expected http:// before it"
            )
        try:
            check_login(address)
        except ValueError as error:
            raise ConfigError(f"invalid {name}: it {error}") from None


def check_authorities(environment: Mapping[str, str]) -> None:
    """Raise ConfigError for an unreadable SSL_CERT_FILE or SSL_CERT_DIR.

    OpenSSL would ignore it and trust no certificate.
    """
    values = {name.upper(): value for name, value in environment.items() if value}
    file, directories = values.get("SSL_CERT_FILE"), values.get("SSL_CERT_DIR", "")
    if file:
        _check_certificates(file)
    # OpenSSL accepts several directories.
    for each in directories.split(os.pathsep):
        if each and not Path(each).is_dir():
            raise ConfigError(f"invalid SSL_CERT_DIR: got {show_value(each)}, expected a directory")


def _check_certificates(file: str) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=file)
    except ssl.SSLError:
        raise ConfigError(
            f"invalid SSL_CERT_FILE: got {show_value(file)}, expected a PEM file with certificates"
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"invalid SSL_CERT_FILE: {show_value(file)} can't be read: {reason}"
        ) from None
