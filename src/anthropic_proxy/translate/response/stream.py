"""Translate Chat Completions chunks to Anthropic stream events.

`StreamTranslator` is a state machine without I/O. For any input, the events of one response have
the order

    message_start ping (content_block_start content_block_delta* content_block_stop)*
    message_delta message_stop

with indices 0, 1, 2, ... and one open block at a time, or they end with one `error` event. Exactly
one of `close` and `fail` ends the response, unless a stop sequence ends it in `feed`. An end of
input without a finish reason is an error, never an invented `end_turn`. In Chat Completions, [DONE]
alone may end a response, but like an unknown finish reason it does not prove that the last tool
call is complete.

Text passes through these stages: think tags (`_splitter`), calls written as text (`_text_parser`),
deferred content, stop sequences and structured output (`_content`), blocks (`_writer`).
"""

from anthropic_proxy.errors import ApiError, TruncatedError
from anthropic_proxy.translate import upstream_errors
from anthropic_proxy.translate.reasoning.fields import IN_TEXT, ReasoningDelta, parse_reasoning
from anthropic_proxy.translate.reasoning.tool_call_signatures import parse_call_signature
from anthropic_proxy.translate.response.block_writer import BlockWriter
from anthropic_proxy.translate.response.choices import (
    CALLS,
    REASONING,
    TEXT,
    ChoiceReader,
    find_choices,
)
from anthropic_proxy.translate.response.content_writer import ContentWriter
from anthropic_proxy.translate.response.spec import ReasoningDisplay, ResponseSpec
from anthropic_proxy.translate.response.stop_reasons import (
    FinishReason,
    parse_finish_reason,
    to_stop_fields,
    to_stop_sequence_fields,
)
from anthropic_proxy.translate.response.text_fast_path import TextFastPath
from anthropic_proxy.translate.response.think_tags import ThinkTagSplitter
from anthropic_proxy.translate.response.unread import UnreadResponse
from anthropic_proxy.translate.response.usage import (
    UsageCounter,
    fills_context,
    get_reported_input,
    to_tiers,
    to_usage,
    to_usage_iteration,
)
from anthropic_proxy.translate.tool_calls.assembler import (
    ToolCall,
    ToolCallAssembler,
    get_fragments,
)
from anthropic_proxy.translate.tool_calls.text_parser import (
    TextCallParser,
    TextParts,
    find_final_calls,
)
from anthropic_proxy.wire.anthropic import events
from anthropic_proxy.wire.json_codec import JsonObject
from anthropic_proxy.wire.openai import (
    get_content_text,
    get_plain_text,
    string_or_empty,
    unwrap_envelope,
)


