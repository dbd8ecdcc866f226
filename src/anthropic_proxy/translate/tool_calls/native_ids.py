"""Return a model's own ids of tool calls to it.

The chat template of Kimi K2 prints the ids of earlier calls and no names, and the model expects its
own form `functions.NAME:N`, where N numbers the calls of the conversation. With other ids in the
history, the model writes ids of that form, its calls cannot be parsed, and the turn ends without
content. Clients need unique ids of plain characters. So a client's id has a suffix with N, and the
next request contains the id as the model wrote it, in any process and after a restart.

Sources: MoonshotAI/Kimi-K2, docs/tool_call_guidance.md; sglang#25358, vllm#50768, kimi-code#2503;
getkimchi/kimchi#1063 for histories that other models wrote.
"""

import re

# More digits would make the client's id longer than 40 characters.
_NATIVE_ID = re.compile(r"functions\.(.{1,256}):(\d{1,8})", re.ASCII | re.DOTALL)
_CLIENT_ID = re.compile(r"toolu_[0-9a-z]+_f(\d{1,8})", re.ASCII)


def is_native_id(call_id: str) -> bool:
    """Return whether an upstream's id has the form `functions.NAME:N`."""
    return _NATIVE_ID.fullmatch(call_id) is not None


def build_native_id(name: str, number: int | str) -> str:
    return f"functions.{name}:{number}"


def add_native_number(tool_use_id: str, upstream_id: str) -> str:
    """Return a new id for the client that also contains the number of a native id, if any."""
    match = _NATIVE_ID.fullmatch(upstream_id)
    return f"{tool_use_id}_f{match[2]}" if match else tool_use_id


def restore_native_id(tool_use_id: str, name: str) -> str | None:
    """Return the native id of a call from the client's id, or None if it has none.

    `name` is the upstream's name of the tool. Clients of other gateways may have the native id
    itself.
    """
    match = _CLIENT_ID.fullmatch(tool_use_id)
    if match:
        return build_native_id(name, match[1])
    native = _NATIVE_ID.fullmatch(tool_use_id)
    if native and native[1] == name:
        return tool_use_id
    return None
