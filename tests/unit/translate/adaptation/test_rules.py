"""Refusals: how the request changes, and that a remembered change does no harm elsewhere."""

from collections.abc import Callable
from typing import Any

import pytest

from anthropic_proxy.translate.adaptation.changes import RequestChange, build_condition
from anthropic_proxy.translate.adaptation.refusal_rule import RefusalRule, find_rule_change
from anthropic_proxy.translate.adaptation.rules import RULES, find_change
from anthropic_proxy.translate.upstream_failure import (
    UpstreamFailure,
    UpstreamIdentity,
    parse_failure,
)
from anthropic_proxy.wire.json_codec import dumps
from tests.support import openai_shapes
from tests.support.cases import cases
from tests.support.scaling import assert_linear_cpu

Json = dict[str, Any]

# Values that OpenAI's API does not have.
ELSEWHERE = "'default'"


def refusal(case: Json) -> UpstreamFailure:
    return parse_failure(case["status"], {}, dumps(case["answer"]), UpstreamIdentity("up:1"))


def found(case: Json) -> RequestChange | None:
    return find_change(refusal(case), case["request"])


@pytest.mark.parametrize("case", cases("refusals"))
def test_case(case: Json) -> None:
    change = found(case)
    assert (change and change.apply(case["request"])) == case["changed"]
    assert change is None or change.is_lasting == case.get("lasts", True)
    assert change is None or "when" not in case or dict(change.conditions) == case["when"]


_FORMATTED: Json = {
    "model": "m",
    "messages": [{"role": "user", "content": "a"}],
    "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}},
    "reasoning_effort": "low",
    "top_p": 0.0,
}


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (500, {"message": "failed to load structured output backend worker: out of memory"}),
        (500, {"message": "unexpected exception in the reasoning worker"}),
        (501, {"message": "the json_schema worker has crashed"}),
        (400, {"message": "top_p must be in (0, 1], got 0.0", "param": "top_p"}),
        (422, {"message": "Input should be greater than 0", "param": "top_p"}),
    ],
)
def test_an_outage_or_a_bad_value_changes_no_later_request(status: int, error: Json) -> None:
    change = found({"status": status, "answer": {"error": error}, "request": _FORMATTED})
    assert change is None or not change.is_lasting


def test_a_choice_of_tools_changes_only_if_the_refusal_mentions_it() -> None:
    body = {
        **_FORMATTED,
        "tools": [{"type": "function", "function": {"name": "a", "parameters": {}}}],
        "tool_choice": "required",
    }
    for text, expected in (("tool_choice is invalid", "choose_only_tool"), ("no", None)):
        change = found({"status": 400, "answer": {"error": {"message": text}}, "request": body})
        assert (change and change.change) == expected


_AGENT: Json = {
    "model": "m",
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}},
                {"type": "text", "text": "b"},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "Bash", "arguments": "{}"}}
            ],
        },
        {"role": "tool", "tool_call_id": "c", "content": "r"},
    ],
    "max_tokens": 64000,
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "Bash",
                "parameters": {
                    "type": "object",
                    "properties": {"command": {"type": "string", "pattern": "a", "minLength": 1}},
                },
            },
        }
    ],
}
_STREAMED_AGENT = {**_AGENT, "stream": True, "stream_options": {"include_usage": True}}

# Changes of what the request contains, and not of an optional field.
_CHANGES_OF_CONTENT = frozenset(
    {
        *("limit_output", "raise_output", "request_stream", "request_whole"),
        *("join_texts", "fill_content", "drop_schema_keywords", "simplify_schemas"),
        *("define_items", "define_properties", "prune_required", "move_types_into_branches"),
        *("use_single_types", "use_uniform_items", "drop_reference_siblings", "leave_out_tool"),
    }
)


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("max_tokens=64000 is greater than the model maximum of 8192", 8192),
        ("max_tokens: value 64000 is larger than 8,192", 8192),
        ("The value of max_tokens is too high. Maximum allowed value is 4096", 4096),
        ("max_tokens > 4096 is not allowed", 4096),
        ("max_tokens must not be larger than 32768", 32768),
        ("max_tokens should be in range (0, 40960]", 40960),
        ("max_tokens \u53c2\u6570\u975e\u6cd5: [1,32768]", 32768),
        ("parameter max_tokens out of range", 8192),
        ("maxOutputTokens: supported range is from 1 (inclusive) to 8193 (exclusive)", 8192),
    ],
)
def test_other_wordings_of_the_largest_response(text: str, limit: int) -> None:
    change = find_change(refusal({"status": 400, "answer": {"error": text}}), _AGENT)
    assert change == RequestChange("limit_output", "max_tokens", limit)


