"""Collect the events of a stream into a Message, as the official SDKs do.

It serves requests without `stream` whose response must be cut at a stop sequence: a stream can be
closed there, so that the upstream stops.
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
                message |= event["delta"]
                message["usage"] = event["usage"]
                if "context_management" in event:
                    message["context_management"] = event["context_management"]
    for block, texts_by_field in zip(message["content"], pieces, strict=True):
        block.update(_join_fields(texts_by_field))
    return message


def _join_fields(texts_by_field: dict[str, list[str]]) -> dict[str, Any]:
    """Return the fields of a block for the texts of its deltas."""
    fields: dict[str, Any] = {name: "".join(texts) for name, texts in texts_by_field.items()}
    arguments = fields.pop("partial_json", None)
    if arguments is not None:
        fields["input"] = loads_partial(arguments)
    return fields
