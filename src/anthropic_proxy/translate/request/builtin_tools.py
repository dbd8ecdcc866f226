"""Schemas of client tools with a dated type: shell, text editor, memory and computer.

Anthropic's models know these types; other models need a description and a schema. All commands of a
tool share one schema, in which only `command` (or `action`) is required, because OpenAI refuses
alternatives at the top level. The description lists the fields of each command. For an unknown
date, the latest earlier version is used, so new clients work. Sources: the API's types and its
guides to the tools.
"""

from collections.abc import Callable
from functools import partial

from anthropic_proxy.translate.request.schema_builders import (
    boolean_schema,
    enum_schema,
    integer_list_schema,
    integer_schema,
    number_schema,
    object_schema,
    string_schema,
)
from anthropic_proxy.wire.json_codec import JsonObject

_ToolBuilder = Callable[[JsonObject], JsonObject]


def is_builtin_type(kind: str) -> bool:
    """Return whether this module has a schema for the tool type."""
    family, _, date = kind.rpartition("_")
    return family in _FAMILIES and date.isdigit()


def add_builtin_schema(tool: JsonObject) -> JsonObject:
    """Return the tool with the name, description and schema of its type.

    Other tools are returned unchanged.
    """
    kind = tool.get("type") or "custom"
    if not is_builtin_type(kind):
        return tool
    family, _, date = kind.rpartition("_")
    builders = _FAMILIES[family]
    earlier_dates = [known_date for known_date in builders if known_date <= date]
    form_date = max(earlier_dates) if earlier_dates else min(builders)
    definition = builders[form_date](tool)
    return {**tool, **definition, "name": tool.get("name") or definition["name"]}


def _build_bash(_tool: JsonObject) -> JsonObject:
    fields = {
        "command": string_schema("The command to run"),
        "restart": boolean_schema("Restart the shell"),
    }
    return {
        "name": "bash",
        "description": (
            "Run a command in a bash shell. The shell persists between calls: it keeps its working "
            "directory, variables and background jobs. It has no terminal, so programs that prompt "
            "for input do not work.\n"
            "Pass either `command`, or only `restart: true` to restart a shell that hangs."
        ),
        "input_schema": object_schema({}, fields),
    }


# Fields and commands of the text editor and the memory.
_PATH = string_schema("Absolute path of the file or directory")
_FILE_FIELDS = {
    "view_range": integer_list_schema(
        2,
        "For view: first and last line to show, counted from 1; -1 as the last line means the end "
        "of the file",
    ),
    "file_text": string_schema("For create: the complete content of the file"),
    "old_str": string_schema(
        "For str_replace: the text to replace, exactly as in the file, including white space"
    ),
    "new_str": string_schema("For str_replace: the replacement text"),
    "insert_line": integer_schema(
        "For insert: the line after which to insert the text; 0 is the beginning of the file"
    ),
}
_INSERT_TEXT = {"insert_text": string_schema("For insert: the text to insert")}
_FILE_COMMANDS = {
    "view": "show a file, or list a directory. Needs path; view_range is optional, for files.",
    "create": "create a file, or overwrite an existing file. Needs path, file_text.",
    "str_replace": (
        "replace a text that occurs exactly once in the file. Needs path, old_str, new_str."
    ),
    "insert": "insert a text after a line. Needs path, insert_line, insert_text.",
}


def _describe_choices(introduction: str, choices: dict[str, str]) -> str:
    lines = [f"{introduction}, with the fields that each needs:"]
    for name, usage in choices.items():
        lines.append(f"- {name}: {usage}")
    return "\n".join(lines)


def _build_text_editor(tool: JsonObject, *, name: str, insert_field: str, undo: bool) -> JsonObject:
    """Build the text editor.

    `insert_field` is the name of the field with the text to insert: `new_str` in older versions.
    """
    commands = dict(_FILE_COMMANDS)
    fields = dict(_FILE_FIELDS)
    if insert_field == "insert_text":
        fields |= _INSERT_TEXT
    else:
        commands["insert"] = commands["insert"].replace("insert_text", insert_field)
        fields["new_str"] = string_schema("For str_replace and insert: the new text")
    if undo:
        commands["undo_edit"] = "undo the last change of a file. Needs path."
    description = _describe_choices("View, create and edit text files. Commands", commands)
    max_characters = tool.get("max_characters")
    if max_characters:
        description += (
            f"\nview shows at most {max_characters} characters of a file: "
            "use view_range for the rest."
        )
    required = {"command": enum_schema("The command", *commands), "path": _PATH}
    return {
        "name": name,
        "description": description,
        "input_schema": object_schema(required, fields),
    }


