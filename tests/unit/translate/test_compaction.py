"""The pure parts of compaction: what is asked for, and what an answer is worth."""

from typing import Any

import pytest

from anthropic_proxy.errors import ApiError
from anthropic_proxy.translate.compaction import (
    SummaryPlan,
    apply_summary,
    build_summary_events,
    build_summary_request,
    parse_summary,
    plan_summary,
)
from anthropic_proxy.translate.response.spec import CompactionResult
from anthropic_proxy.translate.response.stream import StreamTranslator
from anthropic_proxy.translate.response.usage import zero_usage
from anthropic_proxy.translate.response.whole import collect_message
from tests.support import grammar
from tests.support.response_specs import answer_spec

Json = dict[str, Any]

REQUEST: Json = {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}]}
CHANGE = {"type": "tool_addition", "tool": {"type": "tool_reference", "name": "read"}}


def with_edit(**fields: Any) -> Json:
    return {**REQUEST, "context_management": {"edits": [{"type": "compact_20260112", **fields}]}}


@pytest.mark.parametrize(
    ("request_", "tokens", "expected"),
    [
        (REQUEST, 10**6, None),
        (with_edit(), 149_999, None),
        (with_edit(), 150_000, SummaryPlan("ours")),
        (with_edit(trigger=None, instructions=" \n"), 150_000, SummaryPlan("ours")),
        (
            with_edit(trigger={"type": "input_tokens", "value": 50_000}, instructions="Go"),
            50_000,
            SummaryPlan("Go"),
        ),
        (with_edit(pause_after_compaction=True), 150_000, SummaryPlan("ours", pauses=True)),
        ({**REQUEST, "compaction": {"type": "summarize"}}, 0, SummaryPlan("ours", on_demand=True)),
        (
            {**REQUEST, "compaction": {"type": "summarize", "instructions": "Go"}},
            0,
            SummaryPlan("Go", on_demand=True),
        ),
    ],
)
def test_what_is_wanted(request_: Json, tokens: int, expected: SummaryPlan | None) -> None:
    found = plan_summary(request_, lambda _: tokens)
    if expected is not None and found is not None and expected.instructions == "ours":
        assert found.instructions.startswith("Write a summary")
        found = SummaryPlan("ours", found.on_demand, found.pauses)
    assert found == expected


def test_what_shapes_a_reply_can_not_be_asked_with_it() -> None:
    for fields in (
        {"output_format": {"x": 1}},
        {"output_config": {"format": {"x": 1}}},
        {"tool_choice": {"type": "tool"}},
    ):
        with pytest.raises(ApiError, match="cannot be combined with compaction"):
            plan_summary({**REQUEST, "compaction": {"type": "summarize"}, **fields}, len)


def test_the_question_is_the_conversation_and_the_instructions() -> None:
    reply = {
        "stream": True,
        "stop_sequences": ["x"],
        "output_config": {"effort": "low", "format": {"type": "json_schema"}},
    }
    asked = build_summary_request(
        {**REQUEST, **reply, "tools": [{"name": "f"}], "system": "S"}, SummaryPlan("Sum up.")
    )
    question = {"role": "user", "content": [{"type": "text", "text": "Sum up."}]}
    assert asked.pop("messages") == [*REQUEST["messages"], question]
    assert asked == {
        "model": "m",
        "max_tokens": 4096,
        "system": "S",
        "tools": [{"name": "f"}],
        "tool_choice": {"type": "none"},
        "output_config": {"effort": "low"},
    }
    assert build_summary_request(REQUEST, SummaryPlan("x", on_demand=True))["max_tokens"] == 100


def answer(stop_reason: str = "end_turn", *texts: str) -> Json:
    content = [{"type": "text", "text": text} for text in texts]
    return {
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": zero_usage(),
    }


