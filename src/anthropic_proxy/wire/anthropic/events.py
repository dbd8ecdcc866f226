"""Build the message and the stream events of a Messages API response.

They are dicts in the wire format, with all fields that the official SDKs require: `event` names,
`usage` in `message_start` and `message_delta`, and empty `text`, `thinking`, `signature` and
`input` at the start of a block.
"""

from anthropic_proxy.wire.json_codec import JsonObject


def message(
    message_id: str,
    model: str,
    usage: JsonObject,
    *,
    content: list[JsonObject] | None = None,
    stop: JsonObject | None = None,
) -> JsonObject:
    """Return a `Message`.

    `stop` has stop_reason, stop_sequence and, for a refusal, stop_details.
    """
    stop = stop or {"stop_reason": None, "stop_sequence": None}
    return {
        "id": message_id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content or [],
        **stop,
        "usage": usage,
    }


def message_start(new_message: JsonObject) -> JsonObject:
    return {"type": "message_start", "message": new_message}


def block_start(index: int, block: JsonObject) -> JsonObject:
    return {"type": "content_block_start", "index": index, "content_block": block}


def text_delta(index: int, text: str) -> JsonObject:
    return {
        "type": "content_block_delta",
        "index": index,
        "delta": {"type": "text_delta", "text": text},
    }


def thinking_delta(index: int, thinking: str) -> JsonObject:
    return {
        "type": "content_block_delta",
        "index": index,
        "delta": {"type": "thinking_delta", "thinking": thinking},
    }


def signature_delta(index: int, signature: str) -> JsonObject:
    return {
        "type": "content_block_delta",
        "index": index,
        "delta": {"type": "signature_delta", "signature": signature},
    }


def input_json_delta(index: int, partial_json: str) -> JsonObject:
    delta = {"type": "input_json_delta", "partial_json": partial_json}
    return {"type": "content_block_delta", "index": index, "delta": delta}


def block_stop(index: int) -> JsonObject:
    return {"type": "content_block_stop", "index": index}


def compaction_delta(index: int, content: str) -> JsonObject:
    """Return the single delta of a compaction block, with the complete summary.

    The SDKs do not join several deltas.
    """
    return {
        "type": "content_block_delta",
        "index": index,
        "delta": {"type": "compaction_delta", "content": content},
    }


def message_delta(
    stop: JsonObject, usage: JsonObject, context_management: JsonObject | None = None
) -> JsonObject:
    """Return a `message_delta`.

    `usage` is cumulative; the SDKs require its output_tokens. `context_management` lists the
    applied edits, if the client requested edits.
    """
    event: JsonObject = {"type": "message_delta", "delta": stop, "usage": usage}
    if context_management is not None:
        event["context_management"] = context_management
    return event


def message_stop() -> JsonObject:
    return {"type": "message_stop"}


def ping() -> JsonObject:
    return {"type": "ping"}


def text_block(text: str = "") -> JsonObject:
    return {"type": "text", "text": text}


def thinking_block(thinking: str = "", signature: str = "") -> JsonObject:
    return {"type": "thinking", "thinking": thinking, "signature": signature}


def redacted_thinking_block(data: str) -> JsonObject:
    """Return a `redacted_thinking` block, which has no deltas."""
    return {"type": "redacted_thinking", "data": data}


def compaction_block(content: str | None) -> JsonObject:
    """Return a `compaction` block. `content` is the summary, or None if there is none."""
    return {"type": "compaction", "content": content}


def tool_use_block(
    tool_use_id: str, name: str, arguments: JsonObject, toolset_name: str | None = None
) -> JsonObject:
    """Return a `tool_use` block.

    A call to a member of a toolset also has the name of the toolset, and the caller, which the SDKs
    require and which is always the model.
    """
    block: JsonObject = {"type": "tool_use", "id": tool_use_id, "name": name, "input": arguments}
    if toolset_name:
        block["toolset_name"] = toolset_name
        block["caller"] = {"type": "direct"}
    return block
