"""Detect requests that come back to the proxy that sent them.

Each request to an upstream has a header with the ids of the proxies that it passed. A proxy that
finds its own id there is its own upstream, directly or through another proxy. All processes that
one server forks have the same id. Replicas have different ids, so the number of proxies in a row
is limited as well.
"""

import re
import secrets
from collections.abc import Mapping

from anthropic_proxy.errors import ApiError

HOPS_HEADER = "x-anthropic-proxy-hops"
# A random number that reveals nothing: other companies' servers receive it.
PROXY_ID = secrets.token_hex(8)
# More proxies than an operator would chain on purpose.
MAX_HOPS = 8

# Characters of MAX_HOPS ids and their separators.
_MAX_LENGTH = 200

_ID = re.compile(r"[0-9a-f]{16}")
_LOOP = (
    "This request came back to the proxy that sent it: the address of an upstream "
    "(UPSTREAM_BASE_URL, or `url` in CONFIG_FILE) leads to the proxy itself. Set it to the address "
    "of the server that runs the models"
)
_TOO_MANY = (
    f"This request passed {MAX_HOPS} proxies of this kind: the addresses of their upstreams "
    "(UPSTREAM_BASE_URL, or `url` in CONFIG_FILE) probably lead in a circle. Set them to the "
    "address of the server that runs the models"
)


def refuse_loop(headers: Mapping[str, str]) -> None:
    """Raise ApiError (400) for a request that this server sent, or that passed too many proxies.

    The status is not 508: each proxy of the circle would retry a 5xx, and multiply the requests.
    """
    hops = _hops(headers)
    if PROXY_ID in hops:
        raise ApiError(400, _LOOP)
    if len(hops) >= MAX_HOPS:
        raise ApiError(400, _TOO_MANY)


def hops_value(headers: Mapping[str, str]) -> str:
    """Return the value of HOPS_HEADER for a request to an upstream.

    headers: of the client's request.
    """
    return ", ".join([*_hops(headers), PROXY_ID])


def _hops(headers: Mapping[str, str]) -> list[str]:
    """Return the ids in the header; other texts come from clients and are not forwarded.

    A value longer than proxies write comes from a client, too. It is not parsed, as that takes
    many times longer than the rest of a small request.
    """
    value = headers.get(HOPS_HEADER, "")
    if len(value) > _MAX_LENGTH:
        return []
    parts = (part.strip() for part in value.split(","))
    return [part for part in parts if _ID.fullmatch(part)]
