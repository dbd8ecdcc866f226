"""`metadata.user_id` -> the fields that tell an upstream's users and conversations apart.

Only hashes go out: OpenAI takes 64 characters, and Claude Code's user_id is 170 characters of JSON with account ids in it.
It holds the session as well, which changes while the user stays the same; requests of one session share a prompt cache.
"""

import hashlib
import re

from anthropic_proxy.dialects import Dialect
from anthropic_proxy.wire.codec import JsonObject, loads_object

# Claude Code before 2.1: user_HASH_account_UUID_session_UUID.
_OLD_FORM = re.compile(r"(user_.+)_session_([\w-]+)")


def to_identity(request: JsonObject, dialect: Dialect) -> JsonObject:
    """The upstream's fields for the user and, where it has one, for the prompt cache; none without a user_id."""
    user_id = (request.get("metadata") or {}).get("user_id")
    if not user_id:
        return {}
    user, session = _parts(user_id)
    cache = {"prompt_cache_key": _hashed(session)} if dialect.prompt_cache_key else {}
    return {**({dialect.user_field: _hashed(user)} if dialect.user_field else {}), **cache}


def _parts(user_id: str) -> tuple[str, str]:
    """What names the user, and what names the session: the whole of it where they can't be told apart."""
    packed = loads_object(user_id.encode("utf-8", "replace")) if user_id.startswith("{") else None
    if packed and isinstance(packed.get("session_id"), str):
        user = "/".join(str(packed.get(name) or "") for name in ("device_id", "account_uuid"))
        return user, packed["session_id"]
    old = _OLD_FORM.fullmatch(user_id)
    return (old[1], old[2]) if old else (user_id, user_id)


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
