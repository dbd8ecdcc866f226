"""Ids that the proxy creates: unique, unguessable, and valid in both APIs.

Both APIs accept up to 40 characters of [a-zA-Z0-9_-]. The ids of the upstream are not used: several
servers repeat theirs ("call_0" in every turn, "chatcmpl-123"), and Claude Code merges messages with
equal ids and replaces tool calls with equal ids.
"""

import secrets


def new_id(prefix: str) -> str:
    """Return `prefix`, an underscore and 24 random hexadecimal digits (96 bits).

    For example `msg_01f3...`.
    """
    return f"{prefix}_{secrets.token_hex(12)}"