@pytest.mark.parametrize(
    "useless",
    [answer(), answer("end_turn", " "), answer("max_tokens", "cut"), answer("refusal", "no")],
)
def test_no_summary(useless: Json) -> None:
    compaction = parse_summary(useless, REQUEST, SummaryPlan("x", pauses=True))
    assert compaction.block == {"type": "compaction", "content": None}
    assert compaction.stop["stop_reason"] == useless["stop_reason"]
    assert apply_summary(REQUEST, compaction) is REQUEST
    assert not SummaryPlan("x", pauses=True).ends_response(compaction)
    assert SummaryPlan("x", on_demand=True).ends_response(compaction)


def test_a_summary_stands_for_the_conversation() -> None:
    request = {
        **REQUEST,
        "messages": [*REQUEST["messages"], {"role": "system", "content": [CHANGE]}],
    }
    compaction = parse_summary(answer("end_turn", "We ", "spoke.\n"), request, SummaryPlan("x"))
    assert compaction.block == {
        "type": "compaction",
        "content": "We spoke.",
        "tool_changes": [CHANGE],
    }
    summary, changes, _ = apply_summary(request, compaction)["messages"]
    assert summary["content"][0]["text"].endswith("We spoke.")
    assert changes == {"role": "system", "content": [CHANGE]}
    assert parse_summary(answer("end_turn", "S"), request, SummaryPlan("x", on_demand=True)).block[
        "signature"
    ]


@pytest.mark.parametrize("summary", ["We spoke.", None])
def test_it_comes_before_the_answer(summary: str | None) -> None:
    usage = {"type": "compaction", **zero_usage()}
    compaction = CompactionResult({"type": "compaction", "content": summary}, {}, usage)
    translator = StreamTranslator(
        answer_spec(compaction=compaction, context_management={"applied_edits": []})
    )
    # As the server does it: what was said first is translated before the answer is opened.
    said = translator.feed({"choices": [{"delta": {"content": "Hello"}, "finish_reason": "stop"}]})
    events = [*translator.start(), *said, *translator.close(done=True)]
    grammar.check(events)
    message = collect_message(events)
    assert message["content"] == [compaction.block, {"type": "text", "text": "Hello"}]
    assert [each["type"] for each in message["usage"]["iterations"]] == ["compaction", "message"]
    assert message["context_management"] == {"applied_edits": []}


@pytest.mark.parametrize(
    ("asked", "kinds"),
    [
        (SummaryPlan("x", on_demand=True), ["content_block_start", "content_block_stop"]),
        (
            SummaryPlan("x", pauses=True),
            ["content_block_start", "content_block_delta", "content_block_stop"],
        ),
    ],
)
def test_alone(asked: SummaryPlan, kinds: list[str]) -> None:
    compaction = parse_summary(answer("end_turn", "S"), REQUEST, asked)
    events = build_summary_events(answer_spec(), compaction, asked)
    grammar.check(events)
    assert [event["type"] for event in events[2:-2]] == kinds
    message = collect_message(events)
    assert (message["content"], message["stop_reason"]) == ([compaction.block], "compaction")


def test_an_empty_conversation_has_no_summary() -> None:
    request = {**REQUEST, "compaction": {"type": "summarize"}, "messages": []}
    with pytest.raises(ApiError, match="nothing to summarize") as caught:
        plan_summary(request, len)
    assert caught.value.details == {"error_code": "compaction_nothing_to_summarize"}


def test_a_call_needs_its_result_first() -> None:
    call = {"type": "tool_use", "id": "toolu_1", "name": "read", "input": {}}
    messages = [*REQUEST["messages"], {"role": "assistant", "content": [call]}]
    request = {**REQUEST, "compaction": {"type": "summarize"}, "messages": messages}
    with pytest.raises(ApiError, match="send the result first") as caught:
        plan_summary(request, len)
    assert caught.value.details == {"error_code": "compaction_incomplete_turn"}


def test_a_block_without_a_summary_is_left_out_on_demand() -> None:
    plan = SummaryPlan("x", on_demand=True)
    compaction = parse_summary(answer("max_tokens", "cut"), REQUEST, plan)
    message = collect_message(build_summary_events(answer_spec(), compaction, plan))
    assert (message["content"], message["stop_reason"]) == ([], "max_tokens")
