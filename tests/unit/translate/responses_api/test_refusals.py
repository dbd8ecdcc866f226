"""Refusals that require the Responses API, and changes of requests that this API refuses."""

from typing import Any

import pytest

from anthropic_proxy.translate.adaptation.rules import find_change
from anthropic_proxy.translate.responses_api.refusals import (
    find_responses_change,
    requires_responses_api,
    to_chat_failure,
)
from anthropic_proxy.translate.upstream_failure import (
    UpstreamFailure,
    UpstreamIdentity,
    parse_failure,
)
from anthropic_proxy.wire.json_codec import dumps
from tests.support.cases import cases

Json = dict[str, Any]


def failure(case: Json) -> UpstreamFailure:
    return parse_failure(case["status"], {}, dumps(case["answer"]), UpstreamIdentity("up:1"))


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
