"""Tests of the running image: `make container-test`. They need a Docker engine and `make image`."""

import gzip
import json
import os
import shutil
import socket
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anthropic
import httpx
import pytest

from container.engines import print_output
from tests.support.running_command import until
from tests.support.scripted_upstream import (
    DEADLINE,
    Pause,
    ScriptedUpstream,
    answers,
    completion,
    streams,
    text_chunks,
)

IMAGE = os.environ.get("IMAGE", "anthropic-proxy:dev")
DOCKER = shutil.which("docker") or "docker"
LAYERS_BYTES = 60_000_000
# Seconds. The health check runs every ten seconds.
PATIENCE = 60
HARDENED = (
    "--read-only",
    "--tmpfs=/tmp:rw,noexec,nosuid,nodev,size=16m",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges:true",
    "--pids-limit=128",
    "--memory=256m",
)


pytestmark = pytest.mark.usefixtures("docker_engine")


def docker(*arguments: str) -> str:
    done = subprocess.run(
        [DOCKER, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def inspect(name: str) -> Any:
    return json.loads(docker("inspect", name))[0]


class Container:
    """A running container: its name, and the address of the server in it."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address

    def is_ready(self) -> bool:
        try:
            return (
                httpx.get(f"{self.address}/readyz", trust_env=False, timeout=DEADLINE).status_code
                == 200
            )
        except httpx.TransportError:
            return False


@contextmanager
def run_container(upstream: str, *options: str, **variables: str) -> Iterator[Container]:
    """Run the image with the network of the host, where the upstream listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    variables = {
        "UPSTREAM_BASE_URL": upstream,
        "UPSTREAM_PROVIDER": "generic",
        "HOST": "127.0.0.1",
        "PORT": str(port),
    } | variables
    environment = [f"--env={name}={value}" for name, value in variables.items()]
    name = docker("run", "--detach", "--network=host", *options, *environment, IMAGE)
    container = Container(name, f"http://127.0.0.1:{port}")
    try:
        until(container.is_ready, "the server is ready", PATIENCE)
        yield container
    finally:
        print_output(DOCKER, "logs", name)
        docker("rm", "--force", name)


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as running:
        yield running


def _client(container: Container) -> anthropic.Anthropic:
    return anthropic.Anthropic(
        base_url=container.address, api_key="none", timeout=DEADLINE, max_retries=0
    )


def _message_request(**more: Any) -> dict[str, Any]:
    return {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}], **more}


def _read_member(archive: tarfile.TarFile, name: str) -> bytes:
    member = archive.extractfile(name)
    assert member is not None, f"{name} is not a file"
    return member.read()


def test_it_is_made_of_what_it_should(tmp_path: Path) -> None:
    config = inspect(IMAGE)["Config"]
    assert config["User"] == "10001:0"
    assert config["Entrypoint"] == ["anthropic-proxy"]
    assert config["Healthcheck"]["Test"][0] == "CMD"
    assert config["Labels"]["org.opencontainers.image.title"] == "anthropic-proxy"
    docker("save", IMAGE, "--output", str(tmp_path / "image.tar"))
    with tarfile.open(tmp_path / "image.tar") as image:
        manifest = json.loads(_read_member(image, "manifest.json"))[0]
        layers = [_read_member(image, name) for name in manifest["Layers"][1:]]
    assert sum(len(gzip.compress(layer, 6)) for layer in layers) < LAYERS_BYTES


def test_there_is_nothing_to_build_with() -> None:
    output = docker(
        "run",
        "--rm",
        "--entrypoint=sh",
        IMAGE,
        "-c",
        "ls /opt; ls /opt/venv/bin; command -v gcc cc make; true",
    )
    assert "builder" not in output
    assert not {"pip", "gcc", "cc", "make", "hatchling"} & {
        Path(line).name for line in output.splitlines()
    }


@pytest.mark.parametrize("workers", ["1", "2"])
def test_it_runs_hardened_and_ends_well(upstream: ScriptedUpstream, workers: str) -> None:
    """Send SIGTERM during a stream: the client receives the complete stream."""
    pause = Pause()
    first, *rest = text_chunks("Hel", "lo")
    upstream.then(streams([first, pause, *rest]))
    with run_container(upstream.url, *HARDENED, WORKERS=workers) as container:
        status = docker("exec", container.name, "cat", "/proc/1/status")
        assert "Uid:\t10001\t10001" in status
        assert "CapEff:\t0000000000000000" in status
        assert "NoNewPrivs:\t1" in status
        until(
            lambda: inspect(container.name)["State"]["Health"]["Status"] == "healthy",
            "it is healthy",
            PATIENCE,
        )
        with _client(container) as client, client.messages.stream(**_message_request()) as stream:
            next(iter(stream))
            docker("kill", "--signal=TERM", container.name)
            pause.go.set()
            assert stream.get_final_text() == "Hello"
        until(lambda: not inspect(container.name)["State"]["Running"], "it has ended", PATIENCE)
        assert inspect(container.name)["State"]["ExitCode"] == 0
        logged = [
            json.loads(line)
            for line in docker("logs", container.name).splitlines()
            if line.startswith("{")
        ]
        assert logged == []  # standard output is not used


@pytest.mark.parametrize("user", ["10001:0", "1234567:0"])
def test_any_user_keeps_keys(upstream: ScriptedUpstream, user: str) -> None:
    volume = docker("volume", "create")
    try:
        keep = (f"--volume={volume}:/data", f"--user={user}", "--read-only", "--cap-drop=ALL")
        file = "/data/keys.json"
        key = docker("run", "--rm", *keep, IMAGE, "keys", "create", "alice", "--file", file)
        upstream.then(answers(completion()))
        with run_container(upstream.url, *keep, PROXY_API_KEYS_FILE=file) as container:
            request: dict[str, Any] = {
                "url": f"{container.address}/v1/messages",
                "json": _message_request(),
                "trust_env": False,
                "timeout": DEADLINE,
            }
            assert httpx.post(**request, headers={"x-api-key": "wrong"}).status_code == 401
            assert httpx.post(**request, headers={"x-api-key": key}).status_code == 200
    finally:
        docker("volume", "rm", "--force", volume)
