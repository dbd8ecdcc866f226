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

Fragments of tool calls may interleave, but blocks may not. The arguments of the open call are
streamed. Later calls are deferred until these arguments are a complete document, or until the
response ends. Other content between the fragments of the open call is deferred too.

Text passes through these stages: think tags (`_splitter`), calls written as text (`_text_parser`),
deferred content (`_deferred`), stop sequences and structured output (`_text_filter`), blocks
(`_writer`).
"""

from anthropic_proxy.errors import ApiError, TruncatedError
from anthropic_proxy.translate import upstream_errors
from anthropic_proxy.translate.reasoning.fields import IN_TEXT, ReasoningDelta, parse_reasoning
from anthropic_proxy.translate.reasoning.tool_call_signatures import parse_call_signature
from anthropic_proxy.translate.response.block_writer import BlockWriter
from anthropic_proxy.translate.response.choices import CALLS, REASONING, TEXT, ChoiceReader
from anthropic_proxy.translate.response.spec import ReasoningDisplay, ResponseSpec
from anthropic_proxy.translate.response.stop_reasons import (
    FinishReason,
    parse_finish_reason,
    to_stop_fields,
    to_stop_sequence_fields,
)
from anthropic_proxy.translate.response.text_fast_path import TextFastPath
from anthropic_proxy.translate.response.text_filters import ResponseTextFilter
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
    list_choices,
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
        # True if a finish reason arrived together with content. Gateways for Gemini send one with
        # each piece, so it does not show the end of the content.
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
        self._text_filter = ResponseTextFilter(spec)
        self._text_tools = spec.tools if spec.calls_in_text else {}
        self._text_parser = TextCallParser(self._text_tools)
        # The reasoning, which may end with calls.
        self._reasoning_texts: list[str] = []
        self.assembler = ToolCallAssembler(spec.tools, single=spec.single_call)
        # The number of accepted calls with a block. Later calls are deferred.
        self._opened_call_count = 0
        # Content that is deferred until the open call is complete.
        self._deferred: list[ReasoningDelta | str] = []
        self._finish_reason: FinishReason | None = None
        self._refusals: list[str] = []
        self._choices = ChoiceReader()
        # The kinds of content that have arrived.
        self.received: set[str] = set()
        # True if the text is the transcript of audio.
        self._is_transcribed = False
        self._unread = UnreadResponse(spec.upstream)
        # Reasoning that the client did not request; see `_write_hidden_reasoning`.
        self._hidden_reasoning: list[str] = []
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
        return self._finish_reason is not None

    @property
    def may_continue(self) -> bool:
        """True if content may follow the finish reason."""
        if self._finish_reason is None or self._finishes_pieces or not self._counter.delta_count:
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
            raise error
        content_count = self._counter.delta_count
        has_usage = self._counter.record(chunk)
        choices = list_choices(chunk)
        for choice in choices:
            self._feed_choice(choice)
        if self._counter.delta_count != content_count:
            self._finishes_pieces |= any(choice.get("finish_reason") for choice in choices)
        elif has_usage and self.reported_input_tokens:
            # Some servers send zeros with the finish reason, and the usage later.
            self.is_complete = not self.may_continue
        if self._can_bypass_filters():
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
        if self._finish_reason is None and not (done and self._counter.delta_count):
            raise self._create_truncated_error()
        is_proven = self._finish_reason is not None and not self._finish_reason.is_unknown
        if not is_proven and self._has_incomplete_call():
            raise self._create_truncated_error()
        # A call in a truncated response is not repaired.
        is_cut = self._finish_reason is not None and self._finish_reason.is_cut
        self._writer.is_truncated = is_cut
        # The splitter and the parser may hold incomplete tags and calls, which are text, or calls
        # in a format without an end marker.
        self._write_split(self._splitter.close())
        self._write_parts(self._text_parser.close(truncated=is_cut or not is_proven))
        self._write_calls_in_reasoning()
        # The filters may hold text that precedes the deferred calls.
        self._flush_text()
        self.assembler.drop_empty_calls()
        # No more fragments will extend the open call, or the names of later calls.
        self.assembler.close(self.spec.new_tool_id, truncated=is_cut)
        self._drop_repeated_calls()
        self._write_waiting_calls()
        # All calls are written, so the deferred content can follow.
        self._write_deferred()
        # This depends on whether the response has any text.
        self._write_unclosed_thinking()
        self._write_hidden_reasoning()
        # The last steps may have added text to the filters.
        self._flush_text()
        # A stop sequence in one of these texts has already finished the response.
        if not self.is_finished:
            self._finish_with_reason()
        return self._writer.take()

    def _finish_with_reason(self) -> None:
        """End the response with the stop fields for the upstream's finish reason."""
        refusal = "".join(self._refusals)
        has_calls = bool(self.assembler.calls)
        if self._finish_reason is None and not (self._writer.has_text or has_calls or refusal):
            # The response ended within its reasoning.
            raise self._create_truncated_error()
        stop_reason = self._finish_reason.stop_reason if self._finish_reason else None
        stop_fields = to_stop_fields(
            stop_reason or "end_turn", has_calls=has_calls, refusal=refusal
        )
        self._finish(stop_fields)

    def fail(self, error: ApiError, request_id: str) -> list[JsonObject]:
        """Return the last events of a failed response. The open block is not closed."""
        self.is_finished = True
        self.fast_path.close()
        return [*self._writer.take(), error.body(request_id)]

    def _create_error(self, text: str) -> ApiError:
        return ApiError(500, f"The upstream {self.spec.upstream.name} {text}")

    def _create_truncated_error(self) -> TruncatedError:
        return TruncatedError(
            f"The upstream {self.spec.upstream.name} ended the response before it was complete"
        )

    def _has_incomplete_call(self) -> bool:
        """Return whether the arguments of an accepted call are incomplete."""
        return any(map(self._needs_arguments, self.assembler.accepted_calls))

    def _needs_arguments(self, call: ToolCall) -> bool:
        if call.arguments.has_started:
            return not call.arguments.is_complete
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
        if self.is_finished or self._deferred or not self._writer.is_text_open:
            return False
        if not self._text_filter.is_passthrough:
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
        if self.is_finished:
            return
        # OpenRouter's location of a provider's error.
        if choice.get("error"):
            error = upstream_errors.parse_chunk_error(choice, self.spec.upstream)
            if error is not None:
                raise error
        # Of several finish reasons, the most severe counts. OpenRouter reports `stop` for some
        # responses that the provider cut or refused.
        if choice.get("finish_reason"):
            for field in ("finish_reason", "native_finish_reason"):
                self._record_finish_reason(parse_finish_reason(choice.get(field)))

    def _record_finish_reason(self, reason: FinishReason | None) -> None:
        if reason is None:
            return
        if reason.failure_status is not None:
            word = self.spec.upstream.redact(reason.word)
            raise ApiError(
                reason.failure_status,
                f"The upstream {self.spec.upstream.name} aborted the response without an error "
                f"message (finish reason: {word})",
            )
        if self._finish_reason is None or reason.severity > self._finish_reason.severity:
            self._finish_reason = reason

    def _feed_delta(self, delta: JsonObject) -> None:
        reasoning = parse_reasoning(delta)
        if reasoning is not None:
            self.received.add(REASONING)
            self._counter.add(reasoning.text)
            if reasoning.text:
                self._splitter.drop_first_closing_tag()
            self._write(reasoning)
        refusal = string_or_empty(delta.get("refusal"))
        self._refusals.append(refusal)
        text = get_content_text(delta.get("content")) or string_or_empty(delta.get("text"))
        if not text and "audio" in delta:
            text = self._get_transcript(delta)
        # In structured output, SDKs would parse the text of a refusal as the document.
        if not text and not self.spec.is_structured:
            text = refusal
        if text:
            self.received.add(TEXT)
            self._counter.add(text)
            self._write_split(self._splitter.feed(text))
        for fragment in get_fragments(delta):
            self._feed_tool_call(fragment)

    def _get_transcript(self, delta: JsonObject) -> str:
        """Return the transcript of a model's audio; empty if the response also has a text."""
        audio = delta["audio"]
        transcript = string_or_empty(audio.get("transcript")) if isinstance(audio, dict) else ""
        if transcript and TEXT not in self.received:
            self._is_transcribed = True
        return transcript if self._is_transcribed else ""

    def _feed_tool_call(self, fragment: JsonObject) -> None:
        if self.is_finished:
            return
        self.received.add(CALLS)
        # A call ends the text before it. After structured calls, no calls are expected in text.
        self._write_split(self._splitter.close())
        self._write_parts(self._text_parser.stop())
        self._flush_text()
        call_count = len(self.assembler.calls)
        call = self.assembler.feed(fragment, self.spec.new_tool_id)
        self._counter.add("")
        self._write_signature(call, fragment)
        if call is self._writer.open_call:
            self._writer.write_tool_use(call)
        if not call.has_block or len(self.assembler.calls) > call_count:
            self._open_waiting_calls()

    def _write_signature(self, call: ToolCall, fragment: JsonObject) -> None:
        """Write the signature of a call when it arrives, before or after the call."""
        signature = parse_call_signature(fragment, call.id)
        if signature is not None and not call.is_signed and self.assembler.accepts(call):
            call.is_signed = True
            self._write(signature)

    # Text: reasoning, calls and other text.

    def _write_split(self, pairs: list[tuple[bool, str]]) -> None:
        for is_reasoning, text in pairs:
            if is_reasoning:
                self._write(ReasoningDelta(IN_TEXT, text))
            else:
                self._write_parts(self._text_parser.feed(text))

    def _write_parts(self, parts: TextParts) -> None:
        for part in parts:
            if isinstance(part, str):
                self._write(part)
            else:
                self.assembler.add_text_call(part.name, part.arguments, self.spec.new_tool_id())
                self._open_waiting_calls()

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

    # Blocks. Only one block is open at a time, so content and calls may be deferred.

    def _is_call_incomplete(self) -> bool:
        """Return whether the arguments of an open call are not a complete document yet."""
        call = self._writer.open_call
        return call is not None and not call.arguments.is_complete

    def _write(self, content: ReasoningDelta | str) -> None:
        """Write reasoning or text, or defer it until the open call is complete."""
        if isinstance(content, ReasoningDelta) and self._text_tools:
            self._reasoning_texts.append(content.text)
        if self._is_call_incomplete():
            self._deferred.append(content)
            return
        self._write_deferred()
        self._put(content)

    def _write_deferred(self) -> None:
        """Write the deferred content in order of arrival."""
        deferred, self._deferred = self._deferred, []
        for content in deferred:
            self._put(content)

    def _open_waiting_calls(self) -> None:
        """Open blocks for deferred calls, in order.

        Stops if the previous call is incomplete, if more of the call's name may arrive, or if the
        call may repeat a call in the text.
        """
        calls = self.assembler.accepted_calls
        while self._opened_call_count < len(calls):
            call = calls[self._opened_call_count]
            if self._is_call_incomplete() or not self.assembler.is_name_complete(call):
                return
            if self.assembler.may_repeat_text_call(call):
                if not call.arguments.is_final:
                    return
                if self.assembler.drop_repeated_call(call):
                    calls = self.assembler.accepted_calls
                    continue
            # This content arrived before the call.
            self._write_deferred()
            self._flush_text()
            if self.is_finished:
                return
            self.assembler.remove_leftovers(call)
            self._writer.write_tool_use(call)
            self._opened_call_count += 1

    def _drop_repeated_calls(self) -> None:
        """Drop the remaining calls that repeat calls in the text. Call it at the end."""
        for call in self.assembler.accepted_calls[self._opened_call_count :]:
            is_certain = call.arguments.is_complete or not self._writer.is_truncated
            if is_certain and self.assembler.may_repeat_text_call(call):
                self.assembler.drop_repeated_call(call)

    def _write_waiting_calls(self) -> None:
        """Write the remaining calls at the end of the response.

        Raises ApiError for a call without a name, and for more text after complete arguments, which
        can be neither sent nor dropped.
        """
        if self.is_finished:
            return
        calls = self.assembler.accepted_calls
        for call in calls:
            if call.arguments.is_overrun:
                raise self._create_error("sent more text of a tool call after its end")
        for call in calls[self._opened_call_count :]:
            if not call.name:
                raise self._create_error("sent a tool call without a name")
            self.assembler.remove_leftovers(call)
            self._writer.write_tool_use(call)

    def _write_unclosed_thinking(self) -> None:
        """Write the expected reasoning as text if no tag ended it.

        Reasoning is kept if a token limit ended the response, or if there is other text or a call.
        """
        if self._writer.is_truncated or self.assembler.calls or self._writer.has_text:
            return
        text = self._splitter.get_unclosed_text()
        if text:
            self._put(text)

    def _write_hidden_reasoning(self) -> None:
        """Write reasoning that the client did not request as text if there is nothing else.

        Some servers put the complete answer into the reasoning, for example if the request forbids
        thinking or requires a JSON document.
        """
        if self._finish_reason is None or self._finish_reason.is_cut:
            return
        if self.is_finished or self.assembler.calls or self._writer.has_text:
            return
        text = "".join(self._hidden_reasoning)
        if text.strip():
            self._put(text)

    def _put(self, content: ReasoningDelta | str) -> None:
        """Write reasoning or text to its block.

        Text that the filters hold is not flushed before reasoning: it is part of a text that the
        reasoning does not split.
        """
        if self.is_finished:
            return
        if isinstance(content, str):
            self._put_text(self._text_filter.feed(content))
        elif self.spec.reasoning is ReasoningDisplay.HIDDEN:
            self._hidden_reasoning.append(content.text)
        else:
            self._writer.write_thinking(content)

    def _flush_text(self) -> None:
        """Write the text that the filters hold, before a block of another kind starts."""
        if not self.is_finished:
            self._put_text(self._text_filter.flush())

    def _put_text(self, text: str) -> None:
        if text:
            self._writer.write_text(text)
        sequence = self._text_filter.matched_stop_sequence
        if sequence is None:
            return
        if self._writer.is_truncated and self._has_incomplete_call():
            # A client may run the call unless it learns that the response is truncated.
            self._finish_with_reason()
        else:
            self._finish(to_stop_sequence_fields(sequence))

    def _finish(self, stop: JsonObject) -> None:
        """End the response with its stop fields."""
        usage = self.current_usage
        if stop["stop_reason"] == "end_turn" and not self._has_content:
            reason = self._finish_reason
            self._unread.check(
                reason.word if reason else "",
                announces_calls=reason is not None and reason.stop_reason == "tool_use",
                is_proven=reason is not None and not reason.is_unknown,
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
