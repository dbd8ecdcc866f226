"""One answer, said as different servers say it: the pieces of a stream, and the whole answer.

Each accent stands for recorded habits of servers; the words in its name say which.
"""

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

JsonObject = dict[str, Any]
Piece = JsonObject | str  # a chunk, or a line that is none

_USAGE = {"prompt_tokens": 1200, "completion_tokens": 30, "total_tokens": 1230}


@dataclass(frozen=True)
class Said:
    """The output of a model."""

    text: str = ""
    reasoning: str = ""
    # names and arguments of tools; a string is sent unchanged, JSON or not
    calls: tuple[tuple[str, JsonObject | str], ...] = ()
    finish: str | None = None

    @property
    def finish_reason(self) -> str:
        return self.finish or ("tool_calls" if self.calls else "stop")


def call(name: str, /, **arguments: Any) -> Said:
    """An answer that is one tool call."""
    return Said(calls=((name, arguments),))


@dataclass(frozen=True)
class Accent:
    """The form in which a kind of upstream streams a response."""

    # returns the fields of a delta that hold reasoning
    reasoning: Callable[[str], JsonObject]
    # returns the deltas of tool calls
    calls: Callable[[list[JsonObject]], list[JsonObject]]
    # returns the upstream's word for a finish reason
    finishes: Callable[[str], str]
    # returns ids of calls
    ids: Callable[[], Iterator[str]]
    # where it is sent
    usage: str = "own chunk"
    # whether comment lines separate the chunks
    comments: bool = False

    def pieces(self, said: Said) -> list[Piece]:
        """The events of a stream, without [DONE]."""
        deltas: list[JsonObject] = [{"role": "assistant", "content": ""}]
        deltas += [self.reasoning(word) for word in _words(said.reasoning)]
        deltas += [{"content": word} for word in _words(said.text)]
        deltas += self.calls(self._made(said)) if said.calls else []
        chunks = [_chunk({"delta": delta, "finish_reason": None}) for delta in deltas]
        end = _chunk({"delta": {}, "finish_reason": self.finishes(said.finish_reason)})
        if self.usage == "last chunk":
            end["usage"] = _USAGE
        chunks.append(end)
        if self.usage == "own chunk":
            chunks.append({**_chunk({}), "choices": [], "usage": _USAGE})
        comments: list[Piece] = [": PROCESSING"] if self.comments else []
        return [piece for chunk in chunks for piece in (*comments, chunk)]

    def whole(self, said: Said) -> JsonObject:
        """The answer to a request without `stream`."""
        message: JsonObject = {"role": "assistant", "content": said.text or None}
        message |= self.reasoning(said.reasoning) if said.reasoning else {}
        message |= {"tool_calls": self._made(said)} if said.calls else {}
        choice = {"message": message, "finish_reason": self.finishes(said.finish_reason)}
        return {**_chunk(choice), "object": "chat.completion"} | (
            {} if self.usage == "never" else {"usage": _USAGE}
        )

    def _made(self, said: Said) -> list[JsonObject]:
        raw = [
            (name, each if isinstance(each, str) else json.dumps(each)) for name, each in said.calls
        ]
        return [
            {"id": made, "type": "function", "function": {"name": name, "arguments": arguments}}
            for made, (name, arguments) in zip(self.ids(), raw, strict=False)
        ]


def _chunk(choice: JsonObject) -> JsonObject:
    head = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "scripted",
    }
    return {**head, "choices": [{"index": 0, **choice}]}


def _words(text: str) -> list[str]:
    """The text in pieces of a few characters."""
    return [text[at : at + 6] for at in range(0, len(text), 6)]


_counter = itertools.count()


def _new_ids() -> Iterator[str]:
    return (f"call_{number:012}" for number in _counter)


def _repeated_ids() -> Iterator[str]:
    """The same in every answer, as servers make them that count from 0."""
    return (f"call_{number}" for number in itertools.count())


def _fragments(calls: list[JsonObject]) -> list[JsonObject]:
    """OpenAI's way: id and name first, then the arguments bit by bit."""
    deltas: list[JsonObject] = []
    for index, made in enumerate(calls):
        function = made["function"]
        deltas.append(
            {"tool_calls": [{**made, "index": index, "function": {**function, "arguments": ""}}]}
        )
        words = _words(function["arguments"])
        deltas += [
            {"tool_calls": [{"index": index, "function": {"arguments": word}}]} for word in words
        ]
    return deltas


def _whole_calls(index: int | None) -> Callable[[list[JsonObject]], list[JsonObject]]:
    """Each call in one chunk, all with the same index or without any."""
    position = {} if index is None else {"index": index}
    return lambda calls: [{"tool_calls": [{**position, **made}]} for made in calls]


def _all_at_once(calls: list[JsonObject]) -> list[JsonObject]:
    return [{"tool_calls": [{"index": index, **made} for index, made in enumerate(calls)]}]


def _no_reasoning(_: str) -> JsonObject:
    raise AssertionError("this accent has no field for reasoning")


def _as_it_is(finish_reason: str) -> str:
    return finish_reason


def _detailed(text: str) -> JsonObject:
    detail = {"type": "reasoning.text", "text": text, "index": 0, "format": "unknown"}
    return {"reasoning": text, "reasoning_details": [detail]}


ACCENTS = {
    "openai": Accent(_no_reasoning, _fragments, _as_it_is, _new_ids),
    "reasoning_content": Accent(
        lambda text: {"reasoning_content": text}, _fragments, _as_it_is, _new_ids
    ),
    "details-comments": Accent(
        _detailed, _fragments, _as_it_is, _new_ids, "last chunk", comments=True
    ),
    "calls-index-0": Accent(_no_reasoning, _whole_calls(0), _as_it_is, _new_ids, "last chunk"),
    "calls-no-index": Accent(_no_reasoning, _whole_calls(None), _as_it_is, _new_ids),
    "finish-stop": Accent(_no_reasoning, _all_at_once, lambda _: "stop", _new_ids),
    "repeated-ids": Accent(_no_reasoning, _fragments, _as_it_is, _repeated_ids),
    "no-usage": Accent(_no_reasoning, _fragments, _as_it_is, _new_ids, "never"),
}
