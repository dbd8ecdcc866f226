"""Collect the events of a stream into a Message, as the official SDKs do.

It serves requests without `stream` whose answer must be cut at a stop sequence: read as a stream, the upstream can be
told to stop there.
"""

from collections.abc import Iterable
from typing import Any

from anthropic_proxy.wire.json_codec import JsonObject, loads_partial

_DELTA_FIELDS = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "signature_delta": "signature",
    "input_json_delta": "partial_json",
    "compaction_delta": "content",
}


def collect_message(events: Iterable[JsonObject]) -> JsonObject:
    """Return the message of a complete stream (one that ends with message_stop)."""
    message: JsonObject = {}
    pieces: list[dict[str, list[str]]] = []
    for event in events:
        match event["type"]:
            case "message_start":
                message = {**event["message"], "content": []}
            case "content_block_start":
                message["content"].append(dict(event["content_block"]))
                pieces.append({})
            case "content_block_delta":
                field = _DELTA_FIELDS[event["delta"]["type"]]
                pieces[-1].setdefault(field, []).append(event["delta"][field])
            case "message_delta":
                extra = {name: event[name] for name in ("context_management",) if name in event}
                message |= {**event["delta"], "usage": event["usage"], **extra}
    blocks = zip(message["content"], pieces, strict=True)
    return {**message, "content": [block | _join_fields(parts) for block, parts in blocks]}


def _join_fields(parts: dict[str, list[str]]) -> dict[str, Any]:
    fields: dict[str, Any] = {name: "".join(texts) for name, texts in parts.items()}
    arguments = fields.pop("partial_json", None)
    return fields if arguments is None else {**fields, "input": loads_partial(arguments)}
