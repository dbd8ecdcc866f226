"""A whole answer -> a Message, by way of the stream translation: so the two can't come to differ."""

from anthropic_proxy.translate import upstream_errors
from anthropic_proxy.translate.response import collect
from anthropic_proxy.translate.response.spec import AnswerSpec
from anthropic_proxy.translate.response.stream import StreamTranslator
from anthropic_proxy.translate.response.think_tags import opens_unseen
from anthropic_proxy.wire.json_codec import JsonObject
from anthropic_proxy.wire.openai import content_text, first_choice


def _as_chunk(answer: JsonObject) -> JsonObject:
    """A whole answer in the form of a single chunk."""
    choice = first_choice(answer) or {}
    said = choice.get("message")
    delta = dict(said) if isinstance(said, dict) else {}
    if isinstance(delta.get("tool_calls"), list):
        calls = [call for call in delta["tool_calls"] if isinstance(call, dict)]
        delta["tool_calls"] = [{**call, "index": index} for index, call in enumerate(calls)]
    return {
        **answer,
        "choices": [{"delta": delta, "finish_reason": choice.get("finish_reason", "")}],
    }


def to_events(answer: JsonObject, translator: StreamTranslator) -> list[JsonObject]:
    """The events of a whole answer, but for those of `start`. Raises ApiError when there is no answer in it.

    An empty finish reason (Snowflake, recorded) does not mean that it was cut, as its JSON is whole; null does.
    """
    error = upstream_errors.stream_error(answer, translator.spec.source)
    if error or first_choice(answer) is None:
        raise error or upstream_errors.no_completion(translator.spec.source)
    chunk = _as_chunk(answer)
    if opens_unseen(content_text(chunk["choices"][0]["delta"].get("content"))):
        translator.begins_thinking()
    events = translator.feed(chunk)
    return [*events, *translator.close(done=chunk["choices"][0]["finish_reason"] is not None)]


def to_message(answer: JsonObject, translator: StreamTranslator) -> JsonObject:
    """The message for an answer that came with status 200. Raises ApiError when there is no answer in it."""
    return collect.to_message([*translator.start(), *to_events(answer, translator)])


def no_tokens(spec: AnswerSpec) -> list[JsonObject]:
    """The events of the answer to `max_tokens: 0`, which asks for none (it warms a prompt cache); upstreams refuse it."""
    translator = StreamTranslator(spec)
    events = translator.start()
    events += translator.feed({"choices": [{"delta": {}, "finish_reason": "length"}]})
    return [*events, *translator.close(done=True)]
