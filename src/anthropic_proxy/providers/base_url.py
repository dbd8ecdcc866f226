"""Addresses of upstreams: the base URL that a user gives -> the address of its API, to which paths are added.

A user may give the host of a service, the base that SDKs are given (with the version at its end), or the full address of
Chat Completions; all mean the same.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qsl, urlsplit

CHAT_COMPLETIONS = "/chat/completions"
_ENDINGS = (CHAT_COMPLETIONS, "/responses", "/messages")
# Azure's older addresses, each of one model.
_DEPLOYMENT = re.compile(r"/openai/deployments/[^/]+$")
# Not without a version: Azure's model inference has the base URL `.../models`.
_MODEL_LIST = re.compile(r"/v\d+\w*/models$", re.IGNORECASE)
_VERSION_SEGMENT = re.compile(r"/v\d+\w*$", re.IGNORECASE)


_NO_LOGIN = "must not hold a user or password: put the key into UPSTREAM_API_KEY"
_ENCODE_LOGIN = (
    "can't be parsed as a URL: percent-encode special characters in its user name and password (/ as %2F, # as %23, "
    "? as %3F, @ as %40, : as %3A, % as %25, a space as %20)"
)


class Address(NamedTuple):
    """base: of the API, without a slash at its end. query: parameters that every request has."""

    base: str
    query: Mapping[str, str]


def host_of(url: str) -> str:
    """Host name of a URL in small letters, without port; empty when it has none."""
    try:
        return urlsplit(url.strip()).hostname or ""
    except ValueError:
        return ""


def api_address(url: str, api_path: str = "/v1") -> Address:
    """The address of the API at `url`. Raises ValueError with the reason when it can't be one.

    api_path: where the API stands on the hosts of this kind of server, for a URL that has no path. One with a path gets
    `/v1`, unless it ends in `api_path` or a version (`/v1`, `/v4`, `/v1beta`), or names a deployment of Azure's. Of a full
    address what comes before `/chat/completions` counts.
    """
    text = url.strip()
    parts = _split(text)
    if "," in parts.netloc or re.search(r",\s*https?://", parts.path):
        raise ValueError("must be one address: several are separated by ; and not by commas")
    # Parsers drop tabs and line ends.
    if re.search(r"\s", text):
        raise ValueError("must not hold blanks")
    _refuse_unusable(parts)
    path = parts.path.rstrip("/")
    ending = next((each for each in _ENDINGS if path.endswith(each)), "")
    if _MODEL_LIST.search(path):
        raise ValueError("must be a base URL: leave out /models")
    if not ending and path.endswith(("/chat", "/completions")):
        raise ValueError(
            "must be a base URL or a full .../chat/completions address, not a part of it"
        )
    path = path.removesuffix(ending)
    if not path:
        path = "" if ending else api_path
    elif not (
        ending
        or path.endswith(api_path)
        or _VERSION_SEGMENT.search(path)
        or _DEPLOYMENT.search(path)
    ):
        path += "/v1"
    return Address(parts._replace(path=path, query="").geturl(), dict(parse_qsl(parts.query)))


def check_login(url: str) -> None:
    """Check that the login in a URL is where parsers find it. Raises ValueError, which shows no part of the URL.

    A `/`, `?`, `#` or `[` in a password ends the login for parsers, whose errors then show its first part as a port.
    """
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises for what is no number
    except ValueError:
        raise ValueError(_ENCODE_LOGIN) from None
    if parts.netloc and "@" not in parts.netloc and "@" in url:
        raise ValueError(_ENCODE_LOGIN)


def is_deployment(base: str) -> bool:
    """Whether an address is that of one of Azure's deployments, which wants an `api-version`."""
    return bool(_DEPLOYMENT.search(base))


def without_version(base: str) -> str:
    """The address of the server itself, beside its `/v1`, without a slash at the end."""
    return _VERSION_SEGMENT.sub("", base)


def _split(url: str) -> SplitResult:
    """Split a URL. Raises ValueError, which shows no part of it: urllib's own errors repeat the login."""
    try:
        return urlsplit(url)
    except ValueError as error:
        reason = str(error)
        raise ValueError(
            reason if reason == "Invalid IPv6 URL" else "can't be parsed as a URL"
        ) from None


def _refuse_unusable(url: SplitResult) -> None:
    if url.scheme not in ("http", "https"):
        raise ValueError("must start with http:// or https://")
    if not url.hostname or not _is_host(url.hostname):
        raise ValueError("must name a host")
    try:
        url.port  # noqa: B018 - the property raises when the port is no number from 0 to 65535
    except ValueError:
        # What a parser takes for a port may be the beginning of a password with `/`, `?` or `#`.
        raise ValueError(
            _NO_LOGIN if "@" in url.geturl() else "must have a port from 0 to 65535"
        ) from None
    if url.fragment:
        raise ValueError("must not hold a fragment")
    if url.username or url.password:
        raise ValueError(_NO_LOGIN)


def _is_host(name: str) -> bool:
    try:
        name.encode("idna")
    except UnicodeError:
        return False
    return not re.search(r"[\s\\]", name)
