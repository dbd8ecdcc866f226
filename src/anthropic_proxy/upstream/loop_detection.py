"""Detect request loops: requests that return to the proxy that sent them.

Each request to an upstream has a header with the ids of the proxies that it has passed. If a proxy
receives its own id, it is its own upstream, directly or through other proxies. All processes of a
server have the same id. Replicas have different ids, so the number of ids is limited too.
"""

import re
import secrets
from collections.abc import Mapping

from anthropic_proxy.errors import ApiError

HOPS_HEADER = "x-anthropic-proxy-hops"
# Random, because upstreams of other operators receive it.
PROXY_ID = secrets.token_hex(8)
# Operators do not chain so many proxies intentionally.
MAX_HOPS = 8

# Characters of MAX_HOPS ids and their separators.
_MAX_LENGTH = 200

_ID = re.compile(r"[0-9a-f]{16}")
_LOOP = (
    "Request loop: this proxy has received its own request. The URL of an upstream "
    "(UPSTREAM_BASE_URL, or `url` in CONFIG_FILE) is the address of the proxy itself. Set it to "
    "the address of the server that runs the models."
)
_TOO_MANY = (
    f"Probable request loop: this request has passed {MAX_HOPS} anthropic-proxy servers. The URLs "
    "of their upstreams (UPSTREAM_BASE_URL, or `url` in CONFIG_FILE) probably form a loop. Set "
    "them to the address of the server that runs the models."
)


def refuse_loop(headers: Mapping[str, str]) -> None:
    """Raise ApiError (400) for a request that this server sent, or that passed too many proxies.

    The status is not 508, because each proxy of the loop would retry a 5xx status, which multiplies
    the requests.
    """
    hops = _hops(headers)
    if PROXY_ID in hops:
        raise ApiError(400, _LOOP)
    if len(hops) >= MAX_HOPS:
        raise ApiError(400, _TOO_MANY)


def hops_value(headers: Mapping[str, str]) -> str:
    """Return the value of HOPS_HEADER for a request to an upstream.

    headers: headers of the client's request.
    """
    return ", ".join([*_hops(headers), PROXY_ID])


def _hops(headers: Mapping[str, str]) -> list[str]:
    """Return the ids in the header. Other text is ignored, because only a client can have sent it.

    A value that is longer than proxies write is ignored too, because parsing it would take much
    longer than processing a small request.
    """
    value = headers.get(HOPS_HEADER, "")
    if len(value) > _MAX_LENGTH:
        return []
    parts = (part.strip() for part in value.split(","))
    return [part for part in parts if _ID.fullmatch(part)]
