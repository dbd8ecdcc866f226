"""Context management and compaction by the official SDK's beta client, strictly validated."""

import json
from typing import Any

import anthropic
import httpx
import pytest

from anthropic_proxy.gateway.streams import deferred
from anthropic_proxy.translate.response.whole import collect_message
from tests.support import grammar, openai_shapes
from tests.support.running_proxy import running_proxy
from tests.support.scripted_upstream import (
    DEADLINE,
    Pause,
    Script,
    ScriptedUpstream,
    answers,
    completion,
    streams,
    text_chunks,
)

ASK: dict[str, Any] = {
    "model": "claude-test",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "Hi"}],
}
TOOL = {"name": "read", "input_schema": {"type": "object", "properties": {}}}
SUMMARY = "They said Hi."
SUMMARIZE: Any = {"type": "summarize"}
CLEAR: Any = {
    "edits": [
        {"type": "clear_thinking_20251015", "keep": "all"},
        {
            "type": "clear_tool_uses_20250919",
            "trigger": {"type": "tool_uses", "value": 1},
            "keep": {"type": "tool_uses", "value": 1},
        },
    ]
}
COMPACT: dict[str, Any] = {
    "type": "compact_20260112",
    "trigger": {"type": "input_tokens", "value": 50_000},
}
# More than 50,000 tokens.
LONG: dict[str, Any] = {**ASK, "messages": [{"role": "user", "content": "word " * 60_000}]}


def create_message(client: anthropic.Anthropic, form: str, **params: Any) -> Any:
    """The final message of either form; a streamed one has its last usage whole."""
    if form == "whole":
        return client.beta.messages.create(**params)
    with client.beta.messages.stream(**params) as stream:
        return stream.get_final_message()


def reply(form: str, text: str) -> Script:
    return streams(text_chunks(text)) if form == "streamed" else answers(completion(text))


