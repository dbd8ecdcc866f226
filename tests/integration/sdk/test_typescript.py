"""Results of the official TypeScript SDK, which typescript/judge.mjs plays scenarios with.

Skipped without node, or where `npm ci` was not run in that folder (`make test` runs it with npm).
"""

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.sdk.both_ways import (
    ASK,
    PARAMETERS,
    TOOL,
    BothWays,
    call_chunks,
    call_completion,
    check_content,
    check_replay,
    chunks,
    without_ids,
)
from tests.support import grammar, openai_shapes
from tests.support.scripted_upstream import (
    DEADLINE,
    Pause,
    Script,
    ScriptedUpstream,
    answers,
    completion,
    streams,
    text_chunks,
)

FOLDER = Path(__file__).parent / "typescript"
NODE = shutil.which("node")

pytestmark = [
    pytest.mark.skipif(NODE is None, reason="node is not installed"),
    pytest.mark.skipif(
        not (FOLDER / "node_modules").is_dir(), reason=f"`npm ci` was not run in {FOLDER.name}"
    ),
]

PERSON = {"name": "Ann", "age": 44}
LIST: dict[str, Any] = {
    "object": "list",
    "data": [{"id": name, "created": 1} for name in ("a", "vendor/b:free", "c", "d", "e")],
}


