"""Upstreams that fail during Claude Code's work: it recovers by the proxy's error, and finishes."""

import base64
import json

import pytest

from tests.claude_code.accents import Said, call
from tests.claude_code.conftest import StartScene
from tests.claude_code.strict_upstream import Conversation, Cut, Refused

_LONGEST = "This model's maximum context length is 8192 tokens. However,"
_SHORTEN = "Please reduce the length of the messages or completion."
# One black pixel.
_PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
)
OVERFLOWS = {
    "openai": (
        f"{_LONGEST} your messages resulted in 9131 tokens. {_SHORTEN}",
        "context_length_exceeded",
    ),
    "vllm": (
        (
            f"{_LONGEST} you requested 41131 tokens "
            f"(9131 in the messages, 32000 in the completion). {_SHORTEN}"
        ),
        None,
    ),
    "gemini": (
        "The input token count (9131) exceeds the maximum number of tokens allowed (8192).",
        None,
    ),
    "deepseek": ("Input is too long for requested model.", None),
    "llama.cpp": (
        "the request exceeds the available context size. try increasing the context size",
        None,
    ),
}


@pytest.mark.parametrize("server", OVERFLOWS)
def test_compaction(scene: StartScene, server: str) -> None:
    """The third turn does not fit: the conversation is compacted, and the work goes on."""
    message, code = OVERFLOWS[server]

    def script(asked: Conversation) -> Said | Refused:
        if "Respond with TEXT ONLY" in str(asked.last["content"]):
            return Said("<summary>One and two were printed; three is to be printed.</summary>")
        if "echo three" in asked.text:
            return Said("All three are printed")
        compacted = "One and two were printed" in asked.text
        if len(asked.results) == 2 and not compacted:
            return Refused(400, message, code=code)
        number = "three" if compacted else ("one", "two")[len(asked.results)]
        return call("Bash", command=f"echo {number} >> printed.txt", description=f"Print {number}")

    started = scene(script)
    outcome = started.claude("Print one, two and three, one after the other")
    assert outcome.result["result"] == "All three are printed"
    # This version knows the words of many servers too; others only know the API's own.
    assert "prompt is too long: " in started.log.read_text()
    assert (started.workspace / "printed.txt").read_text() == "one\ntwo\nthree\n"


def test_an_answer_that_has_no_room(scene: StartScene) -> None:
    """The prompt fits, but not with all tokens that the client asks for: the request is for fewer
    then, whether Claude Code or the proxy reduces it.
    """

    def script(asked: Conversation) -> Said | Refused:
        asked_for = asked.body["max_tokens"]
        if 20_000 + asked_for > 32_768:
            parts = f"20000 in the messages, {asked_for} in the completion"
            sizes = f"{20_000 + asked_for} tokens ({parts})"
            return Refused(
                400,
                "This model's maximum context length is 32768 tokens. "
                f"However, you requested {sizes}.",
            )
        return Said("Short")

    started = scene(script)
    assert started.claude("Hello").result["result"] == "Short"
    assert len(started.bodies) == 2


def test_arguments_that_are_no_json(scene: StartScene) -> None:
    """The model is told what was wrong and gets another try; what goes back upstream is JSON."""

    def script(asked: Conversation) -> Said:
        if not asked.results:
            return Said(calls=(("Bash", '{"command": "ls'),))
        return (
            Said("Done")
            if len(asked.results) == 2
            else call("Bash", command="ls", description="List")
        )

    assert scene(script).claude("List the files").result["result"] == "Done"


@pytest.mark.parametrize(
    ("said", "pieces"),
    [
        (Said("I will write it down now"), 3),
        (call("Write", file_path="x", content="a text of some length"), 4),
        (Said("never said"), 0),
    ],
    ids=["text", "call", "nothing"],
)
def test_a_cut(scene: StartScene, said: Said, pieces: int) -> None:
    """The broken answer is asked for again; nothing of it remains."""

    def script(asked: Conversation) -> Said | Cut:
        if asked.number == 1:
            return Cut(said, pieces)
        path = str(started.workspace / "note.txt")
        return (
            Said("Written") if asked.results else call("Write", file_path=path, content="whole\n")
        )

    started = scene(script)
    outcome = started.claude("Write a note")
    assert outcome.result["result"] == "Written"
    assert (started.workspace / "note.txt").read_text() == "whole\n"
    assert [path.name for path in started.workspace.iterdir()] == ["note.txt"]
    assert said.text not in str(started.bodies[-1]) or not said.text