class StreamTranslator:
    """Translates one response.

    Call `start`, then `feed` for each chunk, then `close` or `fail`. Each method returns the events
    to send.
    """

    def __init__(self, spec: ResponseSpec) -> None:
        # True if the response has ended. After a stop sequence the upstream may send more chunks.
        self.is_finished = False
        # True if the upstream has sent a finish reason and its usage: no content follows.
        self.is_complete = False
        # True if the first content arrived in a delta with a finish reason. Gateways for Gemini
        # send one with each piece, so it does not show the end of the content.
        self._finishes_pieces = False
        # The stop reason and the usage of a response that ended without a failure.
        self.stop_reason: str | None = None
        self.usage: JsonObject | None = None
        self.spec = spec
        self._writer = BlockWriter(
            spec.signer, spec.tool_names, omits_thinking=spec.reasoning is ReasoningDisplay.OMITTED
        )
        if spec.compaction is not None:
            self._writer.write_compaction(spec.compaction.block)
        self._leading_events = self._writer.take()
        self._splitter = ThinkTagSplitter(starts_in_thinking=spec.starts_in_thinking)
        self._text_tools = spec.tools if spec.calls_in_text else {}
        self._text_parser = TextCallParser(self._text_tools)
        # The reasoning, which may end with calls.
        self._reasoning_texts: list[str] = []
        self.assembler = ToolCallAssembler(spec.tools, single=spec.single_call)
        self._content = ContentWriter(spec, self._writer, self.assembler)
        self._finish_reason: FinishReason | None = None
        self._refusals: list[str] = []
        self._choices = ChoiceReader()
        # The kinds of content that have arrived.
        self.received: set[str] = set()
        # True if the text is the transcript of audio.
        self._is_transcribed = False
        self._unread = UnreadResponse(spec.upstream)
        self._counter = UsageCounter()
        # Handles chunks that only extend the open text block. `feed` opens it while all filters
        # are idle, and closes it before a filter gets text.
        self.fast_path = TextFastPath(self._counter)

    @property
    def next_starts_in_thinking(self) -> bool:
        """True if the next response of the model starts within a reasoning block."""
        return self._splitter.next_starts_in_thinking

    def start_in_thinking(self) -> None:
        """Expect that the response starts within a reasoning block. Call it before `feed`."""
        self._splitter = ThinkTagSplitter(starts_in_thinking=True)

    @property
    def unknown_finish_reason(self) -> str | None:
        """The upstream's finish reason if STOP_REASONS does not contain it."""
        if self._finish_reason is None or not self._finish_reason.is_unknown:
            return None
        return self._finish_reason.word

    @property
    def has_finish_reason(self) -> bool:
        """True if the upstream has sent a finish reason. Usage may follow."""
        return self._finish_reason is not None or self._choices.has_held_finish_reason

    @property
    def _is_end_proven(self) -> bool:
        """True if the upstream has sent a finish reason whose meaning is known."""
        return self._finish_reason is not None and not self._finish_reason.is_unknown

    @property
    def has_refused(self) -> bool:
        """True if the upstream refused the content of the request or of the response."""
        return self._finish_reason is not None and self._finish_reason.stop_reason == "refusal"

    @property
    def may_continue(self) -> bool:
        """True if content may follow the finish reason."""
        if self._finish_reason is None or self._finishes_pieces or not self._counter.delta_count:
            return True
        if self._choices.has_unfinished:
            return True
        # Claude models of GitHub Copilot send the call in a later choice.
        return self._finish_reason.stop_reason == "tool_use" and not self.assembler.calls

    @property
    def content_count(self) -> int:
        """The number of deltas with content so far."""
        return self._counter.delta_count

    @property
    def reported_input_tokens(self) -> int | None:
        """The input tokens that the upstream reported; None before its report."""
        return get_reported_input(self._counter.reported)

    @property
    def current_usage(self) -> JsonObject:
        """The usage so far: reported by the upstream, or estimated before its report."""
        argument_characters = 0
        for call in self.assembler.calls:
            argument_characters += call.arguments.character_count
        return self._counter.build_usage(self.spec.input_estimate, argument_characters)

    def start(self) -> list[JsonObject]:
        """Return the first events of the response, with estimated usage."""
        estimate = to_usage(None, input_estimate=self.spec.input_estimate, output_estimate=0)
        message = events.message(self.spec.message_id, self.spec.model, estimate)
        message |= self.spec.message_fields
        return [events.message_start(message), events.ping(), *self._leading_events]

    def record_payload(self, payload: bytes) -> None:
        """Record bytes that arrived before any content, for the error if no content follows."""
        self._unread.add(payload)

    def feed(self, chunk: JsonObject) -> list[JsonObject]:
        """Return the events for one chunk. Raises ApiError if the chunk contains an error."""
        if self.is_finished:
            return []
        self._counter.service_tier = chunk.get("service_tier") or self._counter.service_tier
        text = get_plain_text(chunk)
        if text:
            text_events = self.fast_path.feed((text,))
            if text_events:
                return text_events
        self._splitter.skip(self.fast_path.close())
        chunk = unwrap_envelope(chunk)
        error = upstream_errors.parse_chunk_error(chunk, self.spec.upstream)
        if error:
            self._record_error(error)
            self._counter.record(chunk)
            return self._writer.take()
        content_count = self._counter.delta_count
        has_usage = self._counter.record(chunk)
        choices = find_choices(chunk)
        for choice in choices:
            self._feed_choice(choice)
        has_content = self._counter.delta_count != content_count
        if has_content and not content_count:
            self._finishes_pieces = any(map(_may_be_piece, choices))
        elif not has_content and has_usage and self.reported_input_tokens:
            # Some servers send zeros with the finish reason, and the usage later.
            self.is_complete = not self.may_continue
        if self._content.is_stopped:
            self._finish_at_stop_sequence()
        elif self._can_bypass_filters():
            self.fast_path.open(self._writer.index, self._text_parser.mark)
        return self._writer.take()

    def close(self, *, done: bool) -> list[JsonObject]:
        """Return the events that end the response. Raises ApiError if it is incomplete.

        `done` is true if the upstream sent [DONE], which ends a response even without a finish
        reason (Snowflake; vLLM-MLX at a natural stop, waybarrios/vllm-mlx#628).
        """
        if self.is_finished:
            return []
        self.fast_path.close()
        for choice in self._choices.release():
            self._feed_choice(choice)
        if self._content.is_stopped:
            self._finish_at_stop_sequence()
            return self._writer.take()
        if self._finish_reason is None and not (done and self._counter.delta_count):
            raise self._create_truncated_error()
        is_proven = self._is_end_proven
        if not is_proven and self._has_incomplete_call():
            raise self._create_truncated_error()
        is_cut = self._finish_reason is not None and self._finish_reason.is_cut
        self._writer.is_truncated = is_cut
        # The splitter and the parser may hold incomplete tags and calls, which are text, or calls
        # in a format without an end marker.
        self._write_split(self._splitter.close())
        self._write_parts(self._text_parser.close(truncated=is_cut or not is_proven))
        self._write_calls_in_reasoning()
        # The filters may hold text that precedes the deferred calls.
        self._content.flush_text()
        self.assembler.drop_empty_calls()
        # No more fragments will extend the open call, or the names of later calls.
        self.assembler.close(self.spec.new_tool_id, truncated=is_cut)
        self._content.drop_repeated_calls()
        self._content.write_remaining_calls()
        # All calls are written, so the deferred content can follow.
        self._content.write_deferred()
        # This depends on whether the response has any text.
        self._write_reasoning_as_text()
        # The last steps may have added text to the filters.
        self._content.flush_text()
        # One of these texts may contain a stop sequence.
        if self._content.is_stopped:
            self._finish_at_stop_sequence()
        else:
            self._finish_with_reason()
        return self._writer.take()

    def _finish_at_stop_sequence(self) -> None:
        """End the response with the stop fields for a stop sequence in the text."""
        if self._writer.is_truncated and self._has_incomplete_call():
            # A client may run the call unless it learns that the response is truncated.
            self._finish_with_reason()
        else:
            self._finish(to_stop_sequence_fields(self._content.stop_sequence or ""))

    def _finish_with_reason(self) -> None:
        """End the response with the stop fields for the upstream's finish reason."""
        refusal = "".join(self._refusals)
        has_calls = bool(self.assembler.calls)
        if not (self._writer.has_text or has_calls or refusal):
            self._check_end_without_text()
        stop_reason = self._finish_reason.stop_reason if self._finish_reason else None
        stop_fields = to_stop_fields(
            stop_reason or "end_turn", has_calls=has_calls, refusal=refusal
        )
        self._finish(stop_fields)

    def _check_end_without_text(self) -> None:
        """Raise ApiError if the response may have been truncated within its reasoning.

        The error for a response without reasoning is that of `UnreadResponse`.
        """
        if self._finish_reason is None or (self._finish_reason.is_unknown and self._has_content):
            raise self._create_truncated_error()

    def fail(self, error: ApiError, request_id: str) -> list[JsonObject]:
        """Return the last events of a failed response. The open block is not closed."""
        self.is_finished = True
        self.fast_path.close()
        return [*self._writer.take(), error.body(request_id)]

    def _create_truncated_error(self) -> TruncatedError:
        text = f"The upstream {self.spec.upstream.name} ended the response before it was complete"
        if self._finish_reason is not None:
            text += f" (finish reason: {self.spec.upstream.redact(self._finish_reason.word)})"
        return TruncatedError(text)

    def _has_incomplete_call(self) -> bool:
        """Return whether the arguments of an accepted call are incomplete."""
        return any(map(self._needs_arguments, self.assembler.accepted_calls))

    def _needs_arguments(self, call: ToolCall) -> bool:
        if call.arguments.has_started:
            if call.arguments.is_complete:
                return False
            # A call in a truncated response is not repaired.
            return self._writer.is_truncated or not call.arguments.is_repairable
        # Without arguments, a call is complete if its tool requires none.
        return bool(self.spec.tools.get(call.name, {}).get("required"))

    @property
    def _has_content(self) -> bool:
        """True if the response has a text, reasoning or a tool call, even if it is hidden."""
        if self.received <= {CALLS}:
            return bool(self.assembler.calls)
        return True

    def _can_bypass_filters(self) -> bool:
        """Return whether text that the parser's `mark` does not match can skip the filters."""
        if not self._content.is_passing_text:
            return False
        return self._splitter.is_idle and self._text_parser.is_idle

    # Chunks: reasoning, text and fragments of calls.

    def _feed_choice(self, choice: JsonObject) -> None:
        deltas = self._choices.read(choice, self.received)
        if not deltas:
            # An alternative, whose finish reason does not count either.
            return
        for delta in deltas:
            self._feed_delta(delta)
        if self._content.is_stopped:
            return
        # OpenRouter's location of a provider's error.
        if choice.get("error"):
            error = upstream_errors.parse_chunk_error(choice, self.spec.upstream)
            if error is not None:
                self._record_error(error)
                return
        # Of several finish reasons, the most severe counts. OpenRouter reports `stop` for some
        # responses that the provider cut or refused.
        if choice.get("finish_reason"):
            for field in ("finish_reason", "native_finish_reason"):
                self._record_finish_reason(parse_finish_reason(choice.get(field)))

    def _record_error(self, error: upstream_errors.UpstreamFailureError) -> None:
        """Record that the upstream refused the rest of the response. Raise other errors.

        An error would make clients send the request again.
        """
        if not self.received or not error.is_policy_violation:
            raise error
        self._refusals.append(error.message)
        self._record_finish_reason(FinishReason("content_filter", "refusal"))

    def _record_finish_reason(self, reason: FinishReason | None) -> None:
        if reason is None:
            return
        if reason.failure_status is not None:
            word = self.spec.upstream.redact(reason.word)
            error = ApiError(
                reason.failure_status,
                f"The upstream {self.spec.upstream.name} aborted the response without an error "
                f"message (finish reason: {word})",
            )
            error.concerns_target = True
            raise error
        if self._finish_reason is None or reason.severity > self._finish_reason.severity:
            self._finish_reason = reason

    def _feed_delta(self, delta: JsonObject) -> None:
        reasoning = parse_reasoning(delta)
        if reasoning is not None:
            self.received.add(REASONING)
            self._counter.add(reasoning.text)
            if reasoning.text:
                self._splitter.drop_first_closing_tag()
            self._write_reasoning(reasoning)
        text = self._read_text(delta)
        if text:
            self.received.add(TEXT)
            self._counter.add(text)
            self._content.may_hold_text = True
            self._write_split(self._splitter.feed(text))
        if delta.get("tool_calls") or delta.get("function_call"):
            for fragment in get_fragments(delta):
                self._feed_tool_call(fragment)

    def _read_text(self, delta: JsonObject) -> str:
        """Return the text of a delta, and record a refusal."""
        content = delta.get("content")
        text = get_content_text(content) if content else ""
        text = text or string_or_empty(delta.get("text"))
        if not text and "audio" in delta:
            text = self._get_transcript(delta)
        refusal = string_or_empty(delta.get("refusal"))
        if refusal:
            self._refusals.append(refusal)
            # In structured output, SDKs would parse the text of a refusal as the document.
            if not text and not self.spec.is_structured:
                return refusal
        return text

    def _get_transcript(self, delta: JsonObject) -> str:
        """Return the transcript of a model's audio; empty if the response also has a text."""
        audio = delta["audio"]
        transcript = string_or_empty(audio.get("transcript")) if isinstance(audio, dict) else ""
        if transcript and TEXT not in self.received:
            self._is_transcribed = True
        return transcript if self._is_transcribed else ""

    def _feed_tool_call(self, fragment: JsonObject) -> None:
        if self._content.is_stopped:
            return
        self.received.add(CALLS)
        if self._content.may_hold_text:
            self._end_text()
        call_count = len(self.assembler.calls)
        call = self.assembler.feed(fragment, self.spec.new_tool_id)
        self._counter.add("")
        if not call.is_signed:
            self._write_signature(call, fragment)
        self._content.write_fragment(call)
        if not call.has_block or len(self.assembler.calls) > call_count:
            self._content.open_calls()

    def _end_text(self) -> None:
        """End the text before a call. After structured calls, no calls are expected in text."""
        self._write_split(self._splitter.close())
        self._write_parts(self._text_parser.stop())
        self._content.flush_text()
        self._content.may_hold_text = False

    def _write_signature(self, call: ToolCall, fragment: JsonObject) -> None:
        """Write the signature of a call when it arrives, before or after the call."""
        signature = parse_call_signature(fragment, call.id)
        if signature is not None and self.assembler.accepts(call):
            call.is_signed = True
            self._write_reasoning(signature)

    # Text: reasoning, calls and other text.

    def _write_reasoning(self, reasoning: ReasoningDelta) -> None:
        if self._text_tools:
            self._reasoning_texts.append(reasoning.text)
        self._content.write(reasoning)

    def _write_split(self, pairs: list[tuple[bool, str]]) -> None:
        for is_reasoning, text in pairs:
            if is_reasoning:
                self._write_reasoning(ReasoningDelta(IN_TEXT, text))
            else:
                self._write_parts(self._text_parser.feed(text))

    def _write_parts(self, parts: TextParts) -> None:
        for part in parts:
            if isinstance(part, str):
                self._content.write(part)
            else:
                self.assembler.add_text_call(part.name, part.arguments, self.spec.new_tool_id())
                self._content.open_calls()

    def _write_calls_in_reasoning(self) -> None:
        """Write the calls at the end of the reasoning if it is the complete response.

        Some models do not end their reasoning before a call (Qwen3.6, MiniMax M2). Other calls in
        reasoning are considerations. github.com/lmstudio-ai/lmstudio-bug-tracker/issues/2045
        """
        if self._writer.is_truncated or self.assembler.calls or self._writer.has_text:
            return
        if self._text_tools and self._reasoning_texts:
            text = "".join(self._reasoning_texts)
            self._write_parts([*find_final_calls(text, self._text_tools)])

    # The end of the response.

    def _write_reasoning_as_text(self) -> None:
        """Write text that was taken for reasoning if the response has no text and no call.

        Reasoning stays reasoning if a token limit ended the response.
        """
        if self._writer.is_truncated or self._content.is_stopped:
            return
        if self.assembler.calls or self._writer.has_text:
            return
        text = self._find_text_in_reasoning()
        if text.strip():
            self._content.put(text)

    def _find_text_in_reasoning(self) -> str:
        """Return the part of the reasoning that may be the text of the response.

        Expected reasoning that no tag ended may be text. Other reasoning is only text if the
        upstream reported the end of the response; otherwise it may be truncated. An opening tag
        without a closing tag may be a quotation. Some servers put the complete answer into the
        reasoning, for example if the request forbids thinking or requires a JSON document.
        """
        # Structured output is parsed, so it must not begin with a tag.
        includes_tag = not self.spec.is_structured
        unclosed_text = self._splitter.get_unclosed_text(includes_tag=includes_tag)
        if unclosed_text and not self._splitter.has_first_tag:
            return unclosed_text
        if not self._is_end_proven:
            return ""
        return unclosed_text or "".join(self._content.hidden_reasoning)

    def _finish(self, stop: JsonObject) -> None:
        """End the response with its stop fields."""
        usage = self.current_usage
        if stop["stop_reason"] == "end_turn" and not self._has_content:
            reason = self._finish_reason
            self._unread.check(
                reason.word if reason else "",
                announces_calls=reason is not None and reason.stop_reason == "tool_use",
                is_proven=self._is_end_proven,
                reported=self._counter.reported,
                spec=self.spec,
            )
        self.is_finished = True
        self._writer.finish()
        if stop["stop_reason"] == "max_tokens" and fills_context(usage, self.spec.context_window):
            stop = {**stop, "stop_reason": "model_context_window_exceeded"}
        usage |= self.spec.usage_fields
        usage |= to_tiers(self._counter.service_tier, wants_fast_mode=self.spec.wants_fast_mode)
        if self.spec.compaction is not None:
            message_iteration = to_usage_iteration("message", usage)
            usage["iterations"] = [self.spec.compaction.usage, message_iteration]
        self.stop_reason = stop["stop_reason"]
        self.usage = usage
        message_delta = events.message_delta(stop, usage, self.spec.context_management)
        self._writer.pending_events += [message_delta, events.message_stop()]


def _may_be_piece(choice: JsonObject) -> bool:
    """Return whether a choice with content may be a piece of the response, although it is finished.

    A choice with a `message` is the complete response.
    """
    return bool(choice.get("finish_reason")) and not choice.get("message")
