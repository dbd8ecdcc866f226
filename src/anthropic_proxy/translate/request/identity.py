"""Convert `metadata.user_id` to the fields that identify users and conversations at the upstream.

Only hashes are sent: OpenAI accepts 64 characters, and Claude Code's user_id is 170 characters of
JSON with account ids. It also holds the session, which changes while the user stays the same;
requests of one session share a prompt cache.
"""

import hashlib
import re

from anthropic_proxy.providers.provider_profile import ProviderProfile
from anthropic_proxy.wire.json_codec import JsonObject, loads_object

# Characters, the Messages API's own limit. Claude Code's JSON has about 170. Longer ids are hashed without being parsed.
_MAX_PARSED_LENGTH = 256

# Claude Code before 2.1: user_HASH_account_UUID_session_UUID.
_USER = "user_"
_SESSION = "_session_"
_SESSION_ID = re.compile(r"[\w-]+")


def to_identity_fields(request: JsonObject, profile: ProviderProfile) -> JsonObject:
    """Return the upstream's fields for the user and the prompt cache; none without a user_id."""
    user_id = (request.get("metadata") or {}).get("user_id")
    if not user_id:
        return {}
    user, session = _split_user_id(user_id)
    cache_fields = {"prompt_cache_key": _hash(session)} if profile.prompt_cache_key else {}
    return {**({profile.user_field: _hash(user)} if profile.user_field else {}), **cache_fields}


def _split_user_id(user_id: str) -> tuple[str, str]:
    """Return the parts that identify the user and the session; the entire id twice where it has no
    such parts.
    """
    if len(user_id) > _MAX_PARSED_LENGTH:
        return user_id, user_id
    return _parse_json_id(user_id) or _parse_legacy_id(user_id) or (user_id, user_id)


def _parse_json_id(user_id: str) -> tuple[str, str] | None:
    payload = loads_object(user_id.encode("utf-8", "replace")) if user_id.startswith("{") else None
    if not payload or not isinstance(payload.get("session_id"), str):
        return None
    user = "/".join(str(payload.get(name) or "") for name in ("device_id", "account_uuid"))
    return user, payload["session_id"]


def _parse_legacy_id(user_id: str) -> tuple[str, str] | None:
    # At least one character follows, so the search ends before the last one.
    position = user_id.rfind(_SESSION, 0, len(user_id) - 1)
    user, session = user_id[: max(position, 0)], user_id[position + len(_SESSION) :]
    is_user = user.startswith(_USER) and len(user) > len(_USER) and "\n" not in user
    return (user, session) if is_user and _SESSION_ID.fullmatch(session) else None


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
