"""The targets of requests with a configuration file, over real sockets."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.messages_api import post, text_of
from tests.support.running_proxy import running_proxy
from tests.support.scripted_upstream import (
    Received,
    Script,
    ScriptedUpstream,
    answers,
    completion,
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
    folder: Path, names: str, targets: list[Any], **variables: Any
) -> Iterator[tuple[str, list[SteadyUpstream]]]:
    """Serve a proxy with one rule for all models, and an upstream for each letter of `names`."""
    with ExitStack() as stack:
        upstreams = [stack.enter_context(SteadyUpstream()) for _ in names]
        urls = {name: {"url": each.url} for name, each in zip(names, upstreams, strict=True)}
        path = folder / "upstreams.yaml"
        path.write_text(json.dumps({"upstreams": urls, "routes": [{"targets": targets}]}))
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
