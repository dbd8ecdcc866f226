"""The chart's Deployment as a real pod, without Kubernetes: `podman kube play`. Needs podman with the image in it.

Services, probes and volumes of claims are Kubernetes' own; the pod has the host's network here, and ports of its own.
"""

import base64
import json
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anthropic
import httpx
import pytest
import yaml

from container.engines import podman_environment
from container.test_image import DOCKER, IMAGE, PATIENCE
from tests.chart.helm import Object, objects
from tests.support.running_command import until
from tests.support.scripted_upstream import DEADLINE, Pause, ScriptedUpstream, streams, text_chunks

NAME = "demo-anthropic-proxy"
KEY = "a-key-of-a-client"

pytestmark = pytest.mark.usefixtures("docker_engine", "podman_pods")


def podman(*arguments: str) -> str:
    command = ["podman", *arguments]
    done = subprocess.run(
        command, env=podman_environment(), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module", autouse=True)
def image(docker_engine: None, podman_pods: None) -> None:  # noqa: ARG001 - they skip
    """The image of the engine that has built it."""
    with tempfile.TemporaryDirectory() as folder:
        saved = f"{folder}/image.tar"
        subprocess.run([DOCKER, "save", IMAGE, "--output", saved], check=True)
        podman("load", "--input", saved)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


class Pod:
    """A pod that runs: the address of the API, and that of the probes."""

    container = f"{NAME}-pod-0-proxy"

    def __init__(self, port: int, ops: int) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self.ops = f"http://127.0.0.1:{ops}"

    def is_ready(self) -> bool:
        try:
            return (
                httpx.get(f"{self.ops}/readyz", trust_env=False, timeout=DEADLINE).status_code
                == 200
            )
        except httpx.TransportError:
            return False

    def state(self) -> Any:
        return json.loads(podman("inspect", self.container))[0]["State"]


def _playable(found: list[Object], port: int) -> Iterator[Object]:
    """What podman 4 can take: no secrets, no probes (it asks them with curl, which is not there), no ports."""
    for each in found:
        if each["kind"] == "ConfigMap" and "PORT" in each["data"]:
            each["data"]["PORT"] = str(port)
        if each["kind"] == "Deployment":
            each["spec"]["template"]["spec"] |= {"hostNetwork": True, "restartPolicy": "Never"}
            for container in each["spec"]["template"]["spec"]["containers"]:
                for key in ("ports", "startupProbe", "livenessProbe", "readinessProbe"):
                    container.pop(key)
        if each["kind"] in ("ConfigMap", "Deployment"):
            yield each


@contextmanager
def playing(upstream: str, folder: Path) -> Iterator[Pod]:
    port, ops = _free_port(), _free_port()
    registry, _, tag = IMAGE.partition(":")
    values = {
        "replicaCount": 1,
        "image": {"repository": f"docker.io/library/{registry}", "tag": tag},
        "configFile": {
            "content": f"upstreams: {{scripted: {{url: '{upstream}', dialect: generic, key: '${{SECRET}}'}}}}"
        },
        "secrets": {"values": {"SECRET": "sk-upstream", "PROXY_API_KEYS": f"alice={KEY}"}},
        "metrics": {"port": ops},
    }
    path = folder / "pod.yaml"
    found = objects(values)
    # Maps have to stand before the pod that wants them, and podman 4 reads no Secrets that it was given in the same way.
    documents = sorted(_playable(found, port), key=lambda each: each["kind"] == "Deployment")
    path.write_text(yaml.safe_dump_all(documents))
    pod = Pod(port, ops)
    (secret,) = [each for each in found if each["kind"] == "Secret"]
    data = {
        name: base64.b64encode(text.encode()).decode()
        for name, text in secret["stringData"].items()
    }
    (folder / "secret.json").write_text(json.dumps(data))
    podman("secret", "create", NAME, str(folder / "secret.json"))
    podman("kube", "play", "--replace", "--network=host", str(path))
    try:
        until(pod.is_ready, "the pod is ready", PATIENCE)
        yield pod
    finally:
        podman("kube", "down", str(path))
        podman("secret", "rm", NAME)


def test_the_deployment_runs_and_ends_well(tmp_path: Path) -> None:
    """Hardened, with its files and secrets; SIGTERM in the middle of a stream: its client gets all of it."""
    pause = Pause()
    first, *rest = text_chunks("Hel", "lo")
    with ScriptedUpstream() as upstream:
        upstream.then(streams([first, pause, *rest]))
        with playing(upstream.url, tmp_path) as pod:
            status = podman("exec", pod.container, "cat", "/proc/1/status")
            assert "Uid:\t10001\t10001" in status
            assert "CapEff:\t0000000000000000" in status
            assert "NoNewPrivs:\t1" in status
            written = podman(
                "exec",
                pod.container,
                "sh",
                "-c",
                "touch /tmp/a && echo tmp; touch /a 2>/dev/null && echo root; true",
            )
            assert written.split() == ["tmp"]
            asked: dict[str, Any] = {
                "model": "m",
                "max_tokens": 9,
                "messages": [{"role": "user", "content": "Hi"}],
            }
            with _client(pod, "another") as client, pytest.raises(anthropic.AuthenticationError):
                client.messages.create(**asked)
            with _client(pod, KEY) as client, client.messages.stream(**asked) as stream:
                next(iter(stream))
                podman("kill", "--signal=TERM", pod.container)
                until(lambda: not pod.is_ready(), "it is not ready")
                pause.go.set()
                assert stream.get_final_text() == "Hello"
            until(lambda: not pod.state()["Running"], "it has ended", PATIENCE)
            assert pod.state()["ExitCode"] == 0
    assert upstream.requests[0].headers["authorization"] == "Bearer sk-upstream"


def _client(pod: Pod, key: str) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=pod.address, api_key=key, timeout=DEADLINE, max_retries=0)
