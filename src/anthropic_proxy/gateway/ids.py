"""Ids of our own: unique, unguessable, and legal on both sides (at most 40 characters of [a-zA-Z0-9_-]).

The upstream's ids are not passed on: several servers repeat theirs ("call_0" in every turn, "chatcmpl-123"), and Claude
Code merges answers with equal message ids and replaces calls with equal tool ids.
"""

import secrets


def new_id(prefix: str) -> str:
    """`prefix`, an underscore and 24 random hexadecimal digits (96 bits), as in `msg_01f3...`."""
    return f"{prefix}_{secrets.token_hex(12)}"
