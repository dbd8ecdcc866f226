"""Assemble tool calls from the fragments of a stream.

A fragment continues the call with the same `index`. Without an index, it continues the call with
the same id; without an id, the last call. Some servers omit, repeat or reuse indices, ids and
names; comments name the recorded behavior that each branch handles.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import MappingProxyType

from anthropic_proxy.translate.tool_calls.arguments import ToolArguments
from anthropic_proxy.translate.tool_calls.custom_input import to_arguments
from anthropic_proxy.translate.tool_calls.native_ids import add_native_number, is_native_id
from anthropic_proxy.translate.tool_calls.offered_tools import OfferedTools, ToolSchemas
from anthropic_proxy.translate.tool_names import find_offered_name
from anthropic_proxy.wire.json_codec import JsonObject, dumps, to_canonical_text
from anthropic_proxy.wire.openai import string_or_empty

# Fields of a fragment that are no content.
_FRAME_FIELDS = frozenset(("index", "type", "function"))


@dataclass(eq=False)
class ToolCall:
    """A tool call, as far as its fragments have arrived."""

    id: str
    # empty if the upstream sent none
    upstream_id: str
    # the upstream's name of the tool
    name: str = ""
    arguments: ToolArguments = field(default_factory=ToolArguments)
    # whether the response has a block for it
    has_block: bool = False
    # whether its signature has arrived
    is_signed: bool = False
    # whether it was written as text
    is_in_text: bool = False
    # the input of a call to a custom tool, which is a text
    custom_input: list[str] | None = None


class ToolCallAssembler:
    """Assembles the tool calls of one response."""

    def __init__(self, tools: ToolSchemas = MappingProxyType({}), *, single: bool = False) -> None:
        """Create an assembler for one response.

        `tools` are the schemas of the request's tools. With `single`, the client receives only the
        first call.
        """
        # All calls, in the order of their first fragments.
        self.calls: list[ToolCall] = []
        self._single = single
        self._tools = OfferedTools(tools)
        self._tool_names = tools
        self._by_index: dict[int, ToolCall] = {}
        self._by_upstream_id: dict[str, ToolCall] = {}
        # The call of the last fragment.
        self._last_call: ToolCall | None = None
        self._text_call_count = 0
        # The calls in the text, by name, that no equal structured call has repeated.
        self._unrepeated: dict[str, Counter[str]] = {}

    @property
    def repair_counts(self) -> dict[str, int]:
        """The number of repairs by kind: repaired or invalid arguments, and calls in text."""
        repairs = (call.arguments.repair for call in self.accepted_calls)
        counts = Counter[str](repair for repair in repairs if repair)
        if self._text_call_count:
            counts["call_in_text"] = self._text_call_count
        return dict(counts)

    @property
    def accepted_calls(self) -> list[ToolCall]:
        """The calls that the client receives."""
        if self._single:
            return self.calls[:1]
        return self.calls

    @property
    def has_native_ids(self) -> bool:
        """True if the upstream's id of a call has the form of Kimi K2."""
        return any(map(is_native_id, self._by_upstream_id))

    def accepts(self, call: ToolCall) -> bool:
        """Return whether the client receives the call."""
        return not self._single or call is self.calls[0]

    def drop_empty_calls(self) -> None:
        """Drop the calls that have neither a name nor arguments. Call it at the end."""
        self.calls = [
            call
            for call in self.calls
            if call.name or call.arguments.has_started or call.custom_input
        ]

    def feed(self, fragment: JsonObject, new_id: Callable[[], str]) -> ToolCall:
        """Add a fragment to its call and return the call. `new_id` creates the id of a new call."""
        custom = fragment.get("custom")
        # Snowflake sends an empty object with each function call.
        if isinstance(custom, dict) and any(custom.values()):
            return self._feed_custom_call(fragment, custom, new_id)
        function = fragment.get("function")
        if not isinstance(function, dict):
            # A flat call, like those of the Responses API and the Messages API.
            function = fragment
        name = string_or_empty(function.get("name"))
        piece = _get_argument_text(function)
        call = self._find_call(fragment, name, piece) or self._start_call(fragment, new_id())
        self._last_call = call
        if not call.name:
            call.name = name
        elif not call.arguments.has_started:
            call.name = self._extend_name(call.name, name) or call.name
        if piece:
            if not call.arguments.has_started:
                self._expect_types(call)
            call.arguments.add(piece)
        if call.name:
            self._start_further_calls(call, call.arguments.take_documents(), new_id)
        return call

    def _feed_custom_call(
        self, fragment: JsonObject, custom: JsonObject, new_id: Callable[[], str]
    ) -> ToolCall:
        """Add a fragment of a call to a custom tool, which OpenAI's models may send unasked.

        Its input becomes arguments when it is complete.
        """
        name = string_or_empty(custom.get("name"))
        call = self._find_call(fragment, name, "") or self._start_call(fragment, new_id())
        self._last_call = call
        call.name = call.name or name
        if call.custom_input is None:
            call.custom_input = []
        call.custom_input.append(string_or_empty(custom.get("input")))
        return call

    def _expect_types(self, call: ToolCall) -> None:
        if call.name:
            call.arguments.expect(self._tools.get_members_without_strings(call.name))

    def close(self, new_id: Callable[[], str], *, truncated: bool = False) -> None:
        """Add the calls whose arguments are incomplete at the end of the response.

        truncated: a token limit ended the response, so the last call may be incomplete.
        """
        for call in self.calls.copy():
            if call.custom_input is not None:
                is_incomplete = truncated and call is self.calls[-1]
                text = "".join(call.custom_input)
                call.arguments.add(
                    to_arguments(text, call.name, self._tools, truncated=is_incomplete)
                )
            self._start_further_calls(call, call.arguments.close(), new_id)

    def _start_further_calls(
        self, call: ToolCall, documents: list[str], new_id: Callable[[], str]
    ) -> None:
        """Add a call to the same tool for each further document in the arguments of `call`."""
        for document in documents:
            further_call = ToolCall(new_id(), "", call.name)
            self._expect_types(further_call)
            further_call.arguments.add(document)
            self.calls.append(further_call)

    def add_text_call(self, name: str, arguments: JsonObject, new_id: str) -> None:
        """Add a call that was written as text."""
        self._text_call_count += 1
        call = ToolCall(new_id, "", name, is_in_text=True)
        call.arguments.add_object(arguments)
        self.calls.append(call)
        self._unrepeated.setdefault(name, Counter())[to_canonical_text(arguments)] += 1

    def may_repeat_text_call(self, call: ToolCall) -> bool:
        """Return whether a structured call may be the same as a call in the text.

        Servers whose parser keeps the text of a call send the call twice.
        """
        name = find_offered_name(call.name, self._tool_names) or call.name
        return not call.is_in_text and bool(self._unrepeated.get(name))

    def drop_repeated_call(self, call: ToolCall) -> bool:
        """Drop a structured call if it equals a call in the text, and return whether it does.

        Each call in the text cancels at most one structured call.
        """
        arguments = call.arguments.parse()
        name = find_offered_name(call.name, self._tool_names) or call.name
        unrepeated = self._unrepeated[name]
        key = "" if arguments is None else to_canonical_text(arguments)
        if key not in unrepeated:
            return False
        unrepeated[key] -= 1
        if not unrepeated[key]:
            del unrepeated[key]
        self.calls.remove(call)
        return True

    def is_name_complete(self, call: ToolCall) -> bool:
        """Return whether the name of `call` is complete.

        Until arguments arrive, a name that is a prefix of another tool's name may be incomplete.
        """
        if not call.name:
            return False
        return call.arguments.has_started or not self._tools.prefixes.any_extends(call.name)

    def remove_leftovers(self, call: ToolCall) -> None:
        """Reduce the complete name of a call to the offered name in it, if any."""
        call.name = find_offered_name(call.name, self._tool_names) or call.name

    def _find_call(self, fragment: JsonObject, name: str, piece: str) -> ToolCall | None:
        """Return the call that the fragment continues, or None if it starts a new call."""
        upstream_id = string_or_empty(fragment.get("id"))
        index = fragment.get("index")
        if isinstance(index, int):
            # The index is only a key: the first index may be 1 (Anthropic's compatible endpoint).
            call = self._by_index.get(index)
        elif upstream_id:
            # Mistral and Gemini send no index. Fragments of several calls may interleave.
            call = self._by_upstream_id.get(upstream_id)
        else:
            call = self._last_call
        if call is None:
            return None
        if upstream_id and call.upstream_id not in ("", upstream_id):
            # Gateways for Gemini use one index for several calls.
            return None
        # In most later fragments, the name is missing or null, and the id missing, empty or equal.
        if name and call.name and self._starts_another(call, upstream_id, name, piece):
            return None
        return call

    def _start_call(self, fragment: JsonObject, new_id: str) -> ToolCall:
        upstream_id = string_or_empty(fragment.get("id"))
        call = ToolCall(add_native_number(new_id, upstream_id), upstream_id)
        self.calls.append(call)
        self._by_upstream_id.setdefault(call.upstream_id, call)
        index = fragment.get("index")
        if isinstance(index, int):
            self._by_index[index] = call
        return call

    def _starts_another(self, call: ToolCall, upstream_id: str, name: str, piece: str) -> bool:
        """Return whether a fragment with a name and the index or id of `call` starts a new call."""
        if not self._is_same_name(name, call.name):
            if not call.arguments.has_started:
                # The name may arrive in pieces.
                return self._extend_name(call.name, name) is None
            # A complete document cannot be continued.
            return call.arguments.is_complete
        if not piece.lstrip().startswith("{") or not call.arguments.is_complete:
            # Later fragments repeat the name.
            return False
        # A second document starts after a complete document.
        if upstream_id:
            # It is the same call if an empty object precedes the arguments, or if each fragment
            # repeats all arguments so far.
            return not (call.arguments.is_placeholder or call.arguments.is_repeated_by(piece))
        # Several calls without ids have the same index.
        return True

    def _is_same_name(self, first: str, second: str) -> bool:
        if first == second:
            return True
        offered_name = find_offered_name(first, self._tool_names)
        return offered_name is not None and offered_name == find_offered_name(
            second, self._tool_names
        )

    def _extend_name(self, current: str, name: str) -> str | None:
        """Return `current` extended by the next piece `name`.

        Returns None if the result is not the beginning of a tool's name.
        """
        if not name or name == current:
            return None
        if all(find_offered_name(each, self._tool_names) for each in (current, name)):
            # These are two calls.
            return None
        if name.startswith(current) and self._tools.prefixes.any_starts_with(name):
            # Each piece repeats the name so far.
            return name
        if self._tools.prefixes.any_starts_with(current + name):
            return current + name
        if find_offered_name(current + name, self._tool_names):
            # The piece is a leftover of the upstream's format.
            return current + name
        return None


