"""Find the content of a choice, wherever a server puts it.

The content is in `delta`, but some servers put it in `message`, in `text` or in the choice itself.
A request always has a single completion (`n` is 1). So several choices are parts of one response,
or the server ignored `n` and they are alternatives:

- Claude models of GitHub Copilot have the text in one choice and each tool call in another.
- Text of a second choice, with another index, is an alternative, which is dropped.

Some servers end a stream with a chunk whose `message` repeats all deltas (MiniMax). So content of a
`message` counts only if no delta had content of this kind.
"""

from collections.abc import Set
from typing import Any

from anthropic_proxy.translate.reasoning.fields import REASONING_FIELDS
from anthropic_proxy.wire.json_codec import JsonObject
from anthropic_proxy.wire.openai import get_choice_index

# Kinds of content.
TEXT, CALLS, REASONING = "text", "calls", "reasoning"
_KIND_BY_FIELD = {
    "content": TEXT,
    "text": TEXT,
    "refusal": TEXT,
    # OpenAI's audio models: the text is its transcript.
    "audio": TEXT,
    "tool_calls": CALLS,
    "function_call": CALLS,
    **dict.fromkeys(REASONING_FIELDS, REASONING),
}

# The fields of a choice whose content is in the delta.
_DELTA_CHOICE_FIELDS = frozenset(
    (
        "index",
        "delta",
        "finish_reason",
        "native_finish_reason",
        "stop_reason",
        "logprobs",
        "token_ids",
        "content_filter_results",
        "usage",
    )
)

# No response has more calls. Calls of different choices get different indices.
_MAX_CALLS = 1_000_000


class ChoiceReader:
    """Returns the content of the choices of one response as deltas."""

    def __init__(self) -> None:
        # Kinds of content that arrived outside of deltas.
        self._message_kinds: set[str] = set()
        # The index of the choice that contains the text, and of the one with the reasoning.
        self._owners: dict[str, int] = {}
        # Indices of choices that repeat the text or the reasoning of another.
        self._alternatives: set[int] = set()

    def read(self, choice: JsonObject, received: Set[str]) -> list[JsonObject]:
        """Return the deltas of a choice; none for an alternative.

        received: the kinds of content in the response so far.
        """
        delta = choice.get("delta")
        if (
            isinstance(delta, dict)
            and not self._owners
            and not choice.get("index")
            and _DELTA_CHOICE_FIELDS.issuperset(choice)
        ):
            # A fast path for nearly all chunks.
            return [delta]
        index = get_choice_index(choice)
        deltas = self._list_contents(choice, received)
        if self._is_alternative(index, deltas, received):
            return []
        return [_number_calls(delta, index) for delta in deltas]

    def _list_contents(self, choice: JsonObject, received: Set[str]) -> list[JsonObject]:
        """Return the contents of a choice, each kind of content from the first place with it."""
        delta = _to_object(choice.get("delta"))
        contents = [delta]
        from_deltas = (received - self._message_kinds) | _list_kinds(delta)
        for content in (_to_object(choice.get("message")), _get_own_content(choice)):
            kinds = _list_kinds(content) - from_deltas
            if kinds:
                contents.append(_select(content, kinds))
                from_deltas |= kinds
                self._message_kinds |= kinds
        return contents

    def _is_alternative(self, index: int, deltas: list[JsonObject], received: Set[str]) -> bool:
        """Return whether a choice is an alternative, and record the choice of each kind."""
        for delta in deltas:
            for kind in _list_kinds(delta) - {CALLS}:
                # The fast path has read the choice 0.
                owner = self._owners.setdefault(kind, 0 if kind in received else index)
                if owner != index:
                    self._alternatives.add(index)
        return index in self._alternatives


def _to_object(content: Any) -> JsonObject:
    """Return a delta or message as an object. Its text alone may be a string."""
    if isinstance(content, str):
        return {"content": content}
    return content if isinstance(content, dict) else {}


def _get_own_content(choice: JsonObject) -> JsonObject:
    """Return the content in the choice itself: `text` of the Completions API, and other fields."""
    content = {name: choice[name] for name in _KIND_BY_FIELD if choice.get(name)}
    text = content.pop("text", None)
    if text:
        content.setdefault("content", text)
    return content


def _list_kinds(content: JsonObject) -> set[str]:
    """Return the kinds of content in a delta or message."""
    return {_KIND_BY_FIELD[name] for name in _KIND_BY_FIELD if content.get(name)}


def _select(content: JsonObject, kinds: Set[str]) -> JsonObject:
    """Return the content of some kinds, and the fields of no kind."""
    return {name: value for name, value in content.items() if _get_kind(name) in {None, *kinds}}


def _get_kind(name: str) -> str | None:
    return _KIND_BY_FIELD.get(name)


def _number_calls(delta: JsonObject, choice_index: int) -> JsonObject:
    """Return a delta whose calls have different indices from those of other choices."""
    fragments = delta.get("tool_calls")
    if not choice_index or not isinstance(fragments, list):
        return delta
    numbered = []
    for fragment in fragments:
        if isinstance(fragment, dict) and isinstance(fragment.get("index"), int):
            number = fragment["index"] + choice_index * _MAX_CALLS
            numbered.append({**fragment, "index": number})
        else:
            numbered.append(fragment)
    return {**delta, "tool_calls": numbered}
