"""Expand toolsets: single entries of `tools` that provide many functions.

A call to a member becomes a `tool_use` block with the names of the member and the toolset. For an
unknown date, the known members are used. Source of names, fields and default state: the types and
toolset registries of the official SDKs (computer_toolset_20260801, browser_toolset_20260801). A
test compares the schemas with these types.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from anthropic_proxy.translate.request.schema_builders import (
    enum_schema,
    integer_list_schema,
    integer_schema,
    number_schema,
    object_schema,
    string_list_schema,
    string_schema,
)
from anthropic_proxy.wire.json_codec import JsonObject

_TOOLSET_TYPE = re.compile(r"([a-z]+)_toolset_\d+")


@dataclass(frozen=True)
class _Member:
    """One tool of a toolset."""

    description: str
    schema: JsonObject
    # whether it is offered unless the client configures it
    is_enabled_by_default: bool = True


def parse_toolset_family(kind: str) -> str | None:
    """Return `computer` or `browser` for the type of a toolset, or None for other types."""
    match = _TOOLSET_TYPE.fullmatch(kind)
    if match is None or match[1] not in _FAMILIES:
        return None
    return match[1]


def expand_members(tool: JsonObject) -> list[JsonObject] | None:
    """Return the enabled members of a toolset as tools with `toolset_name`.

    Returns None for other tools.
    """
    family = parse_toolset_family(tool.get("type") or "")
    if family is None:
        return None
    configs = _get_configs(tool)
    tools = []
    for name, member in _FAMILIES[family].items():
        if _is_enabled(configs.get(name), member):
            tools.append(
                {
                    "name": name,
                    "toolset_name": family,
                    "description": member.description,
                    "input_schema": member.schema,
                }
            )
    return tools


def list_unknown_members(tool: JsonObject) -> set[str]:
    """Return notes on configured members that this module does not know."""
    family = parse_toolset_family(tool.get("type") or "")
    if family is None:
        return set()
    unknown_names = _get_configs(tool).keys() - _FAMILIES[family]
    return {f"toolset member {family}.{name}" for name in unknown_names}


def _get_configs(tool: JsonObject) -> JsonObject:
    configs = tool.get("configs")
    return configs if isinstance(configs, dict) else {}


def _is_enabled(config: Any, member: _Member) -> bool:
    """Return whether a member is enabled.

    As in the SDKs, values other than true and null disable it.
    """
    enabled = config.get("enabled") if isinstance(config, dict) else config
    return member.is_enabled_by_default if enabled is None else enabled is True


def _build_member(
    description: str, required: JsonObject | None = None, optional: JsonObject | None = None
) -> _Member:
    return _Member(description, object_schema(required or {}, optional))


def _build_tab_member(
    description: str,
    required: JsonObject | None = None,
    optional: JsonObject | None = None,
    *,
    is_enabled_by_default: bool = True,
) -> _Member:
    """Build a member of the browser toolset that has an optional `tab_id`."""
    schema = object_schema(required or {}, {**(optional or {}), **_TAB})
    return _Member(description, schema, is_enabled_by_default)


_DIRECTION = enum_schema("The scroll direction", "up", "down", "left", "right")
_KEYS = (
    'A key, or a combination such as "ctrl+s"; key names are Return, Tab, Escape, Up, Page_Down, '
    "BackSpace and similar"
)

_COORDINATE = {
    "coordinate": integer_list_schema(
        2, "[x, y] in pixels from the left and from the top of the screen"
    )
}
_START = {"start_coordinate": integer_list_schema(2, "[x, y], start of the drag")}
_HELD = {
    "text": string_schema('Keys to hold down during the action, such as "ctrl" or "ctrl+shift"')
}
_SECONDS = {"duration": integer_schema("Seconds")}
_AT_COORDINATE = "at `coordinate` (default: the cursor position)."

_COMPUTER_MEMBERS: Mapping[str, _Member] = {
    "key": _build_member(
        "Press a key or a combination of keys.",
        {"text": string_schema(_KEYS)},
        {"repeat": integer_schema("Number of presses (default: 1)")},
    ),
    "hold_key": _build_member(
        "Hold down a key or a combination of keys.", {"text": string_schema(_KEYS), **_SECONDS}
    ),
    "type": _build_member("Type a text on the keyboard.", {"text": string_schema("The text")}),
    "cursor_position": _build_member(
        "Return the position of the mouse cursor in pixels of the screen."
    ),
    "mouse_move": _build_member(
        "Move the mouse cursor without a click, for example to hover over an element.", _COORDINATE
    ),
    "left_mouse_down": _build_member("Press and hold the left mouse button."),
    "left_mouse_up": _build_member("Release the left mouse button."),
    "left_click": _build_member(
        f"Click the left mouse button {_AT_COORDINATE}", {}, _COORDINATE | _HELD
    ),
    "left_click_drag": _build_member(
        "Drag with the left mouse button.", _START | _COORDINATE, _HELD
    ),
    "right_click": _build_member(
        f"Click the right mouse button {_AT_COORDINATE}", {}, _COORDINATE | _HELD
    ),
    "middle_click": _build_member(
        f"Click the middle mouse button {_AT_COORDINATE}", {}, _COORDINATE | _HELD
    ),
    "double_click": _build_member(
        f"Double-click the left mouse button {_AT_COORDINATE}", {}, _COORDINATE | _HELD
    ),
    "triple_click": _build_member(
        f"Click the left mouse button three times {_AT_COORDINATE}", {}, _COORDINATE | _HELD
    ),
    "scroll": _build_member(
        f"Turn the mouse wheel {_AT_COORDINATE} Prefer this to the Page_Up and Page_Down keys.",
        {"scroll_direction": _DIRECTION, "scroll_amount": integer_schema("Number of wheel steps")},
        _COORDINATE | _HELD,
    ),
    "wait": _build_member("Wait, for example until a program starts or a page loads.", _SECONDS),
    "screenshot": _build_member("Take a screenshot of the full screen."),
    "zoom": _build_member(
        "Take an enlarged screenshot of a part of the screen, to read small text.",
        {
            "region": integer_list_schema(
                4, "[x0, y0, x1, y1], corners of the part in pixels of the full screenshot"
            )
        },
    ),
}

_TAB = {"tab_id": string_schema("The tab (default: the active tab)")}
_POINT: JsonObject = object_schema(
    {
        "type": enum_schema("A point of the viewport", "coordinate"),
        "x": integer_schema("Pixels from the left edge of the viewport"),
        "y": integer_schema("Pixels from the top edge of the viewport"),
    }
)
_ELEMENT: JsonObject = object_schema(
    {
        "type": enum_schema("An element of the page", "ref"),
        "ref": string_schema(
            'The reference that read_page or find returned, such as "ref_7"; it becomes invalid '
            "when the page changes"
        ),
    }
)
_AT_POINT = {"target": _POINT}
_AT_ELEMENT = {"target": _ELEMENT}
_AT_EITHER = {
    "target": {
        "anyOf": [_POINT, _ELEMENT],
        "description": "A point of the viewport, or an element of the page",
    }
}
_MODIFIERS = {
    "modifiers": string_schema(
        'Keys to hold down during the action, such as "shift" or "ctrl+shift"'
    )
} | _TAB
_UP_TO_30 = {"duration": number_schema("Seconds, at most 30")}
_BROWSER_KEYS = (
    'A key, a combination such as "ctrl+a", or several of them separated by spaces, such as '
    '"Tab Tab Return"'
)


_BROWSER_MEMBERS: Mapping[str, _Member] = {
    "navigate": _build_tab_member(
        "Open a URL, or navigate in the tab's history.",
        {"url": string_schema('The URL (https:// is optional), or "back", "forward" or "reload"')},
    ),
    "list_tabs": _build_member("List the tab_id, title and URL of each open tab."),
    "new_tab": _build_member("Open an empty tab and return its tab_id."),
    "switch_tab": _build_member("Activate a tab.", {"tab_id": string_schema("The tab")}),
    "close_tab": _build_member("Close a tab.", {"tab_id": string_schema("The tab")}),
    "read_page": _build_tab_member(
        "Read the page as a tree of elements, with references to use as targets of other actions. "
        "The result is truncated at 50,000 characters: then read a part of the page with `ref`, or "
        "reduce `depth`.",
        {},
        {
            "depth": integer_schema("Maximum depth of the tree (default: 15)"),
            "filter": enum_schema(
                "interactive: only interactive elements. all: also elements that are not visible. "
                "Default: visible elements",
                "all",
                "interactive",
            ),
            "ref": string_schema("The root element (default: the complete page)"),
        },
    ),
    "get_page_text": _build_tab_member(
        "Read the text of the page without its structure. Use it for articles and documentation."
    ),
    "read_console": _build_tab_member(
        "Read the console messages of the page since the last call. "
        "Earlier messages may be missing.",
        is_enabled_by_default=False,
    ),
    "read_network": _build_tab_member(
        "Read the network requests of the page since the last call. "
        "Earlier requests may be missing.",
        is_enabled_by_default=False,
    ),
    "find": _build_tab_member(
        "Find up to 20 elements of the page by a description in natural language, and return "
        "references to them.",
        {"query": string_schema('The description, such as "search box"')},
    ),
    "form_input": _build_tab_member(
        "Set the value of a form element.",
        _AT_ELEMENT
        | {
            "value": {
                "anyOf": [{"type": "string"}, {"type": "number"}, {"type": "boolean"}],
                "description": (
                    "The value: true or false for a checkbox; the value or text of an option for a "
                    "select element"
                ),
            }
        },
    ),
    "file_upload": _build_tab_member(
        "Select the files of a file input. Needs `paths` or `document_ids`.",
        _AT_ELEMENT,
        {
            "document_ids": string_list_schema("References to files prepared for upload"),
            "paths": string_list_schema("Paths of files on the browser's machine"),
        },
        is_enabled_by_default=False,
    ),
    "scroll_to": _build_tab_member("Scroll until an element is visible.", _AT_ELEMENT),
    "screenshot": _build_tab_member("Take a screenshot of the viewport."),
    "zoom": _build_tab_member(
        "Take an enlarged screenshot of a part of the viewport, to read small text.",
        {
            "region": integer_list_schema(
                4, "[x0, y0, x1, y1], corners of the part in pixels of the viewport"
            )
        },
    ),
    "left_click": _build_member("Click the left mouse button.", _AT_EITHER, _MODIFIERS),
    "right_click": _build_member("Click the right mouse button.", _AT_EITHER, _MODIFIERS),
    "middle_click": _build_member("Click the middle mouse button.", _AT_EITHER, _MODIFIERS),
    "double_click": _build_member("Double-click the left mouse button.", _AT_EITHER, _MODIFIERS),
    "triple_click": _build_member(
        "Click the left mouse button three times, to select a line.", _AT_EITHER, _MODIFIERS
    ),
    "hover": _build_tab_member("Move the mouse cursor to a target without a click.", _AT_EITHER),
    "left_click_drag": _build_tab_member(
        "Drag from `from` to `target`.", {"from": _POINT, "target": _POINT}
    ),
    "left_mouse_down": _build_tab_member("Press and hold the left mouse button.", _AT_POINT),
    "left_mouse_up": _build_tab_member("Release the left mouse button.", _AT_POINT),
    "mouse_move": _build_tab_member("Move the mouse cursor to a point without a click.", _AT_POINT),
    "scroll": _build_tab_member(
        "Turn the mouse wheel.",
        {"scroll_direction": _DIRECTION, **_AT_POINT},
        {"scroll_amount": integer_schema("Number of wheel steps, 1 to 10 (default: 3)")},
    ),
    "type": _build_tab_member(
        "Type a text into the focused element.", {"text": string_schema("The text")}
    ),
    "key": _build_tab_member(
        "Press keys.",
        {"text": string_schema(_BROWSER_KEYS)},
        {"repeat": integer_schema("Number of presses (default: 1)")},
    ),
    "hold_key": _build_tab_member(
        "Hold down a key or a combination of keys.",
        {"text": string_schema(_BROWSER_KEYS), **_UP_TO_30},
    ),
    "wait": _build_tab_member("Wait, for example until a page loads.", _UP_TO_30),
    "javascript_exec": _build_tab_member(
        "Run JavaScript in the page. The result is the value of the last expression; do not use "
        "`return`.",
        {"text": string_schema("The code")},
        is_enabled_by_default=False,
    ),
}

_FAMILIES: Mapping[str, Mapping[str, _Member]] = {
    "computer": _COMPUTER_MEMBERS,
    "browser": _BROWSER_MEMBERS,
}