def get_fragments(delta: JsonObject) -> list[JsonObject]:
    """Return the tool call fragments of a delta, including the old form `function_call`.

    Some gateways put a fragment without content beside each text (CangShui/workbuddy-gateway#3).
    """
    fragments = delta.get("tool_calls")
    if isinstance(fragments, dict):
        fragments = [fragments]
    if isinstance(fragments, list):
        if len(fragments) == 1 and isinstance(fragments[0], dict) and not _is_empty(fragments[0]):
            # A fast path for nearly all deltas.
            return fragments
        objects = [fragment for fragment in fragments if isinstance(fragment, dict)]
        fragments = [fragment for fragment in objects if not _is_empty(fragment)]
        if fragments:
            return fragments
    legacy = delta.get("function_call")
    if isinstance(legacy, dict):
        fragment = {"index": 0, "function": legacy}
        return [] if _is_empty(fragment) else [fragment]
    return []


def _is_empty(fragment: JsonObject) -> bool:
    """Return whether a fragment has no id, no name, no arguments and nothing else."""
    function = fragment.get("function")
    # Nearly all fragments contain a piece of the arguments.
    if isinstance(function, dict) and (function.get("arguments") or any(function.values())):
        return False
    return not any(value for name, value in fragment.items() if name not in _FRAME_FIELDS)


def _get_argument_text(function: JsonObject) -> str:
    arguments = function.get("arguments")
    if arguments is None:
        # An empty object may precede the arguments, as in the Messages API.
        arguments = function.get("parameters") or function.get("input") or ""
    if isinstance(arguments, str):
        return arguments
    # Some servers send an object.
    return dumps(arguments).decode()
