"""Check event sequences for the invariant in translate/response/stream.py, and add them up."""

from typing import Any

from pydantic_core import from_json

Events = list[dict[str, Any]]


def check(events: Events) -> None:
    """Asserts that `events` are one whole or broken off answer."""
    kinds = [event["type"] for event in events if event["type"] != "ping"]
    assert kinds[0] == "message_start"
    assert events[0]["message"]["usage"]["output_tokens"] == 0
    open_index: int | None = None
    next_index = 0
    for event in [each for each in events if each["type"] != "ping"][1:-1]:
        match event["type"]:
            case "content_block_start":
                assert open_index is None, "two blocks open"
                assert event["index"] == next_index
                open_index, next_index = next_index, next_index + 1
            case "content_block_delta":
                assert event["index"] == open_index
            case "content_block_stop":
                assert event["index"] == open_index
                open_index = None
            case "message_delta":
                assert kinds[-1] == "message_stop"
                assert event is [each for each in events if each["type"] != "ping"][-2]
                assert event["usage"]["output_tokens"] >= 0
                assert event["delta"]["stop_reason"] is not None
            case other:
                raise AssertionError(f"{other} in the middle")
    assert kinds[-1] in ("message_stop", "error")
    assert kinds.count("message_delta") == (kinds[-1] == "message_stop")
    if kinds[-1] == "message_stop":
        assert open_index is None, "a block is left open"
    cut = any(
        event["type"] == "message_delta" and event["delta"]["stop_reason"] in _CUT
        for event in events
    )
    for index in [event["index"] for event in events if event["type"] == "content_block_stop"]:
        check_input([event for event in events if event.get("index") == index], cut=cut)


_CUT = ("max_tokens", "model_context_window_exceeded", "refusal")


def check_input(block: Events, *, cut: bool) -> None:
    """Assert that arguments of a tool_use block add up to an object, or begin one if truncated."""
    pieces = [event["delta"].get("partial_json", "") for event in block[1:-1]]
    assert isinstance(from_json("".join(pieces) or "{}", allow_partial=cut), dict)
