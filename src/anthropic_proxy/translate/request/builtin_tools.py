"""Schemas of client tools with a dated type: shell, text editor, memory and computer.

Anthropic's models know these types; other models need a description and a schema. Commands share
one schema in which only `command` (or `action`) is required, because OpenAI accepts no alternatives
at the top; the description lists the fields of each command. An unknown date uses the newest
earlier form, so that new clients are served. Sources: the API's types and its guides to the tools.
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
    """Return whether this module has a schema for a tool type."""
    family, _, date = kind.rpartition("_")
    return family in _FAMILIES and date.isdigit()


def add_builtin_schema(tool: JsonObject) -> JsonObject:
    """Return the tool with the name, description and schema of its type.

    Any other tool is returned as it is.
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
        "restart": boolean_schema("Begin with a fresh shell"),
    }
    return {
        "name": "bash",
        "description": (
            "Run a command in a bash shell. The shell lives on between calls: working directory, "
            "variables and background jobs stay. It has no terminal, so programs that ask for "
            "input don't work.\n"
            "Give either `command`, or `restart: true` alone to begin with a fresh shell when the "
            "old one hangs."
        ),
        "input_schema": object_schema({}, fields),
    }


# Fields and commands for files.
_PATH = string_schema("Absolute path of the file or directory")
_FILE_FIELDS = {
    "view_range": integer_list_schema(
        2,
        "For view: first and last line to show, counted from 1; -1 as the last is the end of the "
        "file",
    ),
    "file_text": string_schema("For create: the whole content of the file"),
    "old_str": string_schema(
        "For str_replace: the text to replace, exactly as it stands in the file, white space "
        "included"
    ),
    "new_str": string_schema("For str_replace: the text in its place"),
    "insert_line": integer_schema(
        "For insert: the line after which the text goes; 0 is the beginning of the file"
    ),
}
_INSERT_TEXT = {"insert_text": string_schema("For insert: the text to insert")}
_FILE_COMMANDS = {
    "view": "show a file, or list a directory. Needs path; view_range is optional, for files.",
    "create": "write a new file, or write over an old one. Needs path, file_text.",
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

    `insert_field` is the name of the field with the text to insert: `new_str` in the older forms.
    """
    commands = dict(_FILE_COMMANDS)
    fields = dict(_FILE_FIELDS)
    if insert_field == "insert_text":
        fields |= _INSERT_TEXT
    else:
        commands["insert"] = commands["insert"].replace("insert_text", insert_field)
        fields["new_str"] = string_schema("For str_replace and insert: the new text")
    if undo:
        commands["undo_edit"] = "take back the last change of a file. Needs path."
    description = _describe_choices("View, create and edit text files. Commands", commands)
    max_characters = tool.get("max_characters")
    if max_characters:
        description += (
            f"\nview shows {max_characters} characters of a file at most: "
            "use view_range for the rest."
        )
    required = {"command": enum_schema("What to do", *commands), "path": _PATH}
    return {
        "name": name,
        "description": description,
        "input_schema": object_schema(required, fields),
    }


def _build_memory(_tool: JsonObject) -> JsonObject:
    commands = {
        **_FILE_COMMANDS,
        "delete": "delete a file, or a directory with all that is in it. Needs path.",
        "rename": "rename or move a file or directory. Needs old_path, new_path.",
    }
    fields = {
        "path": string_schema("Path under /memories, for all commands but rename"),
        **_FILE_FIELDS,
        **_INSERT_TEXT,
        "old_path": string_schema("For rename: the path as it is"),
        "new_path": string_schema("For rename: the path as it shall be"),
    }
    introduction = (
        "Your memory: files under /memories that outlive this conversation. Look there first "
        "(view /memories) for what earlier conversations left, and write down what a later one "
        "will need. Commands"
    )
    return {
        "name": "memory",
        "description": _describe_choices(introduction, commands),
        "input_schema": object_schema({"command": enum_schema("What to do", *commands)}, fields),
    }


_ACTIONS_2024 = {
    "key": 'press a key or a combination such as "ctrl+s" or "Return". Needs text.',
    "type": "type a text. Needs text.",
    "mouse_move": "move the cursor. Needs coordinate.",
    "left_click": "click the left button where the cursor is.",
    "left_click_drag": "drag from where the cursor is. Needs coordinate, the end.",
    "right_click": "click the right button where the cursor is.",
    "middle_click": "click the middle button where the cursor is.",
    "double_click": "double-click the left button where the cursor is.",
    "screenshot": "take a picture of the screen.",
    "cursor_position": "tell where the cursor is.",
}
_AT_COORDINATE = (
    "at coordinate, or where the cursor is without it; "
    "text is optional, keys to hold down meanwhile."
)
_ACTIONS_2025 = _ACTIONS_2024 | {
    "left_click": f"click the left button {_AT_COORDINATE}",
    "left_click_drag": "drag with the left button. Needs start_coordinate, coordinate.",
    "right_click": f"click the right button {_AT_COORDINATE}",
    "middle_click": f"click the middle button {_AT_COORDINATE}",
    "double_click": f"double-click the left button {_AT_COORDINATE}",
    "triple_click": f"click the left button three times {_AT_COORDINATE}",
    "left_mouse_down": "press the left button and keep it down, where the cursor is.",
    "left_mouse_up": "let the left button go, where the cursor is.",
    "scroll": f"turn the wheel. Needs scroll_direction, scroll_amount; {_AT_COORDINATE}",
    "hold_key": "hold a key or combination down. Needs text, duration.",
    "wait": "do nothing for a while. Needs duration.",
}
_ZOOM = {"zoom": "take a picture of a part of the screen, enlarged. Needs region."}

_FIELDS_2024 = {
    "coordinate": integer_list_schema(2, "[x, y] in pixels from the left and from the top"),
    "text": string_schema("The keys to press or to hold, or the text to type"),
}
_FIELDS_2025 = _FIELDS_2024 | {
    "start_coordinate": integer_list_schema(2, "For left_click_drag: [x, y] where the drag begins"),
    "scroll_direction": enum_schema("For scroll: which way", "up", "down", "left", "right"),
    "scroll_amount": integer_schema("For scroll: how many notches of the wheel"),
    "duration": number_schema("For hold_key and wait: seconds"),
}
_REGION = {"region": integer_list_schema(4, "For zoom: [x0, y0, x1, y1], the corners of the part")}


def _build_computer(
    tool: JsonObject, *, actions: dict[str, str], fields: JsonObject, can_zoom: bool = False
) -> JsonObject:
    if can_zoom and tool.get("enable_zoom"):
        actions, fields = actions | _ZOOM, fields | _REGION
    width, height = tool.get("display_width_px"), tool.get("display_height_px")
    display = tool.get("display_number")
    display_note = "" if display is None else f" (X11 display {display})"
    introduction = (
        "Use a computer by its screen, mouse and keyboard. "
        f"The screen is {width} pixels wide and {height} pixels high{display_note}. "
        "Take a screenshot before you click, to see where things are, and after it, to see what "
        "happened. Actions"
    )
    return {
        "name": "computer",
        "description": _describe_choices(introduction, actions),
        "input_schema": object_schema({"action": enum_schema("What to do", *actions)}, fields),
    }


_EDITOR_WITH_UNDO = partial(
    _build_text_editor, name="str_replace_editor", insert_field="new_str", undo=True
)
_EDITOR = partial(_build_text_editor, name="str_replace_based_edit_tool", undo=False)
_COMPUTER_2025 = partial(_build_computer, actions=_ACTIONS_2025, fields=_FIELDS_2025)

# Family -> date -> form.
_FAMILIES: dict[str, dict[str, _ToolBuilder]] = {
    "bash": {"20241022": _build_bash},
    "text_editor": {
        "20241022": _EDITOR_WITH_UNDO,
        "20250429": partial(_EDITOR, insert_field="new_str"),
        # The guide once said new_str; what Anthropic's models send for this form is insert_text.
        "20250728": partial(_EDITOR, insert_field="insert_text"),
    },
    "memory": {"20250818": _build_memory},
    "computer": {
        "20241022": partial(_build_computer, actions=_ACTIONS_2024, fields=_FIELDS_2024),
        "20250124": _COMPUTER_2025,
        "20251124": partial(_COMPUTER_2025, can_zoom=True),
    },
}
