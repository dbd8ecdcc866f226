"""The `signature` of our thinking blocks, and the `data` of redacted ones: what it takes to give reasoning back.

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
    DETAIL_TEXTS,
    DETAILS,
    IN_TEXT,
    PARTS,
    Thought,
    detail_text,
    detail_text_name,
    thinking_part,
)
from anthropic_proxy.wire import openai
from anthropic_proxy.wire.json_codec import JsonObject, dumps, loads_object
from anthropic_proxy.wire.json_values import has_more_values

_PREFIX = "anthropic-proxy.1"
_SIGNATURE = re.compile(
    r"anthropic-proxy\.1\.(reasoning|reasoning_content|reasoning_details|content_parts|content)"
    r"(?:\.([\w-]*)(?:\.([\w-]{22}))?)?",
    re.ASCII,
)
# In the text of every request that holds a signature of ours.
MARK = f"{_PREFIX}.".encode()
# A client may send anything: what unpacks to more than this is not ours.
_MAX_BYTES = 16 * 1024 * 1024
# What compresses better is not compressed, and not unpacked: a short signature must not take much memory.
_MAX_EXPANSION = 10
_MAC_BYTES = 16
# Bytes of JSON that are not worth compressing.
_SHORT = 400


def is_ours(signature: object) -> bool:
    """Whether this proxy made a signature, or the `data` of a redacted block; the same secret is not needed to tell."""
    return isinstance(signature, str) and signature.startswith(f"{_PREFIX}.")


@dataclass(frozen=True)
class Signer:
    """Signs thinking blocks and reads signatures back; without `secret` the signatures carry no MAC."""

    secret: str | None = None

    def sign(self, thought: Thought, shown: str) -> str:
        """The signature for a block that shows the client `shown` of the thought's text."""
        payload = _payload(thought, shown)
        if self.secret:
            return (
                f"{_PREFIX}.{thought.origin}.{payload}.{self._mac(thought.origin, payload, shown)}"
            )
        return f"{_PREFIX}.{thought.origin}.{payload}" if payload else f"{_PREFIX}.{thought.origin}"

    def read(self, signature: str | None, shown: str) -> Thought | None:
        """What `sign` was given; None when the signature, or the block's text, is not as we made it."""
        ours = _SIGNATURE.fullmatch(signature or "")
        if ours is None:
            return None
        field, payload, mac = ours[1], ours[2] or "", ours[3] or ""
        if self.secret and not hmac.compare_digest(mac, self._mac(field, payload, shown)):
            return None
        packed = _unpacked(payload)
        return None if packed is None else _thought(field, packed, shown)

    def replayed(self, blocks: list[JsonObject], message: JsonObject) -> JsonObject:
        """An assistant message with its thinking blocks given back to the upstream, each in the form that it came in."""
        replayed: dict[str, list[Any]] = {}
        for block in blocks:
            thought = self.read(
                block.get("signature") or block.get("data"), block.get("thinking") or ""
            )
            if thought is not None:
                _give_back(thought, replayed)
        parts = replayed.pop(PARTS, None)
        fields: JsonObject = {
            name: each if name == DETAILS else "".join(each) for name, each in replayed.items()
        }
        if parts is not None:
            text = message["content"]
            fields["content"] = [
                thinking_part("".join(parts)),
                *([openai.text_part(text)] if text else []),
            ]
        return {**message, **fields}

    def gives_back(self, block: JsonObject) -> bool:
        """Whether the upstream can be given this thinking or redacted_thinking block."""
        nothing = {"content": None}
        return self.replayed([block], nothing) != nothing

    def _mac(self, field: str, payload: str, shown: str) -> str:
        signed = f"{field}.{payload}.{shown}".encode("utf-8", "surrogatepass")
        digest = hmac.digest((self.secret or "").encode(), signed, hashlib.sha256)
        return _base64(digest[:_MAC_BYTES])


UNSIGNED = Signer()


def _give_back(thought: Thought, replayed: dict[str, list[Any]]) -> None:
    """Add details, or the pieces of a text, to the field that they came in."""
    if thought.origin == DETAILS and thought.details:
        replayed.setdefault(DETAILS, []).extend(thought.details)
    elif thought.origin not in (IN_TEXT, DETAILS) and thought.text:
        replayed.setdefault(thought.origin, []).append(thought.text)


def _payload(thought: Thought, shown: str) -> str:
    """What `shown` does not say. Details whose texts add up to it have the lengths of their texts in their place."""
    packed: JsonObject = {}
    if thought.text != shown and thought.origin not in (IN_TEXT, DETAILS):
        packed["text"] = thought.text
    if thought.details:
        texts = [detail_text(detail) for detail in thought.details]
        same = "".join(texts) == shown
        packed["details"] = list(map(_measured, thought.details)) if same else thought.details
    if not packed:
        return ""
    written = dumps(packed)
    return _base64(written if len(written) <= _SHORT else _compressed(written))


def _compressed(written: bytes) -> bytes:
    """Return compressed JSON, or the JSON itself where the compressed form would expand too much."""
    compressed = zlib.compress(written)
    return compressed if _expands_moderately(compressed, written) else written


def _expands_moderately(compressed: bytes, written: bytes) -> bool:
    """Whether unpacking takes about as much memory as the same bytes of plain JSON may take."""
    return len(written) <= _MAX_EXPANSION * len(compressed) and not has_more_values(
        written, len(compressed) // 2
    )


def _measured(detail: JsonObject) -> JsonObject:
    name = detail_text_name(detail)
    return {**detail, name: len(detail[name])} if name else detail


def _unpacked(payload: str) -> JsonObject | None:
    if not payload:
        return {}
    try:
        data = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
        if not data.startswith(b"{"):
            unpacker = zlib.decompressobj()
            compressed, data = (
                data,
                unpacker.decompress(data, min(_MAX_BYTES, _MAX_EXPANSION * len(data) + 1)),
            )
            if not unpacker.eof or not _expands_moderately(compressed, data):
                return None
    except (ValueError, zlib.error):
        return None
    return loads_object(data)


def _thought(field: str, packed: JsonObject, shown: str) -> Thought | None:
    text = packed.get("text", shown)
    details = packed.get("details", [])
    if (
        not isinstance(text, str)
        or not isinstance(details, list)
        or not all(isinstance(each, dict) for each in details)
    ):
        return None
    restored = _restored(details, shown)
    return None if restored is None else Thought(field, [text], restored)


def _restored(details: list[JsonObject], shown: str) -> list[JsonObject] | None:
    """Details with their texts in place again; None when the block's text has another length than it had."""
    measured = [_measured_name(each) for each in details]
    ends = list(
        accumulate(each[name] if name else 0 for each, name in zip(details, measured, strict=True))
    )
    # With negative lengths the pieces of a short text could have any length.
    if any(measured) and (ends[-1] != len(shown) or sorted([0, *ends]) != [0, *ends]):
        return None
    return [
        {**each, name: shown[end - each[name] : end]} if name else each
        for each, name, end in zip(details, measured, ends, strict=True)
    ]


def _measured_name(detail: JsonObject) -> str | None:
    """Return the name of the text that has its length in its place, None without one."""
    return next((name for name in DETAIL_TEXTS if isinstance(detail.get(name), int)), None)


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
