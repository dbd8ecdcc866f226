"""Recorded requests of the real Claude Code CLI, to an upstream that takes only what OpenAI takes.

The recordings may not be copied into this repository. They are read from a folder beside the
checkout, and the test is skipped where there is none. Cases in tests/cases/requests cover the same.
"""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support import grammar, openai_shapes
from tests.support.cases import SHARED
from tests.support.messages_api import events_of
from tests.support.scripted_upstream import (
    DEADLINE,
    ScriptedUpstream,
    answers,
    completion,
    streams,
    text_chunks,
)

RECORDINGS = sorted((SHARED / "claude-code").glob("*.json"))
ABSENT = pytest.param(
    None, id="none", marks=pytest.mark.skip(reason=f"no recordings in {SHARED.name}/claude-code")
)

# Requests that the proxy rejects: Claude Code gives its model the text as a failed tool's result.
REFUSED = {
    "web_search_side_call": {
        "type": "invalid_request_error",
        "message": "tools: web_search (web_search_20250305) runs on Anthropic's servers. "
        "This upstream does not support it: "
        "remove it, or offer a tool that the client runs",
    }
}


@pytest.mark.parametrize(
    "file", [pytest.param(file, id=file.stem) for file in RECORDINGS] or [ABSENT]
)
def test_recorded_request(file: Path, proxy: str, upstream: ScriptedUpstream) -> None:
    recording: dict[str, Any] = json.loads(file.read_text())
    body = recording["body"]
    upstream.then(
        streams(text_chunks("Hello")) if body.get("stream") else answers(completion("Hello"))
    )
    response = httpx.request(
        recording["method"],
        f"{proxy}{recording['path']}?{recording['query']}",
        json=body,
        headers={
            name: value
            for name, value in recording["headers"].items()
            if name.lower().startswith("anthropic")
        },
        timeout=DEADLINE,
        trust_env=False,
    )
    if file.stem in REFUSED:
        assert (response.status_code, response.json()["error"]) == (400, REFUSED[file.stem])
        return
    assert response.status_code == 200, response.text
    if recording["path"].endswith("count_tokens"):
        assert response.json()["input_tokens"] > 1000
        return
    sent = upstream.request().body
    openai_shapes.check(sent)
    assert "x-anthropic-billing-header" not in json.dumps(sent)
    if body.get("stream"):
        grammar.check(events_of(response.text))
    else:
        assert response.json()["stop_reason"] == "end_turn"
