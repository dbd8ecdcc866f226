"""The events of a Responses stream -> chunks of Chat Completions.

The answer comes as items (reasoning, message, function_call): each is announced, sent in pieces, and told whole at its end.
Pieces go on at once; what the end of an item tells beyond them is sent then, as some servers send no pieces. Only the last
event says how the answer ended: a stream without it has no finish reason, and so is seen to be broken off. Unknown events
and items are passed over: new ones must not break what is there.
"""

from collections.abc import Callable
from typing import Any

from anthropic_proxy.translate.responses_api import reasoning
from anthropic_proxy.translate.responses_api.finish import error_chunk, finish_chunk
from anthropic_proxy.translate.responses_api.open_items import Item, OpenItems, told
from anthropic_proxy.translate.responses_api.texts import TEXTS, Text
from anthropic_proxy.wire.json_codec import JsonObject, dumps
from anthropic_proxy.wire.openai import string_or_empty

Chunks = list[JsonObject]


class _Answer:
    """An answer under way: what its events come to."""

    def __init__(self) -> None:
        self._items = OpenItems()
        self._calls = 0
        # The message that spoke last, and the part of the reasoning that came last with nothing but reasoning behind it:
        # what is next is set apart from them.
        self._spoken: Item | None = None
        self._thought: tuple[Item, Any] | None = None
        # The encrypted reasoning that came last, as long as nothing else has come.
        self._encrypted: Item | None = None

    def piece(self, text: Text, event: JsonObject) -> Chunks:
        return self._write(
            self._items.of(event, text.kind),
            text,
            _number(event, text.index),
            string_or_empty(event.get("delta")),
        )

    def whole_piece(self, text: Text, event: JsonObject) -> Chunks:
        item, number = self._items.of(event, text.kind), _number(event, text.index)
        return self._write(
            item,
            text,
            number,
            item.rest((text.type, number), string_or_empty(event.get(text.name))),
        )

    def added(self, event: JsonObject) -> Chunks:
        whole = told(event)
        item = self._items.begin(event, string_or_empty(whole.get("type")))
        if item.kind == "function_call":
            return self._call(item, whole)
        encrypted, phase = self._encrypted, string_or_empty(whole.get("phase"))
        if encrypted is None or item.kind != "message" or not phase:
            return []
        return [_chunk(reasoning.delta(reasoning.phase_detail(encrypted.index, phase)))]

    def done(self, event: JsonObject) -> Chunks:
        whole = told(event)
        item = self._items.of(event, string_or_empty(whole.get("type")))
        if item.kind == "function_call":
            return self._call(item, whole)
        texts = [text for text in TEXTS.values() if text.kind == item.kind]
        chunks = [chunk for text in texts for chunk in self._rest_of_text(item, text, whole)]
        if item.kind == "reasoning" and string_or_empty(whole.get("encrypted_content")):
            self._encrypted = item
            item.send("encrypted_content")
            said_before = self._calls + (self._spoken is not None)
            chunks.append(
                _chunk(reasoning.delta(reasoning.encrypted_detail(item.index, whole, said_before)))
            )
        return chunks

    def arguments(self, event: JsonObject) -> Chunks:
        return self._argue(
            self._items.of(event, "function_call"), "", string_or_empty(event.get("delta"))
        )

    def all_arguments(self, event: JsonObject) -> Chunks:
        return self._call(self._items.of(event, "function_call"), event)

    def ended(self, event: JsonObject) -> Chunks:
        """The whole answer is told once more; that counts only where nothing of it came before."""
        response = _mapping(event, "response")
        untold = () if self._items.any_told else _mappings(response, "output")
        chunks: Chunks = []
        for index, item in enumerate(untold):
            announced = {"output_index": index, "item": item}
            chunks += [*self.added(announced), *self.done(announced)]
        cut = "incomplete" in (
            response.get("status"),
            string_or_empty(event["type"]).removeprefix("response."),
        )
        return [*chunks, finish_chunk(response, cut=cut, has_calls=self._calls > 0)]

    def failed(self, event: JsonObject) -> Chunks:
        return [error_chunk(_mapping(event, "response").get("error"))]

    def error(self, event: JsonObject) -> Chunks:
        """The error is the event itself, as documented, or within it, as OpenAI's servers send it."""
        return [
            error_chunk(
                event.get("error")
                or {name: event.get(name) for name in ("message", "code", "param")}
            )
        ]

    def _rest_of_text(self, item: Item, text: Text, whole: JsonObject) -> Chunks:
        parts = [
            (number, part)
            for number, part in enumerate(_parts(whole, text))
            if part.get("type") == text.type
        ]
        rests = [
            (number, item.rest((text.type, number), string_or_empty(part.get(text.name))))
            for number, part in parts
        ]
        return [chunk for number, rest in rests for chunk in self._write(item, text, number, rest)]

    def _write(self, item: Item, text: Text, number: int, piece: str) -> Chunks:
        """A piece of a text, set apart from the one before: that of another message, or another part of the reasoning."""
        if not piece:
            return []
        part = text.type, number
        item.send(part, piece)
        shown = reasoning.SEPARATOR + piece if self._is_apart(item, part) else piece
        return [_chunk(text.delta(item.index, number, shown))]

    def _is_apart(self, item: Item, part: Any) -> bool:
        """Whether a text begins behind another one of its kind."""
        self._encrypted = None
        if item.kind == "reasoning":
            thought, self._thought = self._thought, (item, part)
            return thought not in (None, self._thought)
        spoken, self._spoken, self._thought = self._spoken, item, None
        return spoken not in (None, item)

    def _call(self, item: Item, known: JsonObject) -> Chunks:
        """What is new in a call that is told as far as it is known."""
        name = "" if item.named else string_or_empty(known.get("name"))
        return self._argue(item, name, item.rest("arguments", _written(known.get("arguments"))))

    def _argue(self, item: Item, name: str, piece: str) -> Chunks:
        if item.call is not None and not name and not piece:
            return []
        item.send("arguments", piece)
        item.named = item.named or bool(name)
        begun = self._begun(item) if item.call is None else {}
        function = {"name": name, "arguments": piece} if name else {"arguments": piece}
        return [_chunk({"tool_calls": [{"index": item.call, **begun, "function": function}]})]

    def _begun(self, item: Item) -> JsonObject:
        item.call, self._calls = self._calls, self._calls + 1
        self._thought = self._encrypted = None
        return {"id": item.call_id, "type": "function"}


