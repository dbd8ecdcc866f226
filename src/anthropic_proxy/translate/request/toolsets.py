"""Expand toolsets: one entry of `tools` that stands for many functions.

A call of a member returns as `tool_use` with the names of the member and the toolset. An unknown
date uses the known members.
"""

import re
from collections.abc import Mapping
from typing import Any

from anthropic_proxy.translate.request.toolset_schemas import (
    BROWSER_MEMBERS,
    COMPUTER_MEMBERS,
    ToolsetMember,
)
from anthropic_proxy.wire.json_codec import JsonObject

_FAMILIES: Mapping[str, Mapping[str, ToolsetMember]] = {
    "computer": COMPUTER_MEMBERS,
    "browser": BROWSER_MEMBERS,
}
_TOOLSET_TYPE = re.compile(r"([a-z]+)_toolset_\d+")


def parse_toolset_family(kind: str) -> str | None:
    """Return `computer` or `browser` for the type of a toolset, None for other types."""
    match = _TOOLSET_TYPE.fullmatch(kind)
    return match[1] if match and match[1] in _FAMILIES else None


def expand_members(tool: JsonObject) -> list[JsonObject] | None:
    """Return the enabled members of a toolset as tools with `toolset_name`; None for other tools."""
    family = parse_toolset_family(tool.get("type") or "")
    if family is None:
        return None
    configs = _get_configs(tool)
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


def list_unknown_members(tool: JsonObject) -> set[str]:
    """Return notes on configured members without a schema here."""
    family = parse_toolset_family(tool.get("type") or "")
    return (
        {
            f"toolset member {family}.{name}"
            for name in _get_configs(tool).keys() - _FAMILIES[family]
        }
        if family
        else set()
    )


def _get_configs(tool: JsonObject) -> JsonObject:
    configs = tool.get("configs")
    return configs if isinstance(configs, dict) else {}


def _is_enabled(config: Any, member: ToolsetMember) -> bool:
    """Return whether a member is enabled, as the SDKs read it: any value but true, false and null
    disables it.
    """
    enabled = config.get("enabled") if isinstance(config, dict) else config
    return member.is_enabled_by_default if enabled is None else enabled is True
