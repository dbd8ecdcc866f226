"""Check upstream requests by the types of the `openai` package, which must not have other fields.

Also checks the rules that OpenAI's servers enforce beyond the types.
"""

import re
from typing import Any

from openai.types.chat import completion_create_params
from pydantic import ConfigDict, TypeAdapter

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def adapter(params: Any) -> TypeAdapter[Any]:
    """The type with nothing more in it."""
    # A TypedDict takes its configuration from this attribute, and so do those inside it.
    params.__pydantic_config__ = ConfigDict(extra="forbid")
    return TypeAdapter(params)


_WHOLE = adapter(completion_create_params.CompletionCreateParamsNonStreaming)
_STREAMED = adapter(completion_create_params.CompletionCreateParamsStreaming)


# What rows of the dialects and signatures of ours add to OpenAI's API, anywhere in a request.
_FOREIGN = frozenset(
    {
        "add_generation_prompt",
        "cache_control",
        "cache_salt",
        "chat_template_kwargs",
        "continue_final_message",
        "enable_thinking",
        "extra_content",
        "min_p",
        "name",
        "partial",
        "prefix",
        "reasoning",
        "reasoning_content",
        "reasoning_details",
        "reasoning_opaque",
        "reasoning_text",
        "thinking_blocks",
        "thinking_budget_tokens",
        "thinking_token_budget",
        "reasoning_split",
        "thinking",
        "thinking_budget",
        "top_k",
        "vllm_xargs",
    }
)


def plain(body: dict[str, Any]) -> dict[str, Any]:
    """A request as OpenAI would know it, without what is other servers' own."""
    messages = [_plain_message(message) for message in body["messages"]]
    return {
        **{name: value for name, value in body.items() if name not in _FOREIGN},
        "messages": messages,
    }


def _plain_message(message: dict[str, Any]) -> dict[str, Any]:
    known = {name: value for name, value in message.items() if name not in _FOREIGN}
    for name in ("content", "tool_calls"):
        if isinstance(known.get(name), list):
            parts = [part for part in known[name] if part["type"] != "thinking"]
            known[name] = [
                {key: value for key, value in part.items() if key not in _FOREIGN} for part in parts
            ]
    return known


def is_name(name: str) -> bool:
    """Whether OpenAI takes it as the name of a function."""
    return _NAME.fullmatch(name) is not None


def check(body: dict[str, Any]) -> None:
    """Asserts that OpenAI's API would take `body`."""
    exhaust((_STREAMED if body.get("stream") else _WHOLE).validate_python(body))
    assert body.get("tools") != [], "an empty list of tools"
    tools = [tool["function"] for tool in body.get("tools", ())]
    for tool in tools:
        assert is_name(tool["name"]), tool["name"]
        assert tool["parameters"]["type"] == "object"
        assert "properties" in tool["parameters"], tool["name"]
    assert tools or not body.keys() & {"tool_choice", "parallel_tool_calls"}
    _check_results(body["messages"])


def _check_results(messages: list[dict[str, Any]]) -> None:
    """Every call is answered, once, right after its message."""
    open_calls: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            assert message["tool_call_id"] in open_calls, "a result without a call"
            open_calls.remove(message["tool_call_id"])
            continue
        assert not open_calls, "a call without a result"
        open_calls = [call["id"] for call in message.get("tool_calls", ())]
        assert all(len(each) <= 40 for each in open_calls)
        parts = message["content"] if isinstance(message["content"], list) else []
        assert all(part.get("text", "x") for part in parts), "an empty text part"
    assert not open_calls, "a call without a result"


def exhaust(value: Any) -> None:
    """pydantic checks what is typed as Iterable only while it is iterated."""
    if isinstance(value, dict):
        value = value.values()
    if not isinstance(value, str | bytes) and hasattr(value, "__iter__"):
        for each in value:
            exhaust(each)
