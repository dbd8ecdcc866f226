"""Signatures restore the signed reasoning; foreign and changed ones do not."""

import base64
import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anthropic_proxy.translate.reasoning.fields import (
    CONTENT_PARTS,
    DETAILS,
    IN_TEXT,
    THINKING_BLOCKS,
    ReasoningBlock,
    parse_reasoning,
)
from anthropic_proxy.translate.reasoning.signatures import UNSIGNED, Signer
from anthropic_proxy.wire.json_codec import dumps

Json = dict[str, Any]

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
DETAIL = st.fixed_dictionaries(
    {"type": st.just("reasoning.text")},
    optional={
        "text": TEXTS,
        "summary": TEXTS,
        "data": TEXTS,
        "signature": TEXTS,
        "index": st.integers(0, 3),
    },
)
SIGNERS = st.sampled_from([Signer(), Signer("a secret")])


@given(
    signer=SIGNERS,
    details=st.lists(DETAIL, max_size=4),
    is_visible=st.booleans(),
    has_more_text=st.booleans(),
)
def test_details_are_restored(
    signer: Signer, details: list[dict[str, Any]], *, is_visible: bool, has_more_text: bool
) -> None:
    text = "".join(each.get("text") or each.get("summary") or "" for each in details) + (
        "x" if has_more_text else ""
    )
    visible_text = text if is_visible else ""
    read = signer.parse_signature(
        signer.sign(ReasoningBlock(DETAILS, [text], details), visible_text), visible_text
    )
    assert read is not None
    assert read.details == details


@given(
    signer=SIGNERS,
    origin=st.sampled_from(["reasoning", "reasoning_content", "reasoning_text", CONTENT_PARTS]),
    text=st.text(max_size=1000),
    is_visible=st.booleans(),
)
def test_texts_are_restored(signer: Signer, origin: str, text: str, *, is_visible: bool) -> None:
    text = text.encode("utf-8", "replace").decode()
    visible_text = text if is_visible else ""
    assert signer.parse_signature(
        signer.sign(ReasoningBlock(origin, [text]), visible_text), visible_text
    ) == ReasoningBlock(origin, [text])


def payload(value: Any) -> str:
    return (
        base64.urlsafe_b64encode(value if isinstance(value, bytes) else dumps(value))
        .rstrip(b"=")
        .decode()
    )


@pytest.mark.parametrize(
    "signature",
    [
        "",
        None,
        "EqQBCgIYAhIM",
        "anthropic-proxy.1.messages",
        "anthropic-proxy.9.reasoning",
        "anthropic-proxy.1.reasoning.?",
        "anthropic-proxy.1.reasoning.AAAA",
        "anthropic-proxy.1.reasoning." + payload([1]),
        "anthropic-proxy.1.reasoning." + payload({"text": 1}),
        "anthropic-proxy.1.reasoning_details." + payload({"details": "x"}),
        "anthropic-proxy.1.reasoning_details." + payload({"details": ["x"]}),
        "anthropic-proxy.1.reasoning_details." + payload({"details": [{"text": 99}]}),
        "anthropic-proxy.1.reasoning."
        + payload(zlib.compress(b'{"a": "' + b"0" * 17_000_000 + b'"}')),
        "anthropic-proxy.1.reasoning." + payload(zlib.compress(b"{}")[:-4]),
    ],
)
def test_foreign_signatures_mean_nothing(signature: Any) -> None:
    assert Signer().parse_signature(signature, "a") is None
    assert not Signer().can_replay({"type": "thinking", "thinking": "a", "signature": signature})


def test_with_a_secret_nothing_can_be_changed() -> None:
    signer, reasoning = Signer("a secret"), ReasoningBlock("reasoning", ["a"])
    signature = signer.sign(reasoning, "a")
    assert signer.parse_signature(signature, "a") == reasoning
    assert signer.parse_signature(signature, "b") is None
    assert signer.parse_signature(signature[:-1], "a") is None
    assert signer.parse_signature(signature.replace("reasoning", "reasoning_content"), "a") is None
    assert signer.parse_signature(Signer().sign(reasoning, "a"), "a") is None
    assert Signer("another secret").parse_signature(signature, "a") is None
    assert Signer().parse_signature(signature, "a") == reasoning


