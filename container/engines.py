"""Detect the container engines of this machine, with the reasons to skip tests."""

import os
import shutil
import subprocess

SECONDS = 60
POD = "anthropic-proxy-probe"


def podman_environment() -> dict[str, str]:
    """Return the environment for podman, without variables for a Docker engine."""
    return {
        name: value
        for name, value in os.environ.items()
        if name not in ("DOCKER_CONFIG", "DOCKER_HOST")
    }


def failure_of(*command: str, environment: dict[str, str] | None = None) -> str:
    """Run a command and return the reason for a failure; empty after a success."""
    name = " ".join(command)
    if shutil.which(command[0]) is None:
        return f"{command[0]} is not installed"
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"{name} did not end within {SECONDS} s"
    if done.returncode == 0:
        return ""
    printed = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return f"{name} failed: {printed[-1]}"


def docker_failure() -> str:
    """Return the reason why the Docker engine can't be used; empty if it can."""
    return failure_of("docker", "version")


def compose_failure() -> str:
    """Return the reason why Docker Compose can't be used; empty if it can."""
    return failure_of("docker", "compose", "version")


def pod_failure() -> str:
    """Return the reason why podman can't run pods; empty if it can.

    Only the start of a pod shows missing requirements: `catatonit` for its first process, a runtime
    that supports the cgroups of the machine, and permission to set limits.
    """
    environment = podman_environment()
    create = ("podman", "pod", "create", "--replace", "--network=host", "--name", POD)
    failure = failure_of(*create, environment=environment)
    failure = failure or failure_of("podman", "pod", "start", POD, environment=environment)
    removal_failure = failure_of(
        "podman", "pod", "rm", "--force", "--ignore", POD, environment=environment
    )
    return failure or removal_failure


def print_output(*command: str, environment: dict[str, str] | None = None) -> None:
    """Run a command and print its output, which pytest shows if the test fails."""
    done = subprocess.run(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    print(done.stdout)
