"""The order of upstreams after failures, and the error when all fail: over real sockets."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest

from anthropic_proxy.gateway import model_list
from anthropic_proxy.gateway.streams import deferred
from anthropic_proxy.upstream import client as endpoint_client
from anthropic_proxy.upstream import http_client
from anthropic_proxy.upstream.circuit_breaker import BreakerConfig
from tests.support.messages_api import events_of, post, text_of
from tests.support.running_proxy import running_proxy
from tests.support.scripted_upstream import (
    DEADLINE,
    LAST_CHUNK,
    RESET,
    Pause,
    Script,
    ScriptedUpstream,
    answers,
    chunked,
    completion,
    streams,
    text_chunks,
)

REQUEST: dict[str, Any] = {
    "model": "m",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "Hi"}],
}
STREAM = {**REQUEST, "stream": True}


def failing(status: int, **headers: str) -> Script:
    return answers({"error": {"message": f"failed with {status}"}}, status, headers)


@contextmanager
def proxy_of(count: int, **variables: Any) -> Iterator[tuple[str, list[ScriptedUpstream]]]:
    with ExitStack() as stack:
        upstreams = [stack.enter_context(ScriptedUpstream()) for _ in range(count)]
        urls = ";".join(each.url for each in upstreams)
        yield stack.enter_context(running_proxy(urls, **variables)), upstreams


@pytest.mark.parametrize("request_", [REQUEST, STREAM], ids=["whole", "stream"])
@pytest.mark.parametrize("status", [401, 404, 408, 429, 500, 502, 503, 529])
def test_the_next_upstream_answers(request_: dict[str, Any], status: int) -> None:
    good = streams(text_chunks("Hello")) if "stream" in request_ else answers(completion("Hello"))
    with proxy_of(2) as (proxy, (first, second)):
        first.then(failing(status))
        second.then(good)
        response = post(proxy, request_)
        assert text_of(response) == "Hello"
        assert response.headers["anthropic-proxy-upstream"] == second.url.removeprefix("http://")
        assert response.headers["anthropic-proxy-model"] == "m"


@pytest.mark.parametrize(
    "dying",
    [
        pytest.param(Script(None, [RESET]), id="before-the-head"),
        pytest.param(chunked(RESET), id="before-the-body"),
        pytest.param(
            chunked(
                {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}, RESET
            ),
            id="role",
        ),
        pytest.param(
            streams([{"error": {"message": "loading", "code": 503}}], done=False),
            id="error-in-the-stream",
        ),
        pytest.param(streams([b"<html>oops</html>"], done=False), id="no-events"),
        pytest.param(Script(b"garbage\r\n\r\n", []), id="no-http"),
    ],
)
def test_a_stream_that_dies_before_its_content_is_not_seen(dying: Script) -> None:
    with proxy_of(2) as (proxy, (first, second)):
        first.then(dying)
        second.then(streams(text_chunks("Hel", "lo")))
        events = events_of(post(proxy, STREAM).text)
    assert [event["type"] for event in events if event["type"] != "ping"] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]


def test_while_the_next_upstream_thinks_nothing_is_promised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first one had accepted the request; the second one's status is still an HTTP status."""
    monkeypatch.setattr(deferred, "FIRST_CONTENT_SECONDS", 0.01)
    pause = Pause()
    with proxy_of(2) as (proxy, (first, second)), ThreadPoolExecutor(1) as pool:
        first.then(chunked(RESET))
        second.then(Script(None, [pause, b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"]))
        response = pool.submit(post, proxy, STREAM)
        assert pause.reached.wait(DEADLINE)
        with pytest.raises(TimeoutError):
            response.result(0.1)
        pause.go.set()
        assert response.result(DEADLINE).status_code == 400


def test_after_the_first_content_it_is_an_error() -> None:
    with proxy_of(2) as (proxy, (first, _)):
        first.then(chunked(text_chunks("Hel")[0], RESET))
        events = events_of(post(proxy, STREAM).text)
    assert events[-1]["type"] == "error"


@pytest.mark.parametrize("status", [400, 413, 422])
def test_what_is_wrong_everywhere_is_told_at_once(status: int) -> None:
    with proxy_of(2) as (proxy, (first, second)):
        first.then(failing(status))
        assert post(proxy, REQUEST).status_code in (400, 413)
        assert not second.requests


def test_a_prompt_that_is_too_long_is_too_long_whatever_the_status() -> None:
    text = "the request exceeds the available context size (8192 tokens)"
    overflow = answers({"error": {"message": text, "type": "exceed_context_size_error"}}, 500)
    with proxy_of(2, UPSTREAM_RETRIES=1) as (proxy, (first, second)):
        first.then(overflow)
        second.then(overflow)
        response = post(proxy, REQUEST)
        assert (response.status_code, response.json()["error"]["type"]) == (
            400,
            "invalid_request_error",
        )
        assert (len(first.requests), len(second.requests)) == (1, 1)


def test_when_all_fail_the_first_says_why() -> None:
    with proxy_of(2) as (proxy, (first, second)):
        first.then(failing(429, **{"retry-after": "7"}))
        second.then(failing(404))
        response = post(proxy, REQUEST)
    assert (response.status_code, response.headers["retry-after"]) == (429, "7")


def test_a_refused_connection_goes_elsewhere(upstream: ScriptedUpstream) -> None:
    upstream.then(answers(completion("Hello")))
    with running_proxy(f"http://127.0.0.1:1;{upstream.url}") as proxy:
        assert text_of(post(proxy, REQUEST)) == "Hello"


def test_the_only_upstream_fails_at_once() -> None:
    with proxy_of(1) as (proxy, (only,)):
        only.then(failing(503))
        response = post(proxy, REQUEST)
        assert (response.status_code, response.headers["retry-after"]) == (529, "2")
        assert len(only.requests) == 1


def test_a_broken_connection_is_tried_once_more() -> None:
    with proxy_of(1) as (proxy, (only,)):
        only.then(
            Script(None, [RESET]),
            answers(completion("Hello")),
            Script(None, [RESET]),
            Script(None, [RESET]),
        )
        assert text_of(post(proxy, REQUEST)) == "Hello"
        assert post(proxy, REQUEST).status_code == 500
        assert len(only.requests) == 4


def test_retries_are_configured() -> None:
    with proxy_of(1, UPSTREAM_RETRIES=2) as (proxy, (only,)):
        only.then(
            failing(503, **{"retry-after": "0"}),
            failing(429, **{"retry-after": "0"}),
            answers(completion("Hello")),
        )
        assert text_of(post(proxy, REQUEST)) == "Hello"
        only.then(failing(503, **{"retry-after": "3600"}))
        headers = post(proxy, REQUEST).headers
        assert (headers["retry-after"], headers["x-should-retry"]) == ("3600", "false")
        assert len(only.requests) == 4


def test_keys_are_used_in_turn() -> None:
    with proxy_of(1, UPSTREAM_API_KEY="a;b") as (proxy, (only,)):
        only.then(*(answers(completion("Hello")) for _ in range(3)))
        for _ in range(3):
            post(proxy, REQUEST)
        assert [each.headers["authorization"] for each in only.requests] == [
            "Bearer a",
            "Bearer b",
            "Bearer a",
        ]


def test_a_limited_key_is_left_alone() -> None:
    with proxy_of(1, UPSTREAM_API_KEY="a;b") as (proxy, (only,)):
        only.then(
            failing(429), answers(completion("Hello")), answers(completion("Hello")), failing(401)
        )
        assert text_of(post(proxy, REQUEST)) == "Hello"
        assert text_of(post(proxy, REQUEST)) == "Hello"
        assert [each.headers["authorization"] for each in only.requests] == [
            "Bearer a",
            "Bearer b",
            "Bearer b",
        ]
        refused, limited = post(proxy, REQUEST), post(proxy, REQUEST)
        assert (refused.status_code, limited.status_code) == (500, 429)
        assert 1 <= int(limited.headers["retry-after"]) <= 10


_POLICY = {"message": "stopped", "code": "misalignment_policy_violation"}
_SPENT = {"message": "Your credit balance is too low"}
_LIMITED = {"message": "limited", "resets_in_seconds": 3600}


@pytest.mark.parametrize(
    ("status", "error", "is_cooled"),
    [
        (403, _POLICY, False),
        (403, {"message": "no", "code": "unsupported_country_region_territory"}, False),
        (400, {"message": "an invalid field"}, False),
        (403, {"message": "the key has no permission"}, True),
        (403, {"message": "You have exceeded your current token quota"}, True),
        (400, {"message": "API key not valid"}, True),
        (400, _SPENT, True),
        (429, _LIMITED, True),
    ],
)
def test_the_words_of_an_error_show_whether_the_key_is_unusable(
    status: int, error: dict[str, Any], *, is_cooled: bool
) -> None:
    with proxy_of(1, UPSTREAM_API_KEY="a;b") as (proxy, (only,)):
        only.then(answers({"error": error}, status), *[answers(completion("Hello"))] * 2)
        assert (post(proxy, REQUEST).status_code == 200) is is_cooled
        assert text_of(post(proxy, REQUEST)) == "Hello"
        keys = [each.headers["authorization"][-1] for each in only.requests]
        assert keys == (["a", "b", "b"] if is_cooled else ["a", "b"])


def test_a_key_is_not_used_before_the_time_in_the_body() -> None:
    with proxy_of(1, UPSTREAM_API_KEY="a;b") as (proxy, (only,)):
        only.then(*[answers({"error": _LIMITED}, 429)] * 2)
        assert post(proxy, REQUEST).headers["retry-after"] == "3600"
        response = post(proxy, REQUEST)
        assert 60 < int(response.headers["retry-after"]) <= 300
        assert response.headers["x-should-retry"] == "false"
        assert len(only.requests) == 2


@pytest.mark.parametrize("api", ["chat_completions", "messages"])
@pytest.mark.parametrize(
    ("status", "error", "fails_over"),
    [
        (400, {"type": "invalid_request_error", **_SPENT}, True),
        (400, {"type": "invalid_request_error", "message": "Model Not Exist"}, True),
        (400, {"type": "invalid_request_error", "message": "Upstream request failed"}, True),
        (424, {"type": "api_error", "message": "no"}, True),
        (451, {"type": "permission_error", "message": "no"}, True),
        (405, {"type": "invalid_request_error", "message": "no"}, True),
        (403, {"type": "invalid_request_error", **_POLICY}, False),
        (400, {"type": "invalid_request_error", "message": "messages: no"}, False),
    ],
)
def test_the_words_of_an_error_show_whether_another_upstream_may_answer(
    api: str, status: int, error: dict[str, Any], *, fails_over: bool
) -> None:
    message = {**completion("Hello"), "type": "message", "content": [{"type": "text", "text": ""}]}
    with proxy_of(2, UPSTREAM_API=api) as (proxy, (first, second)):
        first.then(answers({"type": "error", "error": error}, status))
        second.then(answers(message))
        assert (post(proxy, REQUEST).status_code == 200) is fails_over
        assert len(second.requests) == fails_over


@pytest.mark.parametrize(
    ("keys", "error", "sent", "status"),
    [
        pytest.param("a;a", failing(401), 1, 500, id="the-same-key-twice"),
        pytest.param(
            "a;b", failing(429, **{"retry-after": "0"}), 2, 429, id="limits-that-are-over-at-once"
        ),
    ],
)
def test_each_key_is_tried_once(keys: str, error: Script, sent: int, status: int) -> None:
    with proxy_of(1, UPSTREAM_API_KEY=keys) as (proxy, (only,)):
        only.then(*[error] * 9)
        assert post(proxy, REQUEST).status_code == status
        assert len(only.requests) == sent


@pytest.mark.parametrize(
    ("refused", "status"), [((401, 403), 500), ((402, 402), 402), ((401, 429), 429)]
)
def test_why_no_key_is_left(refused: tuple[int, int], status: int) -> None:
    with proxy_of(1, UPSTREAM_API_KEY="a;b") as (proxy, (only,)):
        only.then(*map(failing, refused))
        post(proxy, REQUEST)
        response = post(proxy, REQUEST)
        assert (response.status_code, len(only.requests)) == (status, 2)
        assert response.headers.get("x-should-retry") == (None if status == 429 else "false")


def test_where_all_keys_are_refused_the_next_upstream_answers() -> None:
    with proxy_of(2, UPSTREAM_API_KEY="a;b") as (proxy, (first, second)):
        first.then(failing(401), failing(403))
        second.then(*(answers(completion("Hello")) for _ in range(3)))
        assert [text_of(post(proxy, REQUEST)) for _ in range(3)] == ["Hello"] * 3
        assert len(first.requests) == 2


def test_credentials_among_the_headers_are_not_told() -> None:
    with proxy_of(1, UPSTREAM_HEADERS="authorization=Bearer sk-theirs-9;x-api-key-hint=a") as (
        proxy,
        (only,),
    ):
        only.then(answers({"error": "a bad key: sk-theirs-9"}, 400))
        assert post(proxy, REQUEST).json()["error"]["message"] == "a bad key: ***"


def test_clients_without_a_key_do_not_count_against_the_upstream() -> None:
    with proxy_of(1, UPSTREAM_API_KEY_PASSTHROUGH=True) as (proxy, (only,)):
        only.then(answers(completion("Hello")))
        assert {post(proxy, REQUEST).status_code for _ in range(6)} == {401}
        assert text_of(post(proxy, REQUEST, headers={"x-api-key": "sk-theirs"})) == "Hello"


def test_the_clients_own_key_is_passed_on() -> None:
    with proxy_of(1, UPSTREAM_API_KEY_PASSTHROUGH=True) as (proxy, (only,)):
        only.then(
            answers(completion("Hello")),
            answers(completion("Hello")),
            answers({"error": "bad key sk-theirs"}, 400),
        )
        post(proxy, REQUEST, headers={"x-api-key": "sk-theirs"})
        post(proxy, REQUEST, headers={"authorization": "Bearer sk-theirs"})
        assert {each.headers["authorization"] for each in only.requests} == {"Bearer sk-theirs"}
        assert "sk-theirs" not in post(proxy, REQUEST, headers={"x-api-key": "sk-theirs"}).text
        only.then(failing(401), failing(403))
        for status, kind in (
            (401, "authentication_error"),
            (403, "permission_error"),
            (401, "authentication_error"),
        ):
            headers = {"x-api-key": "sk-theirs"} if only.has_scripts else {}
            response = post(proxy, REQUEST, headers=headers)
            assert (response.status_code, response.json()["error"]["type"]) == (status, kind)


def test_headers_fields_and_query_are_added() -> None:
    variables: dict[str, Any] = {
        "UPSTREAM_HEADERS": "X-Team=blue",
        "UPSTREAM_EXTRA_BODY": '{"provider": {"order": ["a"]}, "seed": 1}',
    }
    with (
        ScriptedUpstream() as only,
        running_proxy(f"{only.url}/v1?api-version=7", **variables) as proxy,
    ):
        only.then(answers(completion("Hello")))
        post(proxy, REQUEST)
        sent = only.requests[0]
    assert (sent.path, sent.headers["x-team"]) == ("/v1/chat/completions?api-version=7", "blue")
    assert (sent.body["provider"], sent.body["seed"], sent.body["model"]) == (
        {"order": ["a"]},
        1,
        "m",
    )


def test_an_upstream_that_fails_on_and_on_is_left_alone_and_comes_back() -> None:
    """Six requests reach it, and one more when its time has come."""
    with proxy_of(2) as (proxy, (first, second)):
        first.then(*(failing(503) for _ in range(5)))
        second.then(*(answers(completion("Hello")) for _ in range(20)))
        for _ in range(20):
            assert text_of(post(proxy, REQUEST)) == "Hello"
        assert (len(first.requests), len(second.requests)) == (5, 20)


def test_the_only_upstream_is_left_alone_for_a_while() -> None:
    with proxy_of(1) as (proxy, (only,)):
        only.then(*(failing(503) for _ in range(5)))
        for _ in range(5):
            post(proxy, REQUEST)
        response = post(proxy, REQUEST)
        assert (response.status_code, response.json()["error"]["type"]) == (529, "overloaded_error")
        assert "it returned status 503" in response.json()["error"]["message"]
        assert 1 <= int(response.headers["retry-after"]) <= 10
        assert len(only.requests) == 5


def test_a_thousand_errors_and_recovery(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few of a thousand requests reach a failing upstream; a probe notices its recovery."""
    # Many requests fit into a cool-down, also on a busy machine.
    quick = BreakerConfig(cool_down=0.5, max_cool_down=0.5)
    monkeypatch.setattr(endpoint_client, "BreakerConfig", lambda **_: quick)
    with (
        proxy_of(1) as (proxy, (only,)),
        httpx.Client(base_url=proxy, trust_env=False, timeout=DEADLINE) as client,
    ):
        only.then(*(failing(503) for _ in range(1000)))
        statuses = [client.post("/v1/messages", json=REQUEST).status_code for _ in range(1000)]
        assert set(statuses) == {529}
        reached = len(only.requests)
        assert 5 <= reached < 500
        only.forget()
        only.then(*(answers(completion("Hello")) for _ in range(1000)))
        deadline = time.monotonic() + DEADLINE
        while client.post("/v1/messages", json=REQUEST).status_code != 200:
            assert time.monotonic() < deadline
        assert client.post("/v1/messages", json=REQUEST).status_code == 200


def test_a_probe_that_answers_lets_the_others_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """They need not wait for its end."""
    quick = BreakerConfig(cool_down=0.001, max_cool_down=0.001)
    monkeypatch.setattr(endpoint_client, "BreakerConfig", lambda **_: quick)
    pause = Pause()
    with proxy_of(1) as (proxy, (only,)), ThreadPoolExecutor(1) as pool:
        only.then(*(failing(503) for _ in range(5)))
        while len(only.requests) < 5:
            post(proxy, REQUEST)
        only.then(
            chunked(text_chunks("Hel")[0], pause, *text_chunks("lo"), LAST_CHUNK),
            answers(completion("Hello")),
        )
        with httpx.stream("POST", f"{proxy}/v1/messages", json=STREAM, trust_env=False) as probe:
            reads = probe.iter_bytes()
            next(reads)
            assert pause.reached.wait(DEADLINE)
            assert text_of(pool.submit(post, proxy, REQUEST).result(DEADLINE)) == "Hello"
            pause.go.set()
            assert b"message_stop" in b"".join(reads)


def test_an_upstream_that_does_not_hang_up_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures between answers whose end is left to the client are not in a row."""
    monkeypatch.setattr(http_client, "DRAIN_SECONDS", 0.001)
    with proxy_of(1) as (proxy, (only,)):
        for _ in range(6):
            only.then(failing(503), chunked(*text_chunks("Hello"), b"data: [DONE]\n\n", Pause()))
            assert post(proxy, REQUEST).status_code == 529
            assert text_of(post(proxy, STREAM)) == "Hello"
        assert len(only.requests) == 12


def test_who_waits_too_long_or_finds_no_room_is_told() -> None:
    variables = {"UPSTREAM_CONCURRENCY": 1, "UPSTREAM_QUEUE": 1, "UPSTREAM_QUEUE_TIMEOUT": 0.2}
    pause = Pause()
    with proxy_of(1, **variables) as (proxy, (only,)), ThreadPoolExecutor(2) as pool:
        only.then(
            chunked(text_chunks("Hel")[0], pause, *text_chunks("lo"), LAST_CHUNK),
            answers(completion("Hello")),
        )
        first = pool.submit(post, proxy, STREAM)
        assert pause.reached.wait(DEADLINE)
        waiting = pool.submit(post, proxy, REQUEST).result(DEADLINE)
        assert (waiting.status_code, waiting.headers["retry-after"]) == (529, "1")
        assert "is at its concurrency limit" in waiting.json()["error"]["message"]
        pause.go.set()
        assert events_of(first.result(DEADLINE).text)[-1]["type"] == "message_stop"
        assert text_of(post(proxy, REQUEST)) == "Hello"
        assert len(only.requests) == 2


def test_who_leaves_gives_the_slot_back() -> None:
    pause = Pause()
    with proxy_of(1, UPSTREAM_CONCURRENCY=1, UPSTREAM_QUEUE=0) as (proxy, (only,)):
        only.then(chunked(text_chunks("Hel")[0], pause), answers(completion("Hello")))
        with httpx.stream("POST", f"{proxy}/v1/messages", json=STREAM, trust_env=False) as response:
            next(response.iter_bytes())
        assert only.request().gone.wait(DEADLINE)
        pause.go.set()
        deadline = time.monotonic() + DEADLINE
        while (answer := post(proxy, REQUEST)).status_code == 529:
            assert time.monotonic() < deadline
        assert text_of(answer) == "Hello"


def test_a_list_that_does_not_come_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_list, "_TIMEOUT_SECONDS", 0.2)
    with proxy_of(2) as (proxy, (first, second)):
        first.then(Script(None, [Pause()]), Script(None, [Pause()]))
        second.then(answers({"object": "list", "data": [{"id": "m"}]}), failing(500))
        listed = httpx.get(f"{proxy}/v1/models", trust_env=False).json()["data"]
        assert [model["id"] for model in listed] == [f"{second.url.removeprefix('http://')}/m"]
        response = httpx.get(f"{proxy}/v1/models", trust_env=False)
        assert (response.status_code, response.json()["error"]["type"]) == (504, "timeout_error")


@pytest.mark.parametrize("api", ["chat_completions", "messages"])
@pytest.mark.parametrize("with_image", [True, False])
def test_an_image_is_refused_only_if_there_is_one(api: str, *, with_image: bool) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
    image = {"type": "image", "source": source} if with_image else {"type": "text", "text": "Hi"}
    request = {**REQUEST, "messages": [{"role": "user", "content": [image]}]}
    message = "At most 0 image(s) may be provided in one prompt."
    error = {"type": "invalid_request_error", "message": message}
    with proxy_of(1, UPSTREAM_API=api) as (proxy, (only,)):
        only.then(answers({"type": "error", "error": error}, 400))
        told = post(proxy, request).json()["error"]["message"]
    assert told == (f"Could not process image: {message}" if with_image else message)
