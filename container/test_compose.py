"""`docker compose up`, with a stand-in for Ollama under its name and version; see test_image."""

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
from tests.running_command import until
from tests.scripted_upstream import DEADLINE

ROOT = Path(__file__).parents[1]
COMPOSITION = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
OLLAMA = "ollama/ollama:0.12.6"
LOOK = {"name": "look", "input_schema": {"type": "object", "properties": {"at": {"type": "string"}}}}


class Stack:
    """A composition that is up, on a port of its own."""

    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self._variables = {"ANTHROPIC_PROXY_PORT": str(port), "COMPOSE_PROJECT_NAME": "anthropic-proxy-test"}

    def compose(self, *arguments: str) -> str:
        command = [DOCKER, "compose", *arguments]
        environment = {**os.environ, **self._variables}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=180, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def client(self) -> anthropic.Anthropic:
        return anthropic.Anthropic(base_url=self.address, api_key="none", timeout=DEADLINE, max_retries=0)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    docker("build", "--tag", OLLAMA, str(ROOT / "container/ollama"))
    docker("tag", IMAGE, "anthropic-proxy:0.1.0")
    with socket.create_server(("127.0.0.1", 0)) as free:
        stack = Stack(free.getsockname()[1])
    try:
        stack.compose("up", "--no-build", "--detach", "--wait", "proxy")
        yield stack
    finally:
        stack.compose("down", "--volumes", "--timeout", "5")


def test_the_version_is_the_one_that_is_asked_for() -> None:
    assert COMPOSITION["services"]["ollama"]["image"] == "ollama/ollama:${OLLAMA_VERSION:-0.12.6}"


def test_it_answers_and_calls_tools(stack: Stack) -> None:
    asked = {"model": "qwen3:4b", "max_tokens": 50, "messages": [{"role": "user", "content": "Hi"}]}
    with stack.client() as client:
        with client.messages.stream(**asked) as stream:
            assert stream.get_final_text() == "Hello"
        with client.messages.stream(**asked, tools=[LOOK]) as stream:
            (call,) = stream.get_final_message().content
        assert (call.type, call.name, call.input) == ("tool_use", "look", {"at": "x"})
        assert [model.id for model in client.models.list()] == ["qwen3:4b"]


def test_an_upstream_that_is_gone_and_comes_back(stack: Stack) -> None:
    asked = {"model": "qwen3:4b", "max_tokens": 50, "messages": [{"role": "user", "content": "Hi"}]}
    stack.compose("kill", "ollama")
    with stack.client() as client:
        with pytest.raises(anthropic.InternalServerError, match="private-1"):
            client.messages.create(**asked)
        assert httpx.get(f"{stack.address}/livez", trust_env=False).status_code == 200
        stack.compose("up", "--no-build", "--detach", "--wait", "ollama")
        stack.compose("run", "--rm", "--no-deps", "model")
        until(lambda: _is_answered(client, asked), "it answers again", PATIENCE)


def _is_answered(client: anthropic.Anthropic, asked: object) -> bool:
    try:
        return bool(client.messages.create(**asked).content)  # type: ignore[call-overload] - the test's own
    except anthropic.APIStatusError:
        return False


def test_it_is_hardened(stack: Stack) -> None:
    (name,) = stack.compose("ps", "--quiet", "proxy").split()
    host = yaml.safe_load(docker("inspect", "--format", "{{json .HostConfig}}", name))
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert [each["HostIp"] for each in host["PortBindings"]["3000/tcp"]] == ["127.0.0.1"]
