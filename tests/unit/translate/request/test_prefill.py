"""Prefill: its form for each kind of upstream, and its removal from a response that repeats it."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anthropic_proxy.providers.profiles import GENERIC
from anthropic_proxy.providers.provider_profile import PrefillMode
from anthropic_proxy.routing.router import Route
from anthropic_proxy.routing.upstream import Upstream
from anthropic_proxy.translate.request.chat_request import TranslatedRequest, to_chat_request
from anthropic_proxy.translate.request.prefill import PrefillStripper

BEGUN = "Red, green and"


def translated(last: Any, prefill: PrefillMode = "continued") -> TranslatedRequest:
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": last}]
    route = Route(Upstream("up", "http://up/v1", replace(GENERIC, prefill=prefill)), "m")
    return to_chat_request({"model": "m", "max_tokens": 9, "messages": messages}, route)


@pytest.mark.parametrize(
    ("prefill", "message", "fields"),
    [
        ("continued", {}, {}),
        (
            "continue_final_message",
            {},
            {"continue_final_message": True, "add_generation_prompt": False},
        ),
        ("prefix", {"prefix": True}, {}),
    ],
)
def test_ways(prefill: PrefillMode, message: Any, fields: Any) -> None:
    made = translated(BEGUN, prefill)
    assert made.body.pop("messages")[-1] == {"role": "assistant", "content": BEGUN, **message}
    assert made.body == {"model": "m", "max_tokens": 9, **fields}
    assert made.prefill == BEGUN


def test_what_a_server_repeats_is_all_that_the_assistant_said() -> None:
    text = {"type": "text", "text": "I look."}
    search = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    made = translated([text, search], "prefix")
    assert (
        made.prefill
        == made.body["messages"][-1]["content"]
        == "I look.\n\n[Called web_search with {}]"
    )
    assert "prefix" not in made.body["messages"][-1], "nobody began an answer"


def test_a_conversation_that_ends_otherwise_has_no_prefill() -> None:
    assert translated([{"type": "tool_use", "id": "t", "name": "n", "input": {}}]).prefill == ""


def stripped(prefill: str, pieces: list[str]) -> str:
    stripper = PrefillStripper(prefill)
    return "".join([*map(stripper.feed, pieces), stripper.close()])


@pytest.mark.parametrize(
    ("answer", "left"),
    [
        (BEGUN + " blue.", " blue."),
        (" blue.", " blue."),
        ("Red, blue.", "Red, blue."),
        ("Red, green", "Red, green"),
        (BEGUN, ""),
        (BEGUN + BEGUN, BEGUN),
        ("", ""),
    ],
)
def test_stripper(answer: str, left: str) -> None:
    for size in (1, 2, 5, 100):
        assert (
            stripped(BEGUN, [answer[at : at + size] for at in range(0, len(answer), size)]) == left
        )


def test_nothing_is_held_back_without_need() -> None:
    stripper = PrefillStripper(BEGUN)
    assert [stripper.feed(piece) for piece in ("Re", "d, b", "lue")] == ["", "Red, b", "lue"]
    assert PrefillStripper("").feed("a") == "a"


@given(st.text("ab", max_size=5), st.lists(st.text("ab", max_size=4)))
def test_any_pieces(prefill: str, pieces: list[str]) -> None:
    assert stripped(prefill, pieces) == "".join(pieces).removeprefix(prefill)
