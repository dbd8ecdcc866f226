"""Tests of `docker compose up`, with llama.cpp and a small real model instead of Ollama.

The tests ignore `.env` and variables of the shell, which may contain an upstream and its key. They
do not replace images with the default names of docker-compose.yml.
"""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import pytest
import yaml

from container.engines import print_output
from container.test_image import DOCKER, IMAGE, PATIENCE, docker
from tests.support.running_command import until
from tests.support.scripted_upstream import DEADLINE

ROOT = Path(__file__).parents[1]
COMPOSITION = ROOT / "docker-compose.yml"
# Name of the Compose project, and tag of its images.
PROJECT = f"anthropic-proxy-test-{os.getpid()}"
PROXY = f"anthropic-proxy:{PROJECT}"
OLLAMA = f"ollama/ollama:{PROJECT}"
MODEL = "qwen3:4b"
ASK: dict[str, Any] = {
    "model": MODEL,
    "max_tokens": 60,
    "messages": [{"role": "user", "content": "What is the weather in Paris?"}],
}
PLACE = {
    "type": "object",
    "properties": {"city": {"enum": ["Paris", "Rome"]}},
    "required": ["city"],
}
# A model of this size does not always call a tool, even if it must.
CALL: dict[str, Any] = {
    "tools": [{"name": "get_weather", "input_schema": PLACE}],
    "tool_choice": {"type": "any"},
}


def _environment(port: int) -> dict[str, str]:
    """Return variables for the engine (from the shell) and for docker-compose.yml."""
    variables = set(re.findall(r"\$\{(\w+)", COMPOSITION.read_text()))
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in variables and not name.startswith("COMPOSE_")
    }
    return environment | {
        "COMPOSE_PROJECT_NAME": PROJECT,
        "COMPOSE_PROFILES": "ollama",
        "ANTHROPIC_PROXY_PORT": str(port),
        "ANTHROPIC_PROXY_VERSION": PROJECT,
        "OLLAMA_VERSION": PROJECT,
        "OLLAMA_MODEL": MODEL,
    }


class Stack:
    """A Compose project with the proxy on a free port of the host."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        self._environment = _environment(port)
        # Compose reads `.env` in the directory of the file.
        self._command = (DOCKER, "compose", "--file", str(shutil.copy(COMPOSITION, folder)))

    def compose(self, *arguments: str) -> str:
        command = [*self._command, *arguments]
        done = subprocess.run(
            command, env=self._environment, capture_output=True, text=True, timeout=180, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def print_log(self) -> None:
        print_output(*self._command, "logs", "--no-color", environment=self._environment)

    def client(self) -> anthropic.Anthropic:
        return anthropic.Anthropic(
            base_url=self.address, api_key="none", timeout=DEADLINE, max_retries=0
        )


@pytest.fixture(scope="module")
def images(docker_compose: None) -> Iterator[None]:  # noqa: ARG001 - it skips
    docker("tag", IMAGE, PROXY)
    docker(
        "build",
        "--network=host",
        "--tag",
        OLLAMA,
        "--file",
        str(ROOT / "container/ollama/Dockerfile"),
        str(ROOT),
    )
    yield
    docker("rmi", PROXY, OLLAMA)


@pytest.fixture(scope="module")
def stack(
    images: None,  # noqa: ARG001 - the stack uses the images
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("composition"))
    try:
        stack.compose("up", "--no-build", "--detach", "--wait", "proxy")
        yield stack
    finally:
        stack.print_log()
        stack.compose("down", "--volumes", "--timeout", "5")


def test_it_answers_and_calls_tools(stack: Stack) -> None:
    with stack.client() as client:
        with client.messages.stream(**ASK) as stream:
            pieces = list(stream.text_stream)
        assert len(pieces) > 1
        assert "".join(pieces).strip()
        call = until(lambda: _call(client), "the model calls the tool", PATIENCE)
        assert call.name == "get_weather"
        assert call.input["city"] in ("Paris", "Rome")
        assert list(client.models.list())


def _call(client: anthropic.Anthropic) -> anthropic.types.ToolUseBlock | None:
    with client.messages.stream(**ASK, **CALL) as stream:
        message = stream.get_final_message()
    calls = [block for block in message.content if block.type == "tool_use"]
    return calls[0] if message.stop_reason == "tool_use" else None


def test_an_upstream_that_is_gone_and_comes_back(stack: Stack) -> None:
    stack.compose("kill", "ollama")
    with stack.client() as client:
        with pytest.raises(anthropic.InternalServerError, match="ollama:11434"):
            client.messages.create(**ASK)
        assert httpx.get(f"{stack.address}/livez", trust_env=False).status_code == 200
        stack.compose("up", "--no-build", "--detach", "--wait", "ollama")
        until(lambda: _is_answered(client), "the proxy responds again", PATIENCE)


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
