"""Resolve a configured base URL to the address of an API.

The base URL may be the host of a service, the base URL of SDKs (which ends with the version), or
the full URL of Chat Completions. All three forms are equivalent.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qsl, urlsplit

CHAT_COMPLETIONS = "/chat/completions"
_API_PATHS = (CHAT_COMPLETIONS, "/responses", "/messages")
# Azure's older URLs. Each of them is for one model.
_DEPLOYMENT = re.compile(r"/openai/deployments/[^/]+$")
# Only with a version: `.../models` is the base URL of Azure's model inference.
_MODEL_LIST = re.compile(r"/v\d+\w*/models$", re.IGNORECASE)
_VERSION_SEGMENT = re.compile(r"/v\d+\w*$", re.IGNORECASE)

_LOGIN_NOT_ALLOWED = "must not contain a user or password: set the key in UPSTREAM_API_KEY"
_LOGIN_NOT_ENCODED = (
    "can't be parsed as a URL: percent-encode special characters in its user name and password "
    "(/ as %2F, # as %23, ? as %3F, @ as %40, : as %3A, % as %25, a space as %20)"
)


class ApiAddress(NamedTuple):
    """The address of an API."""

    # Without a slash at its end.
    base_url: str
    # Query parameters for every request.
    query: Mapping[str, str]


def parse_host(url: str) -> str:
    """Return the host name of a URL in lower case, without the port; empty if it has none."""
    try:
        return urlsplit(url.strip()).hostname or ""
    except ValueError:
        return ""


def resolve_api_address(url: str, api_path: str = "/v1") -> ApiAddress:
    """Return the address of the API at `url`.

    - A URL without a path gets `api_path`, the path of the API on hosts of this kind.
    - A URL that ends in `/chat/completions`, `/responses` or `/messages` loses that end.
    - A URL that ends in `api_path`, a version (`/v1`, `/v4`, `/v1beta`) or the path of an Azure
      deployment is not changed.
    - Another path gets `/v1` at its end.

    Raises ValueError with the reason if the URL is not usable.
    """
    text = url.strip()
    parts = _split_url(text)
    _reject_unusable_url(text, parts)
    path = parts.path.rstrip("/")
    if _MODEL_LIST.search(path):
        raise ValueError("must be a base URL: remove /models")
    for full_path in _API_PATHS:
        if path.endswith(full_path):
            return _build_address(parts, path.removesuffix(full_path))
    if path.endswith(("/chat", "/completions")):
        raise ValueError(
            "must be a base URL or a complete URL that ends in /chat/completions, not a part of it"
        )
    if not path:
        return _build_address(parts, api_path)
    if path.endswith(api_path) or _VERSION_SEGMENT.search(path) or _DEPLOYMENT.search(path):
        return _build_address(parts, path)
    return _build_address(parts, f"{path}/v1")


def _build_address(parts: SplitResult, path: str) -> ApiAddress:
    base_url = parts._replace(path=path, query="").geturl()
    return ApiAddress(base_url, dict(parse_qsl(parts.query)))


def check_login(url: str) -> None:
    """Raise ValueError if parsers would not find the complete login in a URL.

    A `/`, `?`, `#` or `[` in a password ends the login for parsers. Their errors then contain the
    first part of the password as an invalid port. The text of the ValueError contains no part of
    the URL.
    """
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises for an invalid port
    except ValueError:
        raise ValueError(_LOGIN_NOT_ENCODED) from None
    if parts.netloc and "@" not in parts.netloc and "@" in url:
        raise ValueError(_LOGIN_NOT_ENCODED)


def is_azure_deployment(base_url: str) -> bool:
    """Return whether a URL is that of an Azure deployment, which requires an `api-version`."""
    return bool(_DEPLOYMENT.search(base_url))


def strip_version(base_url: str) -> str:
    """Return the URL of the server, without the version (`/v1`) at its end."""
    return _VERSION_SEGMENT.sub("", base_url)


def _split_url(url: str) -> SplitResult:
    """Split a URL. Raises ValueError, whose text contains no part of the URL.

    The errors of urllib are not used, because they may contain the login.
    """
    try:
        return urlsplit(url)
    except ValueError as error:
        reason = str(error)
        if reason != "Invalid IPv6 URL":
            reason = "can't be parsed as a URL"
        raise ValueError(reason) from None


def _reject_unusable_url(text: str, url: SplitResult) -> None:
    if "," in url.netloc or re.search(r",\s*https?://", url.path):
        raise ValueError("must be one URL: separate several URLs by ; and not by commas")
    # In the original text, because parsers remove tabs and line ends.
    if re.search(r"\s", text):
        raise ValueError("must not contain spaces")
    if url.scheme not in ("http", "https"):
        raise ValueError("must start with http:// or https://")
    if not url.hostname or not _is_valid_host(url.hostname):
        raise ValueError("must contain a valid host name")
    try:
        url.port  # noqa: B018 - raises for an invalid port
    except ValueError:
        reason = "must have a port from 0 to 65535"
        if "@" in url.geturl():
            # The invalid port may be the first part of a password that contains `/`, `?` or `#`.
            reason = _LOGIN_NOT_ALLOWED
        raise ValueError(reason) from None
    if url.fragment:
        raise ValueError("must not contain a fragment (#)")
    if url.username or url.password:
        raise ValueError(_LOGIN_NOT_ALLOWED)


def _is_valid_host(name: str) -> bool:
    try:
        name.encode("idna")
    except UnicodeError:
        return False
    return not re.search(r"[\s\\]", name)
