"""Translate Chat Completions chunks to Anthropic stream events.

`StreamTranslator` is a state machine without I/O. For any input, the events of one response have
the order

    message_start ping (content_block_start content_block_delta* content_block_stop)*
    message_delta message_stop

with indices 0, 1, 2, ... and one open block at a time, or they end with one `error` event. Exactly
one of `close` and `fail` ends the response, unless a stop sequence ends it in `feed`. An end of
input without a finish reason is an error, never an invented `end_turn`; only [DONE] may end a Chat
Completions response without a finish reason.

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
from anthropic_proxy.translate.response.spec import ReasoningDisplay, ResponseSpec
from anthropic_proxy.translate.response.stop_reasons import (
    STOP_REASONS,
    is_truncated,
    to_stop_fields,
    to_stop_sequence_fields,
)
from anthropic_proxy.translate.response.text_fast_path import TextFastPath
from anthropic_proxy.translate.response.text_filters import ResponseTextFilter
from anthropic_proxy.translate.response.think_tags import ThinkTagSplitter
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
from anthropic_proxy.translate.tool_calls.text_parser import TextCallParser, TextParts
from anthropic_proxy.wire.anthropic import events
from anthropic_proxy.wire.json_codec import JsonObject
from anthropic_proxy.wire.openai import (
    get_content_text,
    get_first_choice,
    get_plain_text,
    string_or_empty,
)


class StreamTranslator:
    """Translates one response.

    Call `start`, then `feed` for each chunk, then `close` or `fail`. Each method returns the events
    to send.
    """

    def __init__(self, spec: ResponseSpec) -> None:
        # True if the response has ended. After a stop sequence the upstream may send more chunks.
        self.is_finished = False
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
        self._text_parser = TextCallParser(spec.tools if spec.calls_in_text else {})
        self.assembler = ToolCallAssembler(spec.tools, single=spec.single_call)
        # The number of accepted calls with a block. Later calls are deferred.
        self._opened_call_count = 0
        # Content that is deferred until the open call is complete.
        self._deferred: list[ReasoningDelta | str] = []
        self._finish_reason = ""
        self._refusals: list[str] = []
        # Reasoning that the client did not request; see `_write_hidden_answer`.
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
        if not self._finish_reason or self._finish_reason in STOP_REASONS:
            return None
        return self._finish_reason

    @property
    def has_finish_reason(self) -> bool:
        """True if the upstream has sent a finish reason, so the response is complete."""
        return bool(self._finish_reason)

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
        error = upstream_errors.parse_chunk_error(chunk, self.spec.upstream)
        if error:
            raise error
        self._counter.record(chunk)
        choice = get_first_choice(chunk)
        if choice is not None:
            self._feed_choice(choice)
        if self._can_bypass_filters():
            self.fast_path.open(self._writer.index, self._text_parser.mark)
        return self._writer.take()

    def close(self, *, done: bool) -> list[JsonObject]:
        """Return the events that end the response. Raises ApiError if it is incomplete.

        `done` is true if the upstream sent [DONE], which ends a response even without a finish
        reason (Snowflake).
        """
        if self.is_finished:
            return []
        self.fast_path.close()
        if not self._finish_reason and not (done and self._counter.delta_count):
            raise TruncatedError(
                f"The upstream {self.spec.upstream.name} ended the response before it was complete"
            )
        # A call that the token limit truncated is not repaired.
        self._writer.is_truncated = is_truncated(self._finish_reason)
        # The splitter and the parser may hold incomplete tags and calls, which are text, or calls
        # in a format without an end marker.
        self._write_split(self._splitter.close())
        self._write_parts(self._text_parser.close(truncated=self._writer.is_truncated))
        # The filters may hold text that precedes the deferred calls.
        self._flush_text()
        # No more fragments will extend the open call, or the names of later calls.
        self._write_waiting_calls()
        # All calls are written, so the deferred content can follow.
        self._write_deferred()
        # This depends on whether the response has any text.
        self._write_unclosed_thinking()
        self._write_hidden_answer()
        # The last steps may have added text to the filters.
        self._flush_text()
        # A stop sequence in one of these texts has already finished the response.
        if not self.is_finished:
            self._finish(
                to_stop_fields(
                    self._finish_reason,
                    has_calls=bool(self.assembler.calls),
                    refusal="".join(self._refusals),
                )
            )
        return self._writer.take()

    def fail(self, error: ApiError, request_id: str) -> list[JsonObject]:
        """Return the last events of a failed response. The open block is not closed."""
        self.is_finished = True
        self.fast_path.close()
        return [*self._writer.take(), error.body(request_id)]

    def _create_error(self, text: str) -> ApiError:
        return ApiError(500, f"The upstream {self.spec.upstream.name} {text}")

    def _can_bypass_filters(self) -> bool:
        """Return whether text that the parser's `mark` does not match can skip the filters."""
        if self.is_finished or self._deferred or not self._writer.is_text_open:
            return False
        if not self._text_filter.is_passthrough:
            return False
        return self._splitter.is_idle and self._text_parser.is_idle

    # Chunks: reasoning, text and fragments of calls.

    def _feed_choice(self, choice: JsonObject) -> None:
        delta = choice.get("delta")
        if isinstance(delta, dict):
            self._feed_delta(delta)
        if self.is_finished:
            return
        finish_reason = choice.get("finish_reason")
        if finish_reason == "error":
            raise self._create_error("aborted the response without an error message")
        if finish_reason and not self._finish_reason:
            self._finish_reason = str(finish_reason)

    def _feed_delta(self, delta: JsonObject) -> None:
        reasoning = parse_reasoning(delta)
        if reasoning is not None:
            self._counter.add(reasoning.text)
            self._write(reasoning)
        refusal = string_or_empty(delta.get("refusal"))
        self._refusals.append(refusal)
        text = get_content_text(delta.get("content"))
        # In structured output, SDKs would parse the text of a refusal as the document.
        if not text and not self.spec.is_structured:
            text = refusal
        if text:
            self._counter.add(text)
            self._write_split(self._splitter.feed(text))
        for fragment in get_fragments(delta):
            self._feed_tool_call(fragment)

    def _feed_tool_call(self, fragment: JsonObject) -> None:
        if self.is_finished:
            return
        # A call ends the text before it. After structured calls, no calls are expected in text.
        self._write_split(self._splitter.close())
        self._write_parts(self._text_parser.stop())
        self._flush_text()
        call = self.assembler.feed(fragment, self.spec.new_tool_id)
        self._counter.add("")
        self._write_signature(call, fragment)
        if call is self._writer.open_call:
            self._writer.write_tool_use(call)
        elif not call.has_block:
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

    # Blocks. Only one block is open at a time, so content and calls may be deferred.

    def _is_call_incomplete(self) -> bool:
        """Return whether the arguments of an open call are not a complete document yet."""
        call = self._writer.open_call
        return call is not None and not call.arguments.is_complete

    def _write(self, content: ReasoningDelta | str) -> None:
        """Write reasoning or text, or defer it until the open call is complete."""
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

        Stops if the previous call is incomplete, or if more of the call's name may arrive.
        """
        calls = self.assembler.accepted_calls
        while self._opened_call_count < len(calls):
            call = calls[self._opened_call_count]
            if self._is_call_incomplete() or not self.assembler.is_name_complete(call):
                return
            # This content arrived before the call.
            self._write_deferred()
            self._flush_text()
            if self.is_finished:
                return
            self._writer.write_tool_use(call)
            self._opened_call_count += 1

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
            self._writer.write_tool_use(call)

    def _write_unclosed_thinking(self) -> None:
        """Write the expected reasoning as text if no tag ended it.

        Reasoning is kept if a token limit ended the response, or if there is other text or a call.
        """
        if self._finish_reason == "length" or self.assembler.calls or self._writer.has_text:
            return
        text = self._splitter.get_unclosed_text()
        if text:
            self._put(text)

    def _write_hidden_answer(self) -> None:
        """Write reasoning that the client did not request as text if there is nothing else.

        Some servers put the complete answer into the reasoning, for example if the request forbids
        thinking or requires a JSON document.
        """
        has_ended_normally = to_stop_fields(self._finish_reason, has_calls=False)
        if has_ended_normally["stop_reason"] != "end_turn":
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
        if self._text_filter.matched_stop_sequence is not None:
            self._finish(to_stop_sequence_fields(self._text_filter.matched_stop_sequence))

    def _finish(self, stop: JsonObject) -> None:
        """End the response with its stop fields."""
        self.is_finished = True
        self._writer.close()
        usage = self.current_usage
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