@pytest.mark.parametrize(
    "refused",
    [
        Refused(429, "Rate limit reached for requests", {"retry-after": "1"}),
        Refused(503, "The server is overloaded"),
        Refused(500, "The server had an error while processing your request"),
    ],
    ids=lambda refused: str(refused.status),
)
def test_a_busy_upstream(scene: StartScene, refused: Refused) -> None:
    def script(asked: Conversation) -> Said | Refused:
        return refused if asked.number == 1 else Said("Here I am")

    started = scene(script)
    assert started.claude("Hello").result["result"] == "Here I am"
    assert [exchange.status for exchange in started.upstream.exchanges] == [refused.status, 200]


@pytest.mark.parametrize(
    "refused",
    [
        pytest.param(Refused(429, "Limit reached", {"retry-after": "3600"}), id="header"),
        pytest.param(Refused(429, "Limit reached, please try again in 2h30m0s."), id="text"),
        pytest.param(Refused(503, "Down for an hour", {"retry-after": "3600"}), id="overload"),
        pytest.param(Refused(429, "You have reached your weekly usage limit"), id="week"),
        pytest.param(Refused(400, "Insufficient balance"), id="credit"),
        pytest.param(
            Refused(403, "Limit reached", code="project_spend_limit_exceeded"), id="spend-limit"
        ),
    ],
)
def test_a_problem_that_lasts(scene: StartScene, refused: Refused) -> None:
    """It is reported at once: no retry within minutes would help."""
    started = scene(lambda _: refused)
    assert refused.message in started.failing_claude("Hello")
    assert len(started.bodies) == 1


@pytest.mark.parametrize(
    "refused",
    [
        Refused(400, "At most 0 image(s) may be provided in one prompt."),
        Refused(422, "messages.3.content.0.type: Input should be 'text'"),
        Refused(404, "No endpoints found that support image input"),
    ],
    ids=["vllm", "cerebras", "openrouter"],
)
def test_a_model_without_images(scene: StartScene, refused: Refused) -> None:
    """The image is removed from the conversation, and the work goes on."""

    def script(asked: Conversation) -> Said | Refused:
        if "image_url" in asked.text:
            return refused
        if asked.number == 1:
            return call("Read", file_path=str(started.workspace / "picture.png"))
        return Said("The picture cannot be seen")

    started = scene(script)
    (started.workspace / "picture.png").write_bytes(base64.b64decode(_PNG))
    outcome = started.claude("Describe picture.png")
    assert outcome.result["result"] == "The picture cannot be seen"


def test_an_answer_without_content(scene: StartScene) -> None:
    started = scene(lambda asked: Said("") if asked.number == 1 else Said("Now visible"))
    assert started.claude("Hello").result["result"] == "Now visible"
    assert len(started.bodies) == 2


def test_an_answer_that_is_too_long(scene: StartScene) -> None:
    """It ends at the limit of its tokens, and is taken up there."""
    started = scene(
        lambda asked: (
            Said("The first half,", finish="length")
            if asked.number == 1
            else Said(" the second half")
        )
    )
    assert "the second half" in started.claude("Tell me all").result["result"]
    assert started.bodies[1]["messages"][-2] == {"role": "assistant", "content": "The first half,"}


def test_a_call_that_is_too_long(scene: StartScene) -> None:
    """It was cut at the limit of tokens: half a file must not be written."""

    def script(asked: Conversation) -> Said:
        path = str(started.workspace / "note.txt")
        if asked.number == 1:
            begun = json.dumps({"file_path": path, "content": "The first half"}).removesuffix('"}')
            return Said(calls=(("Write", begun),), finish="length")
        if not (started.workspace / "note.txt").exists():
            return call("Write", file_path=path, content="whole\n")
        return Said("Written")

    started = scene(script)
    assert started.claude("Write a note").result["result"] == "Written"
    assert (started.workspace / "note.txt").read_text() == "whole\n"
    assert len(started.bodies) == 3
