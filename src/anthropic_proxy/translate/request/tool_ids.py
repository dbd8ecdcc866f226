"""Assign unique ids to tool calls that the upstream accepts.

OpenAI accepts ids of up to 40 characters, Mistral ids of exactly 9 letters and digits, others only
plain characters, and servers treat calls with the same id as one call. Kimi K2 requires its own
form (see tool_calls/native_ids). Clients send ids that other servers created. The same history gets
the same ids in every request.
"""

import hashlib
import re
from collections.abc import Callable
from typing import Literal

from anthropic_proxy.translate.tool_calls.native_ids import build_native_id, restore_native_id
from anthropic_proxy.wire.json_codec import JsonObject

IdForm = Literal["plain", "nine", "numbered"]

_ILLEGAL_CHARACTER = re.compile(r"[^a-zA-Z0-9_-]")
_PREFIX_LENGTH = 31
_MAX_HASHED_LENGTH = 256
_LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class ToolCallIds:
    """The ids of the calls of one conversation.

    The form `numbered` is Kimi K2's `functions.NAME:N`.
    """

    def __init__(self, form: IdForm = "plain") -> None:
        self._is_numbered = form == "numbered"
        self._pattern, self._build_id = _FORMS["plain" if self._is_numbered else form]
        self._used: set[str] = set()
        self._attempts: dict[str, int] = {}

    def assign_id(self, tool_use_id: str, name: str) -> str:
        """Return the id of the next call, which has the upstream's tool `name`.

        This is `tool_use_id` itself if it is valid and unused.
        """
        if self._is_numbered:
            return self._assign_numbered_id(tool_use_id, name)
        # Hash a long id only once, not for each attempt to find an unused id.
        short = tool_use_id
        if len(tool_use_id) > _MAX_HASHED_LENGTH:
            short = _shorten(tool_use_id)
        if self._pattern.fullmatch(tool_use_id):
            call_id = tool_use_id
        else:
            call_id = self._build_id(short, 0)
        while call_id in self._used:
            self._attempts[short] = self._attempts.get(short, 0) + 1
            call_id = self._build_id(short, self._attempts[short])
        self._used.add(call_id)
        return call_id

    def _assign_numbered_id(self, tool_use_id: str, name: str) -> str:
        """Return the id that the model gave the call, or an id with the number of the call."""
        call_id = restore_native_id(tool_use_id, name)
        if call_id is None or call_id in self._used:
            call_id = self._build_unused_id(name)
        self._used.add(call_id)
        return call_id

    def _build_unused_id(self, name: str) -> str:
        number = max(len(self._used), self._attempts.get(name, 0))
        while (call_id := build_native_id(name, number)) in self._used:
            number += 1
        self._attempts[name] = number + 1
        return call_id


def change_call_ids(messages: list[JsonObject], form: IdForm) -> list[JsonObject]:
    """Return Chat Completions messages whose calls and results have ids of another form."""
    ids = ToolCallIds(form)
    new_ids: dict[str, str] = {}
    changed: list[JsonObject] = []
    for message in messages:
        if message.get("tool_calls"):
            calls = []
            for call in message["tool_calls"]:
                new_ids[call["id"]] = ids.assign_id(call["id"], call["function"]["name"])
                calls.append({**call, "id": new_ids[call["id"]]})
            changed.append({**message, "tool_calls": calls})
        elif message.get("tool_call_id") in new_ids:
            changed.append({**message, "tool_call_id": new_ids[message["tool_call_id"]]})
        else:
            changed.append(message)
    return changed


def _shorten(tool_use_id: str) -> str:
    digest = hashlib.sha256(tool_use_id.encode("utf-8", "surrogatepass")).hexdigest()
    return tool_use_id[:_PREFIX_LENGTH] + digest


def _build_plain_id(tool_use_id: str, number: int) -> str:
    digest = _digest(tool_use_id, number).hex()[:8]
    return f"{_ILLEGAL_CHARACTER.sub('_', tool_use_id[:_PREFIX_LENGTH])}_{digest}"


def _build_nine_id(tool_use_id: str, number: int) -> str:
    value = int.from_bytes(_digest(tool_use_id, number))
    return "".join(_LETTERS[value // 62**position % 62] for position in range(9))


def _digest(tool_use_id: str, number: int) -> bytes:
    return hashlib.sha256(f"{number} {tool_use_id}".encode("utf-8", "surrogatepass")).digest()


_FORMS: dict[str, tuple[re.Pattern[str], Callable[[str, int], str]]] = {
    "plain": (re.compile(r"[a-zA-Z0-9_-]{1,40}"), _build_plain_id),
    "nine": (re.compile(r"[a-zA-Z0-9]{9}", re.ASCII), _build_nine_id),
}
