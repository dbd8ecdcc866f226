"""Convert the events of a Responses stream to Chat Completions chunks.

A response consists of items (reasoning, message, function_call). Each item is added, sent in
deltas, and repeated completely at its end. Deltas are forwarded immediately; text that only the
complete item contains is sent at its end, because some servers send no deltas. The last event
contains the reason for the end of the response: a stream without it has no finish reason and counts
as interrupted. Unknown events and items are skipped, so new types cause no errors.

A response that is not streamed is converted with the same chunks, so the results of both are
consistent.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from anthropic_proxy.translate.error_codes import find_named_status
from anthropic_proxy.translate.reasoning.fields import DETAILS
from anthropic_proxy.translate.response.stop_reasons import parse_finish_reason
from anthropic_proxy.translate.responses_api import reasoning
from anthropic_proxy.translate.responses_api.open_items import OpenItems, OutputItem, get_item
from anthropic_proxy.translate.upstream_failure import find_chunk_error, find_error
from anthropic_proxy.wire.json_codec import JsonObject, dumps
from anthropic_proxy.wire.openai import string_or_empty

Chunks = list[JsonObject]


def _build_summary_delta(item_index: int, part_index: int, fragment: str) -> JsonObject:
    detail = reasoning.build_summary_detail(item_index, part_index, fragment)
    return reasoning.build_delta(detail)


def _build_reasoning_delta(item_index: int, _: int, fragment: str) -> JsonObject:
    return reasoning.build_delta(reasoning.build_text_detail(item_index, fragment))


@dataclass(frozen=True)
class TextKind:
    """A kind of text: its location in an item, and its form in Chat Completions."""

    # type of the items that contain it
    item_type: str
    # field of a complete item with the list of parts
    parts_field: str
    # type of the parts
    part_type: str
    # field of a part with the text
    text_field: str
    # field of a delta event with the index of the part
    index_field: str
    # builds a chunk's delta from item index, part index and fragment
    build_delta: Callable[[int, int, str], JsonObject]


# By the type of the event with a fragment of the text.
TEXT_KINDS: Mapping[str, TextKind] = {
    "response.reasoning_summary_text.delta": TextKind(
        item_type="reasoning",
        parts_field="summary",
        part_type="summary_text",
        text_field="text",
        index_field="summary_index",
        build_delta=_build_summary_delta,
    ),
    "response.reasoning_text.delta": TextKind(
        item_type="reasoning",
        parts_field="content",
        part_type="reasoning_text",
        text_field="text",
        index_field="content_index",
        build_delta=_build_reasoning_delta,
    ),
    "response.output_text.delta": TextKind(
        item_type="message",
        parts_field="content",
        part_type="output_text",
        text_field="text",
        index_field="content_index",
        build_delta=lambda _, __, fragment: {"content": fragment},
    ),
    "response.refusal.delta": TextKind(
        item_type="message",
        parts_field="content",
        part_type="refusal",
        text_field="refusal",
        index_field="content_index",
        build_delta=lambda _, __, fragment: {"refusal": fragment},
    ),
}
# By the type of the event with the complete text.
_COMPLETE_TEXT_KINDS = {
    event_type.replace(".delta", ".done"): text_kind for event_type, text_kind in TEXT_KINDS.items()
}


class ResponsesReader:
    """Converts the events of one stream."""

    def __init__(self) -> None:
        # True after the last event of the response.
        self.is_complete = False
        self._items = OpenItems()
        self._call_count = 0
        # The message whose text was sent last.
        self._last_message: OutputItem | None = None
        # True if a message has more than white space, which gets no block of its own.
        self._has_text = False
        # The last sent part of reasoning; None after other output.
        self._last_reasoning_part: tuple[OutputItem, Any] | None = None
        # The item of the last sent encrypted reasoning; None after other output.
        self._last_encrypted_item: OutputItem | None = None

    def feed(self, event: JsonObject) -> Chunks:
        """Return the chunks for one event. A failure becomes a chunk with an `error`."""
        event_type = string_or_empty(event.get("type"))
        text_kind = TEXT_KINDS.get(event_type)
        if text_kind is not None:
            return self._convert_delta(text_kind, event)
        text_kind = _COMPLETE_TEXT_KINDS.get(event_type)
        if text_kind is not None:
            return self._convert_complete_text(text_kind, event)
        convert = self._CONVERTERS.get(event_type)
        if convert is not None:
            return convert(self, event)
        if event.get("error"):
            # Gateways report failures in other formats.
            return [build_error_chunk(event["error"])]
        if not event_type.startswith("response.") and find_chunk_error(event) is not None:
            return [event]
        return []

    # Events of texts and items.

    def _convert_delta(self, text_kind: TextKind, event: JsonObject) -> Chunks:
        item = self._items.find_or_open(event, text_kind.item_type)
        part_index = _get_int(event, text_kind.index_field)
        return self._write_text(item, text_kind, part_index, string_or_empty(event.get("delta")))

    def _convert_complete_text(self, text_kind: TextKind, event: JsonObject) -> Chunks:
        item = self._items.find_or_open(event, text_kind.item_type)
        part_index = _get_int(event, text_kind.index_field)
        return self._write_rest(item, text_kind, part_index, event)

    def _open_item(self, event: JsonObject) -> Chunks:
        item_json = get_item(event)
        item = self._items.open_item(event, string_or_empty(item_json.get("type")))
        if item.kind == "function_call":
            return self._write_call(item, item_json)
        encrypted_item = self._last_encrypted_item
        phase = string_or_empty(item_json.get("phase"))
        if encrypted_item is None or item.kind != "message" or not phase:
            return []
        detail = reasoning.build_phase_detail(encrypted_item.index, phase)
        return [_build_chunk(reasoning.build_delta(detail))]

    def _finish_item(self, event: JsonObject) -> Chunks:
        item_json = get_item(event)
        item = self._items.find_or_open(event, string_or_empty(item_json.get("type")))
        if item.kind == "function_call":
            return self._write_call(item, item_json)
        chunks: Chunks = []
        for text_kind in TEXT_KINDS.values():
            if text_kind.item_type == item.kind:
                chunks += self._write_unsent_texts(item, text_kind, item_json)
        has_encrypted = item.kind == "reasoning" and string_or_empty(
            item_json.get("encrypted_content")
        )
        # Some servers send the last event of an item twice.
        if has_encrypted and "encrypted_content" not in item.sent_parts:
            chunks.append(self._write_encrypted(item, item_json))
        return chunks

    def _append_arguments(self, event: JsonObject) -> Chunks:
        item = self._items.find_or_open(event, "function_call")
        return self._write_arguments(item, "", string_or_empty(event.get("delta")))

    def _finish_arguments(self, event: JsonObject) -> Chunks:
        return self._write_call(self._items.find_or_open(event, "function_call"), event)

    # Events of the response.

    def _finish_response(self, event: JsonObject) -> Chunks:
        """Finish the response.

        The event repeats all items. Servers may number them differently than before, so items are
        used only if no item of their kind was sent. Reasoning precedes all other output, so it is
        used only if nothing was sent.
        """
        self.is_complete = True
        response = _get_object(event, "response")
        if response.get("error"):
            return self._fail_response(event)
        chunks: Chunks = []
        unsent_kinds = set()
        if self._last_message is None:
            unsent_kinds.add("message")
        if self._call_count == 0:
            unsent_kinds.add("function_call")
        has_sent_any = self._items.has_sent_any
        for index, item in enumerate(_get_objects(response, "output")):
            if has_sent_any and item.get("type") not in unsent_kinds:
                continue
            item_event = {"output_index": index, "item": item}
            chunks += self._open_item(item_event)
            chunks += self._finish_item(item_event)
        finish_reason = "tool_calls" if self._call_count else "stop"
        event_status = string_or_empty(event["type"]).removeprefix("response.")
        for status in (event_status, string_or_empty(response.get("status"))):
            if status == "incomplete":
                finish_reason = _get_incomplete_reason(response)
            elif _is_failure(status):
                finish_reason = status
        chunks.append(_build_finish_chunk(response, finish_reason))
        return chunks

    def _fail_response(self, event: JsonObject) -> Chunks:
        response = _get_object(event, "response")
        chunk = build_error_chunk(response.get("error"))
        if isinstance(response.get("usage"), dict):
            chunk["usage"] = _convert_usage(response["usage"])
        return [chunk]

    def _convert_error(self, event: JsonObject) -> Chunks:
        """Convert an error event.

        Its fields are in the event (documented) or in its member `error` (OpenAI's servers).
        """
        error = event.get("error")
        if not error:
            error = {name: event.get(name) for name in ("message", "code", "param")}
        return [build_error_chunk(error)]

    # Chunks for the new parts of an item.

    def _write_unsent_texts(
        self, item: OutputItem, text_kind: TextKind, item_json: JsonObject
    ) -> Chunks:
        """Write the texts of a complete item that were not sent in deltas."""
        chunks: Chunks = []
        for part_index, part in enumerate(_get_parts(item_json, text_kind)):
            if part.get("type") == text_kind.part_type:
                chunks += self._write_rest(item, text_kind, part_index, part)
        return chunks

    def _write_rest(
        self, item: OutputItem, text_kind: TextKind, part_index: int, part: JsonObject
    ) -> Chunks:
        """Write the rest of a complete part that was not sent."""
        text = string_or_empty(part.get(text_kind.text_field))
        unsent_text = item.get_unsent((text_kind.part_type, part_index), text)
        return self._write_text(item, text_kind, part_index, unsent_text)

    def _write_text(
        self, item: OutputItem, text_kind: TextKind, part_index: int, fragment: str
    ) -> Chunks:
        if not fragment:
            return []
        part = text_kind.part_type, part_index
        item.record_sent(part, fragment)
        output = fragment
        if self._needs_separator(item, part):
            output = reasoning.SEPARATOR + fragment
        self._move_to(item, part, fragment)
        return [_build_chunk(text_kind.build_delta(item.index, part_index, output))]

    def _needs_separator(self, item: OutputItem, part: Any) -> bool:
        """Return whether the text follows another part of reasoning or another message."""
        if item.kind == "reasoning":
            return self._last_reasoning_part not in (None, (item, part))
        return self._last_message not in (None, item)

    def _move_to(self, item: OutputItem, part: Any, fragment: str) -> None:
        """Record the part whose text is sent."""
        self._last_encrypted_item = None
        if item.kind == "reasoning":
            self._last_reasoning_part = (item, part)
        else:
            self._last_message = item
            self._has_text = self._has_text or not fragment.isspace()
            self._last_reasoning_part = None

    def _write_encrypted(self, item: OutputItem, item_json: JsonObject) -> JsonObject:
        self._last_encrypted_item = item
        item.record_sent("encrypted_content")
        preceding_outputs = self._call_count
        if self._has_text:
            preceding_outputs += 1
        detail = reasoning.build_encrypted_detail(item.index, item_json, preceding_outputs)
        return _build_chunk(reasoning.build_delta(detail))

    def _write_call(self, item: OutputItem, call: JsonObject) -> Chunks:
        """Write the name and the arguments of a call that were not sent."""
        name = "" if item.is_name_sent else string_or_empty(call.get("name"))
        arguments = item.get_unsent("arguments", _to_argument_text(call.get("arguments")))
        return self._write_arguments(item, name, arguments)

    def _write_arguments(self, item: OutputItem, name: str, fragment: str) -> Chunks:
        if item.call_index is not None and not name and not fragment:
            return []
        item.record_sent("arguments", fragment)
        function = {"arguments": fragment}
        if name:
            item.is_name_sent = True
            function["name"] = name
        call: JsonObject = {"function": function}
        if item.call_index is None:
            call |= {"id": item.call_id, "type": "function"}
            item.call_index = self._open_call()
        return [_build_chunk({"tool_calls": [{"index": item.call_index, **call}]})]

    def _open_call(self) -> int:
        """Return the number of a new call."""
        self._last_reasoning_part = None
        self._last_encrypted_item = None
        self._call_count += 1
        return self._call_count - 1

    # By the type of the event.
    _CONVERTERS: ClassVar[Mapping[str, Callable[["ResponsesReader", JsonObject], Chunks]]] = {
        "response.output_item.added": _open_item,
        "response.output_item.done": _finish_item,
        "response.function_call_arguments.delta": _append_arguments,
        "response.function_call_arguments.done": _finish_arguments,
        "response.completed": _finish_response,
        "response.incomplete": _finish_response,
        "response.failed": _fail_response,
        # No server is known to send it; `to_completion` derives it from the status.
        "response.cancelled": _finish_response,
        "error": _convert_error,
    }


def to_completion(response: JsonObject) -> JsonObject:
    """Return the completion for the JSON of a response with status 200, or `{"error": ...}`.

    Other JSON becomes a completion without choices. An unfinished response (`in_progress`) has no
    finish reason.
    """
    status = "failed" if response.get("error") else response.get("status")
    if status is None:
        return response if find_error(response) else {"choices": []}
    message: JsonObject = {"role": "assistant", "content": None}
    choice: JsonObject = {"index": 0, "message": message, "finish_reason": None}
    completion: JsonObject = {}
    for chunk in ResponsesReader().feed({"type": f"response.{status}", "response": response}):
        if "error" in chunk:
            return chunk
        chunk_choice = chunk["choices"][0]
        choice["finish_reason"] = chunk_choice.get("finish_reason")
        _merge_delta(message, chunk_choice["delta"])
        # The last chunk contains the usage and the service tier.
        completion = chunk
    return {**completion, "choices": [choice]}


def _merge_delta(message: JsonObject, delta: JsonObject) -> None:
    for name in ("content", "refusal"):
        if name in delta:
            message[name] = (message.get(name) or "") + delta[name]
    for name in (DETAILS, "tool_calls"):
        if name in delta:
            message.setdefault(name, []).extend(delta[name])


# Usage fields of this API, with their names in Chat Completions.
_USAGE_FIELDS = {
    "input_tokens": "prompt_tokens",
    "output_tokens": "completion_tokens",
    "total_tokens": "total_tokens",
}
_USAGE_DETAIL_FIELDS = {
    "input_tokens_details": "prompt_tokens_details",
    "output_tokens_details": "completion_tokens_details",
}


def build_error_chunk(error: Any) -> JsonObject:
    """Return the chunk for an error in a response.

    Its `code` is the HTTP status for a known error, and its `type` contains the original code.
    """
    if not isinstance(error, dict):
        return {"error": {"message": string_or_empty(error), "type": "response.failed"}}
    code = error.get("code")
    names = [name for name in (code, error.get("type")) if isinstance(name, str)]
    message = string_or_empty(error.get("message"))
    status = find_named_status(names) or code
    return {"error": {**error, "message": message, "type": " ".join(names), "code": status}}


def _build_finish_chunk(response: JsonObject, finish_reason: str) -> JsonObject:
    """Return the last chunk with the finish reason, usage and service tier."""
    chunk = _build_chunk({})
    chunk["choices"][0]["finish_reason"] = finish_reason
    if isinstance(response.get("usage"), dict):
        chunk["usage"] = _convert_usage(response["usage"])
    if response.get("service_tier"):
        chunk["service_tier"] = response["service_tier"]
    return chunk


def _is_failure(status: str) -> bool:
    """Return whether a response with this status broke off (`cancelled`, `failed`)."""
    reason = parse_finish_reason(status)
    return reason is not None and reason.failure_status is not None


def _get_incomplete_reason(response: JsonObject) -> str:
    """Return the finish reason of an incomplete response.

    A reason that does not describe an early end becomes `length`.
    """
    word = string_or_empty(_get_object(response, "incomplete_details").get("reason"))
    reason = parse_finish_reason(word)
    if reason is None or not (reason.is_cut or reason.failure_status):
        return "length"
    return word


def _convert_usage(usage: JsonObject) -> JsonObject:
    converted = {chat_name: usage.get(name) for name, chat_name in _USAGE_FIELDS.items()}
    for name, chat_name in _USAGE_DETAIL_FIELDS.items():
        if isinstance(usage.get(name), dict):
            converted[chat_name] = usage[name]
    return converted


def _build_chunk(delta: JsonObject) -> JsonObject:
    return {"choices": [{"index": 0, "delta": delta}]}


def _get_parts(item_json: JsonObject, text_kind: TextKind) -> list[JsonObject]:
    """Return the parts of an item. Some servers send a string instead of a list."""
    single_text = string_or_empty(item_json.get(text_kind.parts_field))
    if single_text:
        return [{"type": "output_text", "text": single_text}]
    return _get_objects(item_json, text_kind.parts_field)


def _to_argument_text(arguments: Any) -> str:
    """Return arguments as text; some servers send an object."""
    if isinstance(arguments, dict):
        return dumps(arguments).decode()
    return string_or_empty(arguments)


def _get_int(event: JsonObject, name: str) -> int:
    value = event.get(name)
    return value if isinstance(value, int) else 0


def _get_object(payload: JsonObject, name: str) -> JsonObject:
    value = payload.get(name)
    return value if isinstance(value, dict) else {}


def _get_objects(payload: JsonObject, name: str) -> list[JsonObject]:
    value = payload.get(name)
    if not isinstance(value, list):
        return []
    return [each for each in value if isinstance(each, dict)]
