"""Refusals of OpenAI's servers beyond the shapes of tests/support/openai_shapes.py, and of
templates of other servers.

Source: the error messages of api.openai.com, and of the templates that llama.cpp and vLLM run.
"""

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

from pydantic import ValidationError

from tests.support import openai_shapes

JsonObject = dict[str, Any]

_MOST_TOOLS = 128
_LONGEST_STRING = 10_485_760
_IMAGE = re.compile(r"data:image/(png|jpeg|gif|webp);base64,(.+)", re.DOTALL)
_SIGNATURES = {"png": b"\x89PNG", "jpeg": b"\xff\xd8\xff", "gif": b"GIF8", "webp": b"RIFF"}
_NOT_AT_THE_TOP = ("oneOf", "anyOf", "allOf", "enum", "not")


def problem_of(body: JsonObject, extra_fields: tuple[str, ...]) -> str:
    """Return why `body` would be refused; empty when it would not. `extra_fields` of messages are
    accepted.
    """
    plain = [
        {name: each for name, each in message.items() if name not in extra_fields}
        for message in body["messages"]
    ]
    try:
        openai_shapes.check({**body, "messages": plain})
    except (AssertionError, ValidationError) as error:
        return f"openai_shapes: {error}"
    return next((problem for rule in _RULES for problem in rule(body)), "")


def _roles(body: JsonObject) -> Iterator[str]:
    roles = [message["role"] for message in body["messages"]]
    if "system" in roles[1:]:
        yield "System message must be at the beginning"
    if roles[-1] == "assistant":
        yield "the conversation ends with the assistant"
    if {("user", "user"), ("assistant", "assistant")} & set(pairwise(roles)):
        yield "Conversation roles must alternate user/assistant"
    if roles[0] not in ("system", "user"):
        yield f"the conversation begins with {roles[0]}"


def _contents(body: JsonObject) -> Iterator[str]:
    for number, message in enumerate(body["messages"]):
        content = message.get("content")
        if not content and not message.get("tool_calls") and message["role"] != "tool":
            yield f"messages.{number}.content: empty ({message['role']})"
        if message["role"] == "assistant" and isinstance(content, list):
            yield f"messages.{number}.content: templates want the assistant's text as a string"
        if len(json.dumps(content)) > _LONGEST_STRING:
            yield f"messages.{number}.content: string too long"


def _images(body: JsonObject) -> Iterator[str]:
    for message in body["messages"]:
        for part in message["content"] if isinstance(message.get("content"), list) else ():
            if part["type"] == "image_url":
                yield from _image(message["role"], part["image_url"]["url"])


def _image(role: str, url: str) -> Iterator[str]:
    found = _IMAGE.fullmatch(url)
    if role != "user":
        yield f"image_url is only allowed in messages of the user, not of {role}"
    if not found:
        yield f"Invalid image data URL {url[:40]}"
        return
    try:
        raw = base64.b64decode(found[2], validate=True)
    except binascii.Error:
        yield "the image is not base64"
        return
    if not raw.startswith(_SIGNATURES[found[1]]):
        yield f"the image is no {found[1]}"


def _calls(body: JsonObject) -> Iterator[str]:
    known = {tool["function"]["name"] for tool in body.get("tools", ())}
    seen: set[str] = set()
    for message in body["messages"]:
        for call in message.get("tool_calls", ()):
            if call["id"] in seen:
                yield f"Duplicate tool call id {call['id']}"
            seen.add(call["id"])
            yield from _arguments(call)
            if known and not openai_shapes.is_name(call["function"]["name"]):
                yield f"Invalid function name {call['function']['name']}"


def _arguments(call: JsonObject) -> Iterator[str]:
    """OpenAI takes any string here; templates parse it, and fail."""
    try:
        arguments = json.loads(call["function"]["arguments"])
    except ValueError:
        yield f"the arguments of {call['id']} are no JSON"
        return
    if not isinstance(arguments, dict):
        yield f"the arguments of {call['id']} are no object"


def _tools(body: JsonObject) -> Iterator[str]:
    names = [tool["function"]["name"] for tool in body.get("tools", ())]
    if len(names) > _MOST_TOOLS:
        yield f"array too long: {len(names)} tools"
    if len(set(names)) < len(names):
        yield "two tools of one name"
    if "DeferredToolPlaceholder" in names:
        yield "a tool that must never be called"
    for tool in body.get("tools", ()):
        found = [word for word in _NOT_AT_THE_TOP if word in tool["function"]["parameters"]]
        if found:
            problem = f"schema must not have {found} at the top level"
            yield f"Invalid schema for function {tool['function']['name']}: {problem}"
    choice = body.get("tool_choice")
    if isinstance(choice, dict) and choice["function"]["name"] not in names:
        yield f"tool_choice names {choice['function']['name']}, which is no tool"


def _numbers(body: JsonObject) -> Iterator[str]:
    limits = [body[name] for name in ("max_tokens", "max_completion_tokens") if name in body]
    if len(limits) != 1 or limits[0] < 1:
        yield f"one limit of at least 1 token is needed, not {limits}"
    if len(body.get("user", "")) > 64:
        yield "user: string too long, 64 at most"
    if body.get("stream_options") and not body.get("stream"):
        yield "stream_options is only allowed when stream is enabled"


_RULES: tuple[Callable[[JsonObject], Iterator[str]], ...] = (
    _roles,
    _contents,
    _images,
    _calls,
    _tools,
    _numbers,
)
