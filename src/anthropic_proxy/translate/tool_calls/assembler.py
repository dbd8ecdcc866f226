"""Tool calls of upstreams: how the fragments of a stream make up calls.

A fragment belongs to a call by `index`; where that is missing, repeated or reused, by id, name and order. Recorded
oddities that the rules below come from: no index at all (Mistral, Gemini), an index that starts at 1 (Anthropic's
compatible endpoint), one index for two calls (gateways over Gemini), ids repeated in every fragment or empty, names
repeated or null in later ones, names in pieces, arguments as an object or all of them in each fragment, calls whose
fragments interleave.
"""

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from anthropic_proxy.translate.tool_calls.arguments import ToolArguments
from anthropic_proxy.translate.tool_names import NamePrefixes
from anthropic_proxy.wire.json_codec import JsonObject, dumps
from anthropic_proxy.wire.openai import string_or_empty


@dataclass(eq=False)
class ToolCall:
    """One call as assembled so far, by the upstream's name."""

    id: str
    upstream_id: str
    name: str = ""
    arguments: ToolArguments = field(default_factory=ToolArguments)
    # Whether its block has been opened.
    has_block: bool = False
    # Whether its signature has arrived.
    is_signed: bool = False


class ToolCallAssembler:
    """Assembles the fragments of a stream's tool calls; `calls` holds all calls in the order of their first fragments."""

    def __init__(self, tool_names: Collection[str] = (), *, single: bool = False) -> None:
        """`tool_names` are the upstream's names of the request's tools. `single`: only the first call counts."""
        self.calls: list[ToolCall] = []
        self._single = single
        self._tool_names = tool_names
        self._by_index: dict[int, ToolCall] = {}
        self._by_upstream_id: dict[str, ToolCall] = {}
        self._text_call_count = 0

    @property
    def repair_counts(self) -> dict[str, int]:
        """The number of repaired calls by kind: repaired arguments, or a call written as text."""
        kinds = [call.arguments.repair for call in self.accepted_calls if call.arguments.repair]
        return {
            **Counter[str](kinds),
            **({"call_in_text": self._text_call_count} if self._text_call_count else {}),
        }

    @property
    def accepted_calls(self) -> list[ToolCall]:
        """The calls that the caller receives."""
        return self.calls[:1] if self._single else self.calls

    @cached_property
    def _prefixes(self) -> NamePrefixes:
        return NamePrefixes(self._tool_names)

    def accepts(self, call: ToolCall) -> bool:
        """Return whether the caller receives the call."""
        return not self._single or call is self.calls[0]

    def feed(self, fragment: JsonObject, new_id: Callable[[], str]) -> ToolCall:
        """Add a fragment to its call, which is returned. `new_id` returns the id of a new call."""
        function = fragment.get("function")
        function = function if isinstance(function, dict) else {}
        name = string_or_empty(function.get("name"))
        piece = _to_argument_text(function.get("arguments"))
        call = self._find_call(fragment, name, piece) or self._start_call(fragment, new_id())
        if not call.name:
            call.name = name
        elif not call.arguments.has_started:
            call.name = self._extend_name(call.name, name) or call.name
        if piece:
            call.arguments.add(piece)
        return call

    def add_text_call(self, name: str, arguments: JsonObject, new_id: str) -> None:
        """Add a call that was written as text."""
        self._text_call_count += 1
        call = ToolCall(new_id, "", name)
        call.arguments.add_object(arguments)
        self.calls.append(call)

    def is_name_complete(self, call: ToolCall) -> bool:
        """Return whether the name of `call` is complete. A prefix of a tool name may grow until arguments arrive."""
        if not call.name or call.arguments.has_started:
            return bool(call.name)
        return not self._prefixes.any_extends(call.name)

    def _find_call(self, fragment: JsonObject, name: str, piece: str) -> ToolCall | None:
        upstream_id = string_or_empty(fragment.get("id"))
        index = fragment.get("index")
        if isinstance(index, int):
            call = self._by_index.get(index)
        elif upstream_id:
            call = self._by_upstream_id.get(upstream_id)
        else:
            call = self.calls[-1] if self.calls else None
        return (
            None if call is None or self._starts_another(call, upstream_id, name, piece) else call
        )

    def _start_call(self, fragment: JsonObject, new_id: str) -> ToolCall:
        call = ToolCall(new_id, string_or_empty(fragment.get("id")))
        self.calls.append(call)
        self._by_upstream_id.setdefault(call.upstream_id, call)
        index = fragment.get("index")
        if isinstance(index, int):
            self._by_index[index] = call
        return call

    def _starts_another(self, call: ToolCall, upstream_id: str, name: str, piece: str) -> bool:
        """Return whether a fragment with the index or id of `call` begins another call."""
        if upstream_id and call.upstream_id and upstream_id != call.upstream_id:
            return True
        if not name or not call.name:
            return False
        if name != call.name and not call.arguments.has_started:
            return self._extend_name(call.name, name) is None
        # A finished document can't go on: another name, or the beginning of a second document, is a second call.
        starts = piece.lstrip().startswith("{") or name != call.name
        if not starts or not call.arguments.is_complete:
            return False
        is_repeated = call.arguments.is_placeholder or call.arguments.is_repeated_by(piece)
        return not (upstream_id and name == call.name and is_repeated)

    def _extend_name(self, current: str, name: str) -> str | None:
        """Return `current` extended by `name`, or `name` if it repeats and extends it; None when it does neither."""
        if name in ("", current) or (current in self._tool_names and name in self._tool_names):
            return None
        longer = [name] if name.startswith(current) else []
        return next(
            (
                candidate
                for candidate in (*longer, current + name)
                if self._prefixes.any_starts_with(candidate)
            ),
            None,
        )


def get_fragments(delta: JsonObject) -> list[JsonObject]:
    """Return the tool call fragments of a delta, the old `function_call` form included."""
    fragments = delta.get("tool_calls")
    if isinstance(fragments, list):
        return [fragment for fragment in fragments if isinstance(fragment, dict)]
    legacy = delta.get("function_call")
    return [{"index": 0, "function": legacy}] if isinstance(legacy, dict) else []


def _to_argument_text(arguments: Any) -> str:
    """Return arguments as text; some servers send the object itself."""
    if arguments is None or isinstance(arguments, str):
        return arguments or ""
    return dumps(arguments).decode()
