"""Store data for the upstream in the `signature` of thinking blocks.

For redacted blocks, the field is `data`. The format is

    anthropic-proxy.1.ORIGIN[.PAYLOAD[.MAC]]

ORIGIN is the field in which the upstream sent the reasoning. PAYLOAD is base64-encoded JSON,
compressed if it is long, with the data that the block does not show:

    text      the text of the reasoning, if the block does not show it
    details   objects (signatures, encrypted parts) that the upstream requires in the next request
    upstream  the name of the upstream, if only that upstream can read the details

Text without signatures and encrypted parts is sent to any upstream. Signatures of earlier versions
have no `upstream`, and their details are also sent to any upstream.

MAC is present if a secret is configured; modified blocks are then dropped. Blocks with foreign
signatures, from sessions that started on another server, are dropped too, and never sent as text.
"""

import base64
import hashlib
import hmac
import re
import zlib
from dataclasses import dataclass, replace
from typing import Any

from anthropic_proxy.translate.reasoning.fields import (
    CONTENT_PARTS,
    DETAIL_TEXT_KEYS,
    DETAILS,
    IN_TEXT,
    LIST_FIELDS,
    OPAQUE_FIELDS,
    ORIGINS,
    THINKING_BLOCKS,
    ReasoningBlock,
    find_text_key,
    get_detail_text,
    thinking_part,
)
from anthropic_proxy.wire import openai
from anthropic_proxy.wire.json_codec import JsonObject, dumps, has_more_values, loads_object

_PREFIX = "anthropic-proxy.1"
_SIGNATURE = re.compile(
    rf"anthropic-proxy\.1\.({'|'.join(ORIGINS)})"
    r"(?:\.([\w-]*)(?:\.([\w-]{22}))?)?",
    re.ASCII,
)
# Every request with a signature of this proxy contains this text.
SIGNATURE_MARK = f"{_PREFIX}.".encode()
# Larger payloads are rejected, because they may come from an attacker.
_MAX_UNPACKED_BYTES = 16 * 1024 * 1024
# Maximum ratio of unpacked to compressed size, so that short signatures cannot use much memory.
# Documents with a higher ratio are not compressed, and such payloads are rejected.
_MAX_EXPANSION = 10
_MAC_BYTES = 16
# Compression is not useful for shorter JSON.
_MIN_COMPRESSIBLE_BYTES = 400


def is_proxy_signature(signature: object) -> bool:
    """Return whether a signature or `data` has this proxy's format, with any secret."""
    return isinstance(signature, str) and signature.startswith(f"{_PREFIX}.")


@dataclass(frozen=True)
class Signer:
    """Signs thinking blocks and parses their signatures."""

    # key of the MAC; without a secret, signatures have no MAC
    secret: str | None = None
    # name of the upstream with which the reasoning is exchanged; empty if it does not matter
    upstream: str = ""

    def for_upstream(self, name: str) -> "Signer":
        """Return the signer for the reasoning of one upstream."""
        return replace(self, upstream=name)

    def sign(self, reasoning: ReasoningBlock, visible_text: str) -> str:
        """Return the signature of a block whose text is `visible_text`."""
        origin = reasoning.origin
        payload = _pack(reasoning, visible_text, self.upstream)
        if self.secret:
            mac = self._compute_mac(origin, payload, visible_text)
            return f"{_PREFIX}.{origin}.{payload}.{mac}"
        if payload:
            return f"{_PREFIX}.{origin}.{payload}"
        return f"{_PREFIX}.{origin}"

    def parse_signature(self, signature: str | None, visible_text: str) -> ReasoningBlock | None:
        """Return the signed reasoning, or None if this upstream cannot use it.

        The signature is foreign or invalid, or its data belongs to another upstream.
        """
        match = _SIGNATURE.fullmatch(signature or "")
        if match is None:
            return None
        origin, payload, mac = match[1], match[2] or "", match[3] or ""
        if self.secret:
            expected_mac = self._compute_mac(origin, payload, visible_text)
            if not hmac.compare_digest(mac, expected_mac):
                return None
        content = _unpack(payload)
        if content is None or self._is_of_other_upstream(content):
            return None
        return _to_reasoning_block(origin, content, visible_text)

    def replay_reasoning(self, blocks: list[JsonObject], message: JsonObject) -> JsonObject:
        """Add the reasoning of thinking blocks to an assistant message, in the upstream's form."""
        values: dict[str, list[Any]] = {}
        for block in blocks:
            reasoning = self._parse_block(block)
            if reasoning is not None:
                for name, value in _list_replayable(reasoning):
                    values.setdefault(name, []).append(value)
        replayed = dict(message)
        for name, pieces in values.items():
            if name in LIST_FIELDS:
                replayed[name] = pieces
            elif name in OPAQUE_FIELDS.values():
                replayed[name] = pieces[-1]
            elif name == CONTENT_PARTS:
                replayed["content"] = [thinking_part("".join(pieces))]
                if message["content"]:
                    replayed["content"].append(openai.text_part(message["content"]))
            else:
                replayed[name] = "".join(pieces)
        return replayed

    def can_replay(self, block: JsonObject) -> bool:
        """Return whether a thinking or redacted_thinking block can be sent to the upstream."""
        reasoning = self._parse_block(block)
        return reasoning is not None and bool(_list_replayable(reasoning))

    def _parse_block(self, block: JsonObject) -> ReasoningBlock | None:
        signature = block.get("signature") or block.get("data")
        return self.parse_signature(signature, block.get("thinking") or "")

    def _is_of_other_upstream(self, content: JsonObject) -> bool:
        upstream = content.get("upstream")
        return bool(self.upstream and upstream) and upstream != self.upstream

    def _compute_mac(self, origin: str, payload: str, visible_text: str) -> str:
        mac_input = f"{origin}.{payload}.{visible_text}".encode("utf-8", "surrogatepass")
        digest = hmac.digest((self.secret or "").encode(), mac_input, hashlib.sha256)
        return _encode_base64(digest[:_MAC_BYTES])