_EVENTS: dict[str, Callable[[_Answer, JsonObject], Chunks]] = {
    "response.output_item.added": _Answer.added,
    "response.output_item.done": _Answer.done,
    "response.function_call_arguments.delta": _Answer.arguments,
    "response.function_call_arguments.done": _Answer.all_arguments,
    "response.completed": _Answer.ended,
    "response.incomplete": _Answer.ended,
    "response.failed": _Answer.failed,
    "error": _Answer.error,
}


class ResponsesReader:
    """Reads one stream: `feed` gives the chunks for each event."""

    def __init__(self) -> None:
        self._answer = _Answer()

    def feed(self, event: JsonObject) -> Chunks:
        """Chunks for one event. One that tells of a failure becomes a chunk with an `error`."""
        kind = string_or_empty(event.get("type"))
        text = TEXTS.get(kind)
        if text is not None:
            return self._answer.piece(text, event)
        text = TEXTS.get(f"{kind.removesuffix('.done')}.delta") if kind.endswith(".done") else None
        if text is not None:
            return self._answer.whole_piece(text, event)
        read = _EVENTS.get(kind)
        if read is not None:
            return read(self._answer, event)
        # Gateways tell of failures in their own words.
        return [error_chunk(event["error"])] if event.get("error") else []


def _chunk(delta: JsonObject) -> JsonObject:
    return {"choices": [{"index": 0, "delta": delta}]}


def _parts(whole: JsonObject, text: Text) -> list[JsonObject]:
    """The parts of an item; some servers have one string in their place, as requests may."""
    lone = string_or_empty(whole.get(text.parts))
    return [{"type": "output_text", "text": lone}] if lone else _mappings(whole, text.parts)


def _written(arguments: Any) -> str:
    """Arguments are text; some servers send the object itself."""
    return dumps(arguments).decode() if isinstance(arguments, dict) else string_or_empty(arguments)


def _number(event: JsonObject, name: str) -> int:
    value = event.get(name)
    return value if isinstance(value, int) else 0


def _mapping(told: JsonObject, name: str) -> JsonObject:
    value = told.get(name)
    return value if isinstance(value, dict) else {}


def _mappings(told: JsonObject, name: str) -> list[JsonObject]:
    value = told.get(name)
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