ENCRYPTED = {"type": "reasoning.encrypted", "data": "gAAA"}
OPAQUE = {"type": "reasoning_opaque", "data": "opaque"}
SIGNED = {"type": "thinking", "thinking": "a", "signature": "sig"}


@pytest.mark.parametrize("secret", [None, "a secret"])
@pytest.mark.parametrize(
    ("reasoning", "is_bound"),
    [
        # OpenAI's Responses API, OpenRouter.
        (
            ReasoningBlock(DETAILS, ["a"], [{"type": "reasoning.text", "text": "a"}, ENCRYPTED]),
            True,
        ),
        (ReasoningBlock(DETAILS, ["a"], [{**SIGNED, "type": "reasoning.text"}]), True),
        # Gemini.
        (ReasoningBlock(DETAILS, ["a"], [{"type": "tool_call.signature", "data": "x"}]), True),
        # GitHub Copilot, LiteLLM.
        (ReasoningBlock("reasoning_text", ["a"], [OPAQUE]), True),
        (ReasoningBlock(THINKING_BLOCKS, ["a"], [SIGNED]), True),
        # Any model can read text.
        (ReasoningBlock("reasoning_content", ["a"]), False),
        (ReasoningBlock("reasoning", ["a"]), False),
        (ReasoningBlock("reasoning_text", ["a"]), False),
        (ReasoningBlock(CONTENT_PARTS, ["a"]), False),
        (ReasoningBlock(DETAILS, ["a"], [{"type": "reasoning.text", "text": "a"}]), False),
    ],
)
def test_data_is_replayed_only_to_its_upstream(
    secret: str | None, reasoning: ReasoningBlock, *, is_bound: bool
) -> None:
    signer = Signer(secret)
    maker, other = signer.for_upstream("maker"), signer.for_upstream("other")
    block = {"type": "thinking", "thinking": "a", "signature": maker.sign(reasoning, "a")}
    assert maker.can_replay(block)
    assert other.can_replay(block) is not is_bound
    replayed = other.replay_reasoning([block], {"content": "c"})
    assert (replayed == {"content": "c"}) is is_bound
    assert signer.can_replay(block), "a signer without an upstream reads all"


@pytest.mark.parametrize("secret", [None, "a secret"])
def test_data_of_an_unknown_upstream_is_replayed_to_any(secret: str | None) -> None:
    signature = Signer(secret).sign(ReasoningBlock(DETAILS, [""], [ENCRYPTED]), "")
    block = {"type": "redacted_thinking", "data": signature}
    assert Signer(secret).for_upstream("any").can_replay(block)


def test_the_upstream_cannot_be_changed_with_a_secret() -> None:
    signer = Signer("a secret", "maker")
    signature = signer.sign(ReasoningBlock(DETAILS, [""], [ENCRYPTED]), "")
    _, _, origin, packed, mac = signature.split(".")[-5:]
    content = json.loads(base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)))
    assert content["upstream"] == "maker"
    forged = f"anthropic-proxy.1.{origin}.{payload({**content, 'upstream': 'other'})}.{mac}"
    assert signer.for_upstream("other").parse_signature(forged, "") is None


@pytest.mark.parametrize("upstream", [1, [], {}, None, ""])
def test_odd_names_of_upstreams(upstream: Any) -> None:
    content = {"details": [ENCRYPTED], "upstream": upstream}
    signature = "anthropic-proxy.1.reasoning_details." + payload(content)
    is_read = Signer(upstream="maker").parse_signature(signature, "") is not None
    assert is_read is (not upstream)


def test_blocks_of_one_message_are_joined() -> None:
    signer = Signer()
    blocks = [
        {"thinking": text, "signature": signer.sign(ReasoningBlock("reasoning", [text]), text)}
        for text in ("a", "b")
    ]
    assert signer.replay_reasoning(blocks, {"content": "c"}) == {"content": "c", "reasoning": "ab"}


@pytest.mark.parametrize("origin", ["reasoning", IN_TEXT, CONTENT_PARTS, DETAILS])
def test_a_block_without_text_is_not_replayed(origin: str) -> None:
    block = {"thinking": "", "signature": Signer().sign(ReasoningBlock(origin), "")}
    assert not Signer().can_replay(block)


def test_reasoning_in_the_text_is_not_replayed() -> None:
    block = {"thinking": "a", "signature": Signer().sign(ReasoningBlock(IN_TEXT, ["a"]), "a")}
    assert not Signer().can_replay(block)


