"""A whole Chat Completions answer -> a Message. Says the same as the stream translation of the same answer."""

from anthropic_proxy.errors import ApiError
from anthropic_proxy.translate import failure, tokens, usage
from anthropic_proxy.translate.answer_spec import AnswerSpec, Reasoning
from anthropic_proxy.translate.reasoning import IN_TEXT, reasoning_of, sign
from anthropic_proxy.translate.stops import to_stop
from anthropic_proxy.translate.thinktags import ThinkSplitter
from anthropic_proxy.translate.toolcalls import parse_arguments, to_calls
from anthropic_proxy.wire import events
from anthropic_proxy.wire.codec import JsonObject
from anthropic_proxy.wire.openai import content_text, first_choice, string


def as_chunk(answer: JsonObject) -> JsonObject:
    """A whole answer in the form of a single chunk: some upstreams answer whole though a stream was asked for."""
    choice = first_choice(answer) or {}
    said = choice.get("message")
    delta = dict(said) if isinstance(said, dict) else {}
    if isinstance(delta.get("tool_calls"), list):
        calls = [call for call in delta["tool_calls"] if isinstance(call, dict)]
        delta["tool_calls"] = [{**call, "index": index} for index, call in enumerate(calls)]
    return {**answer, "choices": [{"delta": delta, "finish_reason": choice.get("finish_reason")}]}


def to_message(answer: JsonObject, spec: AnswerSpec) -> JsonObject:
    """The message for an answer that came with status 200. Raises ApiError when there is no answer in it."""
    error = failure.stream_error(answer, spec.source)
    choice = first_choice(answer)
    if error or choice is None:
        raise error or ApiError(
            500, f"The upstream {spec.source.host} answered 200 with something that is no chat completion"
        )
    finish_reason = choice.get("finish_reason")
    if finish_reason in (None, "", "error"):
        raise ApiError(500, f"The upstream {spec.source.host} answered without finishing the answer")
    said = choice.get("message")
    said = said if isinstance(said, dict) else {}
    calls = _tool_uses(said, spec)
    content = [*_said(said, spec), *calls]
    stop = to_stop(str(finish_reason), has_calls=bool(calls), refusal=string(said.get("refusal")))
    total = usage.to_usage(
        answer.get("usage"),
        input_estimate=spec.input_estimate,
        output_estimate=tokens.estimate_answer(content),
    )
    return events.message(spec.id, spec.model, total, content=content, stop=stop)


def _said(said: JsonObject, spec: AnswerSpec) -> list[JsonObject]:
    """Thinking and text."""
    splitter = ThinkSplitter()
    pairs = splitter.feed(content_text(said.get("content")) or string(said.get("refusal"))) + splitter.close()
    reasoning, field = reasoning_of(said)
    within = "".join(text for is_reasoning, text in pairs if is_reasoning)
    text = "".join(text for is_reasoning, text in pairs if not is_reasoning)
    thinking = _thinking(reasoning + within, IN_TEXT if within else field, spec)
    return [*thinking, *([events.text_block(text)] if text else [])]


def _thinking(text: str, field: str, spec: AnswerSpec) -> list[JsonObject]:
    if not text or spec.reasoning is Reasoning.HIDDEN:
        return []
    return [events.thinking_block("" if spec.reasoning is Reasoning.OMITTED else text, sign(field))]


def _tool_uses(said: JsonObject, spec: AnswerSpec) -> list[JsonObject]:
    blocks = []
    for name, arguments in to_calls(said):
        if not name:
            raise ApiError(500, f"The upstream {spec.source.host} sent a tool call without a name")
        blocks.append(
            events.tool_use_block(spec.new_tool_id(), spec.tool_names.get(name, name), parse_arguments(arguments))
        )
    return blocks
