"""Container engines of this machine: why one of them can't be used, as a reason to skip tests."""

import os
import shutil
import subprocess

SECONDS = 60
POD = "anthropic-proxy-probe"


def podman_environment() -> dict[str, str]:
    """Return the environment for podman, without the variables of the Docker engine beside it."""
    return {
        name: value
        for name, value in os.environ.items()
        if name not in ("DOCKER_CONFIG", "DOCKER_HOST")
    }


def failure_of(*command: str, environment: dict[str, str] | None = None) -> str:
    """Run a command and return why it failed, or nothing if it did not."""
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
    """Return why Docker's engine can't be used, or nothing."""
    return failure_of("docker", "version")


def compose_failure() -> str:
    """Return why Docker Compose can't be used, or nothing."""
    return failure_of("docker", "compose", "version")


def pod_failure() -> str:
    """Return why podman can't run pods, or nothing.

    Only the start of a pod shows what is missing: `catatonit` for its first process, a runtime that
    supports the machine's cgroups, permission to set limits.
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
    """Print the output of a command, such as the log of a container. pytest shows it when the test
    fails.
    """
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
