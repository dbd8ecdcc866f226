"""Turns of the two sides, and the text of the assistant's turns."""

from typing import Any

import pytest

from anthropic_proxy.providers.profiles import GENERIC
from anthropic_proxy.translate.notes import TranslationNotes
from anthropic_proxy.translate.reasoning.signatures import UNSIGNED
from anthropic_proxy.translate.request.context import TranslationContext
from anthropic_proxy.translate.request.pdf import read_pages
from anthropic_proxy.translate.request.turns import AssistantTurn, SystemText, UserTurn, to_turns

USER: dict[str, Any] = {"role": "user", "content": "Hi"}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "read", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "x"}
SEARCH = {"type": "server_tool_use", "name": "web_search", "input": {"query": "q"}}
SEARCH_TEXT = '[Called web_search with {"query":"q"}]'
OWN_THINKING = {"type": "thinking", "thinking": "Hm", "signature": "anthropic-proxy.1.reasoning"}
NEW_THINKING = {"type": "thinking", "thinking": "Hm", "signature": "of another server"}


def context() -> TranslationContext:
    return TranslationContext(GENERIC, TranslationNotes(), UNSIGNED, read_pages)


def text(content: str) -> dict[str, Any]:
    return {"type": "text", "text": content}


def assistant(*blocks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def test_neighbours_of_one_side_are_one_turn() -> None:
    system = {"role": "system", "content": "Be brief"}
    messages = [USER, system, {"role": "user", "content": [RESULT]}, assistant(CALL), USER]
    leading, turns = to_turns([system, *messages], context())
    assert leading == [text("Be brief")]
    assert turns == [
        UserTurn([RESULT], [text("Hi"), SystemText("Be brief")]),
        AssistantTurn(calls=[CALL]),
        UserTurn([], [text("Hi")]),
    ]


@pytest.mark.parametrize(
    ("messages", "expected", "ends_with_text"),
    [
        ([assistant(text("a"), text("b"))], "ab", True),
        ([assistant(text("a")), assistant(text("b"))], "a\n\nb", True),
        ([assistant(text("a")), assistant(NEW_THINKING, text("b"))], "a\n\nb", True),
        ([assistant(text("a"), CALL), assistant(text("b"))], "a\n\nb", True),
        ([assistant(text("a")), assistant(CALL, text("b"))], "a\n\nb", True),
        ([assistant(text("a")), assistant(OWN_THINKING, text("b"))], "a\n\nb", True),
        ([assistant(text("a")), assistant(CALL), assistant(text("b"))], "a\n\nb", True),
        ([assistant(CALL), assistant(text("b"))], "b", True),
        ([assistant(text("")), assistant(text("b"))], "b", True),
        ([assistant(text("a")), assistant(text("")), assistant(text("b"))], "a\n\nb", True),
        ([assistant(text("a")), assistant(SEARCH)], f"a\n\n{SEARCH_TEXT}", False),
        # Pieces of one text of the upstream.
        ([assistant(text("a"), CALL, text("b"))], "ab", True),
        ([assistant(text("a"), OWN_THINKING, text("b"))], "ab", True),
        ([assistant(text("a"), SEARCH, text("b"))], f"a\n\n{SEARCH_TEXT}\n\nb", True),
        ([assistant(SEARCH)], SEARCH_TEXT, False),
        ([assistant(text("a"), CALL)], "a", False),
    ],
)
def test_text_of_the_assistant(messages: list[Any], expected: str, *, ends_with_text: bool) -> None:
    _, turns = to_turns(messages, context())
    (turn,) = turns
    assert isinstance(turn, AssistantTurn)
    assert (turn.text, turn.ends_with_text) == (expected, ends_with_text)


def test_messages_that_are_to_be_cleared_are_left_out_before_the_last_user_message() -> None:
    reminder = {"role": "system", "content": "R", "clear_at": "next_user_message"}
    _, turns = to_turns([USER, reminder, USER, reminder], context())
    assert turns == [UserTurn([], [text("Hi"), text("Hi"), SystemText("R")])]


def test_messages_without_a_known_block_make_no_turn() -> None:
    translation_context = context()
    assert to_turns([assistant({"type": "brand_new"})], translation_context) == ([], [])
    assert translation_context.notes.ignored == {"content block brand_new"}
