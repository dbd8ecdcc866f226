"""The arguments of one tool call: an upstream's text comes in by pieces, and pieces go out that add up to a JSON object.

The client's accumulator fails on anything else, and kills the whole stream. So only the beginning of the text that is
valid, and that could be closed without making anything up, goes out while it comes. The rest waits for the end of the
call. There it is repaired where the repair is certain, and else the raw text is put into the object as `INVALID_JSON`: the
tool then refuses its input, and the model sees what it wrote. Only where the answer was cut the object stays open, as the
real API leaves it: closed, it would look whole, and Claude Code writes half a file.
"""

import re
from typing import Any, Literal

from anthropic_proxy.translate.tool_calls.json_repair import repaired
from anthropic_proxy.translate.tool_calls.json_scanner import JsonScanner
from anthropic_proxy.wire.json_codec import (
    JsonObject,
    dumps,
    loads,
    whole_characters,
    without_lone_surrogates,
)

INVALID = "INVALID_JSON"

# What models leave behind a whole document and means nothing.
_HARMLESS = re.compile(r"(```|</\w+>)?")
_HALF = re.compile(r"\\u[dD][89a-fA-F]")
_CLOSERS_AND_SPACE = " \t\r\n}]"
_LONGEST_TAG = 100


def parse_arguments(raw: str) -> JsonObject | None:
    """The object that an argument string stands for, repaired where that is certain; None when it stands for none.

    Nothing is the empty object. A JSON document in a string in a string (seen from small models) is unpacked.
    """
    if not raw.strip():
        return {}
    value = _parsed(raw)
    if isinstance(value, str):
        value = _parsed(value)
    return value if isinstance(value, dict) else None


def _parsed(text: str) -> Any:
    try:
        return loads(without_lone_surrogates(text) if _HALF.search(text) else text, allow_nan=False)
    except ValueError:
        return repaired(text)


class Arguments:
    """`add` what comes, `take` what can go out at once, and `finish` at the end."""

    def __init__(self) -> None:
        self._scanner = JsonScanner()
        self._pieces: list[str] = []
        self._length = 0
        self._unsent: list[str] = []
        self._sent = 0
        self._trailing = ""
        self.characters = 0
        # How the object was found that was sent, when it was not what came.
        self.repair: Literal["arguments", "invalid_arguments"] | None = None

    @property
    def begun(self) -> bool:
        """Whether anything but white space has come."""
        return bool(self._pieces)

    @property
    def complete(self) -> bool:
        """Whether a whole document has come, and nothing behind it that says otherwise."""
        whole = self._scanner.whole and self._first in '{["'
        return whole and self._trailing_is_harmless

    @property
    def overrun(self) -> bool:
        """Whether the whole document had gone out when more came, which can't be told to the client any more."""
        return not self._trailing_is_harmless and self._sent == self._scanner.safe

    def add(self, piece: str) -> None:
        if self.is_placeholder and piece.lstrip().startswith("{"):
            # An empty object first, and then the real one.
            self._begin_again()
        self.characters += len(piece)
        if not self._pieces:
            piece = piece.lstrip()
        if not piece:
            return
        if self._scanner.valid:
            valid = self._scanner.feed(piece)
            if not self._scanner.valid and self.repeated_by(piece):
                # The arguments as known so far, in each fragment: what has gone out is the beginning of this one.
                self._begin_again()
                valid = self._scanner.feed(piece)
                self._unsent.append(piece[self._sent : valid])
            else:
                self._unsent.append(piece[:valid])
            self._trail(piece[valid:])
        else:
            self._trail(piece)
        self._pieces.append(piece)
        self._length += len(piece)

    def add_whole(self, value: JsonObject) -> None:
        """Add all of the arguments. They need not be read, as they are certainly valid."""
        document = dumps(value).decode()
        self.characters = self._length = len(document)
        self._pieces, self._unsent = [document], [document]
        self._scanner.accept(document)

    def repeated_by(self, piece: str) -> bool:
        """Whether `piece` has all that came before it once more."""
        return 0 < self._length <= len(piece) and piece.startswith("".join(self._pieces))

    def _begin_again(self) -> None:
        self._scanner, self._pieces, self._unsent, self._trailing = JsonScanner(), [], [], ""
        self._length = 0

    def _trail(self, piece: str) -> None:
        """Behind a whole document. Long texts are of no use in any case, and not put together."""
        if self._scanner.whole and len(self._trailing) < _LONGEST_TAG:
            self._trailing = (self._trailing + piece).lstrip(_CLOSERS_AND_SPACE).rstrip()

    def take(self) -> str:
        """What can go out now. An empty object need not, as a call's input begins as one."""
        if not self._streams or self.is_placeholder or not self._trailing_is_harmless:
            return ""
        ready = self._scanner.safe - self._sent
        if not ready:
            return ""
        held = "".join(self._unsent)
        self._unsent = [held[ready:]]
        self._sent += ready
        return held[:ready]

    def finish(self, *, cut: bool) -> str:
        """What is missing to an object, at the end of the call. cut: the upstream's answer ran into its limit, so that an
        object that is not whole stays open.
        """
        text = self.take()
        if (
            not self._pieces
            or self.is_placeholder
            or self.overrun
            or (self._streams and self.complete)
        ):
            return text
        raw = whole_characters("".join(self._pieces).rstrip())
        if cut and self._streams and self._scanner.valid:
            return text
        meant = None if cut else parse_arguments(raw)
        self.repair = "invalid_arguments" if meant is None else "arguments"
        if not self._sent:
            return dumps({INVALID: raw} if meant is None else meant).decode()
        sent = raw[: self._sent]
        return text + (_rest_of(sent, meant) or _marked(sent, raw))

    @property
    def _first(self) -> str:
        return self._pieces[0][0] if self._pieces else ""

    @property
    def _streams(self) -> bool:
        """What begins otherwise is no object yet: a string with a document in it, a code fence, nonsense."""
        return self._first == "{"

    @property
    def is_placeholder(self) -> bool:
        """Whether all that has come is an empty object, which may stand for arguments to come."""
        return (
            not self._sent
            and self._streams
            and self._scanner.whole
            and self._scanner.valid
            and self._scanner.safe == 2
        )

    @property
    def _trailing_is_harmless(self) -> bool:
        return (
            len(self._trailing) < _LONGEST_TAG and _HARMLESS.fullmatch(self._trailing) is not None
        )


