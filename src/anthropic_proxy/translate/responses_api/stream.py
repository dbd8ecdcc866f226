"""Convert the events of a Responses stream to Chat Completions chunks.

The response consists of items (reasoning, message, function_call). Each item is announced, sent in
deltas, and repeated in full at its end. Deltas are forwarded at once; text that only the full item
holds is sent at its end, as some servers send no deltas. The last event states how the response
ended: a stream without it has no finish reason and counts as interrupted. Unknown events and items
are skipped, so that new ones break nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from anthropic_proxy.translate.responses_api import reasoning
from anthropic_proxy.translate.responses_api.finish import build_error_chunk, build_finish_chunk
from anthropic_proxy.translate.responses_api.open_items import OpenItems, OutputItem, get_item
from anthropic_proxy.wire.json_codec import JsonObject, dumps
from anthropic_proxy.wire.openai import string_or_empty

Chunks = list[JsonObject]


@dataclass(frozen=True)
class TextKind:
    """A kind of text: where it is in an item, and its form in Chat Completions."""

    # type of the items that hold it
    item_type: str
    # in a complete item, the list of its parts
    parts_field: str
    # type of the parts that hold this text
    part_type: str
    # the part's field with the text
    text_field: str
    # in a delta event, the field with the index of the part
    index_field: str
    # builds a chunk's delta from item index, part index and fragment
    build_delta: Callable[[int, int, str], JsonObject]


# By the event that sends a piece of it.
TEXT_KINDS: Mapping[str, TextKind] = {
    "response.reasoning_summary_text.delta": TextKind(
        "reasoning",
        "summary",
        "summary_text",
        "text",
        "summary_index",
        lambda item, part, fragment: reasoning.build_delta(
            reasoning.build_summary_detail(item, part, fragment)
        ),
    ),
    "response.reasoning_text.delta": TextKind(
        "reasoning",
        "content",
        "reasoning_text",
        "text",
        "content_index",
        lambda item, _, fragment: reasoning.build_delta(
            reasoning.build_text_detail(item, fragment)
        ),
    ),
    "response.output_text.delta": TextKind(
        "message",
        "content",
        "output_text",
        "text",
        "content_index",
        lambda _, __, fragment: {"content": fragment},
    ),
    "response.refusal.delta": TextKind(
        "message",
        "content",
        "refusal",
        "refusal",
        "content_index",
        lambda _, __, fragment: {"refusal": fragment},
    ),
}


class _EventConverter:
    """The state of one response: its items and what was sent last."""

    def __init__(self) -> None:
        self._items = OpenItems()
        self._call_count = 0
        # The message that spoke last, and the part of the reasoning that came last with nothing but reasoning behind it:
        # what is next is set apart from them.
        self._last_message: OutputItem | None = None
        self._last_reasoning_part: tuple[OutputItem, Any] | None = None
        # The encrypted reasoning that came last, as long as nothing else has come.
        self._last_encrypted_item: OutputItem | None = None

    def convert_delta(self, text_kind: TextKind, event: JsonObject) -> Chunks:
        return self._write_text(
            self._items.find_or_open(event, text_kind.item_type),
            text_kind,
            _get_int(event, text_kind.index_field),
            string_or_empty(event.get("delta")),
        )

    def convert_complete_text(self, text_kind: TextKind, event: JsonObject) -> Chunks:
        item, part_index = (
            self._items.find_or_open(event, text_kind.item_type),
            _get_int(event, text_kind.index_field),
        )
        return self._write_text(
            item,
            text_kind,
            part_index,
            item.get_unsent(
                (text_kind.part_type, part_index), string_or_empty(event.get(text_kind.text_field))
            ),
        )

    def open_item(self, event: JsonObject) -> Chunks:
        item_json = get_item(event)
        item = self._items.open_item(event, string_or_empty(item_json.get("type")))
        if item.kind == "function_call":
            return self._write_call(item, item_json)
        encrypted_item, phase = self._last_encrypted_item, string_or_empty(item_json.get("phase"))
        if encrypted_item is None or item.kind != "message" or not phase:
            return []
        return [
            _build_chunk(
                reasoning.build_delta(reasoning.build_phase_detail(encrypted_item.index, phase))
            )
        ]

    def finish_item(self, event: JsonObject) -> Chunks:
        item_json = get_item(event)
        item = self._items.find_or_open(event, string_or_empty(item_json.get("type")))
        if item.kind == "function_call":
            return self._write_call(item, item_json)
        text_kinds = [
            text_kind for text_kind in TEXT_KINDS.values() if text_kind.item_type == item.kind
        ]
        chunks = [
            chunk
            for text_kind in text_kinds
            for chunk in self._write_unsent_text(item, text_kind, item_json)
        ]
        if item.kind == "reasoning" and string_or_empty(item_json.get("encrypted_content")):
            self._last_encrypted_item = item
            item.record_sent("encrypted_content")
            preceding_outputs = self._call_count + (self._last_message is not None)
            chunks.append(
                _build_chunk(
                    reasoning.build_delta(
                        reasoning.build_encrypted_detail(item.index, item_json, preceding_outputs)
                    )
                )
            )
        return chunks

    def append_arguments(self, event: JsonObject) -> Chunks:
        return self._write_arguments(
            self._items.find_or_open(event, "function_call"),
            "",
            string_or_empty(event.get("delta")),
        )

    def finish_arguments(self, event: JsonObject) -> Chunks:
        return self._write_call(self._items.find_or_open(event, "function_call"), event)

    def finish_response(self, event: JsonObject) -> Chunks:
        """Finish the response. The event repeats all items, which count only if nothing was sent
        before.
        """
        response = _get_object(event, "response")
        unsent_items = () if self._items.has_sent_any else _get_objects(response, "output")
        chunks: Chunks = []
        for index, item in enumerate(unsent_items):
            item_event = {"output_index": index, "item": item}
            chunks += [*self.open_item(item_event), *self.finish_item(item_event)]
        is_incomplete = "incomplete" in (
            response.get("status"),
            string_or_empty(event["type"]).removeprefix("response."),
        )
        return [
            *chunks,
            build_finish_chunk(
                response, is_incomplete=is_incomplete, has_calls=self._call_count > 0
            ),
        ]

    def fail_response(self, event: JsonObject) -> Chunks:
        return [build_error_chunk(_get_object(event, "response").get("error"))]

    def convert_error(self, event: JsonObject) -> Chunks:
        """Convert an error event: the error is the event (documented), or within it (OpenAI's
        servers).
        """
        return [
            build_error_chunk(
                event.get("error")
                or {name: event.get(name) for name in ("message", "code", "param")}
            )
        ]

    def _write_unsent_text(
        self, item: OutputItem, text_kind: TextKind, item_json: JsonObject
    ) -> Chunks:
        parts = [
            (number, part)
            for number, part in enumerate(_get_parts(item_json, text_kind))
            if part.get("type") == text_kind.part_type
        ]
        unsent_texts = [
            (
                number,
                item.get_unsent(
                    (text_kind.part_type, number), string_or_empty(part.get(text_kind.text_field))
                ),
            )
            for number, part in parts
        ]
        return [
            chunk
            for number, unsent in unsent_texts
            for chunk in self._write_text(item, text_kind, number, unsent)
        ]

    def _write_text(
        self, item: OutputItem, text_kind: TextKind, part_index: int, fragment: str
    ) -> Chunks:
        """Write a fragment, separated from another message or another part of the reasoning before
        it.
        """
        if not fragment:
            return []
        part = text_kind.part_type, part_index
        item.record_sent(part, fragment)
        output = reasoning.SEPARATOR + fragment if self._switch_part(item, part) else fragment
        return [_build_chunk(text_kind.build_delta(item.index, part_index, output))]

    def _switch_part(self, item: OutputItem, part: Any) -> bool:
        """Move to a part of an item. Return whether it follows another part of its kind."""
        self._last_encrypted_item = None
        if item.kind == "reasoning":
            previous_part, self._last_reasoning_part = self._last_reasoning_part, (item, part)
            return previous_part not in (None, self._last_reasoning_part)
        previous_message, self._last_message, self._last_reasoning_part = (
            self._last_message,
            item,
            None,
        )
        return previous_message not in (None, item)

    def _write_call(self, item: OutputItem, call: JsonObject) -> Chunks:
        """Write what is new in a call."""
        name = "" if item.is_name_sent else string_or_empty(call.get("name"))
        return self._write_arguments(
            item, name, item.get_unsent("arguments", _arguments_text(call.get("arguments")))
        )

    def _write_arguments(self, item: OutputItem, name: str, fragment: str) -> Chunks:
        if item.call_index is not None and not name and not fragment:
            return []
        item.record_sent("arguments", fragment)
        item.is_name_sent = item.is_name_sent or bool(name)
        call_start = self._open_call(item) if item.call_index is None else {}
        function = {"name": name, "arguments": fragment} if name else {"arguments": fragment}
        return [
            _build_chunk(
                {"tool_calls": [{"index": item.call_index, **call_start, "function": function}]}
            )
        ]

    def _open_call(self, item: OutputItem) -> JsonObject:
        item.call_index, self._call_count = self._call_count, self._call_count + 1
        self._last_reasoning_part = self._last_encrypted_item = None
        return {"id": item.call_id, "type": "function"}


_HANDLERS: dict[str, Callable[[_EventConverter, JsonObject], Chunks]] = {
    "response.output_item.added": _EventConverter.open_item,
    "response.output_item.done": _EventConverter.finish_item,
    "response.function_call_arguments.delta": _EventConverter.append_arguments,
    "response.function_call_arguments.done": _EventConverter.finish_arguments,
    "response.completed": _EventConverter.finish_response,
    "response.incomplete": _EventConverter.finish_response,
    "response.failed": _EventConverter.fail_response,
    "error": _EventConverter.convert_error,
}


class ResponsesReader:
    """Converts one stream, event by event."""

    def __init__(self) -> None:
        self._converter = _EventConverter()

    def feed(self, event: JsonObject) -> Chunks:
        """Return the chunks for one event. A failure becomes a chunk with an `error`."""
        kind = string_or_empty(event.get("type"))
        text_kind = TEXT_KINDS.get(kind)
        if text_kind is not None:
            return self._converter.convert_delta(text_kind, event)
        text_kind = (
            TEXT_KINDS.get(f"{kind.removesuffix('.done')}.delta")
            if kind.endswith(".done")
            else None
        )
        if text_kind is not None:
            return self._converter.convert_complete_text(text_kind, event)
        convert = _HANDLERS.get(kind)
        if convert is not None:
            return convert(self._converter, event)
        # Gateways report failures in their own formats.
        return [build_error_chunk(event["error"])] if event.get("error") else []


def _build_chunk(delta: JsonObject) -> JsonObject:
    return {"choices": [{"index": 0, "delta": delta}]}


def _get_parts(item_json: JsonObject, text_kind: TextKind) -> list[JsonObject]:
    """Return the parts of an item. Some servers send one string instead, as requests may."""
    single_text = string_or_empty(item_json.get(text_kind.parts_field))
    return (
        [{"type": "output_text", "text": single_text}]
        if single_text
        else _get_objects(item_json, text_kind.parts_field)
    )


def _arguments_text(arguments: Any) -> str:
    """Return arguments as text; some servers send the object itself."""
    return dumps(arguments).decode() if isinstance(arguments, dict) else string_or_empty(arguments)


def _get_int(event: JsonObject, name: str) -> int:
    value = event.get(name)
    return value if isinstance(value, int) else 0


def _get_object(payload: JsonObject, name: str) -> JsonObject:
    value = payload.get(name)
    return value if isinstance(value, dict) else {}


def _get_objects(payload: JsonObject, name: str) -> list[JsonObject]:
    value = payload.get(name)
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
