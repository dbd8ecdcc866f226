"""Envoy and Traefik as front proxies.

The tests write the endpoints to a file, as Kubernetes controllers do.
"""

import json
import os
import shutil
import socket
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from string import Template
from typing import Any, Literal

import httpx

from tests.support.running_command import until
from tests.support.scripted_upstream import DEADLINE

Protocol = Literal["http/1.1", "h2c"]

FOLDER = Path(__file__).parent
# `make test-fronts` sets FRONTS to the folder of the programs.
_PATH = os.environ.get("FRONTS", os.environ["PATH"])


def program(name: str) -> str | None:
    """Return the path of a front proxy, or None if it is not installed."""
    return shutil.which(name, path=_PATH)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


class Front(ABC):
    """A front proxy that routes requests to the ports of replicas."""

    name: str
    arguments: tuple[str, ...]

    def __init__(self, folder: Path, protocol: Protocol) -> None:
        """Write the configuration to `folder`."""
        self._folder = folder
        self._protocol = protocol
        self._admin, port = _free_port(), _free_port()
        self.address = f"http://127.0.0.1:{port}"
        variables = {"PORT": port, "ADMIN": self._admin, "FOLDER": folder, **self._variables()}
        template = Template((FOLDER / f"{self.name}.yaml").read_text())
        self._configuration = folder / f"{self.name}.yaml"
        self._configuration.write_text(template.substitute(variables))

    @contextmanager
    def running(self, ports: Collection[int]) -> Iterator["Front"]:
        """Run the front proxy with the initial endpoints."""
        self._write(ports)
        with (self._folder / "front.log").open("wb") as log:
            command = [program(self.name) or self.name, *self.arguments, str(self._configuration)]
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._folder)
        try:
            until(lambda: self._routed() == set(ports), f"{self.name} is running")
            yield self
        finally:
            process.terminate()
            process.wait(DEADLINE)

    def route_to(self, ports: Collection[int]) -> None:
        """Change the endpoints, and wait until they are in effect."""
        self._write(ports)
        until(lambda: self._routed() == set(ports), f"{self.name} has read its endpoints")

    def _write(self, ports: Collection[int]) -> None:
        # Watchers detect files that replace others. JSON is also valid YAML.
        new = self._folder / "new.yaml"
        new.write_text(json.dumps(self._endpoints(sorted(ports))))
        new.replace(self._folder / "endpoints.yaml")

    def _get_admin(self, path: str) -> Any:
        """Return a response of the admin API, or an empty object if it is not available yet."""
        try:
            response = httpx.get(
                f"http://127.0.0.1:{self._admin}{path}", trust_env=False, timeout=DEADLINE
            )
        except httpx.TransportError:
            return {}
        return response.json() if response.status_code == 200 else {}

    def _variables(self) -> dict[str, str]:
        return {}

    @abstractmethod
    def _endpoints(self, ports: list[int]) -> Any: ...

    @abstractmethod
    def _routed(self) -> set[int]:
        """Return the ports that receive requests."""


class Envoy(Front):
    name = "envoy"
    arguments = ("--log-level", "warning", "--use-dynamic-base-id", "--config-path")

    def _variables(self) -> dict[str, str]:
        is_h2 = self._protocol == "h2c"
        return {
            "PROTOCOL": f"http{1 + is_h2}_protocol_options".replace("http1_", "http_"),
            "CODEC": f"HTTP{1 + is_h2}",
        }

    def _endpoints(self, ports: list[int]) -> Any:
        addresses = [
            {"socket_address": {"address": "127.0.0.1", "port_value": port}} for port in ports
        ]
        assignment = {
            "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            "cluster_name": "proxy",
            "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": each}} for each in addresses]}
            ],
        }
        return {"resources": [assignment]}

    def _routed(self) -> set[int]:
        clusters = self._get_admin("/clusters?format=json").get("cluster_statuses", [])
        hosts = [host for cluster in clusters for host in cluster.get("host_statuses", [])]
        healthy = [
            host
            for host in hosts
            if host["health_status"].get("eds_health_status") == "HEALTHY"
            and len(host["health_status"]) == 1
        ]
        return {host["address"]["socket_address"]["port_value"] for host in healthy}


class Traefik(Front):
    name = "traefik"
    arguments = ("--configFile",)

    def _endpoints(self, ports: list[int]) -> Any:
        scheme = "h2c" if self._protocol == "h2c" else "http"
        load_balancer = {
            "servers": [{"url": f"{scheme}://127.0.0.1:{port}"} for port in ports],
            "healthCheck": {"path": "/readyz", "interval": "1s", "timeout": "2s"},
        }
        router = {"rule": "PathPrefix(`/`)", "service": "proxy", "entryPoints": ["main"]}
        return {
            "http": {
                "routers": {"all": router},
                "services": {"proxy": {"loadBalancer": load_balancer}},
            }
        }

    def _routed(self) -> set[int]:
        status = self._get_admin("/api/http/services/proxy@file").get("serverStatus", {})
        return {int(url.rpartition(":")[2]) for url, state in status.items() if state == "UP"}


FRONTS: dict[str, type[Front]] = {each.name: each for each in (Envoy, Traefik)}
