"""Recognize the requests of one session, which share the prompt cache of an upstream."""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from anthropic_proxy.wire.anthropic.claude_code import split_user_id, strip_billing_header
from anthropic_proxy.wire.json_codec import JsonObject, to_canonical_text

# Sent by Claude Code. Bifrost selects the target of a session by the same header.
_SESSION_HEADER = "x-claude-code-session-id"


def identify_session(request: JsonObject, headers: Mapping[str, str]) -> str:
    """Return an id that is the same for all requests of a session.

    It is the id that Claude Code sends, otherwise a hash of the beginning of the conversation,
    which later requests repeat. Fields of the request may have any type.

    headers: of the client, with names in lower case.
    """
    return (
        headers.get(_SESSION_HEADER, "").strip()
        or _parse_session_id(request.get("metadata"))
        or _hash_beginning(request)
    )


def _parse_session_id(metadata: Any) -> str:
    user_id = metadata.get("user_id") if isinstance(metadata, dict) else None
    parts = split_user_id(user_id) if isinstance(user_id, str) else None
    return parts[1] if parts else ""


def _hash_beginning(request: JsonObject) -> str:
    """Return a hash of the system prompt, and of the messages up to the first one of the user."""
    beginning = [_normalize(request.get("system"))]
    messages = request.get("messages")
    for message in messages if isinstance(messages, list) else ():
        if not isinstance(message, dict):
            break
        beginning.append(_normalize(message.get("content")))
        if message.get("role") == "user":
            break
    return blake2b(to_canonical_text(beginning).encode(), digest_size=16).hexdigest()


def _normalize(content: Any) -> Any:
    """Return a content without the parts in which the requests of a conversation differ.

    Clients move the marks of prompt caches to newer messages. Some write a text as one block as
    long as it is marked, and as a string later.
    """
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(blocks, list):
        return blocks
    normalized = []
    for block in blocks:
        if not isinstance(block, dict):
            normalized.append(block)
            continue
        fields = {name: value for name, value in block.items() if name != "cache_control"}
        if isinstance(fields.get("text"), str):
            fields["text"] = strip_billing_header(fields["text"])
        normalized.append(fields)
    return normalized
