"""Signatures of tool calls: each returns with its call, and only Gemini's servers receive them."""

from dataclasses import replace
from typing import Any

import pytest

from anthropic_proxy.providers.profiles import find_profile_by_name
from anthropic_proxy.routing.router import Route
from anthropic_proxy.routing.upstream import Upstream
from anthropic_proxy.translate.reasoning.signatures import UNSIGNED, Signer
from anthropic_proxy.translate.reasoning.tool_call_signatures import reset_call_signatures
from anthropic_proxy.translate.request.chat_request import to_chat_request
from anthropic_proxy.translate.response.stream import StreamTranslator
from anthropic_proxy.translate.response.whole import collect_message
from tests.support.cases import cases
from tests.support.response_specs import answer_spec

Json = dict[str, Any]

STAND_IN = "skip_thought_signature_validator"
STREAMS = [case for case in cases("streams") if case.id and case.id.startswith("signature_")]
FIRST = {"signature_hidden": STAND_IN, "signature_odd": STAND_IN}
OTHERS = {"signature_each": ["c2lo"]}


def translate(case: Json, signer: Signer) -> list[Json]:
    """Return the blocks that the client receives."""
    translator = StreamTranslator(replace(answer_spec(case["request"]), signer=signer))
    events = translator.start()
    for chunk in case["chunks"]:
        events += translator.feed(chunk)
    blocks: list[Json] = collect_message([*events, *translator.close(done=True)])["content"]
    return blocks


def replay(case: Json, blocks: list[Json], signer: Signer, profile_name: str = "gemini") -> Json:
    """Return the assistant message of the next request.

    The client sends each block in a separate message.
    """
    results = [
        {"type": "tool_result", "tool_use_id": block["id"], "content": "r"}
        for block in blocks
        if block["type"] == "tool_use"
    ]
    messages = [
        {"role": "user", "content": "a"},
        *({"role": "assistant", "content": [block]} for block in blocks),
        {"role": "user", "content": results},
    ]
    request = {"model": "m", "max_tokens": 9, **case["request"], "messages": messages}
    body = to_chat_request(
        request,
        Route(Upstream("up", "http://up/v1", find_profile_by_name(profile_name)), "m"),
        signer,
    ).body
    message: Json = body["messages"][1]
    return message


def signatures(message: Json) -> list[str | None]:
    return [
        call["extra_content"]["google"]["thought_signature"] if "extra_content" in call else None
        for call in message["tool_calls"]
    ]


@pytest.mark.parametrize("signer", [UNSIGNED, Signer("a secret")], ids=["plain", "secret"])
@pytest.mark.parametrize("case", STREAMS)
def test_signatures_are_replayed(case: Json, signer: Signer) -> None:
    name = next(each.id for each in STREAMS if each.values[0] is case)
    message = replay(case, translate(case, signer), signer)
    first, *others = signatures(message)
    assert first == FIRST.get(name, "c2ln")
    assert others == OTHERS.get(name, [None] * len(others))
    assert "tool_call.signature" not in str(message)


@pytest.mark.parametrize("case", STREAMS)
def test_history_without_thinking(case: Json) -> None:
    """The client, or an edit of the context, has removed it."""
    blocks = [block for block in translate(case, UNSIGNED) if block["type"] in ("text", "tool_use")]
    first, *others = signatures(replay(case, blocks, UNSIGNED))
    assert (first, others) == (STAND_IN, [None] * len(others))


@pytest.mark.parametrize("case", STREAMS)
def test_a_changed_block_is_dropped(case: Json) -> None:
    first = signatures(replay(case, translate(case, Signer("a secret")), Signer("another")))[0]
    assert first == STAND_IN


@pytest.mark.parametrize("profile_name", ["generic", "openrouter", "mistral", "openai"])
@pytest.mark.parametrize("case", STREAMS)
def test_other_providers_receive_none(case: Json, profile_name: str) -> None:
    message = replay(case, translate(case, UNSIGNED), UNSIGNED, profile_name)
    assert not any(word in str(message) for word in ("c2l", "tool_call.signature", "extra_content"))


def test_a_first_call_without_one() -> None:
    """Its own is gone, and that of a later call is not."""
    case = next(each.values[0] for each in STREAMS if each.id == "signature_each")
    blocks = translate(case, UNSIGNED)
    assert signatures(replay(case, blocks[1:], UNSIGNED)) == [STAND_IN, "c2lo"]


def test_without_signatures() -> None:
    calls = [
        {"id": each, "extra_content": {"google": {"thought_signature": "c2ln"}}} for each in "ab"
    ]
    changed = reset_call_signatures({"role": "assistant", "tool_calls": calls})
    assert (signatures(changed), changed["tool_calls"][1]) == ([STAND_IN, None], {"id": "b"})
    assert reset_call_signatures({"role": "user", "content": "a"}) == {
        "role": "user",
        "content": "a",
    }