@pytest.mark.parametrize(
    ("text", "change_name"),
    [
        ("Only streaming is supported for this model", "request_stream"),
        ("stream=false is not supported for this model", "request_stream"),
        ("\u6b64\u6a21\u578b\u4ec5\u652f\u6301\u6d41\u5f0f\u8c03\u7528", "request_stream"),
        ("stream=true is not supported for this model", "request_whole"),
        ("streaming mode unsupported", "request_whole"),
        ("'stream' must be false when tools are used", "request_whole"),
        ("function calling is not supported when stream=true", "request_whole"),
        ("Streaming with function calling is not supported", "request_whole"),
        ("messages[1].content is not a string", "fill_content"),
        ("Invalid JSON schema: unsupported pattern in tool", "drop_schema_keywords"),
        ('Grammar error: Unimplemented keys: ["minLength"]', "drop_schema_keywords"),
        ("Unknown JSON schema keyword: minLength in tool Bash", "drop_schema_keywords"),
        ("Tool 'Bash' has invalid parameters: unresolvable reference", "leave_out_tool"),
        ("Invalid function name: Bash. Function names must be in lower case", "leave_out_tool"),
        ("Value error, Invalid tool schema for Bash", "leave_out_tool"),
        ("The tool definition of Bash could not be parsed", "leave_out_tool"),
    ],
)
def test_other_wordings(text: str, change_name: str) -> None:
    body = _STREAMED_AGENT if change_name == "request_whole" else _AGENT
    if change_name == "fill_content":
        body = {**_AGENT, "messages": _AGENT["messages"][1:]}
    change = find_change(refusal({"status": 400, "answer": {"error": text}}), body)
    assert change is not None
    assert change.change == change_name


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            {"message": "This model does not support stream options", "param": "stream_options"},
            ("drop", "stream_options"),
        ),
        ({"message": "This model does not support stream options"}, ("drop", "stream_options")),
        (
            {"message": "stream_options is not supported in streaming mode with tools"},
            ("drop", "stream_options"),
        ),
        (
            {"message": "This model does not support streaming with it", "param": "temperature"},
            ("drop", "temperature"),
        ),
        (
            {"message": "Your organization must be verified to stream this model"},
            ("request_whole", "stream"),
        ),
        (
            {"message": "This model does not support streaming", "param": "stream"},
            ("request_whole", "stream"),
        ),
        (
            {"message": "This model does not support streaming", "param": "model"},
            ("request_whole", "stream"),
        ),
        (
            {"message": "Not supported", "param": "This model does not support streaming"},
            ("request_whole", "stream"),
        ),
    ],
)
def test_a_refusal_of_the_stream_or_of_another_field(
    error: Json, expected: tuple[str, str]
) -> None:
    body = {**_STREAMED_AGENT, "temperature": 1}
    change = find_change(refusal({"status": 400, "answer": {"error": error}}), body)
    assert change is not None
    assert (change.change, change.field) == expected


@pytest.mark.parametrize("request_body", [_AGENT, _STREAMED_AGENT], ids=["whole", "streamed"])
@pytest.mark.parametrize("case", cases("failures"))
def test_other_failures_do_not_change_the_content(case: Json, request_body: Json) -> None:
    body = case["body"].encode()
    failure = parse_failure(case["status"], {}, body, UpstreamIdentity("up:1"))
    change = find_change(failure, request_body)
    assert change is None or change.change not in _CHANGES_OF_CONTENT


