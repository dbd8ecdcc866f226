"""The targets of requests with a configuration file, over real sockets."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from anthropic_proxy.upstream import client as upstream_client
from anthropic_proxy.upstream.circuit_breaker import BreakerConfig
from tests.support.messages_api import post, text_of
from tests.support.running_command import until
from tests.support.running_proxy import running_proxy
from tests.support.scripted_upstream import (
    Pause,
    Received,
    Script,
    ScriptedUpstream,
    answers,
    completion,
    streams,
    text_chunks,
)

REQUEST: dict[str, Any] = {
    "model": "m",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "Hi"}],
}


GOOD = answers(completion("Hello"))


class SteadyUpstream(ScriptedUpstream):
    """Responds to each request with `reply`, unless it has scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.reply = GOOD

    def script_for(self, received: Received) -> Script:
        return super().script_for(received) if self.has_scripts else self.reply

    def count(self) -> int:
        """Return the number of requests since the last call."""
        number = len(self.requests)
        self.requests.clear()
        return number


@contextmanager
def routed_proxy(
    folder: Path,
    names: str,
    targets: list[Any],
    options: dict[str, Any] | None = None,
    **variables: Any,
) -> Iterator[tuple[str, list[SteadyUpstream]]]:
    """Serve a proxy with one rule for all models, and an upstream for each letter of `names`.

    options: additional fields of upstreams, by name. variables: settings by name.
    """
    with ExitStack() as stack:
        upstreams = [stack.enter_context(SteadyUpstream()) for _ in names]
        entries = {
            name: {"url": each.url, **(options or {}).get(name, {})}
            for name, each in zip(names, upstreams, strict=True)
        }
        path = folder / "upstreams.yaml"
        path.write_text(json.dumps({"upstreams": entries, "routes": [{"targets": targets}]}))
        proxy = stack.enter_context(running_proxy(None, CONFIG_FILE=path, **variables))
        yield proxy, upstreams


def upstream_of(proxy: str, body: dict[str, Any], **headers: str) -> str:
    """Return the name of the upstream that serves a request."""
    response = post(proxy, body, headers=headers)
    assert text_of(response) == "Hello"
    return response.headers["anthropic-proxy-upstream"]


def _with_session(session: str) -> dict[str, Any]:
    user_id = json.dumps({"device_id": "d", "account_uuid": "", "session_id": session})
    return {**REQUEST, "metadata": {"user_id": user_id}}


def test_a_session_stays_at_its_target(tmp_path: Path) -> None:
    with routed_proxy(tmp_path, "ab", [["a/m", "b/m"]]) as (proxy, _):
        targets: set[str] = set()
        for number in range(20):
            session = f"session {number}"
            names = {
                upstream_of(proxy, _with_session(session)),
                upstream_of(proxy, REQUEST, **{"x-claude-code-session-id": session}),
                upstream_of(proxy, {**_with_session(session), "system": "Later."}),
            }
            assert len(names) == 1
            targets |= names
        assert targets == {"a", "b"}


def test_a_conversation_stays_at_its_target(tmp_path: Path) -> None:
    with routed_proxy(tmp_path, "ab", [["a/m", "b/m"]]) as (proxy, _):
        targets: set[str] = set()
        for number in range(20):
            turn = {**REQUEST, "messages": [{"role": "user", "content": f"Question {number}"}]}
            later = [
                *turn["messages"],
                {"role": "assistant", "content": "Hello"},
                {"role": "user", "content": "More"},
            ]
            names = {upstream_of(proxy, turn), upstream_of(proxy, {**turn, "messages": later})}
            assert len(names) == 1
            targets |= names
        assert targets == {"a", "b"}


def test_without_affinity_the_targets_are_random(tmp_path: Path) -> None:
    targets = [["a/m", "b/m"]]
    with routed_proxy(tmp_path, "ab", targets, SESSION_AFFINITY=False) as (proxy, _):
        # All 60 at one target: once in 2**59 runs.
        assert {upstream_of(proxy, _with_session("one")) for _ in range(60)} == {"a", "b"}


@pytest.mark.parametrize("session", ["s1", "s2", "s3"])
def test_a_session_returns_after_a_failure(tmp_path: Path, session: str) -> None:
    with routed_proxy(tmp_path, "abc", [["a/m", "b/m", "c/m"]]) as (proxy, upstreams):
        request = _with_session(session)
        home = upstream_of(proxy, request)
        failing = upstreams["abc".index(home)]
        failing.reply = answers({"error": {"message": "down"}}, 503)
        spares = {upstream_of(proxy, request) for _ in range(3)}
        assert len(spares) == 1
        assert spares != {home}
        failing.reply = GOOD
        assert upstream_of(proxy, request) == home


