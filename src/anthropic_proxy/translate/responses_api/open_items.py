"""Find the output item of an event.

According to OpenAI's documentation, an item has a position (`output_index`) and an id. But some
servers send a different id with each event (GitHub Copilot), some use one position for several
items (gateways that emulate this API), and some send no position. So a known id has precedence over
the position among items of one kind. A call also has a call id.
"""

from dataclasses import dataclass, field
from typing import Any

from anthropic_proxy.translate.tool_calls.json_scanner import JsonScanner
from anthropic_proxy.wire.json_codec import JsonObject
from anthropic_proxy.wire.openai import string_or_empty


@dataclass(frozen=True)
class CallKind:
    """A kind of tool call, and its form in Chat Completions."""

    # type of the call in Chat Completions, and the field with its name and arguments
    chat_type: str
    # field with the arguments, in both APIs
    arguments_field: str


# By the type of the item. The input of a custom tool is a text.
CALL_KINDS = {
    "function_call": CallKind("function", "arguments"),
    "custom_tool_call": CallKind("custom", "input"),
}

# Calls that the client would have to run, of tools that the proxy does not offer: only fields that
# the configuration adds to requests can offer them. Tools that the server itself runs, such as
# `web_search_call`, need no translation. Source: platform.openai.com/docs/api-reference/responses.
UNSUPPORTED_CALLS = frozenset(
    {"apply_patch_call", "computer_call", "local_shell_call", "shell_call", "tool_call"}
)


@dataclass
class SentPart:
    """The text of a part that was sent."""

    fragments: list[str] = field(default_factory=list)
    # in characters
    length: int = 0


@dataclass(eq=False)
class OutputItem:
    """An item of the response, and the sent text of its parts."""

    kind: str
    # position in the response
    index: int
    # id of a function call
    call_id: str = ""
    # number among the calls; None until the call is opened
    call_index: int | None = None
    # whether the name of the call was sent
    is_name_sent: bool = False
    sent_parts: dict[Any, SentPart] = field(default_factory=dict)
    # whether a complete call has arrived
    is_call_finished: bool = False
    # whether the upstream has marked the call as incomplete
    is_call_incomplete: bool = False

    def finish_call(self, call: JsonObject) -> None:
        """Record a call that the upstream has sent completely, or marked as incomplete."""
        self.is_call_finished = True
        self.is_call_incomplete = call.get("status") == "incomplete"

    @property
    def is_half_call(self) -> bool:
        """True for a call whose sent arguments are only a beginning.

        If only the closing brackets of a finished call are missing, the arguments can be repaired.
        """
        if self.call_index is None:
            return False
        if self.kind == "custom_tool_call" or self.is_call_incomplete:
            return self.is_call_incomplete or not self.is_call_finished
        sent_part = self.sent_parts.get("arguments")
        text = "".join(sent_part.fragments).strip() if sent_part else ""
        scanner = JsonScanner()
        scanner.feed(text)
        if not text or not scanner.is_valid or scanner.is_complete:
            return False
        ends_with_value = scanner.safe_length == len(text) and not scanner.is_in_string
        return not (self.is_call_finished and ends_with_value)

    def record_sent(self, part: Any, fragment: str = "") -> None:
        """Record that a fragment of a part was sent."""
        sent_part = self.sent_parts.setdefault(part, SentPart())
        sent_part.fragments.append(fragment)
        sent_part.length += len(fragment)

    def get_unsent(self, part: Any, text: str) -> str:
        """Return the rest of `text` that was not sent; empty if other text was sent."""
        sent_part = self.sent_parts.get(part)
        if sent_part is None:
            return text
        is_longer = len(text) > sent_part.length and text.startswith("".join(sent_part.fragments))
        return text[sent_part.length :] if is_longer else ""


class OpenItems:
    """The output items of one response."""

    def __init__(self) -> None:
        self._items: list[OutputItem] = []
        self._by_identifier: dict[tuple[str, str | int], OutputItem] = {}
        self._last_by_kind: dict[str, OutputItem] = {}

    @property
    def has_sent_any(self) -> bool:
        """True if a part of any item was sent."""
        return any(item.sent_parts for item in self._items)

    @property
    def has_half_call(self) -> bool:
        """True if the arguments of a call are only a beginning."""
        return any(item.is_half_call for item in self._items)

    def open_item(self, event: JsonObject, kind: str) -> OutputItem:
        """Add the item of an event."""
        index = event.get("output_index")
        if not isinstance(index, int):
            index = len(self._items)
        item = OutputItem(kind, index, _get_call_id(event))
        self._items.append(item)
        self._last_by_kind[kind] = item
        for identifier in _list_identifiers(event):
            self._by_identifier[kind, identifier] = item
        return item

    def find_or_open(self, event: JsonObject, kind: str) -> OutputItem:
        """Return the item of an event, or add a new item if it is unknown."""
        item_id = event.get("item_id")
        if isinstance(item_id, str) and "item" not in event:
            # A fast path for deltas, which are most events.
            named_item = self._by_identifier.get((kind, item_id))
            if named_item is not None:
                return named_item
        item = self.find_item(event, kind)
        if item is None:
            return self.open_item(event, kind)
        call_id = _get_call_id(event)
        if item.call_id and call_id and call_id != item.call_id:
            # This is another call at the same position.
            return self.open_item(event, kind)
        return item

    def find_item(self, event: JsonObject, kind: str) -> OutputItem | None:
        """Return the item of an event, or None if it is unknown."""
        identifiers = _list_identifiers(event)
        for identifier in identifiers:
            item = self._by_identifier.get((kind, identifier))
            if item is not None:
                return item
        return None if identifiers else self._last_by_kind.get(kind)

    def is_about_reasoning(self, event: JsonObject) -> bool:
        """Return whether an event about a part is about one of reasoning, not of a message."""
        if not _list_identifiers(event):
            return bool(self._items) and self._items[-1].kind == "reasoning"
        if self.find_item(event, "message") is not None:
            return False
        return self.find_item(event, "reasoning") is not None


def get_item_kind(item_json: JsonObject) -> str:
    """Return the type of an item. Some servers omit the type of messages."""
    kind = string_or_empty(item_json.get("type"))
    if not kind and item_json.get("role") == "assistant":
        return "message"
    return kind


def _list_identifiers(event: JsonObject) -> list[str | int]:
    """Return the ids and then the position of the event's item.

    Events without both are about the last item of their kind.
    """
    item_id = string_or_empty(event.get("item_id"))
    own_id = string_or_empty(get_item(event).get("id"))
    identifiers: list[str | int] = [each for each in (item_id, own_id, _get_call_id(event)) if each]
    output_index = event.get("output_index")
    if isinstance(output_index, int):
        identifiers.append(output_index)
    return identifiers


def _get_call_id(event: JsonObject) -> str:
    return string_or_empty(get_item(event).get("call_id"))


def get_item(event: JsonObject) -> JsonObject:
    """Return the item in an event, or an empty object."""
    value = event.get("item")
    return value if isinstance(value, dict) else {}
