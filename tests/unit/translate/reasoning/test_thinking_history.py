"""Refusals of thinking, and the requests that the upstream accepts instead."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from anthropic_proxy.translate.reasoning.fields import ReasoningBlock
from anthropic_proxy.translate.reasoning.signatures import Signer
from anthropic_proxy.translate.reasoning.thinking_history import (
    ADD,
    DISABLE,
    DROP_ALL,
    DROP_REDACTED,
    OMIT,
    UNCHANGED,
    USE_ADAPTIVE,
    USE_BUDGET,
    ThinkingChange,
    ThinkingPolicy,
    change_thinking,
    find_last_thinking,
    find_thinking_changes,
)
from tests.support.cases import texts
from tests.support.scaling import assert_linear_cpu

Json = dict[str, Any]


@pytest.mark.parametrize("case", texts("thinking_refusals"))
def test_refusals(case: Json) -> None:
    text = case["text"]
    for status in (400, 422, 500, 502):
        for form in (text, text.upper(), json.dumps(text)):
            changes = [change.name for change in find_thinking_changes(status, form)]
            assert changes[:1] == ([case["change"]] if case["change"] else [])
    for status in (401, 403, 404, 408, 413, 429, 503, 529):
        assert find_thinking_changes(status, text) == []


def test_texts_take_linear_time() -> None:
    words = ("thinking", "signature", "unknown content block ", "reasoning_content ", "expected ")

    def search(size: int) -> Callable[[], Any]:
        refusals = [word * size for word in words]
        return lambda: [find_thinking_changes(400, text) for text in refusals]

    assert_linear_cpu(search, 100)


THEIRS = {"type": "thinking", "thinking": "Hm", "signature": "EqQB"}
REDACTED = {"type": "redacted_thinking", "data": "EmwK"}
UNSIGNED = {"type": "thinking", "thinking": "Well", "signature": ""}
OWN = {
    "type": "thinking",
    "thinking": "Oh",
    "signature": Signer().sign(ReasoningBlock("reasoning", ["Oh"]), "Oh"),
}
PLACEHOLDER = {"type": "thinking", "thinking": " ", "signature": ""}
CALL = {"type": "tool_use", "id": "t", "name": "Bash", "input": {}}
TEXT = {"type": "text", "text": "Yes"}
USER = {"role": "user", "content": "Hi"}
RESULT = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t"}, TEXT]}
SYSTEM = {"role": "system", "content": "Be brief"}
ENABLED = {"type": "enabled", "budget_tokens": 2000}
ADAPTIVE = {"type": "adaptive"}


def assistant(*blocks: Any) -> Json:
    return {"role": "assistant", "content": list(blocks)}


LOOP = [assistant(THEIRS, CALL), RESULT]
STRING = {"role": "assistant", "content": "Yes"}


def policy(*changes: ThinkingChange, refused: Json | None = None) -> ThinkingPolicy:
    digest = find_last_thinking([assistant(refused)]) if refused else None
    return ThinkingPolicy(
        frozenset(change.name for change in changes), frozenset([digest] if digest else [])
    )


@pytest.mark.parametrize(
    ("made", "messages", "expected"),
    [
        pytest.param(
            policy(DROP_ALL),
            [USER, assistant(THEIRS, TEXT), USER, assistant(REDACTED, CALL), RESULT],
            [USER, assistant(TEXT), USER, assistant(CALL), RESULT],
            id="all",
        ),
        pytest.param(
            policy(DROP_REDACTED),
            [USER, assistant(REDACTED, TEXT), USER, assistant(THEIRS, REDACTED, CALL), RESULT],
            [USER, assistant(TEXT), USER, assistant(THEIRS, CALL), RESULT],
            id="redacted",
        ),
        pytest.param(
            policy(refused=REDACTED),
            [USER, assistant(UNSIGNED, TEXT), assistant(REDACTED, CALL), RESULT, *LOOP],
            [USER, assistant(TEXT), assistant(CALL), RESULT, *LOOP],
            id="refused-and-earlier",
        ),
        pytest.param(policy(refused=UNSIGNED), [USER, assistant(THEIRS, TEXT)], None, id="others"),
        pytest.param(
            policy(refused=UNSIGNED),
            [USER, assistant({**UNSIGNED, "thinking": "Another"}, TEXT)],
            None,
            id="without-signature",
        ),
        pytest.param(
            policy(refused=THEIRS), [USER, assistant(THEIRS), USER], [USER, USER], id="nothing-left"
        ),
        pytest.param(
            policy(ADD),
            [USER, STRING, assistant(CALL), RESULT, *LOOP],
            [USER, assistant(PLACEHOLDER, TEXT), assistant(PLACEHOLDER, CALL), RESULT, *LOOP],
            id="added",
        ),
        pytest.param(policy(ADD), [USER, assistant(THEIRS, CALL), RESULT], None, id="complete"),
        pytest.param(
            policy(ADD, DROP_ALL),
            [USER, assistant(THEIRS, CALL), RESULT],
            [USER, assistant(PLACEHOLDER, CALL), RESULT],
            id="replaced",
        ),
        pytest.param(
            policy(DROP_ALL),
            [USER, assistant(7, {"type": []}, {"type": "thinking"}, "x"), {"role": "user"}],
            [USER, assistant(7, {"type": []}, "x"), {"role": "user"}],
            id="invalid-blocks",
        ),
        pytest.param(UNCHANGED, [USER, assistant(THEIRS, CALL), RESULT], None, id="unchanged"),
    ],
)
def test_changed_histories(
    made: ThinkingPolicy, messages: list[Json], expected: list[Json] | None
) -> None:
    request = {"messages": messages, "thinking": ADAPTIVE}
    changed = change_thinking(request, made, has_lost_thinking=False)
    if expected is None:
        assert changed is request
    else:
        assert changed == {**request, "messages": expected}


@pytest.mark.parametrize("thinking", [{"type": "disabled"}, {"type": "disabled", "new": 1}])
def test_nothing_is_added_without_thinking(thinking: Json) -> None:
    request = {"messages": [USER, assistant(CALL), RESULT], "thinking": thinking}
    assert change_thinking(request, policy(ADD), has_lost_thinking=True) is request


@pytest.mark.parametrize(
    ("messages", "is_continued"),
    [
        ([USER, assistant(CALL), RESULT], True),
        ([USER, assistant(TEXT, CALL), RESULT], True),
        ([USER, assistant(TEXT, THEIRS, CALL), RESULT], True),
        ([USER, assistant(TEXT), assistant(CALL), RESULT], True),
        ([USER, assistant(CALL), RESULT, SYSTEM], True),
        ([USER, assistant(CALL), RESULT, USER], True),
        ([USER, assistant(THEIRS, CALL), RESULT, assistant(CALL), RESULT], True),
        ([USER, assistant(TEXT)], True),
        ([USER, {"role": "assistant", "content": "Yes"}], True),
        ([USER, assistant(CALL), RESULT, assistant(THEIRS, CALL), RESULT], False),
        ([USER, assistant(REDACTED, CALL), RESULT], False),
        ([USER, assistant(THEIRS), assistant(CALL), RESULT], False),
        ([USER, assistant(CALL), RESULT, assistant(TEXT), USER], False),
        ([USER, assistant(TEXT), USER], False),
        ([USER], False),
        ([RESULT], False),
        ([SYSTEM], False),
    ],
)
def test_thinking_is_omitted_in_a_turn_without_thinking(
    messages: list[Json], *, is_continued: bool
) -> None:
    without_thinking = {
        "messages": change_thinking(
            {"messages": messages}, policy(DROP_ALL), has_lost_thinking=False
        )["messages"]
    }
    for thinking, made, has_lost, is_affected in (
        (ENABLED, policy(OMIT), False, True),
        (ADAPTIVE, policy(OMIT), False, True),
        (ENABLED, UNCHANGED, True, True),
        (ADAPTIVE, UNCHANGED, True, False),
        (ENABLED, UNCHANGED, False, False),
        ({"type": "disabled"}, policy(OMIT), True, False),
        (None, policy(OMIT), True, False),
        ("odd", policy(OMIT), True, False),
    ):
        request = {"messages": messages, "thinking": thinking}
        changed = change_thinking(request, made, has_lost_thinking=has_lost)
        assert changed == (without_thinking if is_continued and is_affected else request)


def test_thinking_is_omitted_if_the_policy_removes_that_of_the_turn() -> None:
    messages = [USER, assistant(THEIRS, CALL), RESULT]
    request = {"messages": messages, "thinking": ENABLED, "x": 1}
    changed = change_thinking(request, policy(refused=THEIRS), has_lost_thinking=False)
    assert changed == {"messages": [USER, assistant(CALL), RESULT], "x": 1}


@pytest.mark.parametrize(
    ("made", "thinking", "max_tokens", "expected"),
    [
        (policy(USE_BUDGET), ADAPTIVE, 9000, {"type": "enabled", "budget_tokens": 4500}),
        (policy(USE_BUDGET), ADAPTIVE, 128_000, {"type": "enabled", "budget_tokens": 32_000}),
        (policy(USE_BUDGET), ADAPTIVE, 1025, {"type": "enabled", "budget_tokens": 1024}),
        (policy(USE_BUDGET), ADAPTIVE, 1024, None),
        (policy(USE_BUDGET), ADAPTIVE, "odd", None),
        (policy(USE_BUDGET), ENABLED, 9000, ENABLED),
        (policy(USE_ADAPTIVE), ENABLED, 9000, ADAPTIVE),
        (
            policy(USE_ADAPTIVE),
            {**ENABLED, "display": "omitted"},
            9000,
            {**ADAPTIVE, "display": "omitted"},
        ),
        (policy(USE_ADAPTIVE), {"type": "disabled"}, 9000, {"type": "disabled"}),
        (policy(DISABLE), ADAPTIVE, 9000, None),
        (policy(DISABLE), ENABLED, 9000, None),
        (policy(DISABLE), {"type": "disabled"}, 9000, {"type": "disabled"}),
        (policy(DISABLE), "odd", 9000, "odd"),
    ],
)
def test_types_that_the_model_has(
    made: ThinkingPolicy, thinking: Any, max_tokens: Any, expected: Any
) -> None:
    rest = {"messages": [USER], "max_tokens": max_tokens}
    changed = change_thinking({**rest, "thinking": thinking}, made, has_lost_thinking=False)
    assert changed == (rest if expected is None else {**rest, "thinking": expected})


def test_thinking_with_a_budget_is_omitted_as_if_the_client_had_requested_it() -> None:
    messages = [USER, assistant(CALL), RESULT]
    request = {"messages": messages, "thinking": ADAPTIVE, "max_tokens": 9000}
    changed = change_thinking(request, policy(USE_BUDGET, OMIT), has_lost_thinking=False)
    assert changed == {"messages": messages, "max_tokens": 9000}


@pytest.mark.parametrize(
    ("management", "expected"),
    [
        ({"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}, None),
        (
            {"edits": [{"type": "clear_thinking_20251015"}, {"type": "clear_tool_uses_20250919"}]},
            {"edits": [{"type": "clear_tool_uses_20250919"}]},
        ),
        ({"edits": [{"type": "clear_tool_uses_20250919"}]}, ...),
        ({"edits": [{"type": 1}, "odd"]}, ...),
        ({"edits": None}, ...),
        ({}, ...),
        ("odd", ...),
    ],
)
def test_edits_of_thinking_are_omitted_with_it(management: Any, expected: Any) -> None:
    request = {
        "messages": [USER, assistant(CALL), RESULT],
        "thinking": ENABLED,
        "context_management": management,
    }
    changed = change_thinking(request, policy(OMIT), has_lost_thinking=False)
    assert "thinking" not in changed
    assert changed.get("context_management") == (management if expected is ... else expected)


def test_the_last_block_of_an_upstream() -> None:
    digest = find_last_thinking([assistant(THEIRS, TEXT)])
    assert digest is not None
    assert find_last_thinking([USER, assistant(REDACTED, THEIRS, OWN), assistant(OWN)]) == digest
    assert find_last_thinking([USER, assistant(THEIRS, REDACTED)]) != digest
    assert find_last_thinking([USER, assistant(OWN, CALL), RESULT]) is None
    lone_surrogate = {"type": "thinking", "thinking": "\ud800", "signature": ""}
    assert find_last_thinking([assistant(lone_surrogate)]) is not None


def test_histories_take_linear_time() -> None:
    def changes(size: int) -> Callable[[], Any]:
        messages = [USER, assistant(THEIRS, CALL), RESULT] * size
        request = {"messages": messages, "thinking": ENABLED}
        made = policy(OMIT, DROP_REDACTED, refused=UNSIGNED)
        return lambda: change_thinking(request, made, has_lost_thinking=False)

    assert_linear_cpu(changes, 100)
