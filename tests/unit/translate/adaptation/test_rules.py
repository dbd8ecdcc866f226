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
    plain = {"model": "m", "messages": [{"role": "user", "content": "a"}], "stream": True}
    assert change is not None
    assert change.apply(plain) == plain


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.change} {rule.field}")
def test_every_row_names_a_change_and_properties_that_exist(rule: RefusalRule) -> None:
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
    ],
)
def test_a_hostile_refusal_costs_no_more_than_its_length(piece: str) -> None:
    body = {"model": "m", "messages": [], "reasoning_effort": "low", "max_tokens": 9}

    def prepare(size: int) -> Callable[[], object]:
        failure = refusal({"status": 400, "answer": piece * (size // len(piece))})
        return lambda: find_change(failure, body)

    assert_linear_cpu(prepare, 4000)
