"""Find the content of a choice, wherever a server puts it.

The content is in `delta`, but some servers put it in `message`, in `text` or in the choice itself.
A request always has a single completion (`n` is 1). So several choices are parts of one response,
or the server ignored `n` and they are alternatives:

- Claude models of GitHub Copilot have the text in one choice and each tool call in another.
- Text of another choice than the one with index 0 is an alternative, which is dropped. Such a
  choice that arrives first is held until the choice 0 has content of the same kind, or until the
  end of the response.

Some servers end a stream with a chunk whose `message` repeats all deltas (MiniMax). So content of a
`message` counts only if no delta had content of this kind.
"""

from collections.abc import Set
from typing import Any

from anthropic_proxy.translate.reasoning.fields import REASONING_FIELDS
from anthropic_proxy.wire.json_codec import JsonObject
from anthropic_proxy.wire.openai import get_choice_index, list_choices

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

# Fields with the content of a response without `choices`, as in Ollama's own API.
_BARE_PLACES = ("message", "delta")
_BARE_FINISH_FIELDS = ("finish_reason", "done_reason")
_BARE_CONTENT_FIELDS = ("content", "tool_calls", *REASONING_FIELDS)


def find_choices(chunk: JsonObject) -> list[JsonObject]:
    """Return the choices of a response or chunk, which may itself be a choice."""
    choices = list_choices(chunk)
    if choices or "choices" in chunk:
        return choices
    choice = {place: chunk[place] for place in _BARE_PLACES if _has_content(chunk.get(place))}
    if not choice:
        return []
    for name in _BARE_FINISH_FIELDS:
        if chunk.get(name):
            choice["finish_reason"] = chunk[name]
    return [choice]


def _has_content(content: Any) -> bool:
    return isinstance(content, dict) and any(content.get(name) for name in _BARE_CONTENT_FIELDS)


class ChoiceReader:
    """Returns the content of the choices of one response as deltas."""

    def __init__(self) -> None:
        # True if a choice that is held has a finish reason.
        self.has_held_finish_reason = False
        # Choices before content of the choice 0, and the kinds of content in each, by index.
        self._held: list[JsonObject] = []
        self._held_kinds: dict[int, set[str]] = {}
        # True if no more choices are held.
        self._is_released = False
        # Indices of other choices than the choice 0 without a finish reason.
        self._unfinished: set[int] = set()
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
            and not self._held
            and not choice.get("index")
            and _has_only_delta(choice)
        ):
            # A fast path for nearly all chunks.
            return [delta]
        index = get_choice_index(choice)
        self._record_progress(index, choice)
        delta, *others = self._list_contents(choice, received)
        message_kinds = set[str]().union(*map(_list_kinds, others))
        kinds = (message_kinds | _list_kinds(delta)) - {CALLS}
        if not index:
            self._drop_held(kinds - received)
        elif self._must_hold(index, kinds, received):
            self._held_kinds.setdefault(index, set()).update(kinds)
            self._held.append(choice)
            self.has_held_finish_reason |= bool(choice.get("finish_reason"))
            return []
        if self._is_alternative(index, kinds, received):
            self._unfinished.discard(index)
            return []
        self._message_kinds |= message_kinds
        return [_number_calls(content, index) for content in (delta, *others)]

    @property
    def has_unfinished(self) -> bool:
        """True if content of a choice without a finish reason may follow."""
        return bool(self._unfinished)

    def release(self) -> list[JsonObject]:
        """Return the choices that are held, for `read`. Call it at the end of the response."""
        held = self._held
        self._set_held([])
        self._is_released = True
        return sorted(held, key=get_choice_index)

    def _record_progress(self, index: int, choice: JsonObject) -> None:
        if index and choice.get("finish_reason"):
            self._unfinished.discard(index)
        elif index and index not in self._alternatives:
            self._unfinished.add(index)

    def _set_held(self, choices: list[JsonObject]) -> None:
        self._held = choices
        self.has_held_finish_reason = any(each.get("finish_reason") for each in choices)

    def _must_hold(self, index: int, kinds: set[str], received: Set[str]) -> bool:
        """Return whether the choice 0 may make a choice an alternative."""
        if self._is_released or index in self._alternatives or kinds & received:
            return False
        return bool(kinds) or index in self._held_kinds

    def _drop_held(self, kinds: set[str]) -> None:
        """Drop the choices that are held if they have one of these new kinds of content."""
        if not kinds:
            return
        dropped = {index for index, held in self._held_kinds.items() if kinds & held}
        if dropped:
            self._alternatives |= dropped
            self._unfinished -= dropped
            self._set_held([each for each in self._held if get_choice_index(each) not in dropped])

    def _list_contents(self, choice: JsonObject, received: Set[str]) -> list[JsonObject]:
        """Return the contents of a choice, each kind of content from the first place with it.

        The first one is the delta.
        """
        delta = _to_object(choice.get("delta"))
        contents = [delta]
        from_deltas = (received - self._message_kinds) | _list_kinds(delta)
        for content in (_to_object(choice.get("message")), _get_own_content(choice)):
            kinds = _list_kinds(content) - from_deltas
            if kinds:
                contents.append(_select(content, kinds))
                from_deltas |= kinds
        return contents

    def _is_alternative(self, index: int, kinds: set[str], received: Set[str]) -> bool:
        """Return whether a choice is an alternative, and record the choice of each kind."""
        for kind in kinds:
            # The fast path has read the choice 0.
            owner = self._owners.setdefault(kind, 0 if kind in received else index)
            if owner != index:
                self._alternatives.add(index)
        return index in self._alternatives


def _has_only_delta(choice: JsonObject) -> bool:
    """Return whether all content of a choice is in its delta."""
    if _DELTA_CHOICE_FIELDS.issuperset(choice):
        return True
    # Fields without a value are no content.
    for name, value in choice.items():
        if value and name not in _DELTA_CHOICE_FIELDS:
            return False
    return True


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
