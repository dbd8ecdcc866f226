"""Assemble the arguments of one tool call from pieces of text, and stream them to the client.

The pieces sent add up to a JSON object, as clients fail on anything else and abort the whole
stream. So only the valid beginning of the text is sent while it arrives, up to where it could be
closed without inventing anything (see json_scanner). At the end of the call the rest is repaired
where the repair is certain. Otherwise the raw text becomes a member `INVALID_JSON` of the object:
the tool then rejects its input, and the model sees what it wrote.

If the token limit truncates the response, the object stays open, as the real API leaves it. A
closed object would look complete, and Claude Code would write half a file.
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

# Text that models leave behind a complete document and that means nothing.
_HARMLESS_TRAILER = re.compile(r"(```|</\w+>)?")
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_CLOSERS_AND_SPACE = " \t\r\n}]"
_MAX_TAG_LENGTH = 100


def parse_arguments(raw: str) -> JsonObject | None:
    """Return the object of an argument string, repaired where that is certain; None without one.

    An empty string is the empty object. Small models write the document as a JSON string: it is
    unpacked.
    """
    if not raw.strip():
        return {}
    value = _parse_or_repair(raw)
    if isinstance(value, str):
        value = _parse_or_repair(value)
    if isinstance(value, dict):
        return value
    return None


def _parse_or_repair(text: str) -> Any:
    try:
        if _SURROGATE_ESCAPE.search(text):
            return loads(repair_json_surrogates(text), allow_nan=False)
        return loads(text, allow_nan=False)
    except ValueError:
        return repair_json(text)


class ToolArguments:
    """The arguments of one call.

    `add` each piece of the upstream, `take` the text that can be sent after it, and `finish` at the
    end of the call.
    """

    def __init__(self) -> None:
        self._scanner = JsonScanner()
        # All text of the document, without the white space in front of it.
        self._pieces: list[str] = []
        self._length = 0
        # Valid text that was not sent yet.
        self._unsent: list[str] = []
        self._sent_length = 0
        # Text behind a complete document, without white space and closing brackets around it.
        self._trailing = ""
        # Characters that the upstream sent.
        self.character_count = 0
        # How the object was repaired, if it is not what the upstream sent.
        self.repair: Literal["arguments", "invalid_arguments"] | None = None

    @property
    def has_started(self) -> bool:
        """True once the upstream has sent anything but white space."""
        return bool(self._pieces)

    @property
    def is_complete(self) -> bool:
        """True if the text is a complete document, with nothing of significance behind it."""
        is_document = self._scanner.is_complete and self._first_character in '{["'
        return is_document and self._has_harmless_trailer

    @property
    def is_overrun(self) -> bool:
        """True if text followed after the complete document was sent."""
        return not self._has_harmless_trailer and self._sent_length == self._scanner.safe_length

    @property
    def is_placeholder(self) -> bool:
        """True if the text so far is an empty object, which may precede the actual arguments."""
        return (
            not self._sent_length
            and self._is_object
            and self._scanner.is_complete
            and self._scanner.is_valid
            and self._scanner.safe_length == 2
        )

    def add(self, piece: str) -> None:
        """Add a piece of the upstream's text."""
        if self.is_placeholder and piece.lstrip().startswith("{"):
            self._restart()
        self.character_count += len(piece)
        if not self._pieces:
            piece = piece.lstrip()
        if not piece:
            return
        if self._scanner.is_valid:
            self._scan(piece)
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

    def take(self) -> str:
        """Return the text that can be sent now.

        An empty object is not sent: the input of a call begins as one.
        """
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
        if not self._pieces or self.is_placeholder or self.is_overrun:
            return text
        if self._is_object and (self.is_complete or (truncated and self._scanner.is_valid)):
            return text
        raw = repair_surrogates("".join(self._pieces).rstrip())
        sent = raw[: self._sent_length]
        rest = None if truncated else _repair_rest(sent, raw)
        if rest is None:
            self.repair = "invalid_arguments"
            return text + _close_with_raw_text(sent, raw)
        self.repair = "arguments"
        return text + rest

    def _restart(self) -> None:
        """Forget the text so far, but not how much of it was sent."""
        self._scanner = JsonScanner()
        self._pieces, self._unsent = [], []
        self._length = 0
        self._trailing = ""

    def _scan(self, piece: str) -> None:
        start, end = 0, self._scanner.feed(piece)
        if not self._scanner.is_valid and self.is_repeated_by(piece):
            # Each fragment has all arguments so far: the sent text begins this one, too.
            self._restart()
            start, end = self._sent_length, self._scanner.feed(piece)
        self._unsent.append(piece[start:end])
        if end < len(piece):
            self._add_trailing(piece[end:])

    def _add_trailing(self, piece: str) -> None:
        """Collect text behind a complete document. Long text is never harmless: do not join it."""
        if self._scanner.is_complete and len(self._trailing) < _MAX_TAG_LENGTH:
            self._trailing = (self._trailing + piece).lstrip(_CLOSERS_AND_SPACE).rstrip()

    @property
    def _first_character(self) -> str:
        return self._pieces[0][0] if self._pieces else ""

    @property
    def _is_object(self) -> bool:
        """True if the text begins an object, not a string, a code fence or nonsense."""
        return self._first_character == "{"

    @property
    def _has_harmless_trailer(self) -> bool:
        return (
            len(self._trailing) < _MAX_TAG_LENGTH
            and _HARMLESS_TRAILER.fullmatch(self._trailing) is not None
        )


def _repair_rest(sent: str, raw: str) -> str | None:
    """Return the text that completes `sent` to the object of `raw`, None if there is none."""
    value = parse_arguments(raw)
    if value is None:
        return None
    document = dumps(value).decode()
    if not sent:
        return document
    # In compact form, without its closing text, the sent part is the beginning of the document.
    closing_text = _get_closing_text(sent)
    sent_object = loads(sent + closing_text)
    sent_document = dumps(sent_object).decode().removesuffix(closing_text)
    if not document.startswith(sent_document):
        return None
    rest = document.removeprefix(sent_document)
    try:
        is_completed = loads(sent + rest) == value
    except ValueError:
        # The value of a repeated key is in the place of its first value, not at the end.
        return None
    return rest if is_completed else None


def _close_with_raw_text(sent: str, raw: str) -> str:
    """Return the text that closes the sent object, with the raw text as its last member."""
    member = dumps({INVALID_KEY: raw}).decode()
    if not sent:
        return member
    separator = "" if sent == "{" else ","
    return _get_closing_text(sent).removesuffix("}") + separator + member.removeprefix("{")


def _get_closing_text(sent: str) -> str:
    scanner = JsonScanner()
    scanner.feed(sent)
    return scanner.closing_text
