"""Compaction blocks in a conversation; tests/cases/requests/compaction_*.json has more cases."""

import copy
from typing import Any

from anthropic_proxy.translate.compaction_blocks import expand_compaction_blocks

_CHANGE = {"type": "tool_addition", "tool": {"type": "tool_reference", "name": "read"}}


def conversation(block: dict[str, Any]) -> dict[str, Any]:
    return {
        "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": [block]}]
    }


def test_nothing_to_do() -> None:
    request = conversation({"type": "text", "text": "b"})
    assert expand_compaction_blocks(request) is request


def test_the_request_is_not_changed_and_once_is_enough() -> None:
    request = conversation({"type": "compaction", "content": "S"})
    before = copy.deepcopy(request)
    replaced = expand_compaction_blocks(request)
    assert request == before
    assert expand_compaction_blocks(replaced) is replaced


def test_a_failed_compaction_means_nothing() -> None:
    for content in (None, ""):
        replaced = expand_compaction_blocks(
            conversation({"type": "compaction", "content": content})
        )
        assert replaced["messages"] == [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": []},
        ]


def test_changes_of_tools_live_on() -> None:
    block = {
        "type": "compaction",
        "content": "S",
        "tool_changes": [_CHANGE, {"type": "text", "text": "no"}],
    }
    summary, changes, _ = expand_compaction_blocks(conversation(block))["messages"]
    assert summary["role"] == "user"
    assert changes == {"role": "system", "content": [_CHANGE]}
