"""Build the message and the stream events of a Messages API response as plain dicts in the wire format.

Every field that the official SDKs read without a default is always there: `event` names, `usage` in `message_start` and
`message_delta`, the empty `text`, `thinking`, `signature` and `input` of a block's start.
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
    """A `Message`. `stop` holds stop_reason, stop_sequence and, for a refusal, stop_details."""
    return {
        "id": message_id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content or [],
        **(stop or {"stop_reason": None, "stop_sequence": None}),
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
    """It holds the whole summary: the SDKs don't add up several."""
    return {
        "type": "content_block_delta",
        "index": index,
        "delta": {"type": "compaction_delta", "content": content},
    }


def message_delta(
    stop: JsonObject, usage: JsonObject, context_management: JsonObject | None = None
) -> JsonObject:
    """`usage` is cumulative; the SDKs need its output_tokens. `context_management`: what was applied, where asked for."""
    extra = {} if context_management is None else {"context_management": context_management}
    return {"type": "message_delta", "delta": stop, "usage": usage, **extra}


def message_stop() -> JsonObject:
    return {"type": "message_stop"}


def ping() -> JsonObject:
    return {"type": "ping"}


def text_block(text: str = "") -> JsonObject:
    return {"type": "text", "text": text}


def thinking_block(thinking: str = "", signature: str = "") -> JsonObject:
    return {"type": "thinking", "thinking": thinking, "signature": signature}


def redacted_thinking_block(data: str) -> JsonObject:
    """It comes whole with its start."""
    return {"type": "redacted_thinking", "data": data}


def compaction_block(content: str | None) -> JsonObject:
    """`content` is the summary; null says that there is none."""
    return {"type": "compaction", "content": content}


def tool_use_block(
    tool_use_id: str, name: str, arguments: JsonObject, toolset_name: str | None = None
) -> JsonObject:
    """Calls of toolset members say whose they are and, as their types in the SDKs do, who calls: always the model."""
    block = {"type": "tool_use", "id": tool_use_id, "name": name, "input": arguments}
    return (
        block | {"toolset_name": toolset_name, "caller": {"type": "direct"}}
        if toolset_name
        else block
    )
