"""The grammar of a stream's content: blocks with indices 0, 1, 2 ..., one open at a time.

Knows nothing of the upstream. What is written collects in `out` until `take`.
"""

from collections.abc import Mapping

from anthropic_proxy.translate.reasoning.fields import Piece, Thought
from anthropic_proxy.translate.reasoning.signatures import Signer
from anthropic_proxy.translate.tool_calls.assembler import Call
from anthropic_proxy.translate.tool_names import ToolName, client_name
from anthropic_proxy.wire.anthropic import events
from anthropic_proxy.wire.json_codec import JsonObject


class BlockWriter:
    """Writes text, thinking and tool_use blocks; a change of kind closes the open block and opens the next.

    With `omits_thinking` thinking blocks go out without their text, which their signatures keep. cut: the answer ran into
    its limit, so that a call that ends now is not whole.
    """

    def __init__(
        self, signer: Signer, tool_names: Mapping[str, ToolName], *, omits_thinking: bool
    ) -> None:
        """tool_names: the client's names of the tools that the upstream knows by other ones."""
        self.cut = False
        self._tool_names = tool_names
        self.out: list[JsonObject] = []
        self.call: Call | None = None
        self.has_text = False
        self._signer = signer
        self._omits_thinking = omits_thinking
        self._kind: str | None = None
        self._index = -1
        self._thought: Thought | None = None

    def text(self, text: str) -> None:
        if self._kind != "text":
            self._open("text", events.text_block())
            self.has_text = True
        self.out.append(events.text_delta(self._index, text))

    @property
    def is_text(self) -> bool:
        """Whether a block of text is open."""
        return self._kind == "text"

    def thinking(self, piece: Piece) -> None:
        """Go on with the thinking; its signature goes out when the block ends, as the real API sends it.

        Encrypted reasoning opens no block: it belongs to the text that comes next to it, or becomes a redacted one.
        """
        if self._kind != "thinking" and piece.text:
            encrypted, self._thought = self._thought, None
            self._open("thinking", events.thinking_block())
            self._thought = encrypted
        self._thought = self._thought or Thought()
        self._thought.add(piece)
        if piece.text and not self._omits_thinking:
            self.out.append(events.thinking_delta(self._index, piece.text))

    def tool_use(self, call: Call) -> None:
        """Open the block of `call`, or go on with it: what has come of its arguments since goes out."""
        if self.call is not call:
            tool = client_name(self._tool_names, call.name)
            self._open("tool_use", events.tool_use_block(call.id, tool.name, {}, tool.toolset_name))
            self.call = call
            call.opened = True
        self._arguments(call.arguments.take())

    def compaction(self, block: JsonObject) -> None:
        """A compaction block, in the form in which it stands before an answer: its summary in one delta."""
        self._open("compaction", {**block, "content": None})
        if block["content"]:
            self.out.append(events.compaction_delta(self._index, block["content"]))
        self.close()

    def close(self) -> None:
        """End the open block, if there is one."""
        thought, self._thought = self._thought, None
        if thought is not None and self._kind == "thinking":
            shown = "" if self._omits_thinking else thought.text
            self.out.append(events.signature_delta(self._index, self._signer.sign(thought, shown)))
        if self.call is not None:
            self._arguments(self.call.arguments.finish(cut=self.cut))
        if self._kind is not None:
            self.out.append(events.block_stop(self._index))
        self._kind = self.call = None
        if thought is not None and thought.is_encrypted:
            self._index += 1
            block = events.redacted_thinking_block(self._signer.sign(thought, ""))
            self.out += [events.block_start(self._index, block), events.block_stop(self._index)]

    def _arguments(self, text: str) -> None:
        if text:
            self.out.append(events.input_json_delta(self._index, text))

    def take(self) -> list[JsonObject]:
        """The events written since the last call."""
        out, self.out = self.out, []
        return out

    def _open(self, kind: str, block: JsonObject) -> None:
        self.close()
        self._kind = kind
        self._index += 1
        self.out.append(events.block_start(self._index, block))
