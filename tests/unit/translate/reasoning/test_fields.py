"""Fields of reasoning, and the pieces of a stream that become one block."""

from typing import Any

import pytest

from anthropic_proxy.translate.reasoning.fields import (
    CONTENT_PARTS,
    DETAILS,
    IN_TEXT,
    THINKING_BLOCKS,
    ReasoningBlock,
    ReasoningDelta,
    parse_reasoning,
)

A, B = {"text": "a"}, {"summary": "b"}


@pytest.mark.parametrize(
    ("delta", "expected"),
    [
        ({}, None),
        ({"reasoning": None, "reasoning_content": ""}, None),
        ({"reasoning_content": "a"}, ReasoningDelta("reasoning_content", "a")),
        ({"reasoning": "a", "reasoning_content": "a"}, ReasoningDelta("reasoning", "a")),
        ({"reasoning": {"not": "text"}}, None),
        ({"reasoning_details": [A, B, "junk"]}, ReasoningDelta(DETAILS, "ab", (A, B))),
        ({"reasoning": "a", "reasoning_details": [A]}, ReasoningDelta(DETAILS, "a", (A,))),
        ({"reasoning": "a", "reasoning_details": []}, ReasoningDelta("reasoning", "a")),
        ({"reasoning_text": "a"}, ReasoningDelta("reasoning_text", "a")),
        (
            {"reasoning_text": "a", "reasoning_opaque": "data"},
            ReasoningDelta("reasoning_text", "a", ({"type": "reasoning_opaque", "data": "data"},)),
        ),
        (
            {"reasoning_opaque": "data", "content": "b"},
            ReasoningDelta("reasoning_text", "", ({"type": "reasoning_opaque", "data": "data"},)),
        ),
        (
            {"cot_summary": "a", "cot_id": "data"},
            ReasoningDelta("cot_summary", "a", ({"type": "cot_id", "data": "data"},)),
        ),
        ({"reasoning_text": None, "reasoning_opaque": ""}, None),
        (
            {"reasoning_content": "a", "thinking_blocks": [{"thinking": "a"}]},
            ReasoningDelta(THINKING_BLOCKS, "a", ({"thinking": "a"},)),
        ),
        (
            {"thinking_blocks": [{"thinking": "", "signature": "s"}]},
            ReasoningDelta(THINKING_BLOCKS, "", ({"thinking": "", "signature": "s"},)),
        ),
        (
            {"reasoning_content": "a", "thinking_blocks": []},
            ReasoningDelta("reasoning_content", "a"),
        ),
        ({"reasoning_details": "junk"}, None),
        ({"reasoning_details": ["junk"]}, None),
        (
            {"reasoning_details": [{"data": "encrypted"}]},
            ReasoningDelta(DETAILS, "", ({"data": "encrypted"},)),
        ),
        (
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "a"}, "junk"]}
                ]
            },
            ReasoningDelta(CONTENT_PARTS, "a"),
        ),
        (
            {"content": [{"type": "thinking", "thinking": "a"}, {"type": "text", "text": "b"}]},
            ReasoningDelta(CONTENT_PARTS, "a"),
        ),
        ({"content": [{"type": "text", "text": "b"}, "junk"]}, None),
    ],
)
def test_parse_reasoning(delta: dict[str, Any], expected: ReasoningDelta | None) -> None:
    assert parse_reasoning(delta) == expected


def build_block(*pieces: ReasoningDelta) -> ReasoningBlock:
    block = ReasoningBlock()
    for piece in pieces:
        block.add(piece)
    return block


def detail(text: str = "", **rest: Any) -> ReasoningDelta:
    return ReasoningDelta(DETAILS, text, ({"type": "reasoning.text", "text": text, **rest},))


def test_details_in_pieces_become_one() -> None:
    block = build_block(
        detail(index=0, signature=""),
        detail("a", index=0),
        detail("b", index=0),
        detail(index=0, signature="s"),
    )
    assert block.details == [{"type": "reasoning.text", "text": "ab", "index": 0, "signature": "s"}]
    assert block.text == "ab"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (detail("a", index=0), detail("b", index=1)),
        (detail("a", signature="s"), detail("b")),
        (detail("a"), ReasoningDelta(DETAILS, "", ({"type": "reasoning.encrypted", "data": "x"},))),
    ],
)
def test_other_details_stay_apart(first: ReasoningDelta, second: ReasoningDelta) -> None:
    assert len(build_block(first, second).details) == 2


@pytest.mark.parametrize(
    ("origins", "expected"),
    [
        (["reasoning", DETAILS], DETAILS),
        ([DETAILS, "reasoning"], DETAILS),
        (["reasoning_content", IN_TEXT], "reasoning_content"),
        ([IN_TEXT, "reasoning"], "reasoning"),
        (["reasoning", "reasoning_content"], "reasoning"),
        (["reasoning", "reasoning_text"], "reasoning_text"),
        (["reasoning_text", "reasoning"], "reasoning_text"),
        (["reasoning_content", THINKING_BLOCKS], THINKING_BLOCKS),
        ([THINKING_BLOCKS, "reasoning_content"], THINKING_BLOCKS),
        ([THINKING_BLOCKS, DETAILS, THINKING_BLOCKS], DETAILS),
    ],
)
def test_the_most_specific_field_is_the_origin(origins: list[str], expected: str) -> None:
    assert build_block(*(ReasoningDelta(origin, "a") for origin in origins)).origin == expected


def test_only_data_for_the_upstream_is_encrypted() -> None:
    assert build_block(
        ReasoningDelta(DETAILS, "", ({"type": "reasoning.encrypted", "data": "x"},))
    ).is_encrypted
    assert not build_block(detail(signature="")).is_encrypted
    assert not build_block(detail("a", signature="s")).is_encrypted