def tool_loop(uses: int) -> list[Any]:
    messages: list[Any] = [{"role": "user", "content": "Go"}]
    for number in range(uses):
        use = {"type": "tool_use", "id": f"toolu_{number}", "name": "read", "input": {}}
        result = {
            "type": "tool_result",
            "tool_use_id": f"toolu_{number}",
            "content": f"text {number} " * 40,
        }
        messages += [{"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]
    return messages


both_forms = pytest.mark.parametrize("form", ["whole", "streamed"])


@both_forms
def test_edits_are_applied_and_reported(
    client: anthropic.Anthropic, upstream: ScriptedUpstream, form: str
) -> None:
    upstream.then(reply(form, "Done"))
    message = create_message(
        client, form, **{**ASK, "messages": tool_loop(3)}, tools=[TOOL], context_management=CLEAR
    )
    [applied] = message.context_management.applied_edits
    assert (applied.type, applied.cleared_tool_uses) == ("clear_tool_uses_20250919", 2)
    assert applied.cleared_input_tokens > 0
    sent = upstream.request().body
    openai_shapes.check(sent)
    results = [each["content"] for each in sent["messages"] if each["role"] == "tool"]
    assert results == ["[This tool result was cleared to save context]"] * 2 + ["text 2 " * 40]


@both_forms
def test_the_edits_of_claude_code_change_nothing(
    client: anthropic.Anthropic, upstream: ScriptedUpstream, form: str
) -> None:
    upstream.then(reply(form, "Done"), reply(form, "Done"))
    keep_all: Any = {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}
    assert (
        create_message(
            client, form, **ASK, context_management=keep_all
        ).context_management.applied_edits
        == []
    )
    assert create_message(client, form, **ASK).context_management is None
    assert upstream.request().body == upstream.request().body


def test_counting_reports_the_tokens_before_the_edits(client: anthropic.Anthropic) -> None:
    request: Any = {"model": "claude-test", "messages": tool_loop(4), "tools": [TOOL]}
    bare = client.beta.messages.count_tokens(**request)
    edited = client.beta.messages.count_tokens(**request, context_management=CLEAR)
    assert bare.context_management is None
    assert edited.context_management is not None
    assert (
        edited.context_management.original_input_tokens == bare.input_tokens > edited.input_tokens
    )


@both_forms
def test_compaction_on_demand(
    client: anthropic.Anthropic, upstream: ScriptedUpstream, form: str
) -> None:
    upstream.then(answers(completion(f"\n{SUMMARY}\n")), reply(form, "Fine"))
    message = create_message(client, form, **ASK, compaction=SUMMARIZE, tools=[TOOL])
    assert [(block.type, block.content) for block in message.content] == [("compaction", SUMMARY)]
    assert message.stop_reason == "compaction"
    assert (message.usage.input_tokens, message.usage.output_tokens) == (0, 0)
    [iteration] = message.usage.iterations
    assert (iteration.type, iteration.input_tokens, iteration.output_tokens) == (
        "compaction",
        11,
        2,
    )
    request = upstream.request().body
    openai_shapes.check(request)
    assert (request["tool_choice"], request["max_tokens"]) == ("none", 100)
    assert "stream" not in request
    history = [
        {"role": "assistant", "content": message.content},
        {"role": "user", "content": "How are you?"},
    ]
    assert create_message(client, form, **{**ASK, "messages": history}).content[0].text == "Fine"
    [told] = upstream.request().body["messages"]
    summary, message = told["content"].rsplit("\n\n", 1)
    assert (SUMMARY in summary, SUMMARY in message) == (True, False)


def test_a_requested_compaction_block_is_complete(
    client: anthropic.Anthropic, upstream: ScriptedUpstream
) -> None:
    upstream.then(answers(completion(SUMMARY)))
    events = list(client.beta.messages.create(**ASK, compaction=SUMMARIZE, stream=True))
    kinds = [event.type for event in events if event.type != "ping"]
    assert kinds == [
        "message_start",
        "content_block_start",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]


@both_forms
def test_no_summary_is_no_error(
    client: anthropic.Anthropic, upstream: ScriptedUpstream, form: str
) -> None:
    upstream.then(answers(completion("They sa", finish_reason="length")))
    message = create_message(client, form, **ASK, compaction=SUMMARIZE)
    assert (message.content, message.stop_reason, message.usage.iterations[0].type) == (
        [],
        "max_tokens",
        "compaction",
    )


@both_forms
def test_a_long_conversation_is_compacted(
    client: anthropic.Anthropic, upstream: ScriptedUpstream, form: str
) -> None:
    upstream.then(answers(completion(SUMMARY)), reply(form, "Hello"), reply(form, "Bye"))
    managed: Any = {"edits": [{**COMPACT, "instructions": "Sum it up."}]}
    message = create_message(client, form, **LONG, context_management=managed)
    assert [block.type for block in message.content] == ["compaction", "text"]
    assert (message.content[0].content, message.content[1].text) == (SUMMARY, "Hello")
    assert (message.stop_reason, message.usage.input_tokens) == ("end_turn", 11)
    assert [each.type for each in message.usage.iterations] == ["compaction", "message"]
    assert message.context_management.applied_edits == []
    request, answered = upstream.request().body, upstream.request().body
    openai_shapes.check(request)
    assert request["messages"][-1]["content"].endswith("\n\nSum it up.")
    assert request["max_tokens"] > 100
    assert len(answered["messages"]) == 1
    assert answered["messages"][0]["content"].endswith(SUMMARY)
    history = [
        *LONG["messages"],
        {"role": "assistant", "content": message.content},
        {"role": "user", "content": "Bye"},
    ]
    assert (
        len(
            create_message(
                client, form, **{**ASK, "messages": history}, context_management=managed
            ).content
        )
        == 1
    )
    following = upstream.request().body["messages"]
    assert following[:1] == answered["messages"], "the prefix holds"
    assert following[1:] == [
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Bye"},
    ]


@both_forms
def test_a_pause_after_compaction(
    client: anthropic.Anthropic, upstream: ScriptedUpstream, form: str
) -> None:
    upstream.then(answers(completion(SUMMARY)))
    managed: Any = {"edits": [{**COMPACT, "pause_after_compaction": True}]}
    message = create_message(client, form, **LONG, context_management=managed)
    assert [(block.type, block.content) for block in message.content] == [("compaction", SUMMARY)]
    assert (message.stop_reason, message.usage.input_tokens) == ("compaction", 0)
    assert message.context_management.applied_edits == []


@both_forms
def test_without_a_summary_the_complete_conversation_is_sent(
    client: anthropic.Anthropic, upstream: ScriptedUpstream, form: str
) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "read", "arguments": "{}"}}
    upstream.then(
        answers(completion(None, message={"tool_calls": [call]}, finish_reason="tool_calls")),
        reply(form, "Hello"),
    )
    managed: Any = {"edits": [{**COMPACT, "pause_after_compaction": True}]}
    message = create_message(client, form, **LONG, context_management=managed, tools=[TOOL])
    assert [(block.type, getattr(block, "content", None)) for block in message.content] == [
        ("compaction", None),
        ("text", None),
    ]
    upstream.request()
    assert upstream.request().body["messages"] == LONG["messages"]


def test_below_the_trigger_nothing_is_compacted(
    client: anthropic.Anthropic, upstream: ScriptedUpstream
) -> None:
    upstream.then(answers(completion("Hello")))
    message = client.beta.messages.create(
        **ASK, context_management={"edits": [{"type": "compact_20260112"}]}
    )
    assert [block.type for block in message.content] == ["text"]
    assert message.usage.iterations is None


@both_forms
def test_a_failure_of_the_summary_keeps_its_status(
    client: anthropic.Anthropic, upstream: ScriptedUpstream, form: str
) -> None:
    upstream.then(answers({"error": {"message": "slow down"}}, 429))
    with pytest.raises(anthropic.RateLimitError, match="slow down"):
        create_message(client, form, **ASK, compaction=SUMMARIZE)


