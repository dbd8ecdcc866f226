"""The memory of a model's refusals: for which requests, for how long, and its description."""

from dataclasses import replace
from typing import Any

import pytest

from anthropic_proxy.gateway.model_memory import ModelMemory, RequestAdapter
from anthropic_proxy.translate.adaptation.changes import RequestChange
from anthropic_proxy.translate.apis import APIS
from anthropic_proxy.translate.upstream_failure import UpstreamFailure, UpstreamIdentity

CHAT = APIS["chat_completions"]

Json = dict[str, Any]

HOUR = 3600.0
BODY: Json = {"model": "m", "messages": [{"role": "user", "content": "a"}], "max_tokens": 9000}
WARM = {**BODY, "temperature": 0.5}
THINKING = {**WARM, "reasoning_effort": "low"}


def refusal(text: str, **error: Any) -> UpstreamFailure:
    return UpstreamFailure(400, text, error, {}, UpstreamIdentity("up:1"))


NO_TEMPERATURE = refusal(
    "Unsupported parameter: 'temperature' is not supported with this model.", param="temperature"
)
OVERFLOW = refusal(
    "This model's maximum context length is 8192 tokens. However, you requested 11000 tokens "
    "(2000 in the messages, 9000 in the completion)."
)


def taught(known: ModelMemory, body: Json, *failures: UpstreamFailure, now: float = 0) -> Json:
    """Return the request that is sent for `body` after these failures."""
    attempt = RequestAdapter(known, CHAT, body, 10, now)
    for failure in failures:
        assert attempt.adapt_to(failure, now) is not None
    attempt.record_changes(now)
    return attempt.body


def test_a_change_is_made_at_once_and_from_then_on() -> None:
    known = ModelMemory()
    assert taught(known, WARM, NO_TEMPERATURE) == BODY
    assert known.apply_to(WARM, 10, HOUR - 1) == BODY


def test_it_holds_for_requests_like_the_refused_one() -> None:
    """Many models take a temperature where they don't think, and their refusal does not say so."""
    known = ModelMemory()
    assert taught(known, THINKING, NO_TEMPERATURE) == {**BODY, "reasoning_effort": "low"}
    for other in (WARM, {**WARM, "reasoning_effort": "none"}):
        assert known.apply_to(other, 10, 1) == other


def test_it_is_forgotten_after_an_hour() -> None:
    known = ModelMemory()
    taught(known, WARM, NO_TEMPERATURE, OVERFLOW)
    assert (known.apply_to(WARM, 10, HOUR - 1), known.context_window) == (
        {**BODY, "max_tokens": 7925},
        8192,
    )
    assert (known.apply_to(WARM, 10, HOUR), known.context_window) == (WARM, 0)


def test_it_is_kept_when_it_is_learned_again() -> None:
    known = ModelMemory()
    taught(known, WARM, NO_TEMPERATURE)
    other = {**WARM, "reasoning_effort": "low"}
    taught(known, other, NO_TEMPERATURE, now=HOUR / 2)
    known.record_changes(
        [RequestChange("drop", "temperature", conditions=(("thinking", "unset"),))], HOUR / 2
    )
    assert known.apply_to(WARM, 10, HOUR) == BODY


def test_nothing_is_learned_from_what_did_not_help() -> None:
    known = ModelMemory()
    attempt = RequestAdapter(known, CHAT, WARM, 10, 0)
    assert attempt.adapt_to(NO_TEMPERATURE, 0) is not None
    assert attempt.adapt_to(refusal("roles must alternate"), 0) is None
    assert known.apply_to(WARM, 10, 1) == WARM


def test_a_name_that_changes_back() -> None:
    known = ModelMemory()
    unknown = "Unrecognized request argument supplied: {}"
    assert "max_completion_tokens" in taught(known, BODY, refusal(unknown.format("max_tokens")))
    for _ in range(2):
        assert "max_tokens" in taught(known, BODY, refusal(unknown.format("max_completion_tokens")))
        assert "max_tokens" in known.apply_to(BODY, 10, 1)
        assert "max_completion_tokens" in taught(known, BODY, refusal(unknown.format("max_tokens")))
        assert "max_completion_tokens" in known.apply_to(BODY, 10, 1)


