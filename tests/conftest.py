"""Fixtures that several modules share."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.running_proxy import running_proxy
from tests.scripted_upstream import ScriptedUpstream

# How long an example takes says more about the machine than about the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

_OURS = (
    "UPSTREAM_",
    "ANTHROPIC_",
    "OPENROUTER_",
    "REASONING_MODEL",
    "COMPLETION_MODEL",
    "SIGNATURE_SECRET",
    "MODEL_ALIASES",
    "DOWNLOADS",
    "DOWNLOAD_ALLOWED_HOSTS",
    "HOST",
    "PORT",
    "TOOL_CALL_",
    "DEBUG",
    "VERBOSE",
)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the settings, or the API keys, of whoever runs it."""
    for name in list(os.environ):
        if name.startswith(_OURS):
            monkeypatch.delenv(name)


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as running:
        yield running


@pytest.fixture
def proxy(upstream: ScriptedUpstream) -> Iterator[str]:
    """Base URL of a proxy in front of `upstream`."""
    with running_proxy(upstream.url) as address:
        yield address
