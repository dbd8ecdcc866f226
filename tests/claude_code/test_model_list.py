"""The model picker of Claude Code, with CLAUDE_MODEL_IDS."""

import json
from pathlib import Path

from anthropic_proxy.routing.model_names import to_claude_id
from tests.claude_code import claude
from tests.support.running_proxy import running_proxy
from tests.support.scripted_upstream import (
    Received,
    Script,
    ScriptedUpstream,
    answers,
    completion,
    streams,
    text_chunks,
)


class _Upstream(ScriptedUpstream):
    """Lists two models, and responds to each message."""

    def script_for(self, received: Received) -> Script:
        if received.path.endswith("/models"):
            return answers({"data": [{"id": "qwen3:4b"}, {"id": "openai/gpt-6"}]})
        if received.body.get("stream"):
            return streams(text_chunks("Hello"))
        return answers(completion("Hello"))


def test_the_picker_keeps_all_models(claude_binary: str, tmp_path: Path) -> None:
    """The picker shows the models of the cache. Requests with their ids have their routes."""
    assert claude_binary
    home, workspace = tmp_path / "home", tmp_path / "workspace"
    home.mkdir()
    workspace.mkdir()
    model = to_claude_id("qwen3:4b")
    with _Upstream() as upstream, running_proxy(upstream.url, CLAUDE_MODEL_IDS=True) as proxy:
        outcome = claude.run(
            proxy,
            home,
            workspace,
            "Say hello",
            "--model",
            f"{model}[1m]",
            CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY="1",
        )
    assert (outcome.code, outcome.result["result"]) == (0, "Hello")
    (cache,) = home.rglob("gateway-models.json")
    assert json.loads(cache.read_text())["models"] == [
        {"id": model, "display_name": "qwen3:4b"},
        {"id": to_claude_id("openai/gpt-6"), "display_name": "openai/gpt-6"},
    ]
    messages = [each.body["model"] for each in upstream.requests if each.method == "POST"]
    assert set(messages) == {"qwen3:4b"}
