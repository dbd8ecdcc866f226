"""Reasoning fields of upstreams <-> thinking blocks.

Providers have three names for the model's reasoning. Some of them want it back, under the same name, with the next
request. So the `signature` of each thinking block that we make records where its text came from, and a replayed block
goes back there. A signature of somebody else (a session that began elsewhere) means nothing to this upstream: its
block is left out, and never pasted into the answer's text.
"""

import re
from typing import Any

from anthropic_proxy.wire.codec import JsonObject

# In order of precedence; a server that fills several of them says the same in each.
_TEXT_FIELDS = ("reasoning", "reasoning_content")
_DETAILS_FIELD = "reasoning_details"

# Where reasoning came within the text. It does not go back: the templates of such models leave it out of the history.
IN_TEXT = "content"

_SIGNATURE = re.compile(r"anthropic-proxy\.1\.(reasoning|reasoning_content)")


def reasoning_of(delta: JsonObject) -> tuple[str, str]:
    """Text and field of the reasoning in a delta or message; two empty strings where there is none."""
    for name in _TEXT_FIELDS:
        text = delta.get(name)
        if isinstance(text, str) and text:
            return text, name
    details = delta.get(_DETAILS_FIELD)
    text = "".join(map(_detail_text, details)) if isinstance(details, list) else ""
    return (text, "reasoning") if text else ("", "")


def _detail_text(detail: Any) -> str:
    text = (detail.get("text") or detail.get("summary")) if isinstance(detail, dict) else None
    return text if isinstance(text, str) else ""


def sign(field: str) -> str:
    """The signature of a thinking block whose text came in `field`."""
    return f"anthropic-proxy.1.{field}"


def replayed(blocks: list[JsonObject]) -> JsonObject:
    """Fields of an assistant message that give its thinking blocks back to the upstream."""
    fields: JsonObject = {}
    for block in blocks:
        ours = _SIGNATURE.fullmatch(block.get("signature") or "")
        if ours and block["thinking"]:
            fields[ours[1]] = fields.get(ours[1], "") + block["thinking"]
    return fields
