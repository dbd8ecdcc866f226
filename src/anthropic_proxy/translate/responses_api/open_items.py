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
class Sent:
    """What was sent of a part of an item. size: in characters."""

    pieces: list[str] = field(default_factory=list)
    size: int = 0


@dataclass(eq=False)
class Item:
    """An item under way: its kind, its place in the answer, and what was sent of each of its parts. Of a call: its id, its
    number among the calls, and whether its name was sent.
    """

    kind: str
    index: int
    call_id: str = ""
    call: int | None = None
    named: bool = False
    sent: dict[Any, Sent] = field(default_factory=dict)

    def send(self, part: Any, piece: str = "") -> None:
        """Note that a piece of a part is sent."""
        sent = self.sent.setdefault(part, Sent())
        sent.pieces.append(piece)
        sent.size += len(piece)

    def rest(self, part: Any, whole: str) -> str:
        """What was not sent of a part; nothing where it was sent in other words."""
        sent = self.sent.get(part)
        if sent is None:
            return whole
        is_longer = len(whole) > sent.size and whole.startswith("".join(sent.pieces))
        return whole[sent.size :] if is_longer else ""


class OpenItems:
    """The items of one answer."""

    def __init__(self) -> None:
        self._items: list[Item] = []
        self._by_name: dict[tuple[str, str | int], Item] = {}

    @property
    def any_told(self) -> bool:
        """Whether anything of any item was sent."""
        return any(item.sent for item in self._items)

    def begin(self, event: JsonObject, kind: str) -> Item:
        """A new item, announced by the event."""
        place = event.get("output_index")
        item = Item(kind, place if isinstance(place, int) else len(self._items), _call_id(event))
        self._items.append(item)
        for name in (*_ids(event), *_place(event)):
            self._by_name[kind, name] = item
        return item

    def of(self, event: JsonObject, kind: str) -> Item:
        """The item that the event belongs to; a new one where none is known."""
        named = self._named(event, kind)
        if named is not None and "item" not in event:
            return named
        known = (self._by_name.get((kind, name)) for name in (*_ids(event), *_place(event)))
        item = next((each for each in known if each is not None), None)
        is_another = item is not None and item.call_id and _call_id(event) not in ("", item.call_id)
        return self.begin(event, kind) if item is None or is_another else item

    def _named(self, event: JsonObject, kind: str) -> Item | None:
        """The item that a piece names: the short way, as there are many pieces."""
        name = event.get("item_id")
        return self._by_name.get((kind, name)) if isinstance(name, str) else None


def _ids(event: JsonObject) -> list[str]:
    ids = (
        string_or_empty(event.get("item_id")),
        string_or_empty(told(event).get("id")),
        _call_id(event),
    )
    return [each for each in ids if each]


def _place(event: JsonObject) -> tuple[str | int, ...]:
    place = event.get("output_index")
    if isinstance(place, int):
        return (place,)
    return () if _ids(event) else ("",)


def _call_id(event: JsonObject) -> str:
    return string_or_empty(told(event).get("call_id"))


def told(event: JsonObject) -> JsonObject:
    """The item as far as an event tells it whole."""
    value = event.get("item")
    return value if isinstance(value, dict) else {}