def test_a_newer_value_takes_the_place_of_an_older_one() -> None:
    known = ModelMemory()
    for most in (8000, 4000):
        known.record_changes([RequestChange("limit_output", "max_tokens", most)], 0)
    assert [each["value"] for each in known.describe()["changes"]] == [4000]


def test_a_model_is_not_remembered_without_end() -> None:
    known = ModelMemory()
    known.record_changes([RequestChange("drop", f"field{number}") for number in range(40)], 0)
    fields = [each["field"] for each in known.describe()["changes"]]
    assert fields == [f"field{number}" for number in range(8, 40)]


def _tools(*schemas: Json) -> Json:
    tools = []
    for number, schema in enumerate(schemas):
        function = {"name": f"t{number}", "parameters": schema}
        tools.append({"type": "function", "function": function})
    return {**BODY, "tools": tools}


def unknown_name(keyword: str) -> UpstreamFailure:
    return refusal(f"Unknown name \"{keyword}\" at 'tools[0].function_declarations[0].parameters'")


def test_every_refused_keyword_is_remembered() -> None:
    """One refusal after another names its keyword, and each later request has all of them."""
    known = ModelMemory()
    body = _tools({"type": "object", "properties": {}, "minProperties": 1, "default": {}})
    sent = taught(known, body, unknown_name("minProperties"), unknown_name("default"))
    assert sent["tools"][0]["function"]["parameters"] == {
        "type": "object",
        "properties": {},
        "description": "minProperties: 1. default: {}",
    }
    assert known.apply_to(body, 10, 1) == sent
    assert [each["value"] for each in known.describe()["changes"]] == [
        ["minProperties"],
        ["default"],
    ]


def test_refused_tools_do_not_use_up_the_changes() -> None:
    known = ModelMemory()
    body = _tools(*[{"type": "object"}] * 20)
    failures = [refusal(f"Invalid schema for function 't{number}': bad") for number in range(19)]
    sent = taught(known, body, *failures)
    assert [tool["function"]["name"] for tool in sent["tools"]] == ["t19"]
    # Another tool with a known name.
    other = _tools({"type": "object", "properties": {}})
    assert known.apply_to(other, 10, 1) == other


@pytest.mark.parametrize("body", [BODY, {**BODY, "stream": True}])
def test_models_that_only_stream_or_never_do(body: Json) -> None:
    only, never = ModelMemory(), ModelMemory()
    taught(only, BODY, refusal("This model only supports streaming"))
    taught(never, {**BODY, "stream": True}, refusal("Streaming is not supported"))
    assert only.apply_to(body, 10, 1)["stream"] is True
    assert never.apply_to(body, 10, 1) == BODY


def test_a_request_is_not_sent_twice() -> None:
    """The upstream refuses two names of the limit, each in favour of the other."""
    attempt = RequestAdapter(ModelMemory(), CHAT, BODY, 10, 0)
    assert attempt.adapt_to(refusal("unknown field: max_tokens"), 0) is not None
    assert attempt.adapt_to(refusal("unknown field: max_completion_tokens"), 0) is None
    assert "max_completion_tokens" in attempt.body


def test_a_refusal_that_repeats_its_numbers_ends_the_request() -> None:
    """Each size would be computed from the numbers of the first request."""
    failure = refusal("exceeded model token limit: 262144 (requested: 270001)")
    attempt = RequestAdapter(ModelMemory(), CHAT, {**BODY, "max_tokens": 64000}, 10, 0)
    change = attempt.adapt_to(failure, 0)
    assert change is not None
    assert attempt.body["max_tokens"] == change.value == 262144 - (270001 - 64000)
    assert attempt.adapt_to(failure, 0) is None


def test_a_request_is_not_changed_without_end() -> None:
    sampling = ("temperature", "top_p", "top_k")
    others = (
        "user",
        "parallel_tool_calls",
        "service_tier",
        "reasoning_effort",
        "prompt_cache_key",
        "stream_options",
    )
    fields = (*sampling, *others)
    attempt = RequestAdapter(ModelMemory(), CHAT, BODY | dict.fromkeys(fields, 1), 10, 0)
    made = [attempt.adapt_to(refusal(f"unknown field: {field}"), 0) for field in fields]
    assert [each is not None for each in made] == [True] * 8 + [False]


