"""Texts of Claude Code in requests: the ids of its users and sessions, and its billing header."""

import re

from anthropic_proxy.wire.json_codec import loads_object

# In characters. This is the limit of the Messages API; Claude Code's ids have about 170.
_MAX_ID_LENGTH = 256

# The format of Claude Code before 2.1: user_HASH_account_UUID_session_UUID.
_USER = "user_"
_SESSION = "_session_"
_SESSION_ID = re.compile(r"[\w-]+")

# Claude Code's first system block, or the first line if a gateway joined the blocks. It differs
# between conversations, and would invalidate prefix caches because it comes first. Clients that
# have no top-level `system` send it as a system message.
_BILLING_HEADER = "x-anthropic-billing-header:"


def split_user_id(user_id: str) -> tuple[str, str] | None:
    """Return the parts of `metadata.user_id` that identify the user and the session.

    Return None if the format is unknown.
    """
    if len(user_id) > _MAX_ID_LENGTH:
        return None
    return _parse_json_id(user_id) or _parse_legacy_id(user_id)


def _parse_json_id(user_id: str) -> tuple[str, str] | None:
    if not user_id.startswith("{"):
        return None
    payload = loads_object(user_id.encode("utf-8", "replace"))
    if not payload or not isinstance(payload.get("session_id"), str):
        return None
    user = "/".join(str(payload.get(name) or "") for name in ("device_id", "account_uuid"))
    return user, payload["session_id"]


def _parse_legacy_id(user_id: str) -> tuple[str, str] | None:
    # The session has at least one character, so the search ends before the last character.
    position = user_id.rfind(_SESSION, 0, len(user_id) - 1)
    user, session = user_id[: max(position, 0)], user_id[position + len(_SESSION) :]
    is_user = user.startswith(_USER) and len(user) > len(_USER) and "\n" not in user
    if not is_user or not _SESSION_ID.fullmatch(session):
        return None
    return user, session


def strip_billing_header(text: str) -> str:
    """Return the text of a system block without Claude Code's billing header."""
    if not text.startswith(_BILLING_HEADER):
        return text
    return text.partition("\n")[2].lstrip("\n")
