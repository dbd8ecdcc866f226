"""The official SDK as the modules beside this one use it."""

from collections.abc import Iterator

import anthropic
import pytest

from tests.support.scripted_upstream import DEADLINE


@pytest.fixture
def client(proxy: str) -> Iterator[anthropic.Anthropic]:
    """It checks every field of every answer and event."""
    with anthropic.Anthropic(
        base_url=proxy,
        api_key="any",
        max_retries=0,
        timeout=DEADLINE,
        _strict_response_validation=True,
    ) as made:
        yield made