def _rest_of(sent: str, meant: JsonObject | None) -> str | None:
    """What makes `meant` of what has been sent; None when nothing does."""
    if meant is None:
        return None
    scanner = JsonScanner()
    scanner.feed(sent)
    rest = _rest(loads(sent + scanner.closing), meant, scanner.depth, in_string=scanner.in_string)
    return rest if rest is not None and loads(sent + rest) == meant else None


def _marked(sent: str, raw: str) -> str:
    """What closes the object that has been sent, with the raw text as its last member."""
    scanner = JsonScanner()
    scanner.feed(sent)
    comma = "" if sent == "{" else ","
    return scanner.closing[:-1] + comma + dumps({INVALID: raw}).decode()[1:]


def _rest(partial: Any, meant: Any, depth: int, *, in_string: bool) -> str | None:
    """The text that goes on from `partial`, whose last member is open for `depth` levels, to `meant`."""
    if depth == 0:
        return _rest_of_string(partial, meant)
    if type(partial) is not type(meant):
        return None
    have, want = _members(partial), _members(meant)
    last = len(have) - (depth > 1 or in_string)
    if last < 0 or len(want) < len(have) or have[:last] != want[:last]:
        return None
    rest: str | None = ""
    if last < len(have):
        same = have[last][0] == want[last][0]
        rest = _rest(have[last][1], want[last][1], depth - 1, in_string=in_string) if same else None
    if rest is None:
        return None
    more = [_written(member, partial) for member in want[len(have) :]]
    comma = "," if have and more else ""
    return rest + comma + ",".join(more) + ("}" if isinstance(partial, dict) else "]")


def _members(value: Any) -> list[tuple[Any, Any]]:
    return list(value.items() if isinstance(value, dict) else enumerate(value))


def _written(member: tuple[Any, Any], container: Any) -> str:
    key, value = member
    return (
        dumps({key: value}).decode()[1:-1] if isinstance(container, dict) else dumps(value).decode()
    )


def _rest_of_string(partial: Any, meant: Any) -> str | None:
    if not isinstance(meant, str) or not meant.startswith(partial):
        return None
    return dumps(meant[len(partial) :]).decode()[1:]
