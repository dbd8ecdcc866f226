"""Translate a complete response by way of the stream translation, so that the two can't differ."""

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
    return {
        **response,
        "choices": [{"delta": delta, "finish_reason": choice.get("finish_reason", "")}],
    }


def to_events(response: JsonObject, translator: StreamTranslator) -> list[JsonObject]:
    """Return the events of a complete response, without those of `start`. Raises ApiError when it is no completion.

    An empty finish reason (Snowflake, recorded) does not mean truncation, as the JSON is complete; null does.
    """
    error = upstream_errors.parse_chunk_error(response, translator.spec.upstream)
    if error or get_first_choice(response) is None:
        raise error or upstream_errors.not_a_completion_error(translator.spec.upstream)
    chunk = _to_chunk(response)
    if has_lone_closing_tag(get_content_text(chunk["choices"][0]["delta"].get("content"))):
        translator.start_in_thinking()
    events = translator.feed(chunk)
    return [*events, *translator.close(done=chunk["choices"][0]["finish_reason"] is not None)]


def to_message(response: JsonObject, translator: StreamTranslator) -> JsonObject:
    """Return the message for a response of status 200. Raises ApiError when it is no completion."""
    return collect.collect_message([*translator.start(), *to_events(response, translator)])


def build_empty_events(spec: ResponseSpec) -> list[JsonObject]:
    """Build the events for `max_tokens: 0`, which wants no output (it warms a prompt cache); upstreams refuse it."""
    translator = StreamTranslator(spec)
    events = translator.start()
    events += translator.feed({"choices": [{"delta": {}, "finish_reason": "length"}]})
    return [*events, *translator.close(done=True)]