def test_repetitive_texts_are_restored_without_compression() -> None:
    visible_text = "The same thing again. " * 10_000
    reasoning = ReasoningBlock(
        DETAILS, [""], [{"type": "reasoning.encrypted", "data": visible_text}]
    )
    signature = UNSIGNED.sign(reasoning, "")
    assert UNSIGNED.parse_signature(signature, "") == reasoning
    assert len(signature) > len(visible_text), "it is not compressed"


@pytest.mark.parametrize(
    "packed",
    [
        {"text": "x" * 100_000},
        {"details": [{} for _ in range(3000)], "text": "".join(map(str, range(300)))},
    ],
    ids=["a long text", "many values"],
)
def test_a_payload_that_expands_too_much_is_refused(packed: Any) -> None:
    payload = base64.urlsafe_b64encode(
        zlib.compress(json.dumps(packed, separators=(",", ":")).encode())
    ).decode()
    assert (
        UNSIGNED.parse_signature(f"anthropic-proxy.1.reasoning_details.{payload.rstrip('=')}", "")
        is None
    )


@pytest.mark.parametrize("lengths", [(4, -4, 4, -4, 4), (-4, 8)])
def test_lengths_of_details_are_not_negative(lengths: tuple[int, ...]) -> None:
    details = [{"text": length} for length in lengths]
    payload = base64.urlsafe_b64encode(json.dumps({"details": details}).encode()).decode()
    assert (
        UNSIGNED.parse_signature(
            f"anthropic-proxy.1.reasoning_details.{payload.rstrip('=')}", "four"
        )
        is None
    )


_SIGNED = {"type": "thinking", "thinking": "Hm", "signature": "s"}
_REDACTED = {"type": "redacted_thinking", "data": "d"}


@pytest.mark.parametrize("visible_text", ["Hm", ""])
@pytest.mark.parametrize(
    ("deltas", "expected"),
    [
        (
            [{"reasoning_text": "H"}, {"reasoning_text": "m"}, {"reasoning_opaque": "data"}],
            {"reasoning_text": "Hm", "reasoning_opaque": "data"},
        ),
        (
            [{"reasoning_opaque": "old"}, {"reasoning_text": "Hm", "reasoning_opaque": "data"}],
            {"reasoning_text": "Hm", "reasoning_opaque": "data"},
        ),
        ([{"reasoning_text": "Hm"}], {"reasoning_text": "Hm"}),
        ([{"cot_summary": "Hm", "cot_id": "x"}], {"cot_summary": "Hm", "cot_id": "x"}),
        ([{"thinking_blocks": [_SIGNED]}], {"thinking_blocks": [_SIGNED]}),
        (
            [
                {"thinking_blocks": [{"type": "thinking", "thinking": "H", "signature": None}]},
                {"thinking_blocks": [{"type": "thinking", "thinking": "m", "signature": ""}]},
                {"thinking_blocks": [{"type": "thinking", "thinking": "", "signature": "s"}]},
                {"thinking_blocks": [_REDACTED]},
            ],
            {"thinking_blocks": [_SIGNED, _REDACTED]},
        ),
        # The text only in another field.
        (
            [
                {"reasoning_content": "Hm"},
                {"thinking_blocks": [_REDACTED, {"type": "thinking", "signature": "s"}]},
            ],
            {"thinking_blocks": [_REDACTED, _SIGNED]},
        ),
        # Claude refuses a block without a signature.
        ([{"thinking_blocks": [{"type": "thinking", "thinking": "Hm"}]}], {}),
    ],
)
def test_the_reasoning_of_gateways_returns_in_its_fields(
    deltas: list[Json], expected: Json, visible_text: str
) -> None:
    reasoning = ReasoningBlock()
    for delta in deltas:
        piece = parse_reasoning(delta)
        assert piece is not None
        reasoning.add(piece)
    assert reasoning.text == "Hm"
    signature = Signer("a secret").sign(reasoning, visible_text)
    block = {"type": "thinking", "thinking": visible_text, "signature": signature}
    message = {"role": "assistant", "content": "a"}
    assert Signer("a secret").replay_reasoning([block], message) == {**message, **expected}
    assert Signer("a secret").can_replay(block) is bool(expected)
