"""The grammar of a stream's content: blocks with indices 0, 1, 2 ..., one open at a time.

Knows nothing of the upstream. What is written collects in `out` until `take`.
"""

from anthropic_proxy.translate.toolcalls import Call
from anthropic_proxy.wire import events
from anthropic_proxy.wire.codec import JsonObject


class BlockWriter:
    """Writes text, thinking and tool_use blocks; a change of kind closes the open block and opens the next."""

    def __init__(self) -> None:
        self.out: list[JsonObject] = []
        self.call: Call | None = None
        self._kind: str | None = None
        self._index = -1
        self._signature = ""

    def text(self, text: str) -> None:
        if self._kind != "text":
            self._open("text", events.text_block())
        self.out.append(events.text_delta(self._index, text))

    def thinking(self, text: str, signature: str) -> None:
        """`signature` goes out when the block ends, as the real API sends it."""
        if self._kind != "thinking":
            self._open("thinking", events.thinking_block())
        self._signature = signature
        if text:
            self.out.append(events.thinking_delta(self._index, text))

    def tool_use(self, call: Call) -> None:
        """Open the block of `call`, or go on with it: what has come of its arguments since goes out."""
        if self.call is not call:
            self._open("tool_use", events.tool_use_block(call.id, call.name, {}))
            self.call = call
        arguments = call.take_unsent()
        if arguments:
            self.out.append(events.input_json_delta(self._index, arguments))

    def close(self) -> None:
        """End the open block, if there is one."""
        if self._kind is None:
            return
        if self._kind == "thinking":
            self.out.append(events.signature_delta(self._index, self._signature))
        self.out.append(events.block_stop(self._index))
        self._kind = self.call = None

    def take(self) -> list[JsonObject]:
        """The events written since the last call."""
        out, self.out = self.out, []
        return out

    def _open(self, kind: str, block: JsonObject) -> None:
        self.close()
        self._kind = kind
        self._index += 1
        self.out.append(events.block_start(self._index, block))