def _failing(status: int, text: str = "", **headers: str) -> Script:
    return answers({"error": {"message": text or f"failed with {status}"}}, status, headers)


NATIVE_LIMIT = answers(
    {"type": "error", "error": {"type": "rate_limit_error", "message": "limit reached"}},
    429,
    {"retry-after": "600"},
)
EVENT_LIMIT = streams(
    [{"error": {"message": "limited", "code": 429, "retry_after": 600}}], done=False
)
# Failures of a target, and the fields of its upstream.
REFUSALS: dict[str, tuple[Script, dict[str, Any]]] = {
    "limit": (_failing(429, **{"retry-after": "600"}), {}),
    "limit without a time": (_failing(429), {}),
    "limit with one key": (_failing(429, **{"retry-after": "600"}), {"key": "k"}),
    "native limit": (NATIVE_LIMIT, {"api": "messages", "key": "k"}),
    "limit of the Responses API": (
        _failing(429, **{"retry-after": "600"}),
        {"api": "responses", "key": "k"},
    ),
    "no credit": (_failing(402), {"key": "k"}),
    "refused key": (_failing(401), {"key": "k"}),
    "no permission": (_failing(403), {"key": "k"}),
    "missing model": (_failing(404, "The model `m` does not exist"), {}),
    "missing model with two keys": (_failing(404, "The model `m` does not exist"), {"keys": "k l"}),
    "overload with a time": (_failing(503, **{"retry-after": "600"}), {}),
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("case", REFUSALS)
def test_a_target_that_refuses_requests_cools_down(
    tmp_path: Path, case: str, *, stream: bool
) -> None:
    """Without a cool-down, each request would go to the first target again."""
    refusal, fields = REFUSALS[case]
    with routed_proxy(tmp_path, "ab", ["a/m", "b/m"], {"a": fields}) as (proxy, (first, second)):
        first.reply = refusal
        second.reply = streams(text_chunks("Hello")) if stream else GOOD
        for _ in range(8):
            assert post(proxy, {**REQUEST, "stream": stream}).status_code == 200
        assert (first.count(), second.count()) == (1, 8)


def test_a_limit_within_a_stream_cools_a_target_down(tmp_path: Path) -> None:
    with routed_proxy(tmp_path, "ab", ["a/m", "b/m"]) as (proxy, (first, second)):
        first.reply = EVENT_LIMIT
        second.reply = streams(text_chunks("Hello"))
        for _ in range(3):
            assert post(proxy, {**REQUEST, "stream": True}).status_code == 200
        assert (first.count(), second.count()) == (1, 3)


def test_a_target_is_used_again_after_its_cool_down(tmp_path: Path) -> None:
    with routed_proxy(tmp_path, "ab", ["a/m", "b/m"]) as (proxy, (first, second)):
        first.then(_failing(429, **{"retry-after": "0"}))
        assert upstream_of(proxy, REQUEST) == "b"
        assert upstream_of(proxy, REQUEST) == "a"
        assert (first.count(), second.count()) == (2, 1)


def test_a_cool_down_concerns_one_model(tmp_path: Path) -> None:
    """Limits often apply to one model, so another model of the upstream is another target."""
    with routed_proxy(tmp_path, "ab", ["a/m", "a/n", "b/m"]) as (proxy, (first, second)):
        first.then(_failing(429, **{"retry-after": "600"}))
        for _ in range(3):
            assert upstream_of(proxy, REQUEST) == "a"
        assert [each.body["model"] for each in first.requests] == ["m", "n", "n", "n"]
        assert second.count() == 0


def test_the_last_target_never_cools_down(tmp_path: Path) -> None:
    """The target whose cool-down ends first is used."""
    with routed_proxy(tmp_path, "ab", ["a/m", "b/m"]) as (proxy, (first, second)):
        first.reply = _failing(429, **{"retry-after": "600"})
        second.reply = _failing(429, **{"retry-after": "30"})
        for _ in range(3):
            assert post(proxy, REQUEST).status_code == 429
        assert (first.count(), second.count()) == (1, 3)
        second.reply = GOOD
        assert upstream_of(proxy, REQUEST) == "b"
        # Its success has ended the cool-down.
        assert upstream_of(proxy, REQUEST) == "b"
        assert (first.count(), second.count()) == (0, 2)


def test_a_cooling_target_is_the_last_resort(tmp_path: Path) -> None:
    with routed_proxy(tmp_path, "abc", ["a/m", "b/m", "c/m"]) as (proxy, (first, second, third)):
        first.then(_failing(429, **{"retry-after": "30"}))
        second.then(_failing(429, **{"retry-after": "600"}))
        assert upstream_of(proxy, REQUEST) == "c"
        third.reply = _failing(503)
        assert upstream_of(proxy, REQUEST) == "a"
        # Three requests at first, then `c` and `a`.
        assert (first.count(), second.count(), third.count()) == (2, 1, 2)


def test_a_limit_of_a_callers_own_key_concerns_no_other_caller(tmp_path: Path) -> None:
    options = {"a": {"passthrough": True}}
    with routed_proxy(tmp_path, "ab", ["a/m", "b/m"], options) as (proxy, (first, second)):
        first.then(_failing(429, **{"retry-after": "600"}))
        assert upstream_of(proxy, REQUEST, **{"x-api-key": "one"}) == "b"
        assert upstream_of(proxy, REQUEST, **{"x-api-key": "two"}) == "a"
        assert (first.count(), second.count()) == (2, 1)


@pytest.mark.parametrize("status", [400, 413, 422])
def test_an_error_of_the_request_cools_nothing_down(tmp_path: Path, status: int) -> None:
    with routed_proxy(tmp_path, "ab", ["a/m", "b/m"]) as (proxy, (first, second)):
        first.then(_failing(status, **{"retry-after": "600"}))
        assert post(proxy, REQUEST).status_code in (400, 413)
        assert upstream_of(proxy, REQUEST) == "a"
        assert (first.count(), second.count()) == (2, 0)


NATIVE_ERROR = answers(
    {"type": "error", "error": {"type": "api_error", "message": "Internal server error"}}, 500
)
ERROR_EVENT = streams([{"error": {"message": "crashed", "code": 500}}], done=False)


@pytest.mark.parametrize(
    ("reply", "fields"),
    [
        (_failing(500), {}),
        (_failing(500), {"keys": "k l"}),
        (NATIVE_ERROR, {"api": "messages"}),
        (ERROR_EVENT, {}),
        (answers(b"<html>Log in</html>", headers={"content-type": "text/html"}), {}),
        (answers({}), {}),
        (answers(b""), {}),
        (streams([{"choices": []}], done=False), {}),
        (answers({}), {"api": "messages"}),
    ],
    ids=[
        *("chat", "two keys", "native", "event"),
        *("page", "no completion", "no body", "no content", "no message"),
    ],
)
def test_five_server_errors_in_a_row_open_the_circuit(
    tmp_path: Path, reply: Script, fields: dict[str, Any]
) -> None:
    with routed_proxy(tmp_path, "ab", ["a/m", "b/m"], {"a": fields}) as (proxy, (first, second)):
        first.reply = reply
        second.reply = streams(text_chunks("Hello"))
        for _ in range(8):
            assert post(proxy, {**REQUEST, "stream": True}).status_code == 200
        assert (first.count(), second.count()) == (5, 8)


def test_a_success_between_server_errors_keeps_the_circuit_closed(tmp_path: Path) -> None:
    """Some servers return 500 for a request that they cannot handle, such as one with an image."""
    with routed_proxy(tmp_path, "ab", ["a/m", "b/m"]) as (proxy, (first, second)):
        for _ in range(3):
            first.then(*[_failing(500)] * 4)
            assert [upstream_of(proxy, REQUEST) for _ in range(5)] == ["b", "b", "b", "b", "a"]
        assert (first.count(), second.count()) == (15, 12)


def test_server_errors_of_the_only_target_keep_the_circuit_closed(tmp_path: Path) -> None:
    with routed_proxy(tmp_path, "ab", ["a/m"]) as (proxy, (first, second)):
        first.reply = _failing(500)
        assert [post(proxy, REQUEST).status_code for _ in range(8)] == [500] * 8
        assert (first.count(), second.count()) == (8, 0)


def test_server_errors_of_all_targets_leave_one_in_use(tmp_path: Path) -> None:
    """One conversation that no target can handle must not stop the others."""
    with routed_proxy(tmp_path, "ab", ["a/m", "b/m"]) as (proxy, (first, second)):
        first.reply = second.reply = _failing(500)
        for _ in range(12):
            assert post(proxy, REQUEST).status_code == 500
        assert (first.count(), second.count()) == (5, 12)
        second.reply = GOOD
        assert upstream_of(proxy, REQUEST) == "b"


def test_a_probe_with_a_server_error_opens_the_circuit_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = BreakerConfig(cool_down=0.001, max_cool_down=60, counts_server_errors=True)
    monkeypatch.setattr(upstream_client, "BreakerConfig", lambda **_: quick)
    with routed_proxy(tmp_path, "ab", ["a/m", "b/m"]) as (proxy, (first, _)):
        first.reply = _failing(500)
        for _ in range(60):
            assert upstream_of(proxy, REQUEST) == "b"
        # Five errors, and at most one probe in each pause, which doubles each time.
        assert 6 <= first.count() <= 30
        first.reply = GOOD
        until(lambda: upstream_of(proxy, REQUEST) == "a", "the recovery")


def _overflow(prompt: int, limit: int) -> Script:
    text = (
        f"This model's maximum context length is {limit} tokens. However, your messages resulted "
        f"in {prompt} tokens."
    )
    return answers({"error": {"message": text, "code": "context_length_exceeded"}}, 400)


def _native_overflow(prompt: int, limit: int) -> Script:
    text = f"prompt is too long: {prompt} tokens > {limit} maximum"
    error = {"type": "invalid_request_error", "message": text}
    return answers({"type": "error", "error": error}, 400)


@pytest.mark.parametrize(
    ("overflow", "fields"),
    [
        (_overflow(9000, 8192), {}),
        (_overflow(9000, 8192), {"api": "responses"}),
        (_native_overflow(9000, 8192), {"api": "messages"}),
        (_failing(400, "Input too long."), {}),
        (_failing(500, "the request exceeds the available context size"), {}),
    ],
    ids=["chat", "responses", "native", "without sizes", "status 500"],
)
def test_a_context_overflow_continues_with_the_next_target(
    tmp_path: Path, overflow: Script, fields: dict[str, Any]
) -> None:
    with routed_proxy(tmp_path, "ab", ["a/m", "b/m"], {"a": fields}) as (proxy, (first, second)):
        first.reply = overflow
        for _ in range(8):
            assert upstream_of(proxy, REQUEST) == "b"
        # An overflow is neither a failure of the target nor a limit.
        assert (first.count(), second.count()) == (8, 8)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ((8192, 200_000, 32_768), "prompt is too long: 300000 tokens > 200000 maximum"),
        ((200_000, 8192, 8192), "prompt is too long: 300000 tokens > 200000 maximum"),
        ((8192, 8192, 8192), "prompt is too long: 300000 tokens > 8192 maximum"),
    ],
)
def test_the_overflow_of_the_largest_target_is_returned(
    tmp_path: Path, limits: tuple[int, ...], message: str
) -> None:
    targets = ["a/m", "b/m", "c/m"]
    with routed_proxy(tmp_path, "abc", targets) as (proxy, upstreams):
        for upstream, limit in zip(upstreams, limits, strict=True):
            upstream.reply = _overflow(300_000, limit)
        response = post(proxy, REQUEST)
        assert (response.status_code, response.json()["error"]["message"]) == (400, message)
        assert [upstream.count() for upstream in upstreams] == [1, 1, 1]
        # Now the sizes are known: only targets with a larger context are tried.
        assert post(proxy, REQUEST).json()["error"]["message"] == message
        larger = [max(limits[:number], default=0) < limits[number] for number in range(3)]
        assert [upstream.count() for upstream in upstreams] == [int(each) for each in larger]