@pytest.mark.parametrize(
    ("change", "described"),
    [
        (RequestChange("drop", "user"), {"change": "drop", "field": "user"}),
        (
            RequestChange("choose_nearest_effort", "reasoning_effort", ("low", "high")),
            {
                "change": "choose_nearest_effort",
                "field": "reasoning_effort",
                "value": ["low", "high"],
            },
        ),
        (
            RequestChange(
                "disable_thinking",
                "thinking",
                {"type": "disabled"},
                conditions=(("forced_call", True),),
            ),
            {
                "change": "disable_thinking",
                "field": "thinking",
                "value": {"type": "disabled"},
                "when": {"forced_call": True},
            },
        ),
    ],
    ids=str,
)
def test_described(change: RequestChange, described: Json) -> None:
    known = ModelMemory()
    assert known.describe() == {
        "changes": [],
        "api": None,
        "context_window": None,
        "opens_thinking": False,
    }
    known.record_changes([change], 0)
    known.record_refusal(OVERFLOW, 0)
    known.opens_thinking[False] = True
    assert known.describe() == {
        "changes": [described],
        "api": None,
        "context_window": 8192,
        "opens_thinking": True,
    }


def test_the_api_is_forgotten_too() -> None:
    known = ModelMemory()
    known.set_api("responses", 10)
    known.apply_to(BODY, 10, 3609)
    assert known.api == "responses"
    known.apply_to(BODY, 10, 3610)
    assert known.api is None


NEEDS_RESPONSES = refusal(
    "Function tools with reasoning_effort are not supported for gpt-5.4 in /v1/chat/completions. "
    "To use function tools, use /v1/responses or set reasoning_effort to 'none'."
)


def test_a_refusal_that_another_api_avoids_changes_nothing() -> None:
    body = {**THINKING, "tools": []}
    known = ModelMemory()
    attempt = RequestAdapter(known, CHAT, body, 10, 0)
    assert attempt.needs_other_api(NEEDS_RESPONSES)
    assert attempt.adapt_to(NEEDS_RESPONSES, 0) is None
    assert attempt.body == body
    assert known.other_api("chat_completions", NEEDS_RESPONSES) == "responses"
    assert not attempt.needs_other_api(NO_TEMPERATURE)
    assert known.other_api("chat_completions", NO_TEMPERATURE) is None


def test_a_request_is_adapted_where_the_other_api_is_missing() -> None:
    known = ModelMemory()
    known.set_api("responses", 0)
    missing = replace(NEEDS_RESPONSES, status=404)
    assert known.other_api("responses", missing) == "chat_completions"
    known.set_api("chat_completions", 0)
    assert known.other_api("chat_completions", missing) is None
    attempt = RequestAdapter(known, CHAT, {**THINKING, "tools": []}, 10, 0)
    assert not attempt.needs_other_api(NEEDS_RESPONSES)
    assert attempt.adapt_to(NEEDS_RESPONSES, 0) is not None
    assert attempt.body["reasoning_effort"] == "none"


def test_a_context_window_expires_without_requests() -> None:
    """A target that is skipped because of its window receives no requests that would expire it."""
    known = ModelMemory()
    known.record_refusal(OVERFLOW, 0)
    assert known.get_context_window(HOUR - 1) == 8192
    assert known.get_context_window(HOUR) == 0


def test_a_prompt_that_fills_the_window_shows_that_it_has_grown() -> None:
    known = ModelMemory()
    known.record_refusal(OVERFLOW, 0)
    known.record_prompt(8191)
    assert known.context_window == 8192
    known.record_prompt(8192)
    assert known.context_window == 0


def test_rules_of_the_responses_api_run_first() -> None:
    no_summary = refusal("Your organization must be verified to generate reasoning summaries")
    body = {**BODY, "reasoning": {"summary": "auto"}, "reasoning_effort": "low"}
    attempt = RequestAdapter(ModelMemory(), APIS["responses"], body, 10, 0)
    assert attempt.adapt_to(no_summary, 0) == RequestChange("drop", "reasoning")