class Judge:
    """judge.mjs, which plays one scenario after the other."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def begin(self, proxy: str, scenario: str, **parameters: Any) -> None:
        """Let it play a scenario; parameters of the request are named `ask`."""
        assert self._process.stdin is not None
        task = {"baseURL": proxy, "scenario": scenario, "parameters": {"ask": ASK, **parameters}}
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()

    def end(self) -> Any:
        """What the SDK made of the answers."""
        assert self._process.stdout is not None
        watch = threading.Timer(DEADLINE, self._process.kill)
        watch.start()
        line = self._process.stdout.readline()
        watch.cancel()
        assert line, "judge.mjs has ended; what it said stands in the captured standard error"
        return json.loads(line)

    def play(self, proxy: str, scenario: str, **parameters: Any) -> Any:
        self.begin(proxy, scenario, **parameters)
        return self.end()


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    assert NODE is not None
    command = [NODE, "judge.mjs"]
    with subprocess.Popen(
        command, cwd=FOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Judge(process)
        process.kill()


@pytest.mark.parametrize("answer", PARAMETERS)
@pytest.mark.parametrize("scenario", ["bothWays", "bothWaysInBeta"])
def test_a_stream_adds_up_to_the_message(
    judge: Judge, proxy: str, upstream: ScriptedUpstream, answer: BothWays, scenario: str
) -> None:
    upstream.then(answer.streamed, answer.whole, *[answers(completion()) for _ in range(2)])
    seen = judge.play(proxy, scenario, ask=ASK | answer.ask, nextUser="Go on")
    grammar.check(seen["events"])
    check_content(seen["streamed"]["content"], seen["whole"]["content"], answer)
    for name in ("stop_reason", "stop_sequence", "usage", "model"):
        assert without_ids(seen["streamed"][name]) == without_ids(seen["whole"][name])
    assert seen["streamed"]["stop_reason"] == answer.stop_reason
    assert all(each.startswith("req_") for each in seen["requestIds"])
    _, _, *replays = [upstream.request().body for _ in range(4)]
    for body in replays:
        check_replay(body, answer)


@pytest.mark.parametrize("scenario", ["error", "errorOfStream"])
@pytest.mark.parametrize(
    ("status", "told", "kind", "name"),
    [
        (400, 400, "invalid_request_error", "BadRequestError"),
        (404, 404, "not_found_error", "NotFoundError"),
        (429, 429, "rate_limit_error", "RateLimitError"),
        (500, 500, "api_error", "InternalServerError"),
        (503, 529, "overloaded_error", "OverloadedError"),
    ],
)
def test_errors(
    judge: Judge,
    proxy: str,
    upstream: ScriptedUpstream,
    status: int,
    told: int,
    kind: str,
    name: str,
    scenario: str,
) -> None:
    upstream.then(answers({"error": {"message": "no"}}, status))
    error = judge.play(proxy, scenario)
    assert error.pop("requestId").startswith("req_")
    assert error == {
        "class": name,
        "isApiError": True,
        "status": told,
        "type": kind,
        "message": "no",
    }


def test_an_error_within_the_stream(judge: Judge, proxy: str, upstream: ScriptedUpstream) -> None:
    upstream.then(
        streams([text_chunks("one")[0], {"error": {"message": "out of memory"}}], done=False)
    )
    error = judge.play(proxy, "errorOfStream")
    assert (error["isApiError"], error["message"], error["type"]) == (
        True,
        "out of memory",
        "api_error",
    )


def test_a_request_that_the_proxy_refuses(judge: Judge, proxy: str) -> None:
    error = judge.play(proxy, "error", ask={**ASK, "messages": []})
    assert (error["class"], error["status"]) == ("BadRequestError", 400)
    assert error["message"].startswith("messages")


def test_count_tokens(judge: Judge, proxy: str) -> None:
    stable, beta = judge.play(
        proxy, "countTokens", ask={"model": "m", "messages": ASK["messages"], "tools": [TOOL]}
    )
    assert 10 < stable["input_tokens"] == beta["input_tokens"] < 100


def test_models(judge: Judge, proxy: str, upstream: ScriptedUpstream) -> None:
    upstream.then(*[answers(LIST) for _ in range(4)])
    seen = judge.play(proxy, "models", id="vendor/b:free")
    assert seen["all"] == [model["id"] for model in LIST["data"]]
    assert (seen["one"]["id"], seen["one"]["type"]) == ("vendor/b:free", "model")


@pytest.mark.parametrize(
    ("scenario", "script"),
    [
        ("parse", answers(completion(json.dumps(PERSON)))),
        ("parseStream", streams(chunks({"content": '{"name":"Ann",'}, {"content": '"age":44}'}))),
    ],
)
def test_structured_output(
    judge: Judge, proxy: str, upstream: ScriptedUpstream, scenario: str, script: Script
) -> None:
    upstream.then(script)
    assert judge.play(proxy, scenario) == PERSON
    asked = upstream.request().body["response_format"]
    assert asked["type"] == "json_schema"
    assert set(asked["json_schema"]["schema"]["properties"]) == set(PERSON)


def test_abort(judge: Judge, proxy: str, upstream: ScriptedUpstream) -> None:
    """The upstream is let go of while it still has the word."""
    pause = Pause()
    upstream.then(streams([text_chunks("one")[0], pause]))
    judge.begin(proxy, "abort")
    sent = upstream.request()
    assert sent.gone.wait(DEADLINE)
    pause.go.set()
    seen = judge.end()
    assert (seen["texts"], seen["class"], seen["aborted"]) == (["one"], "APIUserAbortError", True)


@pytest.mark.parametrize("stream", [False, True])
def test_tool_runner(judge: Judge, proxy: str, upstream: ScriptedUpstream, *, stream: bool) -> None:
    """Its request for a thread is refused in the words on which it sends the whole conversation."""
    calls = [[("get_weather", json.dumps({"city": city}))] for city in ("Paris", "Rome")]
    if stream:
        upstream.then(
            *[streams(call_chunks(*each)) for each in calls], streams(text_chunks("Done"))
        )
    else:
        upstream.then(
            *[answers(call_completion(*each)) for each in calls], answers(completion("Done"))
        )
    seen = judge.play(proxy, "toolRunner", ask=ASK | {"stream": stream})
    assert seen["seen"] == ["Paris", "Rome"]
    assert seen["final"]["content"][0]["text"] == "Done"
    bodies = [upstream.request().body for _ in range(3)]
    assert [len(body["messages"]) for body in bodies] == [1, 3, 5]
    for body in bodies:
        openai_shapes.check(body)
    assert bodies[2]["messages"][:3] == bodies[1]["messages"]
    assert bodies[2]["messages"][4]["content"] == "22 degrees in Rome"