def test_a_temporary_failure_of_a_larger_target_is_returned(tmp_path: Path) -> None:
    """An overflow would make the client shorten a conversation that the larger target accepts."""
    with routed_proxy(tmp_path, "ab", ["a/m", "b/m"]) as (proxy, (first, second)):
        first.reply = _overflow(9000, 8192)
        second.reply = _failing(429, **{"retry-after": "7"})
        response = post(proxy, REQUEST)
        assert (response.status_code, response.headers["retry-after"]) == (429, "7")


@pytest.mark.parametrize(("first_status", "second_status"), [(503, None), (None, 401)])
def test_otherwise_the_overflow_is_returned(
    tmp_path: Path, first_status: int | None, second_status: int | None
) -> None:
    with routed_proxy(tmp_path, "ab", ["a/m", "b/m"]) as (proxy, (first, second)):
        first.reply = _failing(first_status) if first_status else _overflow(9000, 8192)
        second.reply = _failing(second_status) if second_status else _overflow(9000, 8192)
        response = post(proxy, REQUEST)
        message = "prompt is too long: 9000 tokens > 8192 maximum"
        assert (response.status_code, response.json()["error"]["message"]) == (400, message)


def test_targets_for_overflows_are_limited(tmp_path: Path) -> None:
    targets = [f"{name}/m" for name in "abcde"]
    options: dict[str, Any] = {"MAX_UPSTREAM_REQUESTS": 3}
    with routed_proxy(tmp_path, "abcde", targets, **options) as (proxy, upstreams):
        for number, upstream in enumerate(upstreams):
            upstream.reply = _overflow(300_000, 8192 * (number + 1))
        message = post(proxy, REQUEST).json()["error"]["message"]
        assert message == f"prompt is too long: 300000 tokens > {8192 * 3} maximum"
        assert [upstream.count() for upstream in upstreams] == [1, 1, 1, 0, 0]