@pytest.mark.parametrize("request_body", [_AGENT, _STREAMED_AGENT], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("status", "text"),
    [
        (400, "Unrecognized request argument supplied: stream_options"),
        (400, "The stream was closed before the response was complete"),
        (400, "Tool call id c was not found in the stream of messages"),
        (400, "messages[2]: tool_call_id 'c' has no preceding call of tool Bash"),
        (400, "tool_choice: function Bash is not supported with this schema"),
        (400, "This model does not support tools"),
        (400, "The content was blocked by the schema of our policy"),
        (400, "Could not parse the tool call arguments of Bash: invalid JSON"),
        (400, "Invalid 'user': string too long. Expected a string with maximum length 64"),
        (400, "temperature must be less than or equal to 2"),
        (400, "You have used all tokens of your plan: 64000 of at most 50000"),
        (401, "Invalid schema for function 'Bash': schema must be an object"),
        (429, "Request too large: max_tokens must be less than or equal to 8000 per minute"),
        (500, "The schema service for tool Bash is not available"),
        (503, "Streaming is not supported at the moment"),
        (400, "Could not finish the message because max_tokens or model output limit was reached."),
    ],
)
def test_texts_that_are_no_refusals_of_the_content(
    status: int, text: str, request_body: Json
) -> None:
    change = find_change(refusal({"status": status, "answer": {"error": text}}), request_body)
    assert change is None or change.change not in _CHANGES_OF_CONTENT


@pytest.mark.parametrize("case", [case for case in cases("refusals") if case.values[0]["changed"]])
def test_what_was_changed_can_be_sent_and_is_not_changed_again(case: Json) -> None:
    change = found(case)
    assert change is not None
    if ELSEWHERE not in str(case["changed"]):
        openai_shapes.check(openai_shapes.plain(case["changed"]))
    assert change.apply(case["changed"]) == case["changed"]


@pytest.mark.parametrize("case", [case for case in cases("refusals") if case.values[0]["changed"]])
def test_a_request_that_it_does_not_concern_stays(case: Json) -> None:
    change = found(case)
    plain: Json = {"model": "m", "messages": [{"role": "user", "content": "a"}]}
    assert change is not None
    if change.change != "request_whole":
        plain["stream"] = True
    assert change.apply(plain) == plain


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.change} {rule.field}")
def test_every_row_names_a_change_and_properties_that_exist(rule: RefusalRule) -> None:
    # The log and the memory of the model name the field.
    assert rule.field
    body: Json = {"model": "m", "messages": [{"role": "user", "content": "a"}]}
    RequestChange(rule.change, rule.field, rule.value or 1).apply(body)
    for name in filter(None, (rule.requires, rule.shared)):
        build_condition(name, body)


WRITTEN_ROWS = [rule for rule in RULES if rule.change != "drop"]


@pytest.mark.parametrize("rule", WRITTEN_ROWS, ids=lambda rule: f"{rule.change} {rule.field}")
def test_every_row_has_a_case(rule: RefusalRule) -> None:
    """Rows that drop a field are made for each field and way to name it."""
    assert any(
        find_rule_change([rule], refusal(case.values[0]), case.values[0]["request"])
        for case in cases("refusals")
    )


@pytest.mark.parametrize(
    "piece",
    [
        "unknown ",
        "role ",
        "one of '",
        "1,234",
        "max_tokens: ",
        "tool_choice ",
        "reasoning_content ",
        "max_tokens ",
        "max_tokens exceeds ",
        "stream tool ",
        "content null ",
        'unknown name "type" ',
        "unsupported field: 'a', ",
        "properties a, ",
        "tools[1].function.parameters ",
        "schema of tool t invalid ",
        "At path 'a",
        "required property ",
    ],
)
def test_a_hostile_refusal_costs_no_more_than_its_length(piece: str) -> None:
    tool = {"function": {"name": "t", "parameters": {"type": "object", "properties": {}}}}
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "a"}],
        "reasoning_effort": "low",
        "max_tokens": 9,
        "tools": [tool],
    }

    def prepare(size: int) -> Callable[[], object]:
        failure = refusal({"status": 400, "answer": piece * (size // len(piece))})
        return lambda: find_change(failure, body)

    assert_linear_cpu(prepare, 4000)
