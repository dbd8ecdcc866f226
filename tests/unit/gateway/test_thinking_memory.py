"""What an upstream's refusals of thinking change, now and for later requests."""

from typing import Any

import pytest

from anthropic_proxy.errors import ApiError, PassthroughError
from anthropic_proxy.gateway import thinking_memory
from anthropic_proxy.gateway.thinking_memory import ThinkingAdapter, ThinkingMemory
from anthropic_proxy.translate.passthrough import edit_conversation
from anthropic_proxy.translate.reasoning.thinking_history import (
    ADD,
    DROP_ALL,
    OMIT,
    UNCHANGED,
    ThinkingPolicy,
)
from anthropic_proxy.translate.upstream_errors import to_api_error
from anthropic_proxy.translate.upstream_failure import UpstreamIdentity, parse_failure
from anthropic_proxy.wire.json_codec import dumps

Json = dict[str, Any]

INVALID = "messages.1.content.0: Invalid `signature` in `thinking` block"
MISSING = "messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found `text`"
UNKNOWN = "unknown variant `thinking`, expected one of `text`"
REQUIRED = "The `content[].thinking` in the thinking mode must be passed back to the API."

THEIRS = {"type": "thinking", "thinking": "Hm", "signature": "EqQB"}
LATER = {"type": "thinking", "thinking": "Oh", "signature": "EqQC"}
CALL = {"type": "tool_use", "id": "t", "name": "Bash", "input": {}}
USER = {"role": "user", "content": "Hi"}
RESULT = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t"}]}


def turn(*thinking: Json) -> list[Json]:
    return [{"role": "assistant", "content": [*thinking, CALL]}, RESULT]


def request(*turns: list[Json], thinking: str = "adaptive") -> Json:
    messages = [USER]
    for each in turns:
        messages += each
    return {"messages": messages, "thinking": {"type": thinking}}


def native_error(text: str, status: int = 400) -> ApiError:
    envelope = {"type": "error", "error": {"type": "invalid_request_error", "message": text}}
    return PassthroughError(status, dumps(envelope), envelope)


def other_error(body: Any, status: int = 400) -> ApiError:
    return to_api_error(parse_failure(status, {}, dumps(body), UpstreamIdentity("up")))


def nested_error() -> ApiError:
    inner = {"type": "error", "error": {"type": "invalid_request_error", "message": INVALID}}
    envelope = {"type": "error", "error": {"type": "request_fail", "upstream_error": inner}}
    return PassthroughError(400, dumps(envelope), envelope)


@pytest.mark.parametrize(
    "error",
    [
        native_error(INVALID),
        # A gateway (claude-code-hub#518).
        nested_error(),
        other_error({"error": {"message": INVALID, "code": "invalid_request_body"}}),
        other_error({"error": {"message": "upstream error", "metadata": {"raw": INVALID}}}),
        other_error({"detail": INVALID}, 500),
    ],
)
def test_refused_blocks_are_dropped_in_the_conversation(error: ApiError) -> None:
    memory = ThinkingMemory()
    refused = request(turn(THEIRS))
    adapter = ThinkingAdapter(memory, "m", refused, 0)
    assert adapter.policy is UNCHANGED
    change = adapter.adapt_to(error)
    assert change is not None
    assert change.name == "drop_refused_thinking"
    assert edit_conversation(refused, adapter.policy) == request(turn())
    assert memory.get_policy("m", 0) is UNCHANGED, "the upstream has not accepted the change"
    assert adapter.adapt_to(error) is None, "the upstream takes no notice"
    adapter.record_changes(0)

    for later, expected in (
        (request(turn(THEIRS), turn(LATER)), request(turn(), turn(LATER))),
        (request(turn(LATER)), request(turn(LATER))),
    ):
        assert edit_conversation(later, memory.get_policy("m", 1e9)) == expected
    assert memory.get_policy("other", 0) is UNCHANGED, "the model of another provider"
    assert memory.describe("m") == {}


@pytest.mark.parametrize(
    ("text", "refused", "change", "later", "expected"),
    [
        (
            MISSING,
            request(turn(), thinking="enabled"),
            OMIT,
            request(turn(THEIRS), turn(), thinking="enabled"),
            {"messages": request(turn(), turn())["messages"]},
        ),
        (UNKNOWN, request(turn(THEIRS)), DROP_ALL, request(turn(LATER)), request(turn())),
        (
            REQUIRED,
            request(turn()),
            ADD,
            request(turn(LATER), turn()),
            request(turn(LATER), turn({"type": "thinking", "thinking": " ", "signature": ""})),
        ),
    ],
)
def test_changes_of_a_model_last_for_an_hour(
    text: str, refused: Json, change: Any, later: Json, expected: Json
) -> None:
    memory = ThinkingMemory()
    adapter = ThinkingAdapter(memory, "m", refused, 0)
    assert adapter.adapt_to(native_error(text)) == change
    adapter.record_changes(0)
    assert edit_conversation(later, memory.get_policy("m", 3599)) == expected
    assert memory.get_policy("m", 3600) is UNCHANGED
    assert memory.get_policy("other", 0) is UNCHANGED
    assert memory.describe("m") == {"changes": [{"change": change.name}]}
    assert memory.describe("other") == {}


def test_a_request_is_adapted_to_several_refusals() -> None:
    refused = request(turn(THEIRS), thinking="enabled")
    adapter = ThinkingAdapter(ThinkingMemory(), "m", refused, 0)
    assert adapter.adapt_to(native_error(INVALID)) is not None
    without_thinking = {"messages": request(turn())["messages"]}
    assert edit_conversation(refused, adapter.policy) == without_thinking
    assert adapter.adapt_to(native_error(REQUIRED)) == ADD
    placeholder = {"type": "thinking", "thinking": " ", "signature": ""}
    with_placeholder = request(turn(placeholder), thinking="enabled")
    assert edit_conversation(refused, adapter.policy) == with_placeholder
    assert adapter.adapt_to(native_error(INVALID)) is None


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        pytest.param(native_error(INVALID), request(turn()), id="no-thinking"),
        pytest.param(native_error(MISSING), request(turn(), thinking="disabled"), id="disabled"),
        pytest.param(native_error(UNKNOWN), request(turn()), id="nothing-to-drop"),
        pytest.param(native_error(REQUIRED), request(turn(THEIRS)), id="nothing-to-add"),
        pytest.param(native_error(INVALID, 429), request(turn(THEIRS)), id="limited"),
        pytest.param(native_error("Overloaded", 529), request(turn(THEIRS)), id="overloaded"),
        pytest.param(ApiError(500, "no response"), request(turn(THEIRS)), id="no-response"),
        pytest.param(other_error({"error": "bad"}), request(turn(THEIRS)), id="other"),
    ],
)
def test_other_errors_change_nothing(error: ApiError, refused: Json) -> None:
    adapter = ThinkingAdapter(ThinkingMemory(), "m", refused, 0)
    assert adapter.adapt_to(error) is None
    assert adapter.policy is UNCHANGED


def test_the_memory_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thinking_memory, "_MAX_CONVERSATIONS", 2)
    memory = ThinkingMemory()
    for digest in (b"a", b"b", b"c"):
        memory.record_refused("m", digest)
    policy: ThinkingPolicy = memory.get_policy("m", 0)
    assert [digest in policy.refused for digest in (b"a", b"b", b"c")] == [False, True, True]