_ROLE = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}
_CREATED = {"type": "response.created", "response": {"id": "r", "status": "in_progress"}}


def _silent(*steps: Any) -> tuple[Script, Pause]:
    pause = Pause()
    return streams([*steps, pause], done=False), pause


@pytest.mark.parametrize(
    ("steps", "fields"),
    [
        (None, {}),
        ((), {}),
        ((_ROLE,), {}),
        ((b": OPENROUTER PROCESSING\n\n",), {}),
        (None, {"api": "responses"}),
        ((_CREATED,), {"api": "responses"}),
        (None, {"api": "messages"}),
        ((), {"api": "messages"}),
    ],
    ids=[
        "no response",
        "headers",
        "role",
        "heartbeat",
        "no response of the Responses API",
        "event of the Responses API",
        "no native response",
        "native headers",
    ],
)
def test_a_target_without_first_token_is_replaced(
    tmp_path: Path, steps: tuple[Any, ...] | None, fields: dict[str, Any]
) -> None:
    options = {"a": {**fields, "timeouts": {"first_token": 0.2}}}
    with routed_proxy(tmp_path, "ab", ["a/m", "b/m"], options) as (proxy, (first, second)):
        first.reply, pause = _silent(*steps or ())
        if steps is None:
            first.reply = Script(None, [pause])
        second.reply = streams(text_chunks("Hello"))
        for _ in range(7):
            response = post(proxy, {**REQUEST, "stream": True})
            assert text_of(response) == "Hello"
        pause.go.set()
        # Each is a failure for the circuit breaker, which opens at the fifth.
        assert (first.count(), second.count()) == (5, 7)


