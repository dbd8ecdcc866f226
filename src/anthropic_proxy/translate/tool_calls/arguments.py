"""The arguments of one tool call: an upstream's text comes in by pieces, and pieces go out that add up to a JSON object.

The client's accumulator fails on anything else, and kills the whole stream. So only the beginning of the text that is
valid, and that could be closed without making anything up, goes out while it comes. The rest waits for the end of the
call. There it is repaired where the repair is certain, and else the raw text is put into the object as `INVALID_JSON`: the
tool then refuses its input, and the model sees what it wrote. Only where the answer was cut the object stays open, as the
real API leaves it: closed, it would look whole, and Claude Code writes half a file.
"""

import re
from typing import Any, Literal

from anthropic_proxy.translate.tool_calls.json_repair import repair_json
from anthropic_proxy.translate.tool_calls.json_scanner import JsonScanner
from anthropic_proxy.wire.json_codec import (
    JsonObject,
    dumps,
    loads,
    repair_json_surrogates,
    repair_surrogates,
)

INVALID_KEY = "INVALID_JSON"

# What models leave behind a whole document and means nothing.
_HARMLESS_TRAILER = re.compile(r"(```|</\w+>)?")
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_CLOSERS_AND_SPACE = " \t\r\n}]"
_MAX_TAG_LENGTH = 100


def parse_arguments(raw: str) -> JsonObject | None:
    """Return the object of an argument string, repaired where that is certain; None when there is none.

    Nothing is the empty object. A JSON document in a string in a string (seen from small models) is unpacked.
    """
    if not raw.strip():
        return {}
    value = _parse_or_repair(raw)
    if isinstance(value, str):
        value = _parse_or_repair(value)
    return value if isinstance(value, dict) else None


def _parse_or_repair(text: str) -> Any:
    try:
        return loads(
            repair_json_surrogates(text) if _SURROGATE_ESCAPE.search(text) else text,
            allow_nan=False,
        )
    except ValueError:
        return repair_json(text)


class ToolArguments:
    """The arguments of one call: `add` what the upstream sends, `take` what can be sent, `finish` at the end."""

    def __init__(self) -> None:
        self._scanner = JsonScanner()
        self._pieces: list[str] = []
        self._length = 0
        self._unsent: list[str] = []
        self._sent_length = 0
        self._trailing = ""
        self.character_count = 0
        # How the object was repaired, when it is not what the upstream sent.
        self.repair: Literal["arguments", "invalid_arguments"] | None = None

    @property
    def has_started(self) -> bool:
        """Whether the upstream has sent anything but white space."""
        return bool(self._pieces)

    @property
    def is_complete(self) -> bool:
        """Whether a complete document has arrived, and nothing of significance behind it."""
        is_document = self._scanner.is_complete and self._first_character in '{["'
        return is_document and self._has_harmless_trailer

    @property
    def is_overrun(self) -> bool:
        """Whether text followed after the complete document was sent."""
        return not self._has_harmless_trailer and self._sent_length == self._scanner.safe_length

    def add(self, piece: str) -> None:
        if self.is_placeholder and piece.lstrip().startswith("{"):
            # An empty object first, and then the real one.
            self._restart()
        self.character_count += len(piece)
        if not self._pieces:
            piece = piece.lstrip()
        if not piece:
            return
        if self._scanner.is_valid:
            valid_end = self._scanner.feed(piece)
            if not self._scanner.is_valid and self.is_repeated_by(piece):
                # The arguments as known so far, in each fragment: what has gone out is the beginning of this one.
                self._restart()
                valid_end = self._scanner.feed(piece)
                self._unsent.append(piece[self._sent_length : valid_end])
            else:
                self._unsent.append(piece[:valid_end])
            self._add_trailing(piece[valid_end:])
        else:
            self._add_trailing(piece)
        self._pieces.append(piece)
        self._length += len(piece)

    def add_object(self, value: JsonObject) -> None:
        """Add all arguments as an object, which needs no scan."""
        document = dumps(value).decode()
        self.character_count = self._length = len(document)
        self._pieces, self._unsent = [document], [document]
        self._scanner.skip_document(document)

    def is_repeated_by(self, piece: str) -> bool:
        """Return whether `piece` begins with all earlier pieces."""
        return 0 < self._length <= len(piece) and piece.startswith("".join(self._pieces))

    def _restart(self) -> None:
        self._scanner, self._pieces, self._unsent, self._trailing = JsonScanner(), [], [], ""
        self._length = 0

    def _add_trailing(self, piece: str) -> None:
        """Collect text behind a complete document. Long text is never harmless, so it is not joined."""
        if self._scanner.is_complete and len(self._trailing) < _MAX_TAG_LENGTH:
            self._trailing = (self._trailing + piece).lstrip(_CLOSERS_AND_SPACE).rstrip()

    def take(self) -> str:
        """Return what can be sent now. An empty object is not sent, as a call's input begins as one."""
        if not self._is_object or self.is_placeholder or not self._has_harmless_trailer:
            return ""
        ready = self._scanner.safe_length - self._sent_length
        if not ready:
            return ""
        unsent = "".join(self._unsent)
        self._unsent = [unsent[ready:]]
        self._sent_length += ready
        return unsent[:ready]

    def finish(self, *, truncated: bool) -> str:
        """Return the rest of the object at the end of the call.

        `truncated`: a token limit ended the response, so that an incomplete object stays open.
        """
        text = self.take()
        if (
            not self._pieces
            or self.is_placeholder
            or self.is_overrun
            or (self._is_object and self.is_complete)
        ):
            return text
        raw = repair_surrogates("".join(self._pieces).rstrip())
        if truncated and self._is_object and self._scanner.is_valid:
            return text
        target = None if truncated else parse_arguments(raw)
        self.repair = "invalid_arguments" if target is None else "arguments"
        if not self._sent_length:
            return dumps({INVALID_KEY: raw} if target is None else target).decode()
        sent = raw[: self._sent_length]
        return text + (_complete_object(sent, target) or _close_with_raw_text(sent, raw))

    @property
    def _first_character(self) -> str:
        return self._pieces[0][0] if self._pieces else ""

    @property
    def _is_object(self) -> bool:
        """Whether the text begins an object, not a string that holds a document, a code fence or nonsense."""
        return self._first_character == "{"

    @property
    def is_placeholder(self) -> bool:
        """Whether the text so far is an empty object, which may precede the real arguments."""
        return (
            not self._sent_length
            and self._is_object
            and self._scanner.is_complete
            and self._scanner.is_valid
            and self._scanner.safe_length == 2
        )

    @property
    def _has_harmless_trailer(self) -> bool:
        return (
            len(self._trailing) < _MAX_TAG_LENGTH
            and _HARMLESS_TRAILER.fullmatch(self._trailing) is not None
        )


