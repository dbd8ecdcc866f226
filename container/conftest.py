"""Fixtures that skip the tests of a container engine that this machine does not have."""

from collections.abc import Callable

import pytest

from container.engines import compose_failure, docker_failure, pod_failure


def _skip_after(check: Callable[[], str]) -> None:
    if reason := check():
        pytest.skip(reason)


@pytest.fixture(scope="session")
def docker_engine() -> None:
    """Skip unless a Docker engine is running."""
    _skip_after(docker_failure)


@pytest.fixture(scope="session")
def docker_compose(docker_engine: None) -> None:  # noqa: ARG001 - it skips
    """Skip unless a Docker engine is running and Docker Compose is installed."""
    _skip_after(compose_failure)


@pytest.fixture(scope="session")
def podman_pods() -> None:
    """Skip unless podman can run pods."""
    _skip_after(pod_failure)
