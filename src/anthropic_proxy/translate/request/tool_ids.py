"""Assign unique ids to tool calls that the upstream accepts.

OpenAI accepts ids of up to 40 characters, Mistral ids of exactly 9 letters and digits, others only
plain characters, and servers treat calls with the same id as one call. Clients send ids that other
servers created. The same history gets the same ids in every request.
"""

import hashlib
import re
from collections.abc import Callable
from typing import Literal

_ILLEGAL_CHARACTER = re.compile(r"[^a-zA-Z0-9_-]")
_PREFIX_LENGTH = 31
_MAX_HASHED_LENGTH = 256
_LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class ToolCallIds:
    """The ids of the calls of one conversation. `form` is ProviderProfile.tool_call_ids."""

    def __init__(self, form: Literal["plain", "nine"] = "plain") -> None:
        self._pattern, self._build_id = _FORMS[form]
        self._used: set[str] = set()
        self._attempts: dict[str, int] = {}

    def assign_id(self, tool_use_id: str) -> str:
        """Return the id of the next call; `tool_use_id` itself if it is valid and unused."""
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
