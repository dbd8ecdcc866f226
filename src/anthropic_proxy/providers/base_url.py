"""Resolve the base URL that an operator sets to the address of an API.

The base URL may be the host of a service, the base that SDKs use (with the version at its end), or
the full URL of Chat Completions; all mean the same.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qsl, urlsplit

CHAT_COMPLETIONS = "/chat/completions"
_API_PATHS = (CHAT_COMPLETIONS, "/responses", "/messages")
# Azure's older addresses, each of one model.
_DEPLOYMENT = re.compile(r"/openai/deployments/[^/]+$")
# Not without a version: Azure's model inference has the base URL `.../models`.
_MODEL_LIST = re.compile(r"/v\d+\w*/models$", re.IGNORECASE)
_VERSION_SEGMENT = re.compile(r"/v\d+\w*$", re.IGNORECASE)


_LOGIN_NOT_ALLOWED = "must not hold a user or password: put the key into UPSTREAM_API_KEY"
_LOGIN_NOT_ENCODED = (
    "can't be parsed as a URL: percent-encode special characters in its user name and password (/ as %2F, # as %23, "
    "? as %3F, @ as %40, : as %3A, % as %25, a space as %20)"
)


class ApiAddress(NamedTuple):
    """The address of an API."""

    # without a slash at its end
    base_url: str
    # parameters of every request
    query: Mapping[str, str]


def parse_host(url: str) -> str:
    """Return the host name of a URL in lower case, without port; empty when it has none."""
    try:
        return urlsplit(url.strip()).hostname or ""
    except ValueError:
        return ""


def resolve_api_address(url: str, api_path: str = "/v1") -> ApiAddress:
    """Return the address of the API at `url`. Raises ValueError with the reason when it is not
    usable.

    `api_path` is the path of the API on hosts of this kind, for a URL without a path. A URL with a
    path gets `/v1`, unless it ends in `api_path` or a version (`/v1`, `/v4`, `/v1beta`) or names a
    deployment of Azure. A full URL is cut before `/chat/completions`.
    """
    text = url.strip()
    parts = _split_url(text)
    if "," in parts.netloc or re.search(r",\s*https?://", parts.path):
        raise ValueError("must be one address: several are separated by ; and not by commas")
    # Parsers drop tabs and line ends.
    if re.search(r"\s", text):
        raise ValueError("must not hold blanks")
    _reject_unusable_url(parts)
    path = parts.path.rstrip("/")
    suffix = next((each for each in _API_PATHS if path.endswith(each)), "")
    if _MODEL_LIST.search(path):
        raise ValueError("must be a base URL: leave out /models")
    if not suffix and path.endswith(("/chat", "/completions")):
        raise ValueError(
            "must be a base URL or a full .../chat/completions address, not a part of it"
        )
    path = path.removesuffix(suffix)
    if not path:
        path = "" if suffix else api_path
    elif not (
        suffix
        or path.endswith(api_path)
        or _VERSION_SEGMENT.search(path)
        or _DEPLOYMENT.search(path)
    ):
        path += "/v1"
    return ApiAddress(parts._replace(path=path, query="").geturl(), dict(parse_qsl(parts.query)))


def check_login(url: str) -> None:
    """Check that the login in a URL is where parsers find it. Raises ValueError, which shows no part of the URL.

    A `/`, `?`, `#` or `[` in a password ends the login for parsers, whose errors then show its first part as a port.
    """
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises for what is no number
    except ValueError:
        raise ValueError(_LOGIN_NOT_ENCODED) from None
    if parts.netloc and "@" not in parts.netloc and "@" in url:
        raise ValueError(_LOGIN_NOT_ENCODED)


def is_azure_deployment(base_url: str) -> bool:
    """Return whether an address is that of one Azure deployment, which needs an `api-version`."""
    return bool(_DEPLOYMENT.search(base_url))


def strip_version(base_url: str) -> str:
    """Return the address of the server itself, without its `/v1` and without a slash at the end."""
    return _VERSION_SEGMENT.sub("", base_url)


def _split_url(url: str) -> SplitResult:
    """Split a URL. Raises ValueError, which shows no part of it: urllib's own errors repeat the login."""
    try:
        return urlsplit(url)
    except ValueError as error:
        reason = str(error)
        raise ValueError(
            reason if reason == "Invalid IPv6 URL" else "can't be parsed as a URL"
        ) from None


def _reject_unusable_url(url: SplitResult) -> None:
    if url.scheme not in ("http", "https"):
        raise ValueError("must start with http:// or https://")
    if not url.hostname or not _is_valid_host(url.hostname):
        raise ValueError("must name a host")
    try:
        url.port  # noqa: B018 - the property raises when the port is no number from 0 to 65535
    except ValueError:
        # What a parser takes for a port may be the beginning of a password with `/`, `?` or `#`.
        raise ValueError(
            _LOGIN_NOT_ALLOWED if "@" in url.geturl() else "must have a port from 0 to 65535"
        ) from None
    if url.fragment:
        raise ValueError("must not hold a fragment")
    if url.username or url.password:
        raise ValueError(_LOGIN_NOT_ALLOWED)


def _is_valid_host(name: str) -> bool:
    try:
        name.encode("idna")
    except UnicodeError:
        return False
    return not re.search(r"[\s\\]", name)
