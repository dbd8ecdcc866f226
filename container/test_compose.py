"""`docker compose up`, with llama.cpp and a small real model under Ollama's name and version; see test_image."""

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import anthropic
import httpx
import pytest
import yaml

from container.test_image import DOCKER, IMAGE, PATIENCE, docker
from tests.support.running_command import until
from tests.support.scripted_upstream import DEADLINE

ROOT = Path(__file__).parents[1]
COMPOSITION = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
OLLAMA = "ollama/ollama:0.32.4"
MODEL = "qwen3:4b"
ASK = {
    "model": MODEL,
    "max_tokens": 60,
    "messages": [{"role": "user", "content": "What is the weather in Paris?"}],
}
PLACE = {
    "type": "object",
    "properties": {"city": {"enum": ["Paris", "Rome"]}},
    "required": ["city"],
}
# A model this small calls tools most of the times that it must.
CALL = {"tools": [{"name": "get_weather", "input_schema": PLACE}], "tool_choice": {"type": "any"}}


class Stack:
    """A composition that is up, on a port of its own."""

    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self._variables = {
            "ANTHROPIC_PROXY_PORT": str(port),
            "COMPOSE_PROJECT_NAME": "anthropic-proxy-test",
        }
        self._variables["COMPOSE_PROFILES"] = "ollama"

    def compose(self, *arguments: str) -> str:
        command = [DOCKER, "compose", *arguments]
        environment = {**os.environ, **self._variables}
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def client(self) -> anthropic.Anthropic:
        return anthropic.Anthropic(
            base_url=self.address, api_key="none", timeout=DEADLINE, max_retries=0
        )


@pytest.fixture(scope="module")
def stack(docker_compose: None) -> Iterator[Stack]:  # noqa: ARG001 - it skips
    docker(
        "build",
        "--network=host",
        "--tag",
        OLLAMA,
        "--file",
        str(ROOT / "container/ollama/Dockerfile"),
        str(ROOT),
    )
    docker("tag", IMAGE, "anthropic-proxy:0.1.0")
    with socket.create_server(("127.0.0.1", 0)) as free:
        stack = Stack(free.getsockname()[1])
    try:
        stack.compose("up", "--no-build", "--detach", "--wait", "proxy")
        yield stack
    finally:
        stack.compose("down", "--volumes", "--timeout", "5")


def test_the_version_is_the_one_that_is_asked_for() -> None:
    assert COMPOSITION["services"]["ollama"]["image"] == "ollama/ollama:${OLLAMA_VERSION:-0.32.4}"


def test_it_answers_and_calls_tools(stack: Stack) -> None:
    with stack.client() as client:
        with client.messages.stream(**ASK) as stream:
            pieces = list(stream.text_stream)
        assert len(pieces) > 1
        assert "".join(pieces).strip()
        call = until(lambda: _call(client), "it calls the tool", PATIENCE)
        assert call.name == "get_weather"
        assert call.input["city"] in ("Paris", "Rome")
        assert list(client.models.list())


def _call(client: anthropic.Anthropic) -> anthropic.types.ToolUseBlock | None:
    with client.messages.stream(**ASK, **CALL) as stream:
        answer = stream.get_final_message()
    calls = [block for block in answer.content if block.type == "tool_use"]
    return calls[0] if answer.stop_reason == "tool_use" else None


def test_an_upstream_that_is_gone_and_comes_back(stack: Stack) -> None:
    stack.compose("kill", "ollama")
    with stack.client() as client:
        with pytest.raises(anthropic.InternalServerError, match="ollama:11434"):
            client.messages.create(**ASK)
        assert httpx.get(f"{stack.address}/livez", trust_env=False).status_code == 200
        stack.compose("up", "--no-build", "--detach", "--wait", "ollama")
        until(lambda: _is_answered(client), "it answers again", PATIENCE)


def _is_answered(client: anthropic.Anthropic) -> bool:
    try:
        return bool(client.messages.create(**ASK).content)
    except anthropic.APIStatusError:
        return False


def test_it_is_hardened(stack: Stack) -> None:
    (name,) = stack.compose("ps", "--quiet", "proxy").split()
    host = yaml.safe_load(docker("inspect", "--format", "{{json .HostConfig}}", name))
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert [each["HostIp"] for each in host["PortBindings"]["3000/tcp"]] == ["127.0.0.1"]