def test_reasoning_is_dropped_once_if_no_rule_matches() -> None:
    detail = {"type": "reasoning.encrypted", "data": "E", "format": "openai-responses-v1"}
    reasoned = {"role": "assistant", "content": "b", "reasoning_details": [detail]}
    body = {**BODY, "messages": [*BODY["messages"], reasoned]}
    unknown_words = refusal("The thoughts of this conversation are stale", param="input")
    forgotten = RequestChange("drop_from_assistant", "reasoning_details", is_lasting=False)
    for api, change in ((APIS["responses"], forgotten), (CHAT, None)):
        memory = ModelMemory()
        attempt = RequestAdapter(memory, api, body, 10, 0)
        assert attempt.adapt_to(unknown_words, 0) == change
        assert attempt.adapt_to(unknown_words, 0) is None
        attempt.record_changes(0)
        assert memory.apply_to(body, 10, 0) == body


def test_two_requests_that_both_need_the_other_api() -> None:
    """The second one was sent before the first one's refusal had come."""
    known = ModelMemory()
    attempts = [RequestAdapter(known, CHAT, THINKING, 10, 0) for _ in range(2)]
    needs_responses = replace(NEEDS_RESPONSES, status=404)
    for attempt in attempts:
        assert attempt.adapt_to(needs_responses, 0) is None
        api = known.other_api("chat_completions", needs_responses)
        assert api == "responses"
        known.set_api(api, 0)
    assert known.api == "responses"


VLLM = refusal(
    "This model's maximum context length is 8192 tokens. However, you requested 9000 output tokens "
    "and your prompt contains at least 1 input tokens, for a total of at least 9001 tokens."
)
CHARACTERS = refusal(
    "This model's maximum context length is 8192 tokens. However, you requested 9000 output tokens "
    "and your prompt contains 12000 characters."
)


@pytest.mark.parametrize("failure", [VLLM, CHARACTERS], ids=["vllm", "characters"])
@pytest.mark.parametrize(
    ("estimate", "max_tokens"),
    [(10, 8192 - 11 - 256), (6000, 8192 - 6600 - 256), (7000, None)],
)
def test_the_estimate_counts_where_the_refusal_does_not_state_the_prompt(
    failure: UpstreamFailure, estimate: int, max_tokens: int | None
) -> None:
    """Servers that stop counting would refuse each response that is one token shorter."""
    attempt = RequestAdapter(ModelMemory(), CHAT, BODY, estimate, 0)
    change = attempt.adapt_to(failure, 0)
    assert (change is not None and attempt.body["max_tokens"]) == (max_tokens or False)
    assert attempt.adapt_to(failure, 0) is None


def test_a_stated_minimum_counts_if_the_estimate_is_lower() -> None:
    text = VLLM.text.replace("at least 1 input", "at least 5000 input").replace("9001", "14000")
    attempt = RequestAdapter(ModelMemory(), CHAT, BODY, 10, 0)
    assert attempt.adapt_to(replace(VLLM, text=text), 0) is not None
    assert attempt.body["max_tokens"] == 8192 - 5000


def test_the_limit_of_a_prompt_is_not_remembered_as_the_window() -> None:
    known = ModelMemory()
    text = "prompt token count of 130012 exceeds the limit of 128000"
    assert RequestAdapter(known, CHAT, BODY, 10, 0).adapt_to(refusal(text), 0) is None
    assert known.context_window == 0


_CALL = {"id": "toolu_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
WITH_CALL: Json = {**BODY, "messages": [{"role": "assistant", "tool_calls": [_CALL]}]}


def test_a_model_with_ids_of_its_own_gets_them_for_all_calls() -> None:
    memory = ModelMemory()
    memory.record_native_call_ids(0)
    memory.record_native_call_ids(HOUR - 1)
    changed = memory.apply_to(WITH_CALL, 10, HOUR + 1)
    assert changed["messages"][0]["tool_calls"][0]["id"] == "functions.f:0"
    assert memory.apply_to(WITH_CALL, 10, 2 * HOUR) == WITH_CALL


def test_ids_that_the_server_refuses_stay_plain() -> None:
    memory = ModelMemory()
    memory.record_native_call_ids(0)
    failure = refusal("tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'")
    plain = taught(memory, WITH_CALL, failure)
    memory.record_native_call_ids(0)
    assert memory.apply_to(WITH_CALL, 10, 0) == WITH_CALL
    assert plain["messages"][0]["tool_calls"][0]["id"].startswith("functions_f_0_")
