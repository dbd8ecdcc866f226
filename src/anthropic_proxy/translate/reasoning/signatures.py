"""Encode in the `signature` of a thinking block, or the `data` of a redacted one, what the upstream needs back.

    anthropic-proxy.1.FIELD[.PAYLOAD[.MAC]]

FIELD is where the text came from. PAYLOAD, base64 of JSON (compressed where it is long), has what the block itself does
not show: the text where it was not to be displayed, and the details (signatures, encrypted parts) that the provider wants
back. MAC is there when a secret is set: then a block that anybody changed is dropped. A signature of somebody else (a
session that began elsewhere) means nothing here; its block is left out, and never pasted into the answer's text.
"""

import base64
import hashlib
import hmac
import re
import zlib
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from anthropic_proxy.translate.reasoning.fields import (
    CONTENT_PARTS,
    DETAIL_TEXT_KEYS,
    DETAILS,
    IN_TEXT,
    ReasoningBlock,
    find_text_key,
    get_detail_text,
    thinking_part,
)
from anthropic_proxy.wire import openai
from anthropic_proxy.wire.json_codec import JsonObject, dumps, has_more_values, loads_object

_PREFIX = "anthropic-proxy.1"
_SIGNATURE = re.compile(
    r"anthropic-proxy\.1\.(reasoning|reasoning_content|reasoning_details|content_parts|content)"
    r"(?:\.([\w-]*)(?:\.([\w-]{22}))?)?",
    re.ASCII,
)
# In the text of every request that holds a signature of ours.
SIGNATURE_MARK = f"{_PREFIX}.".encode()
# A client may send anything: what unpacks to more than this is not ours.
_MAX_UNPACKED_BYTES = 16 * 1024 * 1024
# What compresses better is not compressed, and not unpacked: a short signature must not take much memory.
_MAX_EXPANSION = 10
_MAC_BYTES = 16
# Bytes of JSON that are not worth compressing.
_MIN_COMPRESSIBLE_BYTES = 400


def is_proxy_signature(signature: object) -> bool:
    """Return whether this proxy made a signature or the `data` of a redacted block, with any secret."""
    return isinstance(signature, str) and signature.startswith(f"{_PREFIX}.")


@dataclass(frozen=True)
class Signer:
    """Signs thinking blocks and reads signatures back; without `secret` the signatures carry no MAC."""

    secret: str | None = None

    def sign(self, reasoning: ReasoningBlock, visible_text: str) -> str:
        """Return the signature for a block that shows `visible_text` of the reasoning to the caller."""
        payload = _pack(reasoning, visible_text)
        if self.secret:
            return f"{_PREFIX}.{reasoning.origin}.{payload}.{self._compute_mac(reasoning.origin, payload, visible_text)}"
        return (
            f"{_PREFIX}.{reasoning.origin}.{payload}"
            if payload
            else f"{_PREFIX}.{reasoning.origin}"
        )

    def parse_signature(self, signature: str | None, visible_text: str) -> ReasoningBlock | None:
        """Return the reasoning that was signed; None when the signature or the block's text was changed."""
        match = _SIGNATURE.fullmatch(signature or "")
        if match is None:
            return None
        origin, payload, mac = match[1], match[2] or "", match[3] or ""
        if self.secret and not hmac.compare_digest(
            mac, self._compute_mac(origin, payload, visible_text)
        ):
            return None
        content = _unpack(payload)
        return None if content is None else _to_reasoning_block(origin, content, visible_text)

    def replay_reasoning(self, blocks: list[JsonObject], message: JsonObject) -> JsonObject:
        """Add the reasoning of thinking blocks to an assistant message, each in the form in which the upstream sent it."""
        pieces: dict[str, list[Any]] = {}
        for block in blocks:
            reasoning = self.parse_signature(
                block.get("signature") or block.get("data"), block.get("thinking") or ""
            )
            if reasoning is not None:
                _add_replay(reasoning, pieces)
        parts = pieces.pop(CONTENT_PARTS, None)
        fields: JsonObject = {
            name: each if name == DETAILS else "".join(each) for name, each in pieces.items()
        }
        if parts is not None:
            text = message["content"]
            fields["content"] = [
                thinking_part("".join(parts)),
                *([openai.text_part(text)] if text else []),
            ]
        return {**message, **fields}

    def can_replay(self, block: JsonObject) -> bool:
        """Return whether this thinking or redacted_thinking block can be sent to the upstream."""
        empty_message = {"content": None}
        return self.replay_reasoning([block], empty_message) != empty_message

    def _compute_mac(self, origin: str, payload: str, visible_text: str) -> str:
        mac_input = f"{origin}.{payload}.{visible_text}".encode("utf-8", "surrogatepass")
        digest = hmac.digest((self.secret or "").encode(), mac_input, hashlib.sha256)
        return _encode_base64(digest[:_MAC_BYTES])


