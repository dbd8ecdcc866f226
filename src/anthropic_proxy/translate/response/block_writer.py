"""Write the content blocks of a stream with indices 0, 1, 2, ..., one open block at a time."""

from collections.abc import Mapping

from anthropic_proxy.translate.reasoning.fields import ReasoningBlock, ReasoningDelta
from anthropic_proxy.translate.reasoning.signatures import Signer
from anthropic_proxy.translate.tool_calls.assembler import ToolCall
from anthropic_proxy.translate.tool_names import ToolName, to_caller_name
from anthropic_proxy.wire.anthropic import events
from anthropic_proxy.wire.json_codec import JsonObject


class BlockWriter:
    """Writes text, thinking and tool_use blocks.

    Content of another kind closes the open block and opens a new block.
    """

    def __init__(
        self, signer: Signer, tool_names: Mapping[str, ToolName], *, omits_thinking: bool
    ) -> None:
        """Create a writer without blocks.

        Args:
            signer: signs thinking blocks.
            tool_names: the client's names of the tools that have other names upstream.
            omits_thinking: thinking blocks have no text; their signatures contain it.
        """
        # True if a token limit ended the response: the open call is then incomplete.
        self.is_truncated = False
        # The events that `take` has not returned yet.
        self.pending_events: list[JsonObject] = []
        # The call with the open block.
        self.open_call: ToolCall | None = None
        # True if there is a text block.
        self.has_text = False
        # White space that no text has followed yet.
        self._space: list[str] = []
        self._tool_names = tool_names
        self._signer = signer
        self._omits_thinking = omits_thinking
        self._open_kind: str | None = None
        # The index of the last block.
        self.index = -1
        # The reasoning of the open block, or encrypted reasoning that has no block yet.
        self._reasoning: ReasoningBlock | None = None

    def write_text(self, text: str) -> None:
        """Write text. White space does not open a block.

        Models write line breaks before a tool call, and the API rejects a block of white space in
        the next request.
        """
        if self._open_kind != "text":
            if text.isspace():
                self._space.append(text)
                return
            text = "".join((*self._space, text))
            self._open("text", events.text_block())
            self.has_text = True
        self.pending_events.append(events.text_delta(self.index, text))

    @property
    def is_text_open(self) -> bool:
        """True if a text block is open."""
        return self._open_kind == "text"

    def write_thinking(self, delta: ReasoningDelta) -> None:
        """Write reasoning.

        As in the real API, the signature is sent at the end of the block. Encrypted reasoning does
        not open a block: it is part of adjacent reasoning, or becomes a redacted block. Reasoning
        within a text waits for the end of the text, which clients show as one block (GLM sends such
        pieces at ModelScope and JD).
        """
        if delta.text and self._open_kind not in ("thinking", "text"):
            # Earlier encrypted reasoning is part of this block.
            encrypted, self._reasoning = self._reasoning, None
            self._open("thinking", events.thinking_block())
            self._reasoning = encrypted
        self._reasoning = self._reasoning or ReasoningBlock()
        self._reasoning.add(delta)
        if self._open_kind == "thinking":
            self._write_thinking_text(delta.text)

    def write_tool_use(self, call: ToolCall) -> None:
        """Open the block of `call` if necessary, and write the new part of its arguments."""
        if self.open_call is not call:
            tool = to_caller_name(self._tool_names, call.name)
            self._open("tool_use", events.tool_use_block(call.id, tool.name, {}, tool.toolset_name))
            self.open_call = call
            call.has_block = True
        self._write_arguments(call.arguments.take())

    def write_compaction(self, block: JsonObject) -> None:
        """Write the compaction block before a response, with the summary in one delta."""
        self._open("compaction", {**block, "content": None})
        if block["content"]:
            self.pending_events.append(events.compaction_delta(self.index, block["content"]))
        self.close()

    def finish(self) -> None:
        """Close the last block. A response of white space becomes a text block."""
        text = "".join(self._space)
        if text and self.index < 0:
            self._open("text", events.text_block())
            self.pending_events.append(events.text_delta(self.index, text))
        self.close()

    def close(self, *, ends_response: bool = True) -> None:
        """Close the open block, if any."""
        reasoning, self._reasoning = self._reasoning, None
        if reasoning is not None and self._open_kind == "thinking":
            self._write_signature(reasoning)
            reasoning = None
        if self.open_call is not None:
            self._write_arguments(self.open_call.arguments.finish(truncated=self.is_truncated))
        if self._open_kind is not None:
            self.pending_events.append(events.block_stop(self.index))
        self._open_kind = self.open_call = None
        if reasoning is not None:
            self._write_waiting_reasoning(reasoning, ends_response=ends_response)

    def _write_waiting_reasoning(self, reasoning: ReasoningBlock, *, ends_response: bool) -> None:
        """Write a block for reasoning that has no block yet.

        Clients expect that a response ends with its text (`claude -p` prints the last block). So
        reasoning after it is only written if the next request must contain it.
        """
        if reasoning.text and (reasoning.has_data or not ends_response):
            self._start_block(events.thinking_block())
            self._write_thinking_text(reasoning.text)
            self._write_signature(reasoning)
        elif reasoning.is_encrypted:
            self._start_block(events.redacted_thinking_block(self._signer.sign(reasoning, "")))
        else:
            return
        self.pending_events.append(events.block_stop(self.index))

    def _write_thinking_text(self, text: str) -> None:
        if text and not self._omits_thinking:
            self.pending_events.append(events.thinking_delta(self.index, text))

    def _write_signature(self, reasoning: ReasoningBlock) -> None:
        visible_text = "" if self._omits_thinking else reasoning.text
        signature = self._signer.sign(reasoning, visible_text)
        self.pending_events.append(events.signature_delta(self.index, signature))

    def _write_arguments(self, text: str) -> None:
        if text:
            self.pending_events.append(events.input_json_delta(self.index, text))

    def take(self) -> list[JsonObject]:
        """Return the events since the last call."""
        pending_events, self.pending_events = self.pending_events, []
        return pending_events

    def _open(self, kind: str, block: JsonObject) -> None:
        self.close(ends_response=False)
        self._space = []
        self._open_kind = kind
        self._start_block(block)

    def _start_block(self, block: JsonObject) -> None:
        self.index += 1
        self.pending_events.append(events.block_start(self.index, block))
