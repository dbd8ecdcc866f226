"""The way back of a request, with ids that can be foretold."""

import itertools
from typing import Any

from anthropic_proxy.translate.notes import Notes
from anthropic_proxy.translate.request.parameters import output_format
from anthropic_proxy.translate.request.tools import takes_one_call, to_tools, tool_names
from anthropic_proxy.translate.response.spec import AnswerSpec, offered_tools, reasoning_display
from anthropic_proxy.translate.upstream_errors import Source


def answer_spec(request: dict[str, Any] | None = None, **fields: Any) -> AnswerSpec:
    """As the gateway makes it for `request`; tool ids are toolu_1, toolu_2, ..., and the input estimate is 7 tokens."""
    given = request or {}
    numbers = itertools.count(1)
    return AnswerSpec(
        id="msg_1",
        model="claude-test",
        input_estimate=7,
        source=Source("up:1"),
        new_tool_id=lambda: f"toolu_{next(numbers)}",
        tool_names=tool_names({"messages": [], **given}),
        single_call=takes_one_call(given),
        tools=offered_tools(to_tools({"messages": [], **given}, Notes())),
        calls_in_text=True,
        stop_sequences=given.get("stop_sequences") or [],
        structured=output_format(given) is not None,
        reasoning=reasoning_display(given),
        **fields,
    )
