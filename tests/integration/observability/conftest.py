"""Fixtures for tests that run the command."""

from pathlib import Path

import pytest

from tests.support.running_command import Command


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)
