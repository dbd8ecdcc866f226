"""Translate a complete response by way of the stream translation, so that they cannot differ."""

from anthropic_proxy.translate import upstream_errors
from anthropic_proxy.translate.response import collect
from anthropic_proxy.translate.response.spec import ResponseSpec
from anthropic_proxy.translate.response.stream import StreamTranslator
from anthropic_proxy.translate.response.think_tags import has_lone_closing_tag
from anthropic_proxy.wire.json_codec import JsonObject
from anthropic_proxy.wire.openai import get_content_text, get_first_choice


def _to_chunk(response: JsonObject) -> JsonObject:
    """Convert a complete response to a single chunk."""
    choice = get_first_choice(response) or {}
    message = choice.get("message")
    delta = dict(message) if isinstance(message, dict) else {}
    if isinstance(delta.get("tool_calls"), list):
        calls = [call for call in delta["tool_calls"] if isinstance(call, dict)]
        delta["tool_calls"] = [{**call, "index": index} for index, call in enumerate(calls)]
    chunk_choice = {"delta": delta, "finish_reason": choice.get("finish_reason", "")}
    return {**response, "choices": [chunk_choice]}


def to_events(response: JsonObject, translator: StreamTranslator) -> list[JsonObject]:
    """Return the events of a complete response, without those of `start`.

    An empty finish reason (Snowflake, recorded) does not mean truncation, as the JSON is complete;
    null does. Raises ApiError for a response that is not a completion.
    """
    error = upstream_errors.parse_chunk_error(response, translator.spec.upstream)
    if error:
        raise error
    if get_first_choice(response) is None:
        raise upstream_errors.not_a_completion_error(translator.spec.upstream)
    chunk = _to_chunk(response)
    choice = chunk["choices"][0]
    if has_lone_closing_tag(get_content_text(choice["delta"].get("content"))):
        translator.start_in_thinking()
    events = translator.feed(chunk)
    return [*events, *translator.close(done=choice["finish_reason"] is not None)]


def to_message(response: JsonObject, translator: StreamTranslator) -> JsonObject:
    """Return the message for a response of status 200.

    Raises ApiError for a response that is not a completion.
    """
    return collect.collect_message([*translator.start(), *to_events(response, translator)])


def build_empty_events(spec: ResponseSpec) -> list[JsonObject]:
    """Build the events for `max_tokens: 0`, a request without output that upstreams refuse.

    Clients send it to warm a prompt cache.
    """
    translator = StreamTranslator(spec)
    events = translator.start()
    events += translator.feed({"choices": [{"delta": {}, "finish_reason": "length"}]})
    return [*events, *translator.close(done=True)]
