"""Write reasoning, text and tool calls to blocks, of which only one is open at a time.

Fragments of tool calls may interleave, but blocks may not. The arguments of the open call are
streamed. Later calls are deferred until these arguments are a complete document, or until the
response ends. Other content between the fragments of the open call is deferred too.

Text passes through the filters of the response. After a stop sequence, nothing is written.
"""

from anthropic_proxy.errors import ApiError
from anthropic_proxy.translate.reasoning.fields import ReasoningDelta
from anthropic_proxy.translate.response.block_writer import BlockWriter
from anthropic_proxy.translate.response.spec import ReasoningDisplay, ResponseSpec
from anthropic_proxy.translate.response.text_filters import ResponseTextFilter
from anthropic_proxy.translate.tool_calls.assembler import ToolCall, ToolCallAssembler


class ContentWriter:
    """Writes the content of one response to the blocks of a `BlockWriter`."""

    def __init__(
        self, spec: ResponseSpec, writer: BlockWriter, assembler: ToolCallAssembler
    ) -> None:
        # True if a stop sequence has ended the response.
        self.is_stopped = False
        # Reasoning that the client did not request.
        self.hidden_reasoning: list[str] = []
        # True if the filters may hold text, also before any text.
        self.may_hold_text = True
        self._writer = writer
        self._assembler = assembler
        self._text_filter = ResponseTextFilter(spec)
        self._hides_reasoning = spec.reasoning is ReasoningDisplay.HIDDEN
        self._upstream_name = spec.upstream.name
        # The number of accepted calls with a block. Later calls are deferred.
        self._opened_call_count = 0
        # Content that is deferred until the open call is complete.
        self._deferred: list[ReasoningDelta | str] = []

    @property
    def stop_sequence(self) -> str | None:
        """The stop sequence of the client that ended the response."""
        return self._text_filter.matched_stop_sequence

    @property
    def is_passing_text(self) -> bool:
        """True if text is written unchanged to the open block."""
        if self._deferred or not self._writer.is_text_open:
            return False
        return self._text_filter.is_passthrough

    def write_fragment(self, call: ToolCall) -> None:
        """Write the new part of the arguments of a call if its block is open."""
        if call is self._writer.open_call:
            self._writer.write_tool_use(call)

    def _is_call_incomplete(self) -> bool:
        """Return whether the arguments of an open call are not a complete document yet."""
        call = self._writer.open_call
        return call is not None and not call.arguments.is_complete

    def write(self, content: ReasoningDelta | str) -> None:
        """Write reasoning or text, or defer it until the open call is complete."""
        if self._is_call_incomplete():
            self._deferred.append(content)
            return
        if self._deferred:
            self.write_deferred()
        self.put(content)

    def write_deferred(self) -> None:
        """Write the deferred content in order of arrival."""
        deferred, self._deferred = self._deferred, []
        for content in deferred:
            self.put(content)

    def open_calls(self) -> None:
        """Open blocks for deferred calls, in order.

        Stops if the previous call is incomplete, if more of the call's name may arrive, or if the
        call may repeat a call in the text.
        """
        calls = self._assembler.accepted_calls
        while self._opened_call_count < len(calls):
            call = calls[self._opened_call_count]
            if self._is_call_incomplete() or not self._assembler.is_name_complete(call):
                return
            if self._assembler.may_repeat_text_call(call):
                if not call.arguments.is_final:
                    return
                if self._assembler.drop_repeated_call(call):
                    calls = self._assembler.accepted_calls
                    continue
            # This content arrived before the call.
            self.write_deferred()
            self.flush_text()
            if self.is_stopped:
                return
            self._assembler.remove_leftovers(call)
            self._writer.write_tool_use(call)
            self._opened_call_count += 1

    def drop_repeated_calls(self) -> None:
        """Drop the remaining calls that repeat calls in the text. Call it at the end."""
        for call in self._assembler.accepted_calls[self._opened_call_count :]:
            is_certain = call.arguments.is_complete or not self._writer.is_truncated
            if is_certain and self._assembler.may_repeat_text_call(call):
                self._assembler.drop_repeated_call(call)

    def write_remaining_calls(self) -> None:
        """Write the remaining calls at the end of the response.

        Raises ApiError for a call without a name, and for more text after complete arguments, which
        can be neither sent nor dropped.
        """
        if self.is_stopped:
            return
        calls = self._assembler.accepted_calls
        for call in calls:
            if call.arguments.is_overrun:
                raise self._create_error("sent more text of a tool call after its end")
        for call in calls[self._opened_call_count :]:
            if not call.name:
                raise self._create_error("sent a tool call without a name")
            self._assembler.remove_leftovers(call)
            self._writer.write_tool_use(call)

    def put(self, content: ReasoningDelta | str) -> None:
        """Write reasoning or text to its block.

        Text that the filters hold is not flushed before reasoning: it is part of a text that the
        reasoning does not split.
        """
        if self.is_stopped:
            return
        if isinstance(content, str):
            self.may_hold_text = True
            self._write_text(self._text_filter.feed(content))
        elif self._hides_reasoning:
            self.hidden_reasoning.append(content.text)
        else:
            self._writer.write_thinking(content)

    def flush_text(self) -> None:
        """Write the text that the filters hold, before a block of another kind starts."""
        if not self.is_stopped:
            self._write_text(self._text_filter.flush())

    def _write_text(self, text: str) -> None:
        if text:
            self._writer.write_text(text)
        self.is_stopped = self.stop_sequence is not None

    def _create_error(self, text: str) -> ApiError:
        return ApiError(500, f"The upstream {self._upstream_name} {text}")