def _complete_object(sent: str, target: JsonObject | None) -> str | None:
    """Return the text that completes `sent` to `target`; None when none does."""
    if target is None:
        return None
    scanner = JsonScanner()
    scanner.feed(sent)
    rest = _complete_value(
        loads(sent + scanner.closing_text),
        target,
        scanner.depth,
        in_string=scanner.is_safe_in_string,
    )
    return rest if rest is not None and loads(sent + rest) == target else None


def _close_with_raw_text(sent: str, raw: str) -> str:
    """Return the text that closes the sent object, with the raw text as its last member."""
    scanner = JsonScanner()
    scanner.feed(sent)
    comma = "" if sent == "{" else ","
    return scanner.closing_text[:-1] + comma + dumps({INVALID_KEY: raw}).decode()[1:]


def _complete_value(partial: Any, target: Any, depth: int, *, in_string: bool) -> str | None:
    """Return the text that completes `partial`, whose last member is open for `depth` levels, to `target`."""
    if depth == 0:
        return _complete_string(partial, target)
    if type(partial) is not type(target):
        return None
    partial_members, target_members = _list_members(partial), _list_members(target)
    last = len(partial_members) - (depth > 1 or in_string)
    if (
        last < 0
        or len(target_members) < len(partial_members)
        or partial_members[:last] != target_members[:last]
    ):
        return None
    rest: str | None = ""
    if last < len(partial_members):
        is_same_key = partial_members[last][0] == target_members[last][0]
        rest = (
            _complete_value(
                partial_members[last][1], target_members[last][1], depth - 1, in_string=in_string
            )
            if is_same_key
            else None
        )
    if rest is None:
        return None
    new_members = [
        _write_member(member, partial) for member in target_members[len(partial_members) :]
    ]
    comma = "," if partial_members and new_members else ""
    return rest + comma + ",".join(new_members) + ("}" if isinstance(partial, dict) else "]")


def _list_members(value: Any) -> list[tuple[Any, Any]]:
    return list(value.items() if isinstance(value, dict) else enumerate(value))


def _write_member(member: tuple[Any, Any], container: Any) -> str:
    key, value = member
    return (
        dumps({key: value}).decode()[1:-1] if isinstance(container, dict) else dumps(value).decode()
    )


def _complete_string(partial: Any, target: Any) -> str | None:
    if not isinstance(target, str) or not target.startswith(partial):
        return None
    return dumps(target[len(partial) :]).decode()[1:]
