"""Claude Code's own tools: files and commands, several calls in one answer, images, in every accent
of upstreams.
"""

import base64
import json
import struct
import zlib
from pathlib import Path

import pytest

from tests.claude_code.accents import ACCENTS, Said, call
from tests.claude_code.conftest import StartScene
from tests.claude_code.strict_upstream import Conversation


@pytest.mark.parametrize("accent", ACCENTS)
def test_write_and_cat(scene: StartScene, accent: str) -> None:
    def script(asked: Conversation) -> Said:
        path = str(started.workspace / "greeting.txt")
        match asked.results:
            case []:
                return call("Write", file_path=path, content="Hello, wörld\n")
            case [_]:
                return call("Bash", command=f"cat {path}", description="Show the file")
            case [_, shown]:
                return Said(f"The file says: {shown}")
        raise AssertionError(asked.results)

    started = scene(script, accent)
    outcome = started.claude("Write a greeting into a file and show it")
    assert outcome.result["result"] == "The file says: Hello, wörld"
    assert outcome.result["num_turns"] == 3
    assert (started.workspace / "greeting.txt").read_text() == "Hello, wörld\n"
    first, second, third = started.bodies
    assert second["messages"][: len(first["messages"])] == first["messages"]
    assert third["messages"][: len(second["messages"])] == second["messages"]
    assert first["tools"] == second["tools"] == third["tools"]
    if accent != "no-usage":
        assert outcome.result["usage"]["input_tokens"] == 3 * 1200
        assert outcome.result["usage"]["output_tokens"] == 3 * 30


@pytest.mark.parametrize("accent", ACCENTS)
def test_parallel_reads(scene: StartScene, accent: str) -> None:
    def script(asked: Conversation) -> Said:
        if not asked.results:
            calls = tuple(
                ("Read", {"file_path": str(started.workspace / name)})
                for name in ("a.txt", "b.txt")
            )
            return Said("Reading both.", calls=calls)
        return Said(
            json.dumps(
                [any(word in each for each in asked.results) for word in ("apple", "banana")]
            )
        )

    started = scene(script, accent)
    (started.workspace / "a.txt").write_text("apple\n")
    (started.workspace / "b.txt").write_text("banana\n")
    outcome = started.claude("Read both files")
    assert outcome.result["result"] == "[true, true]"
    answered = started.bodies[1]["messages"][-3:]
    assert [message["role"] for message in answered] == ["assistant", "tool", "tool"]
    assert ["apple" in answered[1]["content"], "banana" in answered[2]["content"]] == [True, True]


def test_image(scene: StartScene) -> None:
    """A tool message holds text alone: the image follows in a message of the user."""

    def script(asked: Conversation) -> Said:
        if not asked.results:
            return call("Read", file_path=str(started.workspace / "red.png"))
        return Said("A red square")

    started = scene(script)
    write_png(started.workspace / "red.png")
    assert started.claude("What is in red.png?").result["result"] == "A red square"
    assistant, tool, user = started.bodies[1]["messages"][-3:]
    assert tool["tool_call_id"] == assistant["tool_calls"][0]["id"]
    images = [part["image_url"]["url"] for part in user["content"] if part["type"] == "image_url"]
    assert len(images) == 1
    assert base64.b64decode(images[0].partition(",")[2]).startswith(b"\x89PNG")


def test_image_by_mention(scene: StartScene) -> None:
    started = scene(lambda _: Said("A red square"))
    write_png(started.workspace / "red.png")
    assert started.claude("What is in @red.png?").result["result"] == "A red square"
    assert "data:image/png;base64," in str(started.bodies[0]["messages"])


def test_pdf(scene: StartScene) -> None:
    """Servers that take no files get its text."""

    def script(asked: Conversation) -> Said:
        if not asked.results:
            return call("Read", file_path=str(started.workspace / "one.pdf"))
        return Said("A greeting")

    started = scene(script)
    write_pdf(started.workspace / "one.pdf")
    assert started.claude("What is in one.pdf?").result["result"] == "A greeting"
    assert "Hello, paper" in str(started.bodies[1]["messages"][-1])


# One page with a line of text (ISO 32000-1, 7.5 and 9.4).
_LINE = b"BT /F 12 Tf 10 30 Td (Hello, paper) Tj ET"
_OBJECTS = [
    b"<</Type/Catalog/Pages 2 0 R>>",
    b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
    (
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 72]/Contents 4 0 R"
        b"/Resources<</Font<</F 5 0 R>>>>>>"
    ),
    b"<</Length %d>>\nstream\n%b\nendstream" % (len(_LINE), _LINE),
    b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
]


def write_pdf(file: Path) -> None:
    """With the table of where its objects stand, which readers start from."""
    body, table = b"%PDF-1.4\n", b"0000000000 65535 f \n"
    for number, each in enumerate(_OBJECTS, 1):
        table += b"%010d 00000 n \n" % len(body)
        body += b"%d 0 obj\n%b\nendobj\n" % (number, each)
    size = len(_OBJECTS) + 1
    end = b"xref\n0 %d\n%btrailer\n<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (
        size,
        table,
        size,
        len(body),
    )
    file.write_bytes(body + end)


def write_png(file: Path, side: int = 16) -> None:
    """A red square."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = (b"\x00" + b"\xff\x00\x00" * side) * side
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    file.write_bytes(
        b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )
