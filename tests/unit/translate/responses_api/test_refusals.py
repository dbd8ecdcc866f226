"""Refusals that require the Responses API, and changes of requests that this API refuses."""

from collections.abc import Callable
from typing import Any

import pytest

from anthropic_proxy.translate.adaptation.changes import RequestChange
from anthropic_proxy.translate.adaptation.rules import find_change
from anthropic_proxy.translate.responses_api.refusals import (
    find_reasoning_change,
    find_responses_change,
    requires_responses_api,
    to_chat_failure,
)
from anthropic_proxy.translate.responses_api.request import to_responses_request
from anthropic_proxy.translate.upstream_failure import (
    UpstreamFailure,
    UpstreamIdentity,
    parse_failure,
)
from anthropic_proxy.wire.json_codec import dumps
from tests.support.cases import cases, texts
from tests.support.scaling import assert_linear_cpu

Json = dict[str, Any]


def failure(case: Json) -> UpstreamFailure:
    return parse_failure(case["status"], {}, dumps(case["answer"]), UpstreamIdentity("up:1"))


def find_any_change(refused: UpstreamFailure, request: Json) -> RequestChange | None:
    return (
        find_responses_change(refused, request)
        or find_change(to_chat_failure(refused), request)
        or find_reasoning_change(refused, request)
    )


@pytest.mark.parametrize("case", cases("responses_api/wanted"))
def test_which_refusals_ask_for_the_responses_api(case: Json) -> None:
    assert requires_responses_api(failure(case)) is case["wanted"]


@pytest.mark.parametrize("case", cases("responses_api/refusals"))
def test_case(case: Json) -> None:
    refused = failure(case)
    own = find_responses_change(refused, case["request"])
    assert (own is None) is (case.get("chat", False) or case["changed"] is None)
    change = own or find_change(to_chat_failure(refused), case["request"])
    assert (change and change.apply(case["request"])) == case["changed"]
    if change is not None:
        assert change.is_lasting == case.get("lasts", True)
        assert change.apply(case["changed"]) == case["changed"]


@pytest.mark.parametrize("param", [None, ["input"], {}])
def test_a_refusal_that_names_no_field_stays(param: Any) -> None:
    refused = failure({"status": 400, "answer": {"error": {"message": "No", "param": param}}})
    assert to_chat_failure(refused) == refused


def test_a_request_that_it_does_not_concern_stays() -> None:
    for case in cases("responses_api/refusals"):
        plain = {"model": "m", "messages": [{"role": "user", "content": "a"}]}
        assert find_responses_change(failure(case.values[0]), plain) is None


def _call_of_table(call_id: str) -> Json:
    function = {"name": "look", "arguments": "{}"}
    return {"id": call_id, "type": "function", "function": function}


_DETAILS = [
    {
        "type": "reasoning.summary",
        "summary": "Because.",
        "format": "openai-responses-v1",
        "index": 0,
        "summary_index": 0,
    },
    {
        "type": "reasoning.encrypted",
        "data": "gAAA",
        "format": "openai-responses-v1",
        "index": 0,
        "id": "rs_1",
        "said_before": 0,
        "phase": "commentary",
    },
]
_IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}


def request_of_table(call_id: str) -> Json:
    """Return a request with each part that a row of the table may refuse."""
    return {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "What is it?"}, _IMAGE]},
            {
                "role": "assistant",
                "content": "I look.",
                "tool_calls": [_call_of_table(call_id)],
                "reasoning_details": _DETAILS,
            },
            {
                "role": "tool",
                "tool_call_id": call_id,
                "content": [{"type": "text", "text": "Seen:"}, _IMAGE],
            },
        ],
        "tools": [{"type": "function", "function": {"name": "look", "parameters": {}}}],
        "max_completion_tokens": 200_000,
        "temperature": 1.0,
        "service_tier": "auto",
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}},
        "reasoning_effort": "xhigh",
        "reasoning": {"summary": "auto"},
        "include": ["reasoning.encrypted_content"],
    }


@pytest.mark.parametrize("row", texts("responses_refusals"))
def test_refusal_texts(row: Json) -> None:
    request = request_of_table(row.get("call_id", "call_1"))
    refused = failure(
        {"status": row.get("status", 400), "answer": row.get("body") or {"error": row["error"]}}
    )
    change = find_any_change(refused, request)
    names = []
    if change is not None:
        name = f"{change.change} {change.field}" if change.change == "drop" else change.change
        names.append(name if change.is_lasting else f"{name} once")
        changed = change.apply(request)
        assert to_responses_request(changed) != to_responses_request(request)
        # The same refusal of the changed request does not lead to the same change.
        assert find_any_change(refused, changed) != change
    assert names == row["changes"]


@pytest.mark.parametrize(
    "piece",
    [
        "input[1].phase",
        "input[1] ",
        "'input' ",
        "unknown parameter ",
        "parameter: store ",
        "function call output ",
        "tools[0] ",
        "call_id ",
        "rs_",
        "encrypted content ",
        "reasoning ",
        "instructions ",
        "max_output_tokens ",
        "text.format",
        "100",
    ],
)
def test_a_hostile_refusal_costs_no_more_than_its_length(piece: str) -> None:
    request = request_of_table("call_1")

    def prepare(size: int) -> Callable[[], object]:
        answer = {"error": {"message": piece * (size // len(piece))}}
        refused = failure({"status": 400, "answer": answer})
        return lambda: (
            find_responses_change(refused, request),
            to_chat_failure(refused),
            find_reasoning_change(refused, request),
        )

    assert_linear_cpu(prepare, 4000)
