"""Find the output item of an event.

According to OpenAI's documentation, an item has a position (`output_index`) and an id. But some
servers send a different id with each event (GitHub Copilot), some use one position for several
items (gateways that emulate this API), and some send no position. So a known id has precedence over
the position among items of one kind. A call also has a call id.
"""

from dataclasses import dataclass, field
from typing import Any

from anthropic_proxy.wire.json_codec import JsonObject
from anthropic_proxy.wire.openai import string_or_empty


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

    @property
    def has_sent_any(self) -> bool:
        """True if a part of any item was sent."""
        return any(item.sent_parts for item in self._items)

    def open_item(self, event: JsonObject, kind: str) -> OutputItem:
        """Add the item of an event."""
        index = event.get("output_index")
        if not isinstance(index, int):
            index = len(self._items)
        item = OutputItem(kind, index, _get_call_id(event))
        self._items.append(item)
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
        item = self._find_item(event, kind)
        if item is None:
            return self.open_item(event, kind)
        call_id = _get_call_id(event)
        if item.call_id and call_id and call_id != item.call_id:
            # This is another call at the same position.
            return self.open_item(event, kind)
        return item

    def _find_item(self, event: JsonObject, kind: str) -> OutputItem | None:
        for identifier in _list_identifiers(event):
            item = self._by_identifier.get((kind, identifier))
            if item is not None:
                return item
        return None


def _list_identifiers(event: JsonObject) -> list[str | int]:
    """Return the ids and then the position of the event's item.

    Items without both share one empty identifier.
    """
    item_id = string_or_empty(event.get("item_id"))
    own_id = string_or_empty(get_item(event).get("id"))
    identifiers: list[str | int] = [each for each in (item_id, own_id, _get_call_id(event)) if each]
    output_index = event.get("output_index")
    if isinstance(output_index, int):
        identifiers.append(output_index)
    return identifiers or [""]


def _get_call_id(event: JsonObject) -> str:
    return string_or_empty(get_item(event).get("call_id"))


def get_item(event: JsonObject) -> JsonObject:
    """Return the item in an event, or an empty object."""
    value = event.get("item")
    return value if isinstance(value, dict) else {}