UNSIGNED = Signer()


def _add_replay(reasoning: ReasoningBlock, pieces: dict[str, list[Any]]) -> None:
    """Add details, or the pieces of a text, to the field of their origin."""
    if reasoning.origin == DETAILS and reasoning.details:
        pieces.setdefault(DETAILS, []).extend(reasoning.details)
    elif reasoning.origin not in (IN_TEXT, DETAILS) and reasoning.text:
        pieces.setdefault(reasoning.origin, []).append(reasoning.text)


def _pack(reasoning: ReasoningBlock, visible_text: str) -> str:
    """Encode what `visible_text` lacks. Details whose texts add up to it hold the lengths of their texts instead."""
    content: JsonObject = {}
    if reasoning.text != visible_text and reasoning.origin not in (IN_TEXT, DETAILS):
        content["text"] = reasoning.text
    if reasoning.details:
        texts = [get_detail_text(detail) for detail in reasoning.details]
        texts_match = "".join(texts) == visible_text
        content["details"] = (
            list(map(_replace_text_with_length, reasoning.details))
            if texts_match
            else reasoning.details
        )
    if not content:
        return ""
    document = dumps(content)
    return _encode_base64(
        document if len(document) <= _MIN_COMPRESSIBLE_BYTES else _compress(document)
    )


def _compress(document: bytes) -> bytes:
    """Return compressed JSON, or the JSON itself where the compressed form would expand too much."""
    compressed = zlib.compress(document)
    return compressed if _expands_moderately(compressed, document) else document


def _expands_moderately(compressed: bytes, document: bytes) -> bool:
    """Whether unpacking takes about as much memory as the same bytes of plain JSON may take."""
    return len(document) <= _MAX_EXPANSION * len(compressed) and not has_more_values(
        document, len(compressed) // 2
    )


def _replace_text_with_length(detail: JsonObject) -> JsonObject:
    key = find_text_key(detail)
    return {**detail, key: len(detail[key])} if key else detail


def _unpack(payload: str) -> JsonObject | None:
    if not payload:
        return {}
    try:
        data = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
        if not data.startswith(b"{"):
            unpacker = zlib.decompressobj()
            compressed, data = (
                data,
                unpacker.decompress(data, min(_MAX_UNPACKED_BYTES, _MAX_EXPANSION * len(data) + 1)),
            )
            if not unpacker.eof or not _expands_moderately(compressed, data):
                return None
    except (ValueError, zlib.error):
        return None
    return loads_object(data)


def _to_reasoning_block(
    origin: str, content: JsonObject, visible_text: str
) -> ReasoningBlock | None:
    text = content.get("text", visible_text)
    details = content.get("details", [])
    if (
        not isinstance(text, str)
        or not isinstance(details, list)
        or not all(isinstance(each, dict) for each in details)
    ):
        return None
    restored_details = _restore_texts(details, visible_text)
    return None if restored_details is None else ReasoningBlock(origin, [text], restored_details)


def _restore_texts(details: list[JsonObject], visible_text: str) -> list[JsonObject] | None:
    """Replace the lengths in details with their texts; None when the block's text has another length."""
    length_keys = [_find_length_key(each) for each in details]
    ends = list(
        accumulate(
            each[name] if name else 0 for each, name in zip(details, length_keys, strict=True)
        )
    )
    # With negative lengths the pieces of a short text could have any length.
    if any(length_keys) and (ends[-1] != len(visible_text) or sorted([0, *ends]) != [0, *ends]):
        return None
    return [
        {**each, name: visible_text[end - each[name] : end]} if name else each
        for each, name, end in zip(details, length_keys, ends, strict=True)
    ]


def _find_length_key(detail: JsonObject) -> str | None:
    """Return the name of the text that has its length in its place, None without one."""
    return next((name for name in DETAIL_TEXT_KEYS if isinstance(detail.get(name), int)), None)


def _encode_base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
