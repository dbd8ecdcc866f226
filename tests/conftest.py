"""Fixtures that several modules share."""

import os
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import certifi
import pytest
from hypothesis import settings

from anthropic_proxy.config.settings import Settings
from tests.support.running_proxy import running_proxy
from tests.support.scripted_upstream import ScriptedUpstream
from tests.support.variables import names

# How long an example takes says more about the machine than about the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

pytest_plugins = ["tests.support.skips"]

_OTHERS = ("ANTHROPIC_", "OTEL_")


@pytest.fixture(autouse=True, scope="session")
def few_authorities(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let clients load one root certificate: loading all takes each of thousands 20 ms."""
    end = "-----END CERTIFICATE-----\n"
    first, _, _ = Path(certifi.where()).read_text("utf-8").partition(end)
    path = tmp_path_factory.mktemp("authorities") / "authority.pem"
    path.write_text(first + end, "utf-8")
    with (
        mock.patch.object(certifi, "where", return_value=str(path)),
        mock.patch.dict(os.environ, SSL_CERT_FILE=str(path)),
    ):
        yield


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the settings, or the API keys, of whoever runs it."""
    ours = {name for field in Settings.model_fields.values() for name in names(field)}
    for name in list(os.environ):
        if name in ours or name.startswith(_OTHERS):
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
