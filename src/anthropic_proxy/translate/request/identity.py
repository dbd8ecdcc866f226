"""`metadata.user_id` -> the fields that tell an upstream's users and conversations apart.

Only hashes go out: OpenAI takes 64 characters, and Claude Code's user_id is 170 characters of JSON with account ids in it.
It holds the session as well, which changes while the user stays the same; requests of one session share a prompt cache.
"""

import hashlib
import re

from anthropic_proxy.providers.profiles import Dialect
from anthropic_proxy.wire.json_codec import JsonObject, loads_object

# Characters, the Messages API's own limit. Claude Code's JSON has about 170. Longer ids are hashed without being parsed.
_LONGEST_PARSED = 256

# Claude Code before 2.1: user_HASH_account_UUID_session_UUID.
_USER = "user_"
_SESSION = "_session_"
_SESSION_ID = re.compile(r"[\w-]+")


def to_identity(request: JsonObject, dialect: Dialect) -> JsonObject:
    """The upstream's fields for the user and, where it has one, for the prompt cache; none without a user_id."""
    user_id = (request.get("metadata") or {}).get("user_id")
    if not user_id:
        return {}
    user, session = _parts(user_id)
    cache = {"prompt_cache_key": _hashed(session)} if dialect.prompt_cache_key else {}
    return {**({dialect.user_field: _hashed(user)} if dialect.user_field else {}), **cache}


def _parts(user_id: str) -> tuple[str, str]:
    """Return what names the user and what names the session; the whole id twice where they can't be told apart."""
    if len(user_id) > _LONGEST_PARSED:
        return user_id, user_id
    return _json_parts(user_id) or _old_parts(user_id) or (user_id, user_id)


def _json_parts(user_id: str) -> tuple[str, str] | None:
    packed = loads_object(user_id.encode("utf-8", "replace")) if user_id.startswith("{") else None
    if not packed or not isinstance(packed.get("session_id"), str):
        return None
    user = "/".join(str(packed.get(name) or "") for name in ("device_id", "account_uuid"))
    return user, packed["session_id"]


def _old_parts(user_id: str) -> tuple[str, str] | None:
    # At least one character follows, so the search ends before the last one.
    place = user_id.rfind(_SESSION, 0, len(user_id) - 1)
    user, session = user_id[: max(place, 0)], user_id[place + len(_SESSION) :]
    is_user = user.startswith(_USER) and len(user) > len(_USER) and "\n" not in user
    return (user, session) if is_user and _SESSION_ID.fullmatch(session) else None


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
