"""Parse structured values of environment variables: lists, pairs and JSON objects.

`;` or new lines separate parts, and white space around a part is ignored. Every function raises
ValueError with the reason.
"""

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

from anthropic_proxy.wire.json_codec import JsonObject, loads

# The name of a header is a token (RFC 9110, 5.1).
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

_QUOTES = ("'", '"', "`")
_SCHEME = re.compile(r"(?:authorization:\s*)?bearer\s+", re.IGNORECASE)

_BRACKETED = re.compile(r"\[(?P<address>[^\[\]]*)\]")

# Headers that the HTTP client sets itself.
_FRAMING = frozenset({"connection", "content-length", "transfer-encoding"})


def split_list(text: str, separators: str = r"[;\n]") -> tuple[str, ...]:
    """Return the parts of a list that are not empty."""
    return tuple(filter(None, (part.strip() for part in re.split(separators, text))))


def strip_quotes(text: str) -> str:
    """Return a text without a pair of quotes around it, and without white space around these.

    A text without such a pair is returned unchanged. Shells and `.env` files remove quotes, but
    the option `--env-file` of Docker and the Secrets of Kubernetes keep them.
    """
    stripped = text.strip()
    quote, inner = stripped[:1], stripped[1:-1]
    if len(stripped) > 1 and quote in _QUOTES and stripped[-1] == quote and quote not in inner:
        return inner.strip()
    return text


def strip_key(text: str) -> str:
    """Return an API key without white space, quotes, and the scheme `Bearer` around it."""
    key = strip_quotes(text).strip()
    scheme = _SCHEME.match(key)
    return strip_quotes(key[scheme.end() :]) if scheme else key


def parse_pairs(text: str) -> dict[str, str] | None:
    """Return the pairs of a list of `name=value`, or of a JSON object of strings.

    Returns None if the list is empty.
    """
    values: dict[str, str] = {}
    if text.lstrip().startswith("{"):
        for name, member in parse_object(text).items():
            values[name] = _check_string(name, member)
        return values or None
    for pair in split_list(text):
        name, _, value = (each.strip() for each in pair.partition("="))
        if not name or not value:
            raise ValueError(f"expected name=value, got {pair!r}")
        if name in values:
            raise ValueError(f"duplicate name {name!r}")
        values[name] = value
    return values or None


def parse_models(text: str) -> dict[str, str] | None:
    """Return pairs of model names, as `parse_pairs`. Commas between pairs are an error."""
    by_name = parse_pairs(text)
    for name, model in (by_name or {}).items():
        if "=" in model.partition(",")[2]:
            raise ValueError(f"expected ; between pairs instead of a comma, got '{name}={model}'")
    return by_name


def parse_header_pairs(text: str) -> dict[str, str] | None:
    """Return pairs of headers, as `parse_pairs`. Errors do not show them, as they may be keys."""
    try:
        return parse_pairs(text)
    except ValueError:
        raise ValueError("each part must be name=value, and each name must be unique") from None


def listen_host(text: str) -> str:
    """Return a host name or IP address to listen on. Removes brackets around IPv6 addresses."""
    host = text.strip()
    if "/" in host:
        raise ValueError("remove the scheme (http://) and the path")
    if host == "*":
        raise ValueError("use 0.0.0.0 or :: for all addresses")
    bracketed = _BRACKETED.fullmatch(host)
    if bracketed:
        host = bracketed["address"]
    elif host.count(":") == 1 or "]:" in host:
        raise ValueError("remove the port, which PORT or --port sets")
    if ":" in host or bracketed:
        _check_ipv6(host)
    elif not host or re.search(r"[\s\[\]@?#]", host):
        raise ValueError("expected a name such as localhost or an address such as 127.0.0.1")
    return host


def _check_ipv6(address: str) -> None:
    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        raise ValueError("invalid IPv6 address") from None


def check_header_name(name: str) -> str:
    """Return the name of a header that operators may set. Errors do not show it."""
    if not _HEADER.fullmatch(name):
        raise ValueError("is not a valid header name")
    if name.lower() in _FRAMING:
        raise ValueError("is a header that the proxy sets itself")
    return name


def check_header_value(value: str) -> str:
    """Return a header value without white space around it. Errors do not show it."""
    if not re.fullmatch(r"[ -~]*", value):
        raise ValueError("must contain only printable ASCII characters")
    return value.strip()


def check_extra_body(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the fields unchanged. Raises ValueError for fields that each request sets."""
    reserved = [name for name in ("model", "stream") if name in fields]
    if reserved:
        raise ValueError(f"must not contain {' or '.join(reserved)}, which every request sets")
    return fields


def parse_object(text: str) -> JsonObject:
    """Return a JSON object."""
    try:
        value = loads(text.encode())
    except ValueError as error:
        raise ValueError(f"must be a JSON object: {error}") from None
    if not isinstance(value, dict):
        raise ValueError("must be a JSON object")  # noqa: TRY004 - as for all invalid values
    return value


def _check_string(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name!r} must be a string")  # noqa: TRY004 - as above
    return value
