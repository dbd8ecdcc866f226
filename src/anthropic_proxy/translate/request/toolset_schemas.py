"""The members of the toolsets: what the model is told of each, and its schema.

Names, fields and which members are off until they are enabled: the official SDKs' types and their registries of toolsets
(computer_toolset_20260801, browser_toolset_20260801). A test compares the schemas with those types.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from anthropic_proxy.translate.request.schema_builders import (
    choice,
    integer,
    integers,
    number,
    parameters,
    string,
    strings,
)
from anthropic_proxy.wire.json_codec import JsonObject


@dataclass(frozen=True)
class Member:
    """by_default: whether it is offered where the client says nothing about it."""

    description: str
    schema: JsonObject
    by_default: bool = True


def _member(
    description: str, required: JsonObject | None = None, optional: JsonObject | None = None
) -> Member:
    return Member(description, parameters(required or {}, optional))


_DIRECTION = choice("Which way to scroll", "up", "down", "left", "right")
_KEYS = 'A key, or a combination such as "ctrl+s"; names such as Return, Tab, Escape, Up, Page_Down, BackSpace are known'

_COORDINATE = {
    "coordinate": integers(2, "[x, y] in pixels from the left and from the top of the screen")
}
_START = {"start_coordinate": integers(2, "[x, y] where the drag begins")}
_HELD = {"text": string('Keys to hold down meanwhile, such as "ctrl" or "ctrl+shift"')}
_SECONDS = {"duration": integer("Seconds")}
_HERE = "at `coordinate`, or where the cursor is without one."

COMPUTER: Mapping[str, Member] = {
    "key": _member(
        "Press a key or a combination of keys.",
        {"text": string(_KEYS)},
        {"repeat": integer("How often; 1")},
    ),
    "hold_key": _member(
        "Hold a key or a combination of keys down.", {"text": string(_KEYS), **_SECONDS}
    ),
    "type": _member("Type a text on the keyboard.", {"text": string("The text")}),
    "cursor_position": _member("Tell where the mouse cursor is, in pixels of the screen."),
    "mouse_move": _member(
        "Move the mouse cursor without a click, to hover over something.", _COORDINATE
    ),
    "left_mouse_down": _member(
        "Press the left mouse button where the cursor is, and keep it down."
    ),
    "left_mouse_up": _member("Let the left mouse button go."),
    "left_click": _member(f"Click the left mouse button {_HERE}", {}, _COORDINATE | _HELD),
    "left_click_drag": _member(
        "Drag with the left mouse button held down.", _START | _COORDINATE, _HELD
    ),
    "right_click": _member(f"Click the right mouse button {_HERE}", {}, _COORDINATE | _HELD),
    "middle_click": _member(f"Click the middle mouse button {_HERE}", {}, _COORDINATE | _HELD),
    "double_click": _member(f"Double-click the left mouse button {_HERE}", {}, _COORDINATE | _HELD),
    "triple_click": _member(
        f"Click the left mouse button three times {_HERE}", {}, _COORDINATE | _HELD
    ),
    "scroll": _member(
        f"Turn the mouse wheel {_HERE} Better than the Page_Up and Page_Down keys.",
        {"scroll_direction": _DIRECTION, "scroll_amount": integer("Notches of the wheel")},
        _COORDINATE | _HELD,
    ),
    "wait": _member("Wait, for a program to start or a page to load.", _SECONDS),
    "screenshot": _member("Take a picture of the whole screen."),
    "zoom": _member(
        "Take a picture of a part of the screen, enlarged, to read what is small.",
        {
            "region": integers(
                4, "[x0, y0, x1, y1], corners of the part in pixels of the whole screenshot"
            )
        },
    ),
}

_TAB = {"tab_id": string("The tab to act on; the active one without it")}
_POINT: JsonObject = parameters(
    {
        "type": choice("A point of the viewport", "coordinate"),
        "x": integer("Pixels from the left edge of the viewport"),
        "y": integer("Pixels from the top edge of the viewport"),
    }
)
_ELEMENT: JsonObject = parameters(
    {
        "type": choice("An element of the page", "ref"),
        "ref": string(
            'The reference that read_page or find gave, such as "ref_7"; it is void once the page has changed'
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
    "modifiers": string('Keys to hold down meanwhile, such as "shift" or "ctrl+shift"')
} | _TAB
_UP_TO_30 = {"duration": number("Seconds, 30 at most")}
_BROWSER_KEYS = 'A key, a combination such as "ctrl+a", or several of them with spaces between, such as "Tab Tab Return"'


def _for_tab(
    description: str, required: JsonObject | None = None, optional: JsonObject | None = None
) -> Member:
    """A member that acts on any tab."""
    return _member(description, required, {**(optional or {}), **_TAB})


def _off(member: Member) -> Member:
    return Member(member.description, member.schema, by_default=False)


BROWSER: Mapping[str, Member] = {
    "navigate": _for_tab(
        "Open a URL, or go through the tab's history.",
        {"url": string('The URL (https:// may be left out), or "back", "forward" or "reload"')},
    ),
    "list_tabs": _member("List the open tabs: tab_id, title and URL of each."),
    "new_tab": _member("Open an empty tab; its tab_id is the result."),
    "switch_tab": _member("Make a tab the active one.", {"tab_id": string("The tab")}),
    "close_tab": _member("Close a tab.", {"tab_id": string("The tab")}),
    "read_page": _for_tab(
        "Read the page as a tree of its elements, with references to use as targets of other actions. It is cut at 50,000 "
        "characters: then read a part of it by `ref`, or less deep.",
        {},
        {
            "depth": integer("How deep the tree goes; 15"),
            "filter": choice(
                "interactive: only what can be used. all: also what is out of sight. Without it: what is in sight",
                "all",
                "interactive",
            ),
            "ref": string("The element to begin with; the whole page without it"),
        },
    ),
    "get_page_text": _for_tab(
        "Read the text of the page without its structure. Good for articles and documentation."
    ),
    "read_console": _off(
        _for_tab(
            "Read what the page has written to the console since the last call. What came before may be missing."
        )
    ),
    "read_network": _off(
        _for_tab(
            "Read the page's network requests since the last call. What came before may be missing."
        )
    ),
    "find": _for_tab(
        "Find up to 20 elements of the page by a description in plain words; the result has references to them.",
        {"query": string('What to look for, such as "search box"')},
    ),
    "form_input": _for_tab(
        "Set the value of a form's element.",
        _AT_ELEMENT
        | {
            "value": {
                "anyOf": [{"type": "string"}, {"type": "number"}, {"type": "boolean"}],
                "description": "The value: true or false for a check box, value or text of an option for a select",
            }
        },
    ),
    "file_upload": _off(
        _for_tab(
            "Choose the files of a file input. Needs `paths` or `document_ids`.",
            _AT_ELEMENT,
            {
                "document_ids": strings("References to files that were made ready for upload"),
                "paths": strings("Paths of files on the browser's machine"),
            },
        )
    ),
    "scroll_to": _for_tab("Scroll until an element is in sight.", _AT_ELEMENT),
    "screenshot": _for_tab("Take a picture of the viewport."),
    "zoom": _for_tab(
        "Take a picture of a part of the viewport, enlarged, to read what is small.",
        {"region": integers(4, "[x0, y0, x1, y1], corners of the part in pixels of the viewport")},
    ),
    "left_click": _member("Click the left mouse button.", _AT_EITHER, _MODIFIERS),
    "right_click": _member("Click the right mouse button.", _AT_EITHER, _MODIFIERS),
    "middle_click": _member("Click the middle mouse button.", _AT_EITHER, _MODIFIERS),
    "double_click": _member("Double-click the left mouse button.", _AT_EITHER, _MODIFIERS),
    "triple_click": _member(
        "Click the left mouse button three times, to select a line.", _AT_EITHER, _MODIFIERS
    ),
    "hover": _for_tab("Move the mouse cursor onto something without a click.", _AT_EITHER),
    "left_click_drag": _for_tab(
        "Drag from `from` to `target`.", {"from": _POINT, "target": _POINT}
    ),
    "left_mouse_down": _for_tab("Press the left mouse button and keep it down.", _AT_POINT),
    "left_mouse_up": _for_tab("Let the left mouse button go.", _AT_POINT),
    "mouse_move": _for_tab("Move the mouse cursor to a point without a click.", _AT_POINT),
    "scroll": _for_tab(
        "Turn the mouse wheel.",
        {"scroll_direction": _DIRECTION, **_AT_POINT},
        {"scroll_amount": integer("Notches of the wheel, 1 to 10; 3")},
    ),
    "type": _for_tab("Type a text where the focus is.", {"text": string("The text")}),
    "key": _for_tab(
        "Press keys.", {"text": string(_BROWSER_KEYS)}, {"repeat": integer("How often; 1")}
    ),
    "hold_key": _for_tab(
        "Hold a key or a combination of keys down.", {"text": string(_BROWSER_KEYS), **_UP_TO_30}
    ),
    "wait": _for_tab("Wait, for a page to load.", _UP_TO_30),
    "javascript_exec": _off(
        _for_tab(
            "Run JavaScript in the page; the value of its last expression is the result, so don't write `return`.",
            {"text": string("The code")},
        )
    ),
}
