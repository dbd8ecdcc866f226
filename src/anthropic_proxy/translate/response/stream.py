"""Chat Completions chunks -> Anthropic stream events: a state machine without I/O.

Whatever the upstream sends, the events of one response have the order

    message_start ping (content_block_start content_block_delta* content_block_stop)* message_delta message_stop

with indices 0, 1, 2 ... and one open block at a time, or they end with one `error` event. Exactly one of `close` and
`fail` ends the response. An end of input without a finish reason is an error, never an invented `end_turn`.

Tool calls whose fragments interleave share the open block: the open call streams, and the others wait until its
arguments are a complete document or the response ends. Other content between the fragments of a call waits, too.
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
    """Translates one response: `start`, then `feed` for each chunk, then `close` or `fail`; each returns events to send.

    `is_finished` is true after the end of the response; a stop sequence ends it while the upstream still sends. Then
    `stop_reason` and `usage` are set, unless the response failed.
    """

    def __init__(self, spec: ResponseSpec) -> None:
        self.is_finished = False
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
        self._block_count = 0
        self._deferred: list[ReasoningDelta | str] = []
        self._finish_reason = ""
        self._refusals: list[str] = []
        self._counter = UsageCounter()
        self.fast_path = TextFastPath(self._counter)

    @property
    def next_starts_in_thinking(self) -> bool:
        """Whether the next response of this model must be read as beginning within a block of reasoning."""
        return self._splitter.next_starts_in_thinking

    def start_in_thinking(self) -> None:
        """Read the response as beginning within a block of reasoning. Call it before `feed`."""
        self._splitter = ThinkTagSplitter(starts_in_thinking=True)

    @property
    def unknown_finish_reason(self) -> str | None:
        """The upstream's finish reason if STOP_REASONS has no row for it; it ends the turn like any other."""
        return None if self._finish_reason in ("", *STOP_REASONS) else self._finish_reason

    @property
    def has_finish_reason(self) -> bool:
        """Whether the upstream has sent a finish reason: the response is then complete."""
        return bool(self._finish_reason)

    @property
    def reported_input_tokens(self) -> int | None:
        """Input tokens as the upstream counted them; None before its report."""
        return get_reported_input(self._counter.reported)

    @property
    def current_usage(self) -> JsonObject:
        """Usage of the response so far: the upstream's, or an estimate before its report."""
        return self._counter.build_usage(
            self.spec.input_estimate,
            sum(call.arguments.character_count for call in self.assembler.calls),
        )

    def start(self) -> list[JsonObject]:
        """Return the first events of the response. Their usage is an estimate; the last events have the real one."""
        estimate = to_usage(None, input_estimate=self.spec.input_estimate, output_estimate=0)
        message = (
            events.message(self.spec.message_id, self.spec.model, estimate)
            | self.spec.message_fields
        )
        return [events.message_start(message), events.ping(), *self._leading_events]

    def feed(self, chunk: JsonObject) -> list[JsonObject]:
        """Return the events for one chunk. Raises ApiError when the chunk reports an error of the upstream."""
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
        if chunk.get("usage"):
            self._counter.reported = chunk["usage"]
        choice = get_first_choice(chunk)
        if choice is not None:
            self._feed_choice(choice)
        if self._can_bypass_filters():
            self.fast_path.open(self._writer.index, self._text_parser.mark)
        return self._writer.take()

    def close(self, *, done: bool) -> list[JsonObject]:
        """Return the events that end the response. Raises ApiError when it is incomplete.

        `done`: the upstream sent [DONE], which ends a response even without a finish reason (Snowflake).
        """
        if self.is_finished:
            return []
        self.fast_path.close()
        if not self._finish_reason and not (done and self._counter.delta_count):
            raise TruncatedError(
                f"The upstream {self.spec.upstream.name} ended the answer without finishing it"
            )
        self._writer.is_truncated = is_truncated(self._finish_reason)
        self._write_split(self._splitter.close())
        self._write_parts(self._text_parser.close(truncated=self._writer.is_truncated))
        self._flush_text()
        self._flush_calls()
        self._flush_deferred()
        self._write_unclosed_thinking()
        self._flush_text()
        if not self.is_finished:
            has_calls = bool(self.assembler.calls)
            self._finish(
                to_stop_fields(
                    self._finish_reason, has_calls=has_calls, refusal="".join(self._refusals)
                )
            )
        return self._writer.take()

    def fail(self, error: ApiError, request_id: str) -> list[JsonObject]:
        """Return the events of a failed response. The open block stays open, as it is incomplete."""
        self.is_finished = True
        self.fast_path.close()
        return [*self._writer.take(), error.body(request_id)]

    def _can_bypass_filters(self) -> bool:
        """Return whether text without marks would only extend the open text block."""
        if self.is_finished or self._deferred or not self._writer.is_text_open:
            return False
        if not self._text_filter.is_passthrough:
            return False
        return self._splitter.is_idle and self._text_parser.is_idle

    def _feed_choice(self, choice: JsonObject) -> None:
        delta = choice.get("delta")
        if isinstance(delta, dict):
            self._feed_delta(delta)
        if self.is_finished:
            return
        finish_reason = choice.get("finish_reason")
        if finish_reason == "error":
            raise ApiError(
                500, f"The upstream {self.spec.upstream.name} broke off the answer without a reason"
            )
        if finish_reason and not self._finish_reason:
            self._finish_reason = str(finish_reason)

    def _feed_delta(self, delta: JsonObject) -> None:
        reasoning = parse_reasoning(delta)
        if reasoning is not None:
            self._counter.add(reasoning.text)
            self._write(reasoning)
        refusal = string_or_empty(delta.get("refusal"))
        self._refusals.append(refusal)
        # With structured outputs a refusal has no text: the SDKs would parse it as the document.
        text = get_content_text(delta.get("content")) or (
            "" if self.spec.is_structured else refusal
        )
        if text:
            self._counter.add(text)
            self._write_split(self._splitter.feed(text))
        for fragment in get_fragments(delta):
            self._feed_tool_call(fragment)

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
                self._open_calls()

    def _write(self, content: ReasoningDelta | str) -> None:
        """Write reasoning or text; it waits while a tool call is incomplete."""
        call = self._writer.open_call
        if call is not None and not call.arguments.is_complete:
            self._deferred.append(content)
            return
        self._flush_deferred()
        self._put(content)

    def _put(self, content: ReasoningDelta | str) -> None:
        if self.is_finished:
            return
        if isinstance(content, str):
            self._put_text(self._text_filter.feed(content))
        elif self.spec.reasoning is not ReasoningDisplay.HIDDEN:
            self._flush_text()
            self._writer.write_thinking(content)

    def _flush_text(self) -> None:
        """Write the text that the filters hold, before a block of another kind."""
        if not self.is_finished:
            self._put_text(self._text_filter.flush())

    def _put_text(self, text: str) -> None:
        if text:
            self._writer.write_text(text)
        if self._text_filter.matched_stop_sequence is not None:
            self._finish(to_stop_sequence_fields(self._text_filter.matched_stop_sequence))

    def _feed_tool_call(self, fragment: JsonObject) -> None:
        if self.is_finished:
            return
        self._write_split(self._splitter.close())
        self._write_parts(self._text_parser.stop())
        self._flush_text()
        call = self.assembler.feed(fragment, self.spec.new_tool_id)
        self._counter.add("")
        self._write_signature(call, fragment)
        if call is self._writer.open_call:
            self._writer.write_tool_use(call)
        elif not call.has_block:
            self._open_calls()

    def _write_signature(self, call: ToolCall, fragment: JsonObject) -> None:
        """Write the signature of a call: before the call, or after it where it arrives later."""
        signature = parse_call_signature(fragment, call.id)
        if signature is not None and not call.is_signed and self.assembler.accepts(call):
            call.is_signed = True
            self._write(signature)

    def _check_overrun(self) -> None:
        """Raise ApiError for text after arguments that were already sent: it can be neither sent nor dropped."""
        if any(call.arguments.is_overrun for call in self.assembler.accepted_calls):
            raise ApiError(
                500,
                f"The upstream {self.spec.upstream.name} sent more of a tool call after its end",
            )

    def _open_calls(self) -> None:
        """Open the waiting calls in order, as long as the previous one is complete and the name is certain."""
        while self._block_count < len(self.assembler.accepted_calls):
            call = self.assembler.accepted_calls[self._block_count]
            previous = self._writer.open_call
            if not self.assembler.is_name_complete(call) or (
                previous is not None and not previous.arguments.is_complete
            ):
                return
            self._flush_deferred()
            self._flush_text()
            if self.is_finished:
                return
            self._writer.write_tool_use(call)
            self._block_count += 1

    def _flush_calls(self) -> None:
        self._check_overrun()
        for call in () if self.is_finished else self.assembler.accepted_calls[self._block_count :]:
            if not call.name:
                raise ApiError(
                    500, f"The upstream {self.spec.upstream.name} sent a tool call without a name"
                )
            self._writer.write_tool_use(call)

    def _write_unclosed_thinking(self) -> None:
        """Write reasoning as text, if a response that was expected to begin with reasoning never ended it."""
        if (
            self._finish_reason != "length"
            and not self.assembler.calls
            and not self._writer.has_text
        ):
            text = self._splitter.get_unclosed_text()
            if text:
                self._put(text)

    def _flush_deferred(self) -> None:
        """Write the content that waited for the end of a call, in order of arrival."""
        deferred, self._deferred = self._deferred, []
        for content in deferred:
            self._put(content)

    def _finish(self, stop: JsonObject) -> None:
        self.is_finished = True
        self._writer.close()
        self.usage = self.current_usage
        if stop["stop_reason"] == "max_tokens" and fills_context(
            self.usage, self.spec.context_window
        ):
            stop = {**stop, "stop_reason": "model_context_window_exceeded"}
        self.stop_reason = stop["stop_reason"]
        self.usage |= self.spec.usage_fields | to_tiers(
            self._counter.service_tier, wants_fast_mode=self.spec.wants_fast_mode
        )
        if self.spec.compaction is not None:
            self.usage["iterations"] = [
                self.spec.compaction.usage,
                to_usage_iteration("message", self.usage),
            ]
        message_delta = events.message_delta(stop, self.usage, self.spec.context_management)
        self._writer.pending_events += [message_delta, events.message_stop()]
