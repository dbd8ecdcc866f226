"""Translate responses that are not streamed.

The translation uses the stream translation, so the results of both are consistent.
`collect_message` builds a Message from the events, like the official SDKs. The gateway also uses it
for requests without `stream` that have stop sequences: it closes the upstream's stream at a stop
sequence, so the upstream stops.
"""

from collections.abc import Iterable
from typing import Any

from anthropic_proxy.translate import upstream_errors
from anthropic_proxy.translate.response.spec import ReasoningDisplay, ResponseSpec
from anthropic_proxy.translate.response.stream import StreamTranslator
from anthropic_proxy.translate.response.think_tags import has_lone_closing_tag
from anthropic_proxy.wire.json_codec import JsonObject, loads_partial
from anthropic_proxy.wire.openai import get_content_text, get_first_choice

_DELTA_FIELDS = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "signature_delta": "signature",
    "input_json_delta": "partial_json",
    "compaction_delta": "content",
}


def _to_chunk(response: JsonObject) -> JsonObject:
    """Convert a response that is not streamed to a single chunk."""
    choice = get_first_choice(response) or {}
    message = choice.get("message")
    delta = dict(message) if isinstance(message, dict) else {}
    if isinstance(delta.get("tool_calls"), list):
        calls = [call for call in delta["tool_calls"] if isinstance(call, dict)]
        delta["tool_calls"] = [{**call, "index": index} for index, call in enumerate(calls)]
    chunk_choice = {
        "delta": delta,
        "finish_reason": choice.get("finish_reason", ""),
        "usage": choice.get("usage"),
    }
    return {**response, "choices": [chunk_choice]}


def to_events(response: JsonObject, translator: StreamTranslator) -> list[JsonObject]:
    """Return the events of a response that is not streamed, without the events of `start`.

    A response with an empty finish reason (Snowflake, recorded) is complete; a response with null
    is truncated. Raises ApiError for a response that is not a completion.
    """
    error = upstream_errors.parse_chunk_error(response, translator.spec.upstream)
    if error:
        raise error
    if get_first_choice(response) is None:
        raise upstream_errors.not_a_completion_error(translator.spec.upstream)
    chunk = _to_chunk(response)
    choice = chunk["choices"][0]
    text = get_content_text(choice["delta"].get("content"))
    expects_reasoning = translator.spec.reasoning is not ReasoningDisplay.HIDDEN
    if has_lone_closing_tag(text, expects_reasoning=expects_reasoning):
        translator.start_in_thinking()
    events = translator.feed(chunk)
    return [*events, *translator.close(done=choice["finish_reason"] is not None)]


def to_message(response: JsonObject, translator: StreamTranslator) -> JsonObject:
    """Return the message for a response with status 200.

    Raises ApiError for a response that is not a completion.
    """
    return collect_message([*translator.start(), *to_events(response, translator)])


def build_empty_events(spec: ResponseSpec) -> list[JsonObject]:
    """Build the events for a request with `max_tokens: 0`, which upstreams refuse.

    Clients send it to fill a prompt cache.
    """
    translator = StreamTranslator(spec)
    events = translator.start()
    events += translator.feed({"choices": [{"delta": {}, "finish_reason": "length"}]})
    return [*events, *translator.close(done=True)]


def collect_message(events: Iterable[JsonObject]) -> JsonObject:
    """Return the message of a stream that ends with message_stop."""
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
    """Return the fields of a block from the texts of its deltas."""
    fields: dict[str, Any] = {name: "".join(texts) for name, texts in texts_by_field.items()}
    arguments = fields.pop("partial_json", None)
    if arguments is not None:
        fields["input"] = loads_partial(arguments)
    return fields
