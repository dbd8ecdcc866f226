"""The headers of a request to an upstream: its key in the form that it wants, and what of the client's own goes on.

An upstream that speaks the Messages API itself gets the client's headers that belong to that API: its version, betas, and
who asks. All others are between the client and this proxy.
"""

import re
from collections.abc import Mapping

from anthropic_proxy.auth.caller import Caller
from anthropic_proxy.errors import ApiError
from anthropic_proxy.routing.upstream import Upstream

_NO_KEY = "This server passes the client's own key to the upstream, and the request has none: set ANTHROPIC_AUTH_TOKEN"

# How a key is sent: headers, and what stands before it there.
_KEY_HEADERS: Mapping[str, Mapping[str, str]] = {
    "bearer": {"authorization": "Bearer "},
    "api-key": {"api-key": ""},
    "x-api-key": {"x-api-key": ""},
    # Of other servers with the Messages API some look for the one (vLLM) and some for the other.
    "native-bearer": {"x-api-key": "", "authorization": "Bearer "},
    # Microsoft Foundry, as the SDK for it does it.
    "native-api-key": {"x-api-key": "", "api-key": ""},
}
_ANTHROPIC_HOST = "anthropic.com"
# Tokens of a login, which Anthropic takes as bearer tokens with this beta alone (the SDK's credentials).
_LOGIN_TOKEN = "sk-ant-oat"  # noqa: S105 - how such tokens begin
_LOGIN_BETA = "oauth-2025-04-20"

_CREDENTIAL = re.compile(r"auth|key|token|cookie|secret", re.IGNORECASE)

_FORWARDED = frozenset({"user-agent", "x-app", "accept", "content-type", "x-client-request-id"})
_FORWARDED_PREFIXES = ("anthropic-", "x-stainless-", "x-claude-code-")
_KEY_HEADER_NAMES = ("x-api-key", "authorization")
# What the API takes for granted has no default there, but curl users forget it.
_VERSION = {"anthropic-version": "2023-06-01"}


def build_headers(upstream: Upstream, key: str | None, caller: Caller) -> dict[str, str]:
    """Return all headers by lower-case names.

    key: of the upstream; with its `key_passthrough` the caller's is sent instead. Raises ApiError (401) without one.
    """
    is_native = upstream.api == "messages"
    headers = {
        **(_VERSION | _forwarded_headers(caller.headers) if is_native else {}),
        **{name.lower(): value for name, value in upstream.profile.headers},
    }
    if upstream.key_passthrough and not caller.api_key:
        raise ApiError(401, _NO_KEY)
    if upstream.key_passthrough and is_native:
        headers |= {
            name: caller.headers[name] for name in _KEY_HEADER_NAMES if caller.headers.get(name)
        }
    else:
        _add_key(headers, caller.api_key if upstream.key_passthrough else key, upstream)
    return headers | {name.lower(): value for name, value in upstream.headers.items()}


def has_credential(headers: Mapping[str, str]) -> bool:
    """Return whether configured headers may hold a key."""
    return any(_CREDENTIAL.search(name) for name in headers)


def _forwarded_headers(headers: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in headers.items()
        if (name in _FORWARDED or name.startswith(_FORWARDED_PREFIXES)) and value.isascii()
    }


def _add_key(headers: dict[str, str], key: str | None, upstream: Upstream) -> None:
    if not key:
        return
    scheme = _key_scheme(key, upstream)
    headers |= {name: prefix + key for name, prefix in _KEY_HEADERS[scheme].items()}
    if scheme == "bearer" and upstream.api == "messages":
        betas = [
            beta.strip() for beta in headers.get("anthropic-beta", "").split(",") if beta.strip()
        ]
        if _LOGIN_BETA not in betas:
            headers["anthropic-beta"] = ",".join([*betas, _LOGIN_BETA])


def _key_scheme(key: str, upstream: Upstream) -> str:
    if upstream.api != "messages":
        return upstream.profile.auth
    if key.startswith(_LOGIN_TOKEN):
        return "bearer"
    is_anthropic = upstream.host == _ANTHROPIC_HOST or upstream.host.endswith("." + _ANTHROPIC_HOST)
    return "x-api-key" if is_anthropic else f"native-{upstream.profile.auth}"
