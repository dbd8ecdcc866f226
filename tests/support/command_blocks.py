"""Read the blocks of shell commands in Markdown pages.

A `console` block has commands after "$ ", each followed by its output. All lines of another block
of commands are commands.
"""

import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.paths import ROOT

_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_LANGUAGES = ("sh", "bash", "shell", "console")
# Blocks of these languages have commands if they look like commands.
_OTHER_LANGUAGES = ("", "text")
_HEREDOC = re.compile(r"<<-?\s*(['\"]?)(\w+)\1")
_ASSIGNMENT = re.compile(r"\w+=")
_SEPARATORS = frozenset("();|&")
# Programs that such a block begins with.
_MARKERS = {
    *("anthropic-proxy", "claude", "cp", "curl", "docker", "export", "git", "helm", "kubectl"),
    *("make", "npm", "pip", "python3", "sudo"),
}


@dataclass(frozen=True)
class Command:
    """A command, which may have several lines, and the output that the page shows."""

    text: str
    output: tuple[str, ...] | None  # None in a block that shows no output

    @property
    def programs(self) -> list[str]:
        """The names of the programs that the command runs."""
        lexer = shlex.shlex(_without_heredocs(self.text), posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        names = []
        is_expected = True
        for token in lexer:
            if set(token) <= _SEPARATORS:
                is_expected = True
            elif is_expected and not _ASSIGNMENT.match(token):
                names.append(token)
                is_expected = False
        return names


@dataclass(frozen=True)
class Block:
    """A block of commands. `line` is the number of its first line in the page."""

    page: str
    line: int
    commands: tuple[Command, ...]
    # the fenced blocks before it on the same page: pairs of language and content
    earlier: tuple[tuple[str, str], ...]

    @property
    def text(self) -> str:
        return "\n".join(command.text for command in self.commands)

    @property
    def programs(self) -> list[str]:
        """The names of the programs that the commands run."""
        return [name for command in self.commands for name in command.programs]

    @property
    def name(self) -> str:
        """The page and the first line. A block that moves within its page keeps its name."""
        return f"{self.page}: {self.commands[0].text.splitlines()[0]}"


def read_blocks(path: Path) -> list[Block]:
    """Return the blocks of commands of a page, in order."""
    text = path.read_text()
    blocks = []
    earlier: list[tuple[str, str]] = []
    for fence in _FENCE.finditer(text):
        language, content = fence[2], textwrap.dedent(fence[3])
        is_marked = language in _LANGUAGES
        if is_marked or (language in _OTHER_LANGUAGES and _looks_like_commands(content)):
            commands = tuple(parse_commands(content))
            line = text.count("\n", 0, fence.start()) + 2
            name = str(path.relative_to(ROOT))
            blocks.append(Block(name, line, commands, tuple(earlier)))
        earlier.append((language, content))
    return blocks


def parse_commands(content: str) -> Iterator[Command]:
    """Yield the commands of a block, without comments."""
    lines = content.splitlines()
    has_output = any(line.startswith("$ ") for line in lines)
    while lines:
        line = lines.pop(0)
        if has_output and not line.startswith("$ "):
            raise ValueError(f"output before the first command: {line!r}")
        text = line.removeprefix("$ ") if has_output else line
        while lines and not _is_complete(text):
            text += "\n" + lines.pop(0).removeprefix("> ")
        output = []
        while has_output and lines and not lines[0].startswith("$ "):
            output.append(lines.pop(0))
        if shlex.split(_without_heredocs(text), comments=True):
            yield Command(text, tuple(output) if has_output else None)


def _looks_like_commands(content: str) -> bool:
    if content.startswith("$ "):
        return True
    words = content.split("\n", maxsplit=1)[0].split()
    names = [word for word in words if not _ASSIGNMENT.match(word)]
    return bool(names) and names[0] in _MARKERS


def _is_complete(text: str) -> bool:
    if text.endswith("\\"):
        return False
    lines = text.splitlines()
    if any(found[2] not in lines for found in _HEREDOC.finditer(text)):
        return False
    try:
        shlex.split(_without_heredocs(text), comments=True)
    except ValueError:  # a quotation mark is open
        return False
    return True


def _without_heredocs(text: str) -> str:
    return text.split("\n", maxsplit=1)[0] if _HEREDOC.search(text) else text
