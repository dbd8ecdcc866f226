"""Tests of the chart's pods without Kubernetes, with `podman kube play`.

They need podman, and Docker with the image. Services, volume claims and the schedule of probes need
Kubernetes and are not tested. The pods use the network of the host, with free ports.
"""

import base64
import json
import os
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

from container.engines import podman_environment, print_output
from container.test_image import IMAGE, PATIENCE, docker
from tests.chart.helm import Object, objects
from tests.support.running_command import until
from tests.support.scripted_upstream import (
    DEADLINE,
    Pause,
    ScriptedUpstream,
    answers,
    streams,
    text_chunks,
)

# Unique, so that the tests do not replace pods or secrets of the machine.
RELEASE = f"test-{os.getpid()}"
NAME = f"{RELEASE}-anthropic-proxy"
CLIENT_SECRET = f"{NAME}-client"
KEY = "a-key-of-a-client"
PROBES = ("startupProbe", "livenessProbe", "readinessProbe")
MODELS = {"object": "list", "data": [{"id": "qwen3:4b", "object": "model"}]}

pytestmark = pytest.mark.usefixtures("docker_engine", "podman_pods")


def podman(*arguments: str) -> str:
    command = ["podman", *arguments]
    done = subprocess.run(
        command, env=podman_environment(), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def image(docker_engine: None, podman_pods: None) -> str:  # noqa: ARG001 - they skip
    """Copy the image from Docker to podman, and return podman's name of the image."""
    with tempfile.TemporaryDirectory() as folder:
        saved = f"{folder}/image.tar"
        docker("save", IMAGE, "--output", saved)
        return podman("load", "--quiet", "--input", saved).removeprefix("Loaded image: ")


class Pod:
    """A running pod of the Deployment."""

    name = f"{NAME}-pod-0"
    container = f"{name}-proxy"

    def __init__(self, port: int, probes: dict[str, str]) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self._probes = probes

    def probed(self) -> dict[str, int]:
        """Request each probe, and return the statuses by name; 0 without a connection."""
        return {name: _status(url) for name, url in self._probes.items()}

    def is_ready(self) -> bool:
        return self.probed()["readinessProbe"] == 200

    def state(self) -> Any:
        return json.loads(podman("inspect", self.container))[0]["State"]


def _status(url: str) -> int:
    try:
        return httpx.get(url, trust_env=False, timeout=DEADLINE).status_code
    except httpx.TransportError:
        return 0


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def _rendered(image: str, upstream: str) -> list[Object]:
    """Render the chart for a scripted upstream, with free ports."""
    repository, _, tag = image.rpartition(":")
    values = {
        "replicaCount": 1,
        "image": {"repository": repository, "tag": tag},
        "configFile": {
            "content": f"upstreams: {{scripted: {{url: '{upstream}', provider: generic, "
            "key: '${SECRET}'}}"
        },
        "secrets": {"values": {"SECRET": "sk-upstream", "PROXY_API_KEYS": f"alice={KEY}"}},
        "service": {"port": _free_port()},
        "metrics": {"port": _free_port()},
        "tests": {"existingSecret": {"name": CLIENT_SECRET, "key": "key"}},
    }
    return objects(values, name=RELEASE)


def _of_kind(rendered: list[Object], kind: str) -> list[Object]:
    return [each for each in rendered if each["kind"] == kind]


def _is_settings(each: Object) -> bool:
    return each["kind"] == "ConfigMap" and "PORT" in each["data"]


@contextmanager
def secret(name: str, data: dict[str, str]) -> Iterator[None]:
    """Create a secret in podman until the block ends.

    `kube play` does not read a Secret in the same way as Kubernetes.
    """
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(json.dumps(encoded))
        file.flush()
        podman("secret", "create", name, file.name)
    try:
        yield
    finally:
        podman("secret", "rm", name)


@contextmanager
def played(path: Path, pod: str, documents: list[Object]) -> Iterator[None]:
    """Run the pod of `documents` until the block ends. Also remove it after a failed start."""
    path.write_text(yaml.safe_dump_all(documents))
    try:
        podman("kube", "play", "--network=host", str(path))
        yield
    finally:
        print_output("podman", "pod", "logs", pod, environment=podman_environment())
        podman("pod", "rm", "--force", "--ignore", pod)


@contextmanager
def deployed(rendered: list[Object], folder: Path) -> Iterator[Pod]:
    """Run the pod of the Deployment on the port of the Service."""
    (service,) = [
        each for each in _of_kind(rendered, "Service") if each["metadata"]["name"] == NAME
    ]
    port = service["spec"]["ports"][0]["port"]
    (settings,) = filter(_is_settings, rendered)
    settings["data"]["PORT"] = str(port)
    (deployment,) = _of_kind(rendered, "Deployment")
    specification = deployment["spec"]["template"]["spec"]
    specification |= {"hostNetwork": True, "restartPolicy": "Never"}
    (container,) = specification["containers"]
    ports = {each["name"]: each["containerPort"] for each in container.pop("ports")} | {
        "http": port
    }
    # podman runs probes with curl, which the image does not contain. The test sends the requests.
    probes = {name: container.pop(name)["httpGet"] for name in PROBES}
    pod = Pod(
        port,
        {
            name: f"http://127.0.0.1:{ports[get['port']]}{get['path']}"
            for name, get in probes.items()
        },
    )
    # podman requires that ConfigMaps precede the pod that uses them.
    with played(
        folder / "deployment.yaml", pod.name, [*_of_kind(rendered, "ConfigMap"), deployment]
    ):
        until(pod.is_ready, "the pod is ready", PATIENCE)
        yield pod


@contextmanager
def storage_of(rendered: list[Object]) -> Iterator[None]:
    """Create the secrets of the pods until the block ends.

    Then also remove the volumes that podman creates for ConfigMaps.
    """
    (own,) = _of_kind(rendered, "Secret")
    with secret(own["metadata"]["name"], own["stringData"]), secret(CLIENT_SECRET, {"key": KEY}):
        try:
            yield
        finally:
            for volume in podman("volume", "ls", "--quiet", "--filter", f"name={NAME}").split():
                podman("volume", "rm", volume)


def test_the_deployment_runs_and_ends_well(image: str, tmp_path: Path) -> None:
    """Check hardening, files and secrets, and send SIGTERM during a stream.

    The client receives the complete stream.
    """
    pause = Pause()
    first, *rest = text_chunks("Hel", "lo")
    with ScriptedUpstream() as upstream:
        upstream.then(streams([first, pause, *rest]))
        rendered = _rendered(image, upstream.url)
        with storage_of(rendered), deployed(rendered, tmp_path) as pod:
            assert pod.probed() == dict.fromkeys(PROBES, 200)
            status = podman("exec", pod.container, "cat", "/proc/1/status")
            assert "Uid:\t10001\t10001" in status
            assert "CapEff:\t0000000000000000" in status
            assert "NoNewPrivs:\t1" in status
            output = podman(
                "exec",
                pod.container,
                "sh",
                "-c",
                "touch /tmp/a && echo tmp; touch /a 2>/dev/null && echo root; true",
            )
            assert output.split() == ["tmp"]
            request: dict[str, Any] = {
                "model": "m",
                "max_tokens": 9,
                "messages": [{"role": "user", "content": "Hi"}],
            }
            with _client(pod, "another") as client, pytest.raises(anthropic.AuthenticationError):
                client.messages.create(**request)
            with _client(pod, KEY) as client, client.messages.stream(**request) as stream:
                next(iter(stream))
                podman("kill", "--signal=TERM", pod.container)
                until(lambda: not pod.is_ready(), "it is not ready")
                assert pod.probed() == {
                    "startupProbe": 200,
                    "livenessProbe": 200,
                    "readinessProbe": 503,
                }
                pause.go.set()
                assert stream.get_final_text() == "Hello"
            until(lambda: not pod.state()["Running"], "it has ended", PATIENCE)
            assert pod.state()["ExitCode"] == 0
    assert upstream.requests[0].headers["authorization"] == "Bearer sk-upstream"


def test_the_pod_of_helm_test_reaches_the_upstream(image: str, tmp_path: Path) -> None:
    with ScriptedUpstream() as upstream:
        upstream.then(answers(MODELS))
        rendered = _rendered(image, upstream.url)
        (pod,) = _of_kind(rendered, "Pod")
        (tester,) = pod["spec"]["containers"]
        name = pod["metadata"]["name"]
        container = f"{name}-{tester['name']}"
        # Without Kubernetes, the name of the Service cannot be resolved.
        tester["args"] = [url.replace(f"//{NAME}:", "//127.0.0.1:") for url in tester["args"]]
        pod["spec"]["hostNetwork"] = True
        with (
            storage_of(rendered),
            deployed(rendered, tmp_path),
            played(tmp_path / "test.yaml", name, [pod]),
        ):
            exit_code = podman("wait", container)
            printed = podman("logs", container)
    assert exit_code == "0"
    assert "/readyz 200" in printed
    assert "/v1/models 200" in printed
    assert "qwen3:4b" in printed


def _client(pod: Pod, key: str) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=pod.address, api_key=key, timeout=DEADLINE, max_retries=0)
