"""Ids of Kimi K2 in the ids of clients."""

import re

import pytest

from anthropic_proxy.gateway.ids import new_id
from anthropic_proxy.translate.tool_calls.native_ids import (
    add_native_number,
    is_native_id,
    restore_native_id,
)


@pytest.mark.parametrize(
    ("upstream_id", "name"),
    [
        ("functions.Bash:0", "Bash"),
        ("functions.mcp__github__get.file:12", "mcp__github__get.file"),
        ("functions.a:b:99999999", "a:b"),
    ],
)
def test_a_native_id_returns(upstream_id: str, name: str) -> None:
    tool_use_id = add_native_number(new_id("toolu"), upstream_id)
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,40}", tool_use_id)
    assert restore_native_id(tool_use_id, name) == upstream_id
    assert restore_native_id(upstream_id, name) == upstream_id
    assert is_native_id(upstream_id)


@pytest.mark.parametrize(
    "upstream_id",
    [
        "",
        "call_0",
        "functions.Bash",
        "functions.:0",
        "functions.Bash:",
        "functions.Bash:x",
        "functions.Bash:123456789",
        "functions.Bash:\u0663",
        " functions.Bash:0",
        "functions_Bash_0",
        # Kimi K3, whose chat template prints no ids.
        "Bash:0",
    ],
)
def test_other_ids(upstream_id: str) -> None:
    tool_use_id = new_id("toolu")
    assert add_native_number(tool_use_id, upstream_id) == tool_use_id
    assert restore_native_id(tool_use_id, "Bash") is None
    assert restore_native_id(upstream_id, "Bash") is None
    assert not is_native_id(upstream_id)


def test_a_native_id_of_another_tool() -> None:
    assert restore_native_id("functions.Bash:0", "Read") is None
