"""What is built is what the official SDK reads: each builder against the SDK's own types."""

from typing import Any

import pytest
from anthropic.types import ContentBlock, Message, RawMessageStreamEvent
from anthropic.types.beta import BetaRawMessageStreamEvent
from pydantic import TypeAdapter

from anthropic_proxy.wire.anthropic import events

_EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
_BLOCK: TypeAdapter[Any] = TypeAdapter(ContentBlock)
_USAGE = {
    "input_tokens": 3,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 0,
    "output_tokens": 1,
}
_STOP = {"stop_reason": "end_turn", "stop_sequence": None}


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (events.message_start(events.message("msg_1", "m", _USAGE)), "message_start"),
        (events.block_start(0, events.text_block()), "content_block_start"),
        (events.block_start(1, events.thinking_block()), "content_block_start"),
        (events.block_start(2, events.tool_use_block("toolu_1", "f", {})), "content_block_start"),
        (events.text_delta(0, "x"), "content_block_delta"),
        (events.thinking_delta(0, "x"), "content_block_delta"),
        (events.signature_delta(0, "x"), "content_block_delta"),
        (events.input_json_delta(0, "{"), "content_block_delta"),
        (events.block_stop(0), "content_block_stop"),
        (events.message_delta(_STOP, _USAGE), "message_delta"),
        (events.message_stop(), "message_stop"),
    ],
)
def test_the_sdk_reads_every_event(event: dict[str, Any], kind: str) -> None:
    read = _EVENT.validate_python(event)
    assert read.type == kind
    assert read.to_dict() == event


@pytest.mark.parametrize(
    "block",
    [
        events.text_block("x"),
        events.thinking_block("x", "s"),
        events.tool_use_block("toolu_1", "f", {"a": [1]}),
        events.tool_use_block("toolu_1", "wait", {"duration": 1}, "computer"),
    ],
    ids=lambda block: block["type"],
)
def test_the_sdk_reads_every_block(block: dict[str, Any]) -> None:
    assert _BLOCK.validate_python(block).to_dict() == block


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param({}, {"content": [], "stop_reason": None, "stop_sequence": None}, id="start"),
        pytest.param(
            {
                "content": [events.text_block("x")],
                "stop": {"stop_reason": "stop_sequence", "stop_sequence": "###"},
            },
            {
                "content": [events.text_block("x")],
                "stop_reason": "stop_sequence",
                "stop_sequence": "###",
            },
            id="whole",
        ),
    ],
)
def test_the_sdk_reads_a_message(given: dict[str, Any], expected: dict[str, Any]) -> None:
    message = events.message("msg_1", "m", _USAGE, **given)
    assert message == {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "usage": _USAGE,
        **expected,
    }
    assert Message.model_validate(message).to_dict() == message


@pytest.mark.parametrize(
    "event",
    [
        events.block_start(0, events.compaction_block(None)),
        events.compaction_delta(0, "x"),
        events.message_delta(_STOP, _USAGE, {"applied_edits": []}),
    ],
)
def test_the_beta_sdk_reads_it(event: dict[str, Any]) -> None:
    read = TypeAdapter(BetaRawMessageStreamEvent).validate_python(event)
    assert read.to_dict() == event


def test_ping() -> None:
    assert events.ping() == {"type": "ping"}
