"""Create ids that are unique, unguessable, and valid in both APIs.

Both APIs accept up to 40 characters of [a-zA-Z0-9_-]. The proxy does not use the ids of upstreams:
several servers use the same id again ("call_0" in every turn, "chatcmpl-123"), and Claude Code
merges messages that have the same id, and replaces tool calls that have the same id.
"""

import secrets


def new_id(prefix: str) -> str:
    """Return a new id such as `msg_01f3...`: `prefix`, `_` and 24 hexadecimal digits (96 bits)."""
    return f"{prefix}_{secrets.token_hex(12)}"
