"""Convert cache marks, which name the end of a prefix that the upstream caches.

The Messages API has `cache_control` in blocks. OpenRouter accepts it in text parts. OpenAI's models
since GPT-5.6 have `prompt_cache_breakpoint` in parts of system, user and tool messages
(developers.openai.com/api/docs/guides/prompt-caching). Older models refuse the field, see
`adaptation/rules.py`.
"""

from typing import Any

from anthropic_proxy.providers.provider_profile import ProviderProfile
from anthropic_proxy.wire.json_codec import JsonObject

CACHE_BREAKPOINT = "prompt_cache_breakpoint"


def find_cache_mark(block: JsonObject, profile: ProviderProfile) -> JsonObject | None:
    """Return the field of a content part for the mark of a block, or None.

    Of the lifetimes of the Messages API, OpenAI's default of 30 minutes covers 5 minutes.
    """
    mark = block.get("cache_control")
    if not isinstance(mark, dict):
        return None
    if profile.cache_control:
        return {"cache_control": mark}
    if not profile.cache_breakpoints:
        return None
    breakpoint_fields = {"mode": "explicit"}
    if mark.get("ttl") == "1h" and profile.cache_breakpoints == "12h":
        breakpoint_fields["ttl"] = "12h"
    return {CACHE_BREAKPOINT: breakpoint_fields}


def count_cache_marks(request: JsonObject) -> int:
    """Return the number of marks in the system prompt, the messages and the tools."""
    blocks = [request.get("system"), request.get("tools"), request["messages"]]
    return sum(map(_count_marks, blocks))


def _count_marks(value: Any) -> int:
    """Count the marks of blocks, messages or tools, and of the blocks in them."""
    if not isinstance(value, list):
        return 0
    count = 0
    for each in value:
        if isinstance(each, dict):
            count += isinstance(each.get("cache_control"), dict)
            count += _count_marks(each.get("content"))
    return count


def build_cache_options(request: JsonObject, messages: list[JsonObject]) -> JsonObject:
    """Return the field that restricts the cache to the marks of the client, or none.

    By default, OpenAI also caches the prompt up to the latest message. A prefix is only found at
    the end of a message that the next request marks too, and the marks of most clients move with
    the conversation. So the restriction needs that only the system prompt has marks, which do not
    move (codeready-toolchain/tarsy#333), and that each mark has a place.
    """
    mark_count = count_cache_marks(request)
    first = messages[0]
    is_restricted = (
        mark_count > 0
        and first["role"] == "system"
        and _count_breakpoints(first["content"]) == mark_count
        and request.get("cache_control") is None
    )
    return {"prompt_cache_options": {"mode": "explicit"}} if is_restricted else {}


def _count_breakpoints(content: str | list[JsonObject]) -> int:
    """Return the number of breakpoints in the content of a message."""
    if isinstance(content, str):
        return 0
    return sum(CACHE_BREAKPOINT in part for part in content)
