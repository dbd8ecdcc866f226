"""Ids: valid in both APIs and unique."""

import re

import pytest

from anthropic_proxy.gateway.ids import new_id

# OpenAI accepts at most 40 characters in the id of a tool call; Anthropic's SDKs and Claude Code
# accept these characters.
_LEGAL = re.compile(r"[a-zA-Z0-9_-]{1,40}")


@pytest.mark.parametrize("prefix", ["msg", "toolu", "req"])
def test_form(prefix: str) -> None:
    identifier = new_id(prefix)
    assert re.fullmatch(rf"{prefix}_[0-9a-f]{{24}}", identifier)
    assert _LEGAL.fullmatch(identifier)


def test_ids_are_unique() -> None:
    assert len({new_id("msg") for _ in range(10_000)}) == 10_000
