"""Toolsets: one entry of `tools` that stands for many, each of which becomes a function of its own.

A call of a member comes back as `tool_use` with the member's name and the toolset's. A date that we don't know is served
with the members that we know.
"""

import re
from collections.abc import Mapping
from typing import Any

from anthropic_proxy.translate.request.toolset_schemas import BROWSER, COMPUTER, Member
from anthropic_proxy.wire.json_codec import JsonObject

_FAMILIES: Mapping[str, Mapping[str, Member]] = {"computer": COMPUTER, "browser": BROWSER}
_TOOLSET = re.compile(r"([a-z]+)_toolset_\d+")


def family_of(kind: str) -> str | None:
    """`computer` or `browser` for the type of a toolset, None for any other."""
    found = _TOOLSET.fullmatch(kind)
    return found[1] if found and found[1] in _FAMILIES else None


def members(tool: JsonObject) -> list[JsonObject] | None:
    """The enabled members of a toolset as tools with `toolset_name`; None for a tool that is no toolset."""
    family = family_of(tool.get("type") or "")
    if family is None:
        return None
    configs = _configs(tool)
    return [
        {
            "name": name,
            "toolset_name": family,
            "description": member.description,
            "input_schema": member.schema,
        }
        for name, member in _FAMILIES[family].items()
        if _is_enabled(configs.get(name), member)
    ]


def unknown_members(tool: JsonObject) -> set[str]:
    """Notes on members that the client configures and that we have no schema for."""
    family = family_of(tool.get("type") or "")
    return (
        {f"toolset member {family}.{name}" for name in _configs(tool).keys() - _FAMILIES[family]}
        if family
        else set()
    )


def _configs(tool: JsonObject) -> JsonObject:
    configs = tool.get("configs")
    return configs if isinstance(configs, dict) else {}


def _is_enabled(config: Any, member: Member) -> bool:
    """As the SDKs read it: only true and false switch; what is neither, and not absent, is off."""
    enabled = config.get("enabled") if isinstance(config, dict) else config
    return member.by_default if enabled is None else enabled is True
