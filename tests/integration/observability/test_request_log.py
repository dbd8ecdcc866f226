"""The log event `request finished`."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.running_command import REQUEST, Command
from tests.support.scripted_upstream import (
    DEADLINE,
    ScriptedUpstream,
    answers,
    completion,
    streams,
    text_chunks,
)

_COMPLETE = {
    "level": "info",
    "operation": "chat",
    "model": "m",
    "upstream_model": "m",
    "status": 200,
    "outcome": "complete",
}
_USED = {"input_tokens": 11, "output_tokens": 2, "stop_reason": "end_turn"}


@pytest.fixture
def finished_requests(command: Command, upstream: ScriptedUpstream) -> list[dict[str, Any]]:
    """Send various requests to a server and return the events `request finished`."""
    upstream.then(answers(completion()), streams(text_chunks("Hel", "lo")))
    upstream.then(answers({"error": {"message": "No canary-key here"}}, 401))
    with (
        command.serving(
            UPSTREAM_BASE_URL=upstream.url, UPSTREAM_API_KEY="canary-key", LOG_FORMAT="json"
        ) as server,
        httpx.Client(base_url=server.address, timeout=DEADLINE, trust_env=False) as client,
    ):
        client.post("/v1/messages", json=REQUEST, headers={"x-request-id": "from-the-client_1.2"})
        client.post(
            "/v1/messages", json=REQUEST | {"stream": True}, headers={"x-request-id": "no\tid"}
        )
        client.post("/v1/messages", json=REQUEST)
        client.get("/readyz")
        client.get("/nothing")
        _, log = server.end()
    assert "canary" not in log
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == "request finished"]


def test_each_request_is_logged_once(finished_requests: list[dict[str, Any]]) -> None:
    complete, streamed, failed, missing = finished_requests
    assert complete["request_id"] == "from-the-client_1.2"
    assert complete.items() >= (_COMPLETE | _USED | {"outcome": "complete"}).items()
    assert streamed.items() >= (_COMPLETE | _USED | {"outcome": "complete", "stream": True}).items()
    assert re.fullmatch(r"req_[0-9a-f]{24}", streamed["request_id"])
    assert 0 < streamed["first_token_seconds"] <= streamed["seconds"]
    assert (failed["status"], failed["outcome"], failed["error_type"]) == (
        500,
        "upstream_error",
        "api_error",
    )
    assert "refused the proxy's UPSTREAM_API_KEY (401): No *** here" in failed["message"]
    assert (missing["path"], missing["status"], missing["outcome"]) == ("/nothing", 404, "refused")


@pytest.mark.parametrize(
    ("headers", "is_used"),
    [
        ({"x-request-id": "a" * 128}, True),
        ({"request-id": "b"}, True),
        ({"x-request-id": "a" * 129}, False),
        ({"x-request-id": "a b"}, False),
        ({"x-request-id": ""}, False),
    ],
    ids=["long", "other-name", "too-long", "space", "empty"],
)
def test_valid_request_ids_of_the_client_are_used(
    proxy: str, headers: dict[str, str], is_used: bool
) -> None:
    response = httpx.post(f"{proxy}/v1/messages", json={}, headers=headers, trust_env=False)
    expected = next(iter(headers.values())) if is_used else response.json()["request_id"]
    assert response.headers["request-id"] == response.json()["request_id"] == expected
    assert is_used or re.fullmatch(r"req_[0-9a-f]{24}", expected)


def test_a_failure_without_a_status_is_logged_without_one(
    command: Command, upstream: ScriptedUpstream
) -> None:
    upstream.then(answers({}, 503), answers(completion()))
    file = command.home / "upstreams.yaml"
    file.write_text(f"""
upstreams:
  down: {{url: "http://127.0.0.1:9", provider: generic}}
  up: {{url: {upstream.url}, retries: 1, provider: generic}}
routes: [{{models: ["*"], targets: [down/m, up/m]}}]
""")
    with command.serving(CONFIG_FILE=str(file), LOG_FORMAT="json") as server:
        response = httpx.post(f"{server.address}/v1/messages", json=REQUEST, timeout=DEADLINE)
        _, log = server.end()
    assert response.status_code == 200
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    failures = [line for line in lines if line["event"] == "upstream request failed"]
    statuses = [(each["upstream"], each["action"], each.get("status")) for each in failures]
    assert statuses == [("down", "failed over", None), ("up", "sent again", 503)]


_ROUTES = """
upstreams:
  native: {{url: "{url}", api: messages}}
  chat: {{url: "{url}"}}
routes:
  - {{targets: [native, chat]}}
"""


def test_an_error_of_the_translation_is_attributed_to_its_route(
    command: Command, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    file = tmp_path / "upstreams.yaml"
    file.write_text(_ROUTES.format(url=upstream.url))
    upstream.then(answers({"error": {"message": "busy"}}, 503))
    image = {"type": "image", "source": {"type": "file", "file_id": "file_1"}}
    request = REQUEST | {"messages": [{"role": "user", "content": [image]}]}
    with command.serving(CONFIG_FILE=str(file), LOG_FORMAT="json") as server:
        response = httpx.post(
            f"{server.address}/v1/messages", json=request, timeout=DEADLINE, trust_env=False
        )
        _, log = server.end()
    assert response.status_code == 400
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert [line["upstream"] for line in lines if line["event"] == "request finished"] == ["chat"]
