"""Refusals: what is changed of a request, and that a change that is remembered does no harm elsewhere."""

from typing import Any

import pytest

from anthropic_proxy.translate.adaptation.changes import RequestChange
from anthropic_proxy.translate.adaptation.rules import find_change
from anthropic_proxy.translate.upstream_errors import UpstreamIdentity, parse_failure
from anthropic_proxy.wire.json_codec import dumps
from tests.support import openai_shapes
from tests.support.cases import cases

Json = dict[str, Any]

# Values that OpenAI's API does not have.
ELSEWHERE = "'default'"


def found(case: Json) -> RequestChange | None:
    return find_change(
        parse_failure(case["status"], {}, dumps(case["answer"]), UpstreamIdentity("up:1")),
        case["request"],
    )


@pytest.mark.parametrize("case", cases("refusals"))
def test_case(case: Json) -> None:
    change = found(case)
    assert (change and change.apply(case["request"])) == case["changed"]
    assert change is None or change.is_lasting == case.get("lasts", True)
    assert change is None or "when" not in case or dict(change.conditions) == case["when"]


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
