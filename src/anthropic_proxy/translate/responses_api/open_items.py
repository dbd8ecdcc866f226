"""Which item of an answer an event belongs to.

By OpenAI's documents both the place (`output_index`) and the id of an item tell. But some servers send another id with each
event (GitHub Copilot), some give one place to several items (gateways that make this API out of another), and some tell no
place at all. So an id that is known decides, then the place among the items of one kind; a call has its own id besides.
"""

from dataclasses import dataclass, field
from typing import Any

from anthropic_proxy.wire.json_codec import JsonObject
from anthropic_proxy.wire.openai import string_or_empty


@dataclass
class SentPart:
    """What was sent of a part of an item. size: in characters."""

    fragments: list[str] = field(default_factory=list)
    length: int = 0


@dataclass(eq=False)
class OutputItem:
    """An item under way: its kind, its place in the answer, and what was sent of each of its parts. Of a call: its id, its
    number among the calls, and whether its name was sent.
    """

    kind: str
    index: int
    call_id: str = ""
    call_index: int | None = None
    is_name_sent: bool = False
    sent_parts: dict[Any, SentPart] = field(default_factory=dict)

    def record_sent(self, part: Any, fragment: str = "") -> None:
        """Note that a piece of a part is sent."""
        sent_part = self.sent_parts.setdefault(part, SentPart())
        sent_part.fragments.append(fragment)
        sent_part.length += len(fragment)

    def get_unsent(self, part: Any, text: str) -> str:
        """What was not sent of a part; nothing where it was sent in other words."""
        sent_part = self.sent_parts.get(part)
        if sent_part is None:
            return text
        is_longer = len(text) > sent_part.length and text.startswith("".join(sent_part.fragments))
        return text[sent_part.length :] if is_longer else ""


class OpenItems:
    """The items of one answer."""

    def __init__(self) -> None:
        self._items: list[OutputItem] = []
        self._by_identifier: dict[tuple[str, str | int], OutputItem] = {}

    @property
    def has_sent_any(self) -> bool:
        """Whether anything of any item was sent."""
        return any(item.sent_parts for item in self._items)

    def open_item(self, event: JsonObject, kind: str) -> OutputItem:
        """A new item, announced by the event."""
        output_index = event.get("output_index")
        item = OutputItem(
            kind,
            output_index if isinstance(output_index, int) else len(self._items),
            _call_id(event),
        )
        self._items.append(item)
        for identifier in (*_event_ids(event), *_event_position(event)):
            self._by_identifier[kind, identifier] = item
        return item

    def find_or_open(self, event: JsonObject, kind: str) -> OutputItem:
        """The item that the event belongs to; a new one where none is known."""
        named_item = self._find_by_item_id(event, kind)
        if named_item is not None and "item" not in event:
            return named_item
        candidates = (
            self._by_identifier.get((kind, identifier))
            for identifier in (*_event_ids(event), *_event_position(event))
        )
        item = next((each for each in candidates if each is not None), None)
        is_other_call = (
            item is not None and item.call_id and _call_id(event) not in ("", item.call_id)
        )
        return self.open_item(event, kind) if item is None or is_other_call else item

    def _find_by_item_id(self, event: JsonObject, kind: str) -> OutputItem | None:
        """The item that a piece names: the short way, as there are many pieces."""
        item_id = event.get("item_id")
        return self._by_identifier.get((kind, item_id)) if isinstance(item_id, str) else None


def _event_ids(event: JsonObject) -> list[str]:
    ids = (
        string_or_empty(event.get("item_id")),
        string_or_empty(get_item(event).get("id")),
        _call_id(event),
    )
    return [each for each in ids if each]


def _event_position(event: JsonObject) -> tuple[str | int, ...]:
    output_index = event.get("output_index")
    if isinstance(output_index, int):
        return (output_index,)
    return () if _event_ids(event) else ("",)


def _call_id(event: JsonObject) -> str:
    return string_or_empty(get_item(event).get("call_id"))


def get_item(event: JsonObject) -> JsonObject:
    """The item as far as an event tells it whole."""
    value = event.get("item")
    return value if isinstance(value, dict) else {}