UNSIGNED = Signer()


def _list_replayable(reasoning: ReasoningBlock) -> list[tuple[str, Any]]:
    """Return the fields that the upstream requires in the next request, and their values.

    A field may occur several times; see `replay_reasoning`.
    """
    origin = reasoning.origin
    if origin == DETAILS:
        return [(DETAILS, detail) for detail in reasoning.details]
    if origin == THINKING_BLOCKS:
        return [(THINKING_BLOCKS, block) for block in _complete_blocks(reasoning)]
    if origin == IN_TEXT:
        return []
    values: list[tuple[str, Any]] = [(origin, reasoning.text)] if reasoning.text else []
    opaque_field = OPAQUE_FIELDS.get(origin)
    for detail in reasoning.details:
        if detail.get("type") == opaque_field:
            values.append((detail["type"], detail.get("data")))
    return values


def _complete_blocks(reasoning: ReasoningBlock) -> list[JsonObject]:
    """Return LiteLLM's thinking blocks that have a signature or encrypted data.

    If only another field contained the text, it is added to the first block with a signature.
    """
    has_text = any(map(get_detail_text, reasoning.details))
    blocks: list[JsonObject] = []
    for block in reasoning.details:
        if block.get("signature") and not has_text:
            blocks.append({**block, "thinking": reasoning.text})
            has_text = True
        elif block.get("signature") or block.get("data"):
            # Claude refuses an incomplete block, which has no signature.
            blocks.append(block)
    return blocks


def _pack(reasoning: ReasoningBlock, visible_text: str, upstream: str) -> str:
    """Encode the data that `visible_text` does not contain, and the upstream that can read it.

    If the texts of the details make up `visible_text`, they are replaced by their lengths.
    """
    content: JsonObject = {}
    details = reasoning.details
    detail_text = "".join(map(get_detail_text, details))
    has_own_text = reasoning.origin not in (IN_TEXT, DETAILS) and reasoning.text != detail_text
    if has_own_text and reasoning.text != visible_text:
        content["text"] = reasoning.text
    if details:
        if detail_text == visible_text:
            details = [_replace_text_with_length(detail) for detail in details]
        content["details"] = details
    if upstream and reasoning.has_data:
        content["upstream"] = upstream
    if not content:
        return ""
    document = dumps(content)
    if len(document) > _MIN_COMPRESSIBLE_BYTES:
        document = _compress(document)
    return _encode_base64(document)


def _compress(document: bytes) -> bytes:
    """Compress JSON, or return it unchanged if the ratio is too high."""
    compressed = zlib.compress(document)
    if _expands_moderately(compressed, document):
        return compressed
    return document


def _expands_moderately(compressed: bytes, document: bytes) -> bool:
    """Return whether the memory use is similar to that of plain JSON of the compressed length."""
    if len(document) > _MAX_EXPANSION * len(compressed):
        return False
    return not has_more_values(document, len(compressed) // 2)


def _replace_text_with_length(detail: JsonObject) -> JsonObject:
    key = find_text_key(detail)
    if key is None:
        return detail
    return {**detail, key: len(detail[key])}


def _unpack(payload: str) -> JsonObject | None:
    """Decode a payload; return None if it is invalid."""
    if not payload:
        return {}
    try:
        document = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
        if not document.startswith(b"{"):
            document = _decompress(document)
    except (ValueError, zlib.error):
        return None
    return loads_object(document)


def _decompress(compressed: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    max_length = min(_MAX_UNPACKED_BYTES, _MAX_EXPANSION * len(compressed) + 1)
    document = unpacker.decompress(compressed, max_length)
    if not unpacker.eof or not _expands_moderately(compressed, document):
        raise ValueError("compressed data is truncated or too long")
    return document


def _to_reasoning_block(
    origin: str, content: JsonObject, visible_text: str
) -> ReasoningBlock | None:
    text = content.get("text", visible_text)
    details = content.get("details", [])
    if not isinstance(text, str) or not isinstance(details, list):
        return None
    if not all(isinstance(detail, dict) for detail in details):
        return None
    restored_details = _restore_texts(details, visible_text)
    if restored_details is None:
        return None
    return ReasoningBlock(origin, [text], restored_details)


def _restore_texts(details: list[JsonObject], visible_text: str) -> list[JsonObject] | None:
    """Replace the lengths in details by texts.

    Returns None if the lengths do not match the text of the block.
    """
    restored: list[JsonObject] = []
    has_lengths = False
    end = 0
    for detail in details:
        key = _find_length_key(detail)
        if key is None:
            restored.append(detail)
            continue
        start, end = end, end + detail[key]
        if start > end:
            # Negative lengths could expand a short text to any size.
            return None
        restored.append({**detail, key: visible_text[start:end]})
        has_lengths = True
    if has_lengths and end != len(visible_text):
        return None
    return restored


def _find_length_key(detail: JsonObject) -> str | None:
    """Return the key with a length instead of a text, or None."""
    return next((key for key in DETAIL_TEXT_KEYS if isinstance(detail.get(key), int)), None)


def _encode_base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
