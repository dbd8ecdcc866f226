"""Tools within an upstream's limits: how many it takes, and how long their descriptions may be.

Nothing goes without a word: the model is told which tools it does not have, and reads in the system prompt how a
description goes on.
"""

from collections.abc import Iterable

from anthropic_proxy.translate.notes import TranslationNotes
from anthropic_proxy.translate.request.server_tools import unavailable_note
from anthropic_proxy.translate.request.system_prompt import with_system_text
from anthropic_proxy.wire.json_codec import JsonObject

_GOES_ON = " [continued in the system prompt]"


def fewer_tools(body: JsonObject, most: int) -> JsonObject:
    """The request with `most` of its tools, in their order: the one that has to be called, those that the conversation
    has calls of, the last first, and then the first ones.
    """
    tools = body.get("tools", [])
    if len(tools) <= most:
        return body
    needed = set(_by_need(body)[:most])
    kept = {"tools": [tool for tool in tools if _name(tool) in needed]}
    note = unavailable_note(TranslationNotes(unavailable=_missing(body, kept)))
    return {**body, **kept, "messages": with_system_text(body["messages"], note)}


def missing_tools(before: JsonObject, after: JsonObject) -> list[str]:
    """Names of the tools that a request offers before a change and not after it; none where the call is a given one's."""
    return [] if isinstance(before.get("tool_choice"), dict) else _missing(before, after)


def shorter_descriptions(body: JsonObject, most: int) -> JsonObject:
    """The request with descriptions of tools of at most `most` characters; their rest stands in the system prompt."""
    long = [tool for tool in body.get("tools", ()) if len(_description(tool)) > most]
    if not long:
        return body
    rests = [
        f"Description of the tool {_name(tool)}, continued:\n{_cut(_description(tool), most)[1]}"
        for tool in long
    ]
    tools = [_with_short_description(tool, most) for tool in body["tools"]]
    return {
        **body,
        "tools": tools,
        "messages": with_system_text(body["messages"], "\n\n".join(rests)),
    }


def _missing(before: JsonObject, after: JsonObject) -> list[str]:
    offered = set(map(_name, after.get("tools", ())))
    return [name for name in map(_name, before.get("tools", ())) if name not in offered]


def _by_need(body: JsonObject) -> list[str]:
    choice = body.get("tool_choice")
    chosen = [choice["function"]["name"]] if isinstance(choice, dict) else []
    offered = dict.fromkeys(map(_name, body["tools"]))
    return [
        name
        for name in dict.fromkeys((*chosen, *_called(body["messages"]), *offered))
        if name in offered
    ]


def _called(messages: list[JsonObject]) -> Iterable[str]:
    """Names of called tools, the last call first."""
    for message in reversed(messages):
        yield from (call["function"]["name"] for call in message.get("tool_calls", ()))


def _with_short_description(tool: JsonObject, most: int) -> JsonObject:
    description = _description(tool)
    if len(description) <= most:
        return tool
    return {**tool, "function": {**tool["function"], "description": _cut(description, most)[0]}}


def _cut(text: str, most: int) -> tuple[str, str]:
    """A beginning of at most `most` characters that says that it goes on, and the rest. Words stay whole, if they can."""
    mark = _GOES_ON if most > 2 * len(_GOES_ON) else ""
    room = most - len(mark)
    end = max(text.rfind(space, 0, room + 1) for space in " \n")
    place = end if end > room // 2 else room
    return text[:place].rstrip() + mark, text[place:].lstrip()


def _name(tool: JsonObject) -> str:
    name: str = tool["function"]["name"]
    return name


def _description(tool: JsonObject) -> str:
    description: str = tool["function"].get("description", "")
    return description
