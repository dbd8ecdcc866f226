"""Assemble the arguments of one tool call from pieces of text, and stream them to the client.

The sent text is always a JSON object, because clients abort the stream on anything else. While
pieces arrive, only the valid beginning is sent that can be closed without invented content (see
json_scanner). At the end of the call, the rest is repaired if the repair is unambiguous. Otherwise
the raw text becomes a member `INVALID_JSON` of the object: the tool rejects its input, and the
model can read its own text.

If the token limit truncates the response, the object is not closed, as in the real API. A closed
object would look complete, and Claude Code would write an incomplete file.
"""

from typing import Literal

from anthropic_proxy.translate.tool_calls.arguments_trailer import (
    ArgumentsTrailer,
    strip_markers,
)
from anthropic_proxy.translate.tool_calls.json_repair import (
    INVALID_KEY,
    parse_arguments,
    repair_json,
)
from anthropic_proxy.translate.tool_calls.json_scanner import JsonScanner
from anthropic_proxy.translate.tool_calls.offered_tools import MemberTypes, parse_strings
from anthropic_proxy.wire.json_codec import (
    JsonObject,
    dumps,
    loads,
    repair_surrogates,
)


class ToolArguments:
    """The arguments of one call.

    Call `add` for each piece of the upstream, then `take` for the text that can be sent, and
    `finish` at the end of the call.
    """

    def __init__(self) -> None:
        self._scanner = JsonScanner()
        # The types of the members that cannot be strings.
        self._types: MemberTypes = {}
        # The complete text without leading white space.
        self._pieces: list[str] = []
        self._length = 0
        # Valid text that was not sent yet.
        self._unsent: list[str] = []
        self._sent_length = 0
        # The text after a complete document.
        self._trailer: ArgumentsTrailer | None = None
        # The number of characters that the upstream sent.
        self.character_count = 0
        # The kind of repair, or None if the sent object is the upstream's text.
        self.repair: Literal["arguments", "invalid_arguments"] | None = None

    def expect(self, types: MemberTypes) -> None:
        """Expect values of these types, and parse strings in their place. Call it before `add`."""
        self._types = types
        self._scanner = JsonScanner(types)

    @property
    def has_started(self) -> bool:
        """True if the upstream has sent text other than white space."""
        return bool(self._pieces)

    @property
    def is_complete(self) -> bool:
        """True if the text is a complete document, without significant text after it."""
        is_document = self._scanner.is_complete and self._first_character in '{["'
        return is_document and (self._trailer is None or self._trailer.is_settled)

    @property
    def is_repairable(self) -> bool:
        """True if the text is malformed, but its object is complete."""
        if self._scanner.is_complete:
            return False
        raw = strip_markers(repair_surrogates("".join(self._pieces)))
        return repair_json(raw, may_be_truncated=True) is not None

    @property
    def is_overrun(self) -> bool:
        """True if more text arrived after the complete document had been sent."""
        is_harmful = self._trailer is not None and self._trailer.is_harmful
        return is_harmful and self._sent_length == self._scanner.safe_length

    @property
    def is_placeholder(self) -> bool:
        """True if the text is an empty object, which some servers send before the arguments."""
        return self._is_empty_object and self._trailer is None

    @property
    def is_final(self) -> bool:
        """True if the text is a complete document that no other document may replace."""
        return self.is_complete and not self.is_placeholder

    def parse(self) -> JsonObject | None:
        """Return the object, as far as its text has arrived, or None."""
        raw = "".join(self._pieces)
        if self.is_complete:
            raw = raw[: self._scanner.safe_length]
        value = parse_arguments(raw)
        return None if value is None else parse_strings(value, self._types)

    def add(self, piece: str) -> None:
        """Add a piece of the upstream's text."""
        if self.is_placeholder and piece.lstrip().startswith("{"):
            self._restart()
        self.character_count += len(piece)
        if not self._pieces:
            piece = piece.lstrip()
        if not piece:
            return
        rest = piece
        if self._scanner.is_valid and self._trailer is None:
            rest = piece[self._scan(piece) :]
        self._pieces.append(piece)
        self._length += len(piece)
        if rest and self._scanner.is_complete:
            self._add_trailing(rest)

    def add_object(self, value: JsonObject) -> None:
        """Add all arguments as an object, without a scan."""
        document = dumps(value).decode()
        self.character_count = self._length = len(document)
        self._pieces, self._unsent = [document], [document]
        self._scanner.skip_document(document)

    def take_documents(self) -> list[str]:
        """Return the further documents since the last call, each for another call."""
        documents = self._trailer.take_documents() if self._trailer else []
        if documents and self._is_empty_object:
            # The empty object is a placeholder for the first document.
            trailer = self._trailer
            self._restart()
            self.add(documents.pop(0))
            self._trailer = trailer
        return documents

    def close(self) -> list[str]:
        """Return the incomplete further document at the end of the response, for another call."""
        return self._trailer.close() if self._trailer else []

    def is_repeated_by(self, piece: str) -> bool:
        """Return whether `piece` starts with the text of all earlier pieces."""
        return 0 < self._length <= len(piece) and piece.startswith("".join(self._pieces))

    def take(self) -> str:
        """Return the text that can be sent now.

        An empty object is not sent, because it is the initial input of a call.
        """
        if not self._is_object or self._is_empty_object:
            return ""
        if self._trailer is not None and self._trailer.may_be_harmful:
            return ""
        # A string that may be parsed waits for the end, with everything after it.
        held_length = self._scanner.length_before_string
        safe_length = self._scanner.safe_length if held_length is None else held_length
        return self._take_until(safe_length)

    def _take_until(self, length: int) -> str:
        """Return the text that was not sent, up to a length."""
        ready = length - self._sent_length
        if not ready:
            return ""
        unsent = "".join(self._unsent)
        self._unsent = [unsent[ready:]]
        self._sent_length += ready
        return unsent[:ready]

    def finish(self, *, truncated: bool) -> str:
        """Return the rest of the object at the end of the call.

        If a token limit `truncated` the response, an incomplete object is not closed.
        """
        text = self.take()
        if not self._pieces or self.is_placeholder or self.is_overrun:
            return text
        if self._is_object and self.is_complete:
            return text + self._finish_strings()
        if self._is_object and truncated and self._scanner.is_valid:
            return text + self._take_until(self._scanner.safe_length)
        raw = repair_surrogates("".join(self._pieces).rstrip())
        sent = raw[: self._sent_length]
        document = raw[: self._scanner.safe_length] if self.is_complete else strip_markers(raw)
        rest = None if truncated else _repair_rest(sent, document, self._types)
        if rest is None:
            self.repair = "invalid_arguments"
            return text + _close_with_raw_text(sent, raw)
        self.repair = "arguments"
        return text + rest

    def _finish_strings(self) -> str:
        """Return the rest of a complete object, with strings parsed where they cannot be strings.

        The rest is empty unless `take` held back such a string.
        """
        if self._scanner.length_before_string is None:
            return ""
        text = "".join(self._pieces)[: self._scanner.safe_length]
        value = loads(text, allow_nan=False)
        parsed = parse_strings(value, self._types)
        if parsed != value:
            rest_with_values = _complete_object(text[: self._sent_length], parsed)
            if rest_with_values is not None:
                self.repair = "arguments"
                return rest_with_values
        return text[self._sent_length :]

    def _restart(self) -> None:
        """Discard the text so far, but keep the length of the sent text."""
        self._scanner = JsonScanner(self._types)
        self._pieces, self._unsent = [], []
        self._length = 0
        self._trailer = None

    def _scan(self, piece: str) -> int:
        """Scan a piece and return the end of its valid part."""
        start, end = 0, self._scanner.feed(piece)
        if not self._scanner.is_valid and self.is_repeated_by(piece):
            # Each fragment repeats all arguments so far, including the text that was sent.
            self._restart()
            start, end = self._sent_length, self._scanner.feed(piece)
        self._unsent.append(piece[start:end])
        return end

    def _add_trailing(self, text: str) -> None:
        if self._trailer is None:
            document = "".join(self._pieces)[: self._scanner.safe_length]
            self._trailer = ArgumentsTrailer(document)
        self._trailer.feed(text)

    @property
    def _first_character(self) -> str:
        return self._pieces[0][0] if self._pieces else ""

    @property
    def _is_object(self) -> bool:
        """True if the text starts with an object, not with a string, a code fence or other text."""
        return self._first_character == "{"

    @property
    def _is_empty_object(self) -> bool:
        """True if the text is an empty object that was not sent."""
        is_complete = self._is_object and self._scanner.is_complete
        return is_complete and not self._sent_length and self._scanner.safe_length == 2


def _repair_rest(sent: str, raw: str, types: MemberTypes) -> str | None:
    """Return the text that completes `sent` to the object in `raw`, or None."""
    value = parse_arguments(raw)
    if value is None:
        return None
    rest = _complete_object(sent, parse_strings(value, types))
    return _complete_object(sent, value) if rest is None else rest


def _complete_object(sent: str, value: JsonObject) -> str | None:
    """Return the text that completes `sent` to the object `value`, or None."""
    document = dumps(value).decode()
    if not sent:
        return document
    # In compact form, the sent part without its closing text is the beginning of the document.
    closing_text = _get_closing_text(sent)
    sent_object = loads(sent + closing_text)
    sent_document = dumps(sent_object).decode().removesuffix(closing_text)
    if not document.startswith(sent_document):
        return None
    rest = document.removeprefix(sent_document)
    try:
        is_completed = loads(sent + rest) == value
    except ValueError:
        # For a repeated key, the last value replaces the first one, which was already sent.
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