def _build_memory(_tool: JsonObject) -> JsonObject:
    commands = {
        **_FILE_COMMANDS,
        "delete": "delete a file, or a directory with its content. Needs path.",
        "rename": "rename or move a file or directory. Needs old_path, new_path.",
    }
    fields = {
        "path": string_schema("Path under /memories, for all commands except rename"),
        **_FILE_FIELDS,
        **_INSERT_TEXT,
        "old_path": string_schema("For rename: the current path"),
        "new_path": string_schema("For rename: the new path"),
    }
    introduction = (
        "Your memory: files under /memories that persist across conversations. Check it first "
        "(view /memories) for notes of earlier conversations, and save the information that later "
        "conversations will need. Commands"
    )
    return {
        "name": "memory",
        "description": _describe_choices(introduction, commands),
        "input_schema": object_schema({"command": enum_schema("The command", *commands)}, fields),
    }


_ACTIONS_2024 = {
    "key": 'press a key or a combination such as "ctrl+s" or "Return". Needs text.',
    "type": "type a text. Needs text.",
    "mouse_move": "move the cursor. Needs coordinate.",
    "left_click": "click the left button at the cursor position.",
    "left_click_drag": "drag from the cursor position to coordinate. Needs coordinate.",
    "right_click": "click the right button at the cursor position.",
    "middle_click": "click the middle button at the cursor position.",
    "double_click": "double-click the left button at the cursor position.",
    "screenshot": "take a screenshot.",
    "cursor_position": "return the cursor position.",
}
_AT_COORDINATE = (
    "at coordinate (default: the cursor position); text is optional: keys to hold down during the "
    "action."
)
_ACTIONS_2025 = _ACTIONS_2024 | {
    "left_click": f"click the left button {_AT_COORDINATE}",
    "left_click_drag": "drag with the left button. Needs start_coordinate, coordinate.",
    "right_click": f"click the right button {_AT_COORDINATE}",
    "middle_click": f"click the middle button {_AT_COORDINATE}",
    "double_click": f"double-click the left button {_AT_COORDINATE}",
    "triple_click": f"click the left button three times {_AT_COORDINATE}",
    "left_mouse_down": "press and hold the left button at the cursor position.",
    "left_mouse_up": "release the left button at the cursor position.",
    "scroll": f"scroll. Needs scroll_direction, scroll_amount; {_AT_COORDINATE}",
    "hold_key": "hold down a key or a combination of keys. Needs text, duration.",
    "wait": "wait. Needs duration.",
}
_ZOOM = {"zoom": "take an enlarged screenshot of a part of the screen. Needs region."}

_FIELDS_2024 = {
    "coordinate": integer_list_schema(2, "[x, y] in pixels from the left and from the top"),
    "text": string_schema("The keys to press or to hold down, or the text to type"),
}
_FIELDS_2025 = _FIELDS_2024 | {
    "start_coordinate": integer_list_schema(2, "For left_click_drag: [x, y], start of the drag"),
    "scroll_direction": enum_schema("For scroll: the direction", "up", "down", "left", "right"),
    "scroll_amount": integer_schema("For scroll: number of wheel steps"),
    "duration": number_schema("For hold_key and wait: seconds"),
}
_REGION = {"region": integer_list_schema(4, "For zoom: [x0, y0, x1, y1], corners of the part")}


def _build_computer(
    tool: JsonObject, *, actions: dict[str, str], fields: JsonObject, can_zoom: bool = False
) -> JsonObject:
    if can_zoom and tool.get("enable_zoom"):
        actions, fields = actions | _ZOOM, fields | _REGION
    width, height = tool.get("display_width_px"), tool.get("display_height_px")
    display = tool.get("display_number")
    display_note = "" if display is None else f" (X11 display {display})"
    introduction = (
        "Control a computer with its screen, mouse and keyboard. "
        f"The screen is {width} pixels wide and {height} pixels high{display_note}. "
        "Take a screenshot before a click to find the target, and after it to check the result. "
        "Actions"
    )
    return {
        "name": "computer",
        "description": _describe_choices(introduction, actions),
        "input_schema": object_schema({"action": enum_schema("The action", *actions)}, fields),
    }


_EDITOR_WITH_UNDO = partial(
    _build_text_editor, name="str_replace_editor", insert_field="new_str", undo=True
)
_EDITOR = partial(_build_text_editor, name="str_replace_based_edit_tool", undo=False)
_COMPUTER_2025 = partial(_build_computer, actions=_ACTIONS_2025, fields=_FIELDS_2025)

# Builders by family and date.
_FAMILIES: dict[str, dict[str, _ToolBuilder]] = {
    "bash": {"20241022": _build_bash},
    "text_editor": {
        "20241022": _EDITOR_WITH_UNDO,
        "20250429": partial(_EDITOR, insert_field="new_str"),
        # A former guide documented new_str, but Anthropic's models send insert_text.
        "20250728": partial(_EDITOR, insert_field="insert_text"),
    },
    "memory": {"20250818": _build_memory},
    "computer": {
        "20241022": partial(_build_computer, actions=_ACTIONS_2024, fields=_FIELDS_2024),
        "20250124": _COMPUTER_2025,
        "20251124": partial(_COMPUTER_2025, can_zoom=True),
    },
}
