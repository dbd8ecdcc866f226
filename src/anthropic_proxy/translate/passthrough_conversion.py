"""Convert a Message of an upstream to the events of a stream, and events to a Message.

Some servers stream although the request has no `stream`, and some send a Message although it has.
Blocks and members that the proxy does not know are kept.
"""

from collections.abc import Iterable, Iterator

from anthropic_proxy.errors import ApiError, TruncatedError
from anthropic_proxy.wire.anthropic import events
from anthropic_proxy.wire.json_codec import JsonObject, dumps, loads, loads_object, loads_partial
from anthropic_proxy.wire.json_end import JsonEndFinder
from anthropic_proxy.wire.sse import SSEDecoder

# The member of a block that a delta extends, and the member of the delta.
_TEXT_MEMBERS = {
    "text_delta": ("text", "text"),
    "thinking_delta": ("thinking", "thinking"),
    "signature_delta": ("signature", "signature"),
    "compaction_delta": ("content", "content"),
}
# Stop reasons of a message that may end within a tool call.
_CUT_REASONS = ("max_tokens", "model_context_window_exceeded", "refusal")
# The number of bytes of events that are parsed together.
_HELD_BYTES = 64 * 1024
# Members of message_delta, besides its `delta`, that are members of the Message.
_MESSAGE_MEMBERS = ("context_management",)


def to_events(message: JsonObject) -> Iterator[JsonObject]:
    """Yield the events of the stream of a Message."""
    stop = {"stop_reason": message.get("stop_reason"), "stop_sequence": None}
    for name in ("stop_sequence", "stop_details", "container"):
        if name in message:
            stop[name] = message[name]
    usage = {"input_tokens": 0, "output_tokens": 0, **(message.get("usage") or {})}
    start = {"type": "message", "role": "assistant", **message}
    for name in (*stop, *_MESSAGE_MEMBERS):
        start.pop(name, None)
    start |= {"content": [], "stop_reason": None, "stop_sequence": None}
    yield events.message_start({**start, "usage": {**usage, "output_tokens": 0}})
    for index, block in enumerate(message["content"]):
        yield from _block_events(index, block)
    yield events.message_delta(stop, usage, message.get("context_management"))
    yield events.message_stop()


def _block_events(index: int, block: JsonObject) -> Iterator[JsonObject]:
    start = dict(block)
    deltas: list[JsonObject] = []
    match block.get("type"):
        case "text":
            start["text"] = ""
            if block.get("citations"):
                start["citations"] = []
            for citation in block.get("citations") or ():
                deltas.append({"type": "citations_delta", "citation": citation})
            deltas.append({"type": "text_delta", "text": block.get("text") or ""})
        case "thinking":
            start |= {"thinking": "", "signature": ""}
            deltas.append({"type": "thinking_delta", "thinking": block.get("thinking") or ""})
            deltas.append({"type": "signature_delta", "signature": block.get("signature") or ""})
        case "tool_use" | "server_tool_use" | "mcp_tool_use":
            start["input"] = {}
            arguments = dumps(block.get("input") or {}).decode()
            deltas.append({"type": "input_json_delta", "partial_json": arguments})
        case "compaction":
            start["content"] = None
            deltas.append({"type": "compaction_delta", "content": block.get("content")})
    yield events.block_start(index, start)
    for delta in deltas:
        yield {"type": "content_block_delta", "index": index, "delta": delta}
    yield events.block_stop(index)


def to_message(stream_events: Iterable[JsonObject]) -> JsonObject:
    """Return the Message of a stream that has ended. Raises ApiError for invalid events."""
    message: JsonObject = {}
    has_start = False
    blocks: dict[object, _Block] = {}
    try:
        for event in stream_events:
            match event.get("type"):
                case "message_start":
                    message = dict(event["message"])
                    has_start = True
                case "content_block_start":
                    blocks[event.get("index")] = _Block(event["content_block"])
                case "content_block_delta":
                    blocks[event.get("index")].add(event["delta"])
                case "message_delta":
                    _apply_message_delta(message, event)
        is_cut = message.get("stop_reason") in _CUT_REASONS
        content = [block.finish(is_cut=is_cut) for block in blocks.values()]
    except (KeyError, TypeError, AttributeError) as error:
        raise ApiError(500, "The upstream sent an invalid event of a stream") from error
    if not has_start:
        raise ApiError(500, "The upstream sent a stream without the beginning of its message")
    return {**message, "content": content}


