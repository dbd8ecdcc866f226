"""The way back of a request, with ids that can be foretold."""

import itertools
from typing import Any

from anthropic_proxy.translate.notes import TranslationNotes
from anthropic_proxy.translate.request.chat_request import get_output_format
from anthropic_proxy.translate.request.tools import resolve_tools
from anthropic_proxy.translate.response.spec import (
    ResponseSpec,
    get_reasoning_display,
    get_tool_schemas,
)
from anthropic_proxy.translate.upstream_failure import UpstreamIdentity


def answer_spec(request: dict[str, Any] | None = None, **fields: Any) -> ResponseSpec:
    """Return the gateway's spec for `request`, with ids toolu_1, ..., and 7 estimated tokens."""
    given = request or {}
    tools = resolve_tools({"messages": [], **given}, TranslationNotes())
    numbers = itertools.count(1)
    return ResponseSpec(
        message_id="msg_1",
        model="claude-test",
        input_estimate=7,
        upstream=UpstreamIdentity("up:1"),
        new_tool_id=lambda: f"toolu_{next(numbers)}",
        tool_names=tools.names,
        single_call=tools.single_call,
        tools=get_tool_schemas(tools.fields),
        calls_in_text=True,
        stop_sequences=given.get("stop_sequences") or [],
        is_structured=get_output_format(given) is not None,
        reasoning=get_reasoning_display(given),
        **fields,
    )
