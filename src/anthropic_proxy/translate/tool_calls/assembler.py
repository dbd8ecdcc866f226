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

from anthropic_proxy.translate.tool_calls.arguments import Arguments
from anthropic_proxy.translate.tool_names import NamePrefixes
from anthropic_proxy.wire.json_codec import JsonObject, dumps
from anthropic_proxy.wire.openai import string


@dataclass(eq=False)
class Call:
    """One call as known so far, by the upstream's name. opened: whether its block has been. signed: whether its signature
    has come.
    """

    id: str
    upstream_id: str
    name: str = ""
    arguments: Arguments = field(default_factory=Arguments)
    opened: bool = False
    signed: bool = False


class Assembler:
    """Sorts the fragments of a stream's tool calls; `calls` has them all, in the order in which they began."""

    def __init__(self, offered: Collection[str] = (), *, single: bool = False) -> None:
        """offered: the upstream's names of the tools that it was offered. single: only the first call counts."""
        self.calls: list[Call] = []
        self._single = single
        self._offered = offered
        self._by_index: dict[int, Call] = {}
        self._by_upstream_id: dict[str, Call] = {}
        self._in_text = 0

    @property
    def repairs(self) -> dict[str, int]:
        """Calls that were mended, by kind: their arguments, or the call itself, which was written as text."""
        kinds = [call.arguments.repair for call in self.kept if call.arguments.repair]
        return {**Counter[str](kinds), **({"call_in_text": self._in_text} if self._in_text else {})}

    @property
    def kept(self) -> list[Call]:
        """The calls that the client gets."""
        return self.calls[:1] if self._single else self.calls

    @cached_property
    def _prefixes(self) -> NamePrefixes:
        return NamePrefixes(self._offered)

    def keeps(self, call: Call) -> bool:
        """Whether the client gets the call."""
        return not self._single or call is self.calls[0]

    def feed(self, fragment: JsonObject, new_id: Callable[[], str]) -> Call:
        """The call that `fragment` belongs to, with the fragment added. `new_id` names it if it is a new one."""
        function = fragment.get("function")
        function = function if isinstance(function, dict) else {}
        name = string(function.get("name"))
        piece = _argument_text(function.get("arguments"))
        call = self._find(fragment, name, piece) or self._begin(fragment, new_id())
        if not call.name:
            call.name = name
        elif not call.arguments.begun:
            call.name = self._extended(call.name, name) or call.name
        if piece:
            call.arguments.add(piece)
        return call

    def whole(self, name: str, arguments: JsonObject, new_id: str) -> None:
        """Add a call that was written as text."""
        self._in_text += 1
        call = Call(new_id, "", name)
        call.arguments.add_whole(arguments)
        self.calls.append(call)

    def is_named(self, call: Call) -> bool:
        """Whether the name of `call` is known. The beginning of an offered name may still go on, until arguments come."""
        if not call.name or call.arguments.begun:
            return bool(call.name)
        return not self._prefixes.any_continues(call.name)

    def _find(self, fragment: JsonObject, name: str, piece: str) -> Call | None:
        upstream_id = string(fragment.get("id"))
        index = fragment.get("index")
        if isinstance(index, int):
            known = self._by_index.get(index)
        elif upstream_id:
            known = self._by_upstream_id.get(upstream_id)
        else:
            known = self.calls[-1] if self.calls else None
        return None if known is None or self._is_another(known, upstream_id, name, piece) else known

    def _begin(self, fragment: JsonObject, new_id: str) -> Call:
        call = Call(new_id, string(fragment.get("id")))
        self.calls.append(call)
        self._by_upstream_id.setdefault(call.upstream_id, call)
        index = fragment.get("index")
        if isinstance(index, int):
            self._by_index[index] = call
        return call

    def _is_another(self, known: Call, upstream_id: str, name: str, piece: str) -> bool:
        """Whether a fragment that should belong to `known` begins a call of its own."""
        if upstream_id and known.upstream_id and upstream_id != known.upstream_id:
            return True
        if not name or not known.name:
            return False
        if name != known.name and not known.arguments.begun:
            return self._extended(known.name, name) is None
        # A finished document can't go on: another name, or the beginning of a second document, is a second call.
        begins = piece.lstrip().startswith("{") or name != known.name
        if not begins or not known.arguments.complete:
            return False
        is_repeated = known.arguments.is_placeholder or known.arguments.repeated_by(piece)
        return not (upstream_id and name == known.name and is_repeated)

    def _extended(self, known: str, name: str) -> str | None:
        """`known` with `name` as its next piece, or with `name` as all that is known now; None when it is neither."""
        if name in ("", known) or (known in self._offered and name in self._offered):
            return None
        longer = [name] if name.startswith(known) else []
        return next(
            (each for each in (*longer, known + name) if self._prefixes.any_begins_with(each)), None
        )


def fragments_of(delta: JsonObject) -> list[JsonObject]:
    """The tool call fragments of a delta, the old `function_call` form included."""
    fragments = delta.get("tool_calls")
    if isinstance(fragments, list):
        return [fragment for fragment in fragments if isinstance(fragment, dict)]
    legacy = delta.get("function_call")
    return [{"index": 0, "function": legacy}] if isinstance(legacy, dict) else []


def _argument_text(arguments: Any) -> str:
    """Arguments are text; some servers send the object itself."""
    if arguments is None or isinstance(arguments, str):
        return arguments or ""
    return dumps(arguments).decode()
