"""Fixtures that skip the tests of an engine that this machine does not have, with the reason."""

from collections.abc import Callable

import pytest

from container.engines import compose_failure, docker_failure, pod_failure


def _skip_after(check: Callable[[], str]) -> None:
    if reason := check():
        pytest.skip(reason)


@pytest.fixture(scope="session")
def docker_engine() -> None:
    """Docker with a running engine."""
    _skip_after(docker_failure)


@pytest.fixture(scope="session")
def docker_compose(docker_engine: None) -> None:  # noqa: ARG001 - for its effect
    """Docker's engine, and its plugin Compose."""
    _skip_after(compose_failure)


@pytest.fixture(scope="session")
def podman_pods() -> None:
    """Podman that can run pods."""
    _skip_after(pod_failure)