@pytest.mark.parametrize(
    ("summary", "end"),
    [
        (answers(completion(SUMMARY)), "message_stop"),
        (answers({"error": {"message": "no"}}, 400), "error"),
    ],
    ids=["made", "failed"],
)
def test_a_slow_summary_is_waited_for(
    proxy: str,
    upstream: ScriptedUpstream,
    monkeypatch: pytest.MonkeyPatch,
    summary: Script,
    end: str,
) -> None:
    monkeypatch.setattr(deferred, "START_TIMEOUT", 0.01)
    monkeypatch.setattr(deferred, "SILENCE_SECONDS", 0.01)
    pause = Pause()
    upstream.then(
        Script(None, [pause, summary.head, *summary.steps]), streams(text_chunks("Hello"))
    )
    body = {**LONG, "stream": True, "context_management": {"edits": [COMPACT]}}
    events = []
    with httpx.stream(
        "POST", f"{proxy}/v1/messages", json=body, timeout=DEADLINE, trust_env=False
    ) as response:
        for line in response.iter_lines():
            if line.startswith("data: "):
                events.append(json.loads(line.removeprefix("data: ")))
            if len(events) == 3:
                pause.go.set()
    grammar.check(events)
    assert [event["type"] for event in events[:3]] == ["message_start", "ping", "ping"]
    assert events[-1]["type"] == end
    if end == "message_stop":
        assert [each["type"] for each in collect_message(events)["content"]] == [
            "compaction",
            "text",
        ]


@pytest.mark.parametrize(
    ("params", "code", "text"),
    [
        ({"messages": []}, "compaction_nothing_to_summarize", "at least one message"),
        (
            {"messages": [{"role": "system", "content": "x"}]},
            "compaction_nothing_to_summarize",
            "nothing to summarize",
        ),
        (
            {"messages": tool_loop(1)[:2]},
            "compaction_incomplete_turn",
            "send the result first",
        ),
        (
            {"context_management": {"edits": []}},
            None,
            "context_management: cannot be combined with compaction",
        ),
        ({"stop_sequences": ["x"]}, None, "stop_sequences: cannot be combined"),
        (
            {"tool_choice": {"type": "any"}, "tools": [TOOL]},
            None,
            "tool_choice: cannot be combined",
        ),
    ],
)
def test_what_can_not_be_compacted(
    client: anthropic.Anthropic, params: Any, code: str | None, text: str
) -> None:
    with pytest.raises(anthropic.BadRequestError, match=text) as caught:
        client.beta.messages.create(**{**ASK, "compaction": SUMMARIZE, **params})
    body: Any = caught.value.body
    assert (body["error"].get("details") or {}).get("error_code") == code


def test_the_client_may_leave_while_the_summary_is_made(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deferred, "START_TIMEOUT", 0.01)
    monkeypatch.setattr(deferred, "SILENCE_SECONDS", 0.01)
    pause = Pause()
    upstream.then(Script(None, [pause]))
    with (
        running_proxy(upstream.url) as proxy,
        anthropic.Anthropic(
            base_url=proxy, api_key="any", max_retries=0, timeout=DEADLINE
        ) as client,
    ):
        with client.beta.messages.create(**ASK, compaction=SUMMARIZE, stream=True) as stream:
            assert next(iter(stream)).type == "message_start"
        assert upstream.request().gone.wait(DEADLINE), "the upstream is told that nobody listens"
        pause.go.set()


def test_diagnostics_and_tiers(client: anthropic.Anthropic, upstream: ScriptedUpstream) -> None:
    told = [{**chunk, "service_tier": "priority"} for chunk in text_chunks("Hello")]
    upstream.then(
        answers({**completion("Hello"), "service_tier": "default"}),
        streams(told),
        answers(completion("Hello")),
    )
    whole = client.messages.create(
        **ASK, speed="fast", diagnostics={"previous_message_id": "msg_0"}
    )
    assert whole.diagnostics is not None
    assert whole.diagnostics.to_dict() == {"cache_miss_reason": {"type": "unavailable"}}
    assert (whole.usage.service_tier, whole.usage.speed) == ("standard", "standard")
    events = [
        json.loads(json.dumps(each.to_dict()))
        for each in client.messages.create(**ASK, speed="fast", stream=True)
    ]
    assert (events[-2]["usage"]["service_tier"], events[-2]["usage"]["speed"]) == (
        "priority",
        "fast",
    )
    plain = client.messages.create(**ASK, diagnostics={"previous_message_id": None})
    assert plain.to_dict()["diagnostics"] is None
    assert (plain.usage.service_tier, plain.usage.speed) == (None, None)


def test_a_credit_is_not_redeemed(client: anthropic.Anthropic, upstream: ScriptedUpstream) -> None:
    upstream.then(answers(completion("Hello")))
    message = client.messages.create(**ASK, extra_body={"fallback_credit_token": "token"})
    assert message.usage.to_dict()["fallback_credit"] == {
        "status": {"type": "not_applied", "reason": "not_enabled"}
    }
