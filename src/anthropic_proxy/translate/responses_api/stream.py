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
from typing import Any, ClassVar

from anthropic_proxy.translate.reasoning.fields import DETAILS
from anthropic_proxy.translate.responses_api import reasoning
from anthropic_proxy.translate.responses_api.open_items import (
    CALL_KINDS,
    UNSUPPORTED_CALLS,
    OpenItems,
    OutputItem,
    get_item,
    get_item_kind,
)
from anthropic_proxy.translate.responses_api.response_end import (
    build_chunk,
    build_error_chunk,
    build_finish_chunk,
    convert_usage,
    ends_early,
    find_early_end,
    find_failure_error,
    find_response_error,
    get_finish_reason,
    get_object,
    get_output_text,
    get_status,
)
from anthropic_proxy.translate.responses_api.text_kinds import (
    COMPLETE_KINDS,
    CONTENT_KINDS,
    DELTA_KINDS,
    TEXT_KINDS,
    TextKind,
)
from anthropic_proxy.translate.upstream_failure import find_chunk_error, find_error
from anthropic_proxy.wire.json_codec import JsonObject, dumps
from anthropic_proxy.wire.openai import string_or_empty

Chunks = list[JsonObject]


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
        text_kind = DELTA_KINDS.get(event_type)
        if text_kind is not None:
            return self._convert_delta(text_kind, event)
        text_kind = COMPLETE_KINDS.get(event_type)
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
        text = string_or_empty(event.get(text_kind.text_field))
        return self._write_rest(item, text_kind, part_index, text)

    def _finish_part(self, event: JsonObject) -> Chunks:
        """Write the rest of a complete part. Some servers send parts without their deltas."""
        part = get_object(event, "part")
        for text_kind in CONTENT_KINDS:
            text = text_kind.get_part_text(part)
            if text and self._may_be_in_item(event, part, text_kind):
                item = self._items.find_or_open(event, text_kind.item_type)
                part_index = _get_int(event, text_kind.index_field)
                return self._write_rest(item, text_kind, part_index, text)
        return []

    def _may_be_in_item(self, event: JsonObject, part: JsonObject, text_kind: TextKind) -> bool:
        """Return whether the item of an event may contain a part of this kind.

        Parts of messages and of reasoning may have the same type, such as `text`. Without a known
        item, they belong to a message.
        """
        if text_kind.item_type != "reasoning" or part.get("type") == text_kind.part_type:
            return True
        return self._items.is_about_reasoning(event)

    def _open_item(self, event: JsonObject) -> Chunks:
        item_json = get_item(event)
        item = self._items.open_item(event, get_item_kind(item_json))
        if item.kind in UNSUPPORTED_CALLS:
            text = f"The upstream sent a call that the proxy cannot translate: {item.kind}"
            return [build_error_chunk({"message": text})]
        if item.kind in CALL_KINDS:
            return self._write_call(item, item_json)
        encrypted_item = self._last_encrypted_item
        phase = string_or_empty(item_json.get("phase"))
        if encrypted_item is None or item.kind != "message" or not phase:
            return []
        detail = reasoning.build_phase_detail(encrypted_item.index, phase)
        return [build_chunk(reasoning.build_delta(detail))]

    def _finish_item(self, event: JsonObject) -> Chunks:
        item_json = get_item(event)
        kind = get_item_kind(item_json)
        if kind in UNSUPPORTED_CALLS and self._items.find_item(event, kind) is None:
            return self._open_item(event)
        item = self._items.find_or_open(event, kind)
        if item.kind in CALL_KINDS:
            item.finish_call(item_json)
            return self._write_call(item, item_json)
        chunks: Chunks = []
        for text_kind in TEXT_KINDS:
            if text_kind.item_type == item.kind:
                for part_index, text in enumerate(text_kind.list_part_texts(item_json)):
                    chunks += self._write_rest(item, text_kind, part_index, text)
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
        return self._finish_call_text(event, "function_call")

    def _append_custom_input(self, event: JsonObject) -> Chunks:
        item = self._items.find_or_open(event, "custom_tool_call")
        return self._write_arguments(item, "", string_or_empty(event.get("delta")))

    def _finish_custom_input(self, event: JsonObject) -> Chunks:
        return self._finish_call_text(event, "custom_tool_call")

    def _finish_call_text(self, event: JsonObject, kind: str) -> Chunks:
        item = self._items.find_or_open(event, kind)
        item.is_call_finished = True
        return self._write_call(item, event)

    # Events of the response.

    def _finish_response(self, event: JsonObject) -> Chunks:
        """Finish the response.

        A response whose calls are incomplete, or of which a call could not be identified, has no
        finish reason, as if its stream broke off.
        """
        self.is_complete = True
        response = get_object(event, "response")
        if find_response_error(response):
            return self._fail_response(event)
        chunks = self._write_unsent_items(response)
        finish_reason: str | None = get_finish_reason(event, has_calls=self._call_count > 0)
        items = _get_objects(response, "output")
        call_count = sum(get_item_kind(item) in CALL_KINDS for item in items)
        has_lost_call = call_count > self._call_count
        if (self._items.has_half_call or has_lost_call) and not ends_early(finish_reason or ""):
            finish_reason = None
        chunks.append(build_finish_chunk(response, finish_reason))
        return chunks

    def _write_unsent_items(self, response: JsonObject) -> Chunks:
        """Write what only the last event contains.

        The event repeats all items. Servers may number them differently than before, so items are
        used only if no item of their kind was sent. Reasoning precedes all other output, so it is
        used only if nothing was sent. Calls and the last text that were sent in part are found by
        their ids. Other calls are new if all sent calls are found.
        """
        chunks: Chunks = []
        knows_sent_calls = self._knows_sent_calls(response)
        unsent_kinds = set()
        if self._last_message is None:
            unsent_kinds.add("message")
        if self._call_count == 0:
            unsent_kinds.update(CALL_KINDS)
        has_sent_any = self._items.has_sent_any
        for index, item in enumerate(_get_objects(response, "output")):
            kind = get_item_kind(item)
            if not has_sent_any or kind in unsent_kinds:
                item_event = {"output_index": index, "item": item}
                chunks += self._open_item(item_event)
                chunks += self._finish_item(item_event)
            elif kind in CALL_KINDS:
                sent_call = self._items.find_item({"item": item}, kind)
                if sent_call is not None:
                    sent_call.finish_call(item)
                    chunks += self._write_call(sent_call, item)
                elif knows_sent_calls:
                    chunks += self._finish_item({"item": item})
            elif kind == "message":
                chunks += self._write_rest_of_message(item)
        text = get_output_text(response)
        if self._last_message is None and text:
            item = {"type": "message", "content": text}
            chunks += self._finish_item({"output_index": -1, "item": item})
        return chunks

    def _knows_sent_calls(self, response: JsonObject) -> bool:
        """Return whether the ids of all sent calls are in the output of the last event.

        Otherwise a call with another id may be one that was sent. It must not run twice.
        """
        known_calls = set()
        for item in _get_objects(response, "output"):
            kind = get_item_kind(item)
            sent_call = self._items.find_item({"item": item}, kind) if kind in CALL_KINDS else None
            if sent_call is not None:
                known_calls.add(sent_call.call_index)
        return len(known_calls) == self._call_count

    def _write_rest_of_message(self, item_json: JsonObject) -> Chunks:
        """Write the end of the text that was sent last, whose deltas are incomplete."""
        sent_item = self._items.find_item({"item": item_json}, "message")
        if sent_item is None or sent_item is not self._last_message:
            return []
        chunks: Chunks = []
        for text_kind in TEXT_KINDS:
            for part_index, text in enumerate(text_kind.list_part_texts(item_json)):
                # Servers may number parts differently than before.
                if (text_kind.part_type, part_index) in sent_item.sent_parts:
                    chunks += self._write_rest(sent_item, text_kind, part_index, text)
        return chunks

    def _fail_response(self, event: JsonObject) -> Chunks:
        error = find_failure_error(event)
        response = get_object(event, "response")
        early_end = find_early_end(response)
        if error is None and early_end is not None:
            self.is_complete = True
            return [build_finish_chunk(response, early_end)]
        chunk = build_error_chunk(error)
        if isinstance(response.get("usage"), dict):
            chunk["usage"] = convert_usage(response["usage"])
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

    def _write_rest(
        self, item: OutputItem, text_kind: TextKind, part_index: int, text: str
    ) -> Chunks:
        """Write the rest of the text of a complete part that was not sent."""
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
        return [build_chunk(text_kind.build_delta(item.index, part_index, output))]

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
        return build_chunk(reasoning.build_delta(detail))

    def _write_call(self, item: OutputItem, call: JsonObject) -> Chunks:
        """Write the name and the arguments of a call that were not sent."""
        name = "" if item.is_name_sent else string_or_empty(call.get("name"))
        value = call.get(CALL_KINDS[item.kind].arguments_field)
        arguments = item.get_unsent("arguments", _to_argument_text(value))
        return self._write_arguments(item, name, arguments)

    def _write_arguments(self, item: OutputItem, name: str, fragment: str) -> Chunks:
        if item.call_index is not None and not name and not fragment:
            return []
        item.record_sent("arguments", fragment)
        kind = CALL_KINDS[item.kind]
        content = {kind.arguments_field: fragment}
        if name:
            item.is_name_sent = True
            content["name"] = name
        call: JsonObject = {kind.chat_type: content}
        if item.call_index is None:
            call |= {"id": item.call_id, "type": kind.chat_type}
            item.call_index = self._open_call()
        return [build_chunk({"tool_calls": [{"index": item.call_index, **call}]})]

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
        "response.content_part.done": _finish_part,
        "response.function_call_arguments.delta": _append_arguments,
        "response.function_call_arguments.done": _finish_arguments,
        "response.custom_tool_call_input.delta": _append_custom_input,
        "response.custom_tool_call_input.done": _finish_custom_input,
        "response.completed": _finish_response,
        "response.incomplete": _finish_response,
        "response.failed": _fail_response,
        # The Realtime API and gateways (jlcodes99/cockpit-tools#2328).
        "response.done": _finish_response,
        # No server is known to send these; `to_completion` derives them from the status.
        "response.cancelled": _finish_response,
        "response.canceled": _finish_response,
        "error": _convert_error,
    }


def to_completion(response: JsonObject) -> JsonObject:
    """Return the completion for the JSON of a response with status 200, or `{"error": ...}`.

    Other JSON becomes a completion without choices. An unfinished response (`in_progress`) has no
    finish reason. A response with output and without a status is complete.
    """
    nested = get_object(response, "response")
    if "output" in nested and "output" not in response:
        # The last event of the stream instead of the response.
        response = nested
    status = "failed" if find_response_error(response) else get_status(response)
    if not status:
        if find_error(response):
            return response
        if not _get_objects(response, "output") and not get_output_text(response):
            return {"choices": []}
        status = "completed"
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


def _to_argument_text(arguments: Any) -> str:
    """Return arguments as text; some servers send an object."""
    if isinstance(arguments, dict):
        return dumps(arguments).decode()
    return string_or_empty(arguments)


def _get_int(event: JsonObject, name: str) -> int:
    value = event.get(name)
    return value if isinstance(value, int) else 0


def _get_objects(payload: JsonObject, name: str) -> list[JsonObject]:
    value = payload.get(name)
    if not isinstance(value, list):
        return []
    return [each for each in value if isinstance(each, dict)]