def test_without_another_target_the_first_token_is_late(tmp_path: Path) -> None:
    options = {"a": {"timeouts": {"first_token": 0.2}}}
    with routed_proxy(tmp_path, "a", ["a/m"], options) as (proxy, (only,)):
        only.reply, pause = _silent()
        response = post(proxy, {**REQUEST, "stream": True})
        pause.go.set()
        assert (response.status_code, response.json()["error"]["type"]) == (504, "timeout_error")
        assert response.json()["error"]["message"] == "The upstream a sent no content within 0.2 s"


_COMPACTED: dict[str, Any] = {
    **REQUEST,
    # More than 50,000 tokens.
    "messages": [{"role": "user", "content": "word " * 60_000}],
    "context_management": {
        "edits": [
            {"type": "compact_20260112", "trigger": {"type": "input_tokens", "value": 50_000}}
        ]
    },
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("retries", [0, 1], ids=["failover", "retry"])
def test_a_summary_is_paid_once(tmp_path: Path, retries: int, *, stream: bool) -> None:
    """A request that continues from a summary is repeated with the same summary."""
    good = streams(text_chunks("Hello")) if stream else GOOD
    options = {"a": {"retries": retries}}
    with routed_proxy(tmp_path, "ab", ["a/m", "b/m"], options) as (proxy, (first, second)):
        first.then(answers(completion("The summary")), _failing(503, **{"retry-after": "0"}))
        first.reply = second.reply = good
        response = post(proxy, {**_COMPACTED, "stream": stream})
        assert response.status_code == 200
        assert "The summary" in response.text
        requests = [*first.requests, *second.requests]
        # The summary, and two requests that continue from it.
        assert ["word word" in each.raw.decode() for each in requests] == [True, False, False]
        assert (len(first.requests), len(second.requests)) == (2 + retries, 1 - retries)


def test_a_context_overflow_within_a_stream_continues_with_the_next_target(tmp_path: Path) -> None:
    error = {
        "message": "This model's maximum context length is 8192 tokens. However, your messages "
        "resulted in 9000 tokens.",
        "code": "context_length_exceeded",
        "type": "invalid_request_error",
    }
    with routed_proxy(tmp_path, "ab", ["a/m", "b/m"]) as (proxy, (first, second)):
        first.reply = streams([{"error": error}], done=False)
        second.reply = streams(text_chunks("Hello"))
        response = post(proxy, {**REQUEST, "stream": True})
        assert text_of(response) == "Hello"
        assert (first.count(), second.count()) == (1, 1)
