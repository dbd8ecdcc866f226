"""Translate responses that are not streamed.

The translation uses the stream translation, so the results of both are consistent.
`collect_message` builds a Message from the events, like the official SDKs. The gateway also uses it
for requests without `stream` that have stop sequences: it closes the upstream's stream at a stop
sequence, so the upstream stops.
"""

import re
from collections.abc import Iterable
from typing import Any

from anthropic_proxy.errors import ApiError
from anthropic_proxy.translate import upstream_errors
from anthropic_proxy.translate.apis import Api
from anthropic_proxy.translate.reasoning.fields import parse_reasoning
from anthropic_proxy.translate.response.choices import find_choices
from anthropic_proxy.translate.response.event_translator import EventTranslator
from anthropic_proxy.translate.response.spec import ReasoningDisplay, ResponseSpec
from anthropic_proxy.translate.response.stream import StreamTranslator
from anthropic_proxy.translate.response.think_tags import (
    has_lone_closing_tag,
    starts_with_closing_tag,
)
from anthropic_proxy.translate.upstream_failure import UpstreamIdentity
from anthropic_proxy.wire.json_codec import JsonObject, loads_partial
from anthropic_proxy.wire.openai import get_content_text, unwrap_envelope
from anthropic_proxy.wire.payloads import is_done, is_json, parse_json_body, strip_leading
from anthropic_proxy.wire.sse import EventTooLargeError, SSEDecoder, parse_data

# Bytes of a body that are decoded at once.
_READ_BYTES = 64 * 1024

# The beginning of an object, or of a list of objects.
_OBJECT_BEGINNING = re.compile(rb'(?:\[\s*)?\{\s*(?:["}]|\Z)')

_DELTA_FIELDS = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "signature_delta": "signature",
    "input_json_delta": "partial_json",
    "compaction_delta": "content",
}


def translate_body(body: bytes, api: Api, translator: StreamTranslator) -> list[JsonObject]:
    """Return the events for a complete body, without those of `start`. Raises ApiError.

    Some servers stream although the request has no `stream`, some send JSON although it has, and
    some send a wrong content type. So the format is detected from the first bytes of the body.
    """
    body = strip_leading(body)
    if not is_json(body):
        return _translate_sse(body, api, translator)
    translator.record_payload(body)
    objects = parse_json_body(body)
    if objects is None:
        raise _create_body_error(body, translator.spec.upstream)
    if len(objects) == 1:
        return to_events(api.to_completion(unwrap_envelope(objects[0])), translator)
    reader = api.new_reader()
    events: list[JsonObject] = []
    for each in objects:
        for chunk in reader.feed(each):
            events += translator.feed(chunk)
    return [*events, *translator.close(done=False)]


def _create_body_error(body: bytes, upstream: UpstreamIdentity) -> ApiError:
    """Return the error for a body that begins like JSON, but contains something else.

    It may be text, such as `[error] upstream timed out`.
    """
    if is_done(body) or _OBJECT_BEGINNING.match(body):
        return upstream_errors.not_a_completion_error(upstream)
    return upstream_errors.parse_body_error(body, upstream)


def _translate_sse(body: bytes, api: Api, translator: StreamTranslator) -> list[JsonObject]:
    """Return the events for a body that consists of server-sent events. Raises ApiError."""
    event_translator = EventTranslator(api, translator)
    decoder = SSEDecoder()
    try:
        for start in range(0, len(body), _READ_BYTES):
            if translator.is_finished:
                break
            for raw_event in decoder.split_events(body[start : start + _READ_BYTES]):
                event_translator.feed(raw_event)
    except EventTooLargeError as error:
        raise ApiError(500, f"The upstream sent {error}") from error
    rest = decoder.split_rest()
    if not event_translator.has_data and not any(map(parse_data, rest)):
        raise upstream_errors.parse_body_error(body, translator.spec.upstream)
    event_translator.close(rest)
    return event_translator.take()


def _number_complete_calls(choice: JsonObject, first_number: int) -> tuple[JsonObject, int]:
    """Return a choice with numbered tool calls, and the next number.

    In a response that is not streamed, each object is a complete call. Most servers omit `index`.
    """
    numbered = dict(choice)
    number = first_number
    for place in ("message", "delta"):
        content = choice.get(place)
        if not isinstance(content, dict) or not isinstance(content.get("tool_calls"), list):
            continue
        calls = [call for call in content["tool_calls"] if isinstance(call, dict)]
        calls = [{**call, "index": number + at} for at, call in enumerate(calls)]
        number += len(calls)
        numbered[place] = {**content, "tool_calls": calls}
    return numbered, number


def _to_chunk(response: JsonObject) -> JsonObject:
    """Convert a response that is not streamed to a single chunk."""
    choices: list[JsonObject] = []
    number = 0
    for choice in find_choices(response):
        numbered, number = _number_complete_calls(choice, number)
        choices.append({**numbered, "finish_reason": choice.get("finish_reason", "")})
    return {**response, "choices": choices}


def to_events(response: JsonObject, translator: StreamTranslator) -> list[JsonObject]:
    """Return the events of a response that is not streamed, without the events of `start`.

    A response with an empty finish reason (Snowflake, recorded) is complete; a response with null
    is truncated. Raises ApiError for a response that is not a completion.
    """
    error = upstream_errors.parse_response_error(response, translator.spec.upstream)
    if error:
        raise error
    choices = find_choices(response)
    if not choices:
        raise upstream_errors.not_a_completion_error(translator.spec.upstream)
    chunk = _to_chunk(response)
    if _starts_in_thinking(choices[0], translator.spec):
        translator.start_in_thinking()
    events = translator.feed(chunk)
    is_complete = chunk["choices"][0]["finish_reason"] == ""
    return [*events, *translator.close(done=is_complete)]


def _starts_in_thinking(choice: JsonObject, spec: ResponseSpec) -> bool:
    """Return whether the text of a complete choice begins with reasoning without an opening tag."""
    message = choice.get("message")
    if not isinstance(message, dict):
        return False
    text = get_content_text(message.get("content"))
    if parse_reasoning(message) and starts_with_closing_tag(text):
        # The tag is a leftover; see ThinkTagSplitter.
        return False
    wants_thinking = spec.reasoning is not ReasoningDisplay.HIDDEN
    expects_reasoning = wants_thinking and not parse_reasoning(message)
    return has_lone_closing_tag(text, expects_reasoning=expects_reasoning)


def to_message(response: JsonObject, translator: StreamTranslator) -> JsonObject:
    """Return the message for a response with status 200.

    Raises ApiError for a response that is not a completion.
    """
    return collect_message([*translator.start(), *to_events(response, translator)])


def build_empty_events(spec: ResponseSpec) -> list[JsonObject]:
    """Build the events of a response without content that ended at `max_tokens`.

    For requests with `max_tokens: 0`, which clients send to fill a prompt cache and upstreams
    refuse, and for upstreams that return an error when the reasoning used all tokens.
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
