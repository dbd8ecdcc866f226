"""Build the headers of a request to an upstream: its key, and the forwarded client headers.

Only upstreams with the Messages API receive headers of the client: those for the API version, its
betas, and the client software. The proxy does not forward other headers.
"""

import re
from collections.abc import Iterable, Mapping

from anthropic_proxy.auth.caller import Caller
from anthropic_proxy.errors import ApiError
from anthropic_proxy.routing.upstream import Upstream

_NO_KEY = (
    "This server forwards the client's own key to the upstream, but the request has none: "
    "set ANTHROPIC_AUTH_TOKEN"
)

# Ways to send a key: the names of headers, and the text before the key.
_KEY_HEADERS: Mapping[str, Mapping[str, str]] = {
    "bearer": {"authorization": "Bearer "},
    "api-key": {"api-key": ""},
    "x-api-key": {"x-api-key": ""},
    # Some servers with the Messages API, such as vLLM, read only one of these headers.
    "native-bearer": {"x-api-key": "", "authorization": "Bearer "},
    # The SDK of Microsoft Foundry sends these.
    "native-api-key": {"x-api-key": "", "api-key": ""},
}
_ANTHROPIC_HOST = "anthropic.com"
# Login tokens. Anthropic accepts them only as bearer tokens with this beta, as its SDK sends them.
_LOGIN_TOKEN_PREFIX = "sk-ant-oat"  # noqa: S105 - only the prefix of such tokens
_LOGIN_BETA = "oauth-2025-04-20"

_CREDENTIAL = re.compile(r"auth|key|token|cookie|secret", re.IGNORECASE)

_FORWARDED = frozenset({"user-agent", "x-app", "accept", "content-type", "x-client-request-id"})
_FORWARDED_PREFIXES = ("anthropic-", "x-stainless-", "x-claude-code-")
_KEY_HEADER_NAMES = ("x-api-key", "authorization")
# The API requires it, but requests with curl often lack it.
_VERSION = {"anthropic-version": "2023-06-01"}


def build_headers(upstream: Upstream, key: str | None, caller: Caller) -> dict[str, str]:
    """Return all headers of a request. Their names are in lower case.

    An upstream with `key_passthrough` receives the caller's key instead of `key`. Raises ApiError
    (401) if the caller has none.
    """
    is_native = upstream.api == "messages"
    headers: dict[str, str] = {}
    if is_native:
        headers |= _VERSION | _select_forwarded(caller.headers)
    headers |= _lower_names(upstream.profile.headers)
    if upstream.key_passthrough:
        if not caller.api_key:
            raise ApiError(401, _NO_KEY)
        key = caller.api_key
    if upstream.key_passthrough and is_native:
        headers |= _select_key_headers(caller.headers)
    elif key:
        _add_key(headers, key, upstream)
    return headers | _lower_names(upstream.headers.items())


def has_credential(headers: Mapping[str, str]) -> bool:
    """Return whether configured headers may contain a key."""
    return any(_CREDENTIAL.search(name) for name in headers)


def _lower_names(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers}


def _select_forwarded(headers: Mapping[str, str]) -> dict[str, str]:
    forwarded = {}
    for name, value in headers.items():
        is_forwarded = name in _FORWARDED or name.startswith(_FORWARDED_PREFIXES)
        if is_forwarded and value.isascii():
            forwarded[name] = value
    return forwarded


def _select_key_headers(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: headers[name] for name in _KEY_HEADER_NAMES if headers.get(name)}


def _add_key(headers: dict[str, str], key: str, upstream: Upstream) -> None:
    scheme = _key_scheme(key, upstream)
    for name, prefix in _KEY_HEADERS[scheme].items():
        headers[name] = prefix + key
    if scheme == "bearer" and upstream.api == "messages":
        betas = [beta.strip() for beta in headers.get("anthropic-beta", "").split(",")]
        if _LOGIN_BETA not in betas:
            headers["anthropic-beta"] = ",".join([*filter(None, betas), _LOGIN_BETA])


def _key_scheme(key: str, upstream: Upstream) -> str:
    if upstream.api != "messages":
        return upstream.profile.auth
    if key.startswith(_LOGIN_TOKEN_PREFIX):
        return "bearer"
    is_anthropic = upstream.host == _ANTHROPIC_HOST or upstream.host.endswith("." + _ANTHROPIC_HOST)
    if is_anthropic:
        return "x-api-key"
    return f"native-{upstream.profile.auth}"