def _apply_message_delta(message: JsonObject, event: JsonObject) -> None:
    message |= event["delta"]
    reported = {k: v for k, v in (event.get("usage") or {}).items() if v is not None}
    message["usage"] = {**(message.get("usage") or {}), **reported}
    for name in _MESSAGE_MEMBERS:
        if name in event:
            message[name] = event[name]


class _Block:
    """A content block, to which deltas are added."""

    def __init__(self, start: JsonObject) -> None:
        self._start = start
        self._texts: dict[str, list[str]] = {}
        self._arguments: list[str] = []
        self._citations: list[JsonObject] = list(start.get("citations") or ())

    def add(self, delta: JsonObject) -> None:
        """Add a delta. Raises KeyError if its type is unknown."""
        kind = delta["type"]
        if kind == "input_json_delta":
            self._arguments.append(delta["partial_json"])
        elif kind == "citations_delta":
            self._citations.append(delta["citation"])
        else:
            member, source = _TEXT_MEMBERS[kind]
            self._texts.setdefault(member, []).append(delta[source] or "")

    def finish(self, *, is_cut: bool) -> JsonObject:
        """Return the block. Raises ApiError if the input of a tool is incomplete.

        is_cut: whether the stop reason permits an incomplete block.
        """
        block = dict(self._start)
        for member, texts in self._texts.items():
            block[member] = (block.get(member) or "") + "".join(texts)
        if self._citations:
            block["citations"] = self._citations
        arguments = "".join(self._arguments)
        if arguments.strip():
            block["input"] = _parse_arguments(arguments, is_cut=is_cut)
        return block


def _parse_arguments(arguments: str, *, is_cut: bool) -> object:
    try:
        return loads_partial(arguments) if is_cut else loads(arguments)
    except ValueError as error:
        raise _incomplete_call_error() from error


def _incomplete_call_error() -> TruncatedError:
    return TruncatedError("The upstream sent an incomplete tool call")


class ToolInputChecker:
    """Finds tool calls with incomplete inputs in a stream that is forwarded.

    The SDKs close an incomplete input and drop its last member, so a tool would run without it:
    with `{"path": "/data"}` instead of `{"path": "/data", "dry_run": true}`.
    """

    def __init__(self) -> None:
        # Complete events that are not parsed yet.
        self._held = bytearray()
        # By the index of the block.
        self._open_inputs: dict[object, _ToolInput] = {}
        self._has_incomplete_input = False

    def add(self, complete_events: bytes) -> None:
        """Add complete events. Most of them are parsed together, which is faster."""
        self._held += complete_events
        if len(self._held) > _HELD_BYTES or b"content_block_stop" in complete_events:
            self._parse_held()

    def find_error(self, stop_reason: str | None) -> TruncatedError | None:
        """Return the error for a message with this stop reason; None if its inputs are complete."""
        self._parse_held()
        for index in list(self._open_inputs):
            self._close_input(index)
        if self._has_incomplete_input and stop_reason not in _CUT_REASONS:
            return _incomplete_call_error()
        return None

    def _parse_held(self) -> None:
        for data in SSEDecoder().feed(bytes(self._held)):
            event = loads_object(data) or {}
            index = event.get("index")
            match event:
                case {"type": "content_block_start", "content_block": {"type": "tool_use"}}:
                    self._open_inputs[index] = _ToolInput()
                case {"type": "content_block_delta", "delta": {"partial_json": str(part)}}:
                    if index in self._open_inputs:
                        self._open_inputs[index].add(part)
                case {"type": "content_block_stop"} if index in self._open_inputs:
                    self._close_input(index)
        self._held.clear()

    def _close_input(self, index: object) -> None:
        if self._open_inputs.pop(index).is_incomplete:
            self._has_incomplete_input = True


class _ToolInput:
    """The state of the input of a tool call, without its text."""

    def __init__(self) -> None:
        self._end_finder: JsonEndFinder | None = None
        # False for an empty input, which means an empty object.
        self.is_incomplete = False

    def add(self, part: str) -> None:
        if self._end_finder is None:
            if not part.lstrip().startswith("{"):
                # White space, or an input that the SDKs reject.
                return
            self._end_finder = JsonEndFinder()
        is_complete = self._end_finder.feed(part.encode("utf-8", "surrogatepass"))
        self.is_incomplete = not is_complete
