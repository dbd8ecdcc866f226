"""The interpreter of rules; what the rows of the tables do is in tests/cases."""

import re
from dataclasses import replace
from typing import Any

import pytest

from anthropic_proxy.translate.adaptation.refusal_rule import (
    RefusalRule,
    find_rule_change,
    read_limit,
    wordings,
)
from anthropic_proxy.translate.upstream_failure import UpstreamFailure, UpstreamIdentity

Json = dict[str, Any]

FAILURE = UpstreamFailure(
    400, "At most 1,024\ntokens", {"code": "too_many"}, {}, UpstreamIdentity("up:1")
)
DROP_USER = RefusalRule(wordings("at most"), "drop", "user")
DROP_TIER = replace(DROP_USER, field="service_tier")


def changed(body: Json, *rules: RefusalRule) -> Json | None:
    change = find_rule_change(rules, FAILURE, body)
    return change.apply(body) if change else None


@pytest.mark.parametrize(
    ("patterns", "applies"),
    [
        (("AT MOST .*tokens",), True),
        (("at most", "tokens"), True),
        (("at most", "characters"), False),
        (("characters", "at most"), False),
        (("too_many",), True),
        (("1024",), True),
    ],
)
def test_all_patterns_occur_in_the_text_or_its_codes(
    patterns: tuple[str, ...], applies: bool
) -> None:
    rule = replace(DROP_USER, patterns=wordings(*patterns))
    assert changed({"user": "u"}, rule) == ({} if applies else None)


def test_the_first_rule_with_an_effect_decides() -> None:
    assert changed({"user": "u", "service_tier": "t"}, DROP_USER, DROP_TIER) == {
        "service_tier": "t"
    }
    assert changed({"service_tier": "t"}, DROP_USER, DROP_TIER) == {}
    assert changed({}, DROP_USER, DROP_TIER) is None


def test_a_final_rule_ends_the_search() -> None:
    body = {"service_tier": "t"}
    assert changed(body, replace(DROP_USER, is_final=True), DROP_TIER) is None
    unrelated = replace(DROP_USER, patterns=wordings("other"), is_final=True)
    assert changed(body, unrelated, DROP_TIER) == {}


def test_the_field_must_be_named() -> None:
    def is_tier(_: UpstreamFailure, field: str) -> bool:
        return field == "service_tier"

    body = {"user": "u", "service_tier": "t"}
    rules = [replace(rule, named_by=is_tier) for rule in (DROP_USER, DROP_TIER)]
    assert changed(body, *rules) == {"user": "u"}


@pytest.mark.parametrize(("pattern", "limit"), [(r"at most (\d+)", 1024), (r"(tokens){0}", None)])
def test_a_rule_without_the_value_that_it_reads_is_skipped(pattern: str, limit: int | None) -> None:
    def read(match: re.Match[str], failure: UpstreamFailure, body: Json) -> int:
        return read_limit(match, failure, body) if match[1] else 0

    rule = RefusalRule(wordings(pattern), "limit_output", "max_tokens", read_value=read)
    assert changed({"max_tokens": 5000}, rule) == (limit and {"max_tokens": limit})


def test_conditions() -> None:
    rule = replace(DROP_USER, requires="tools", shared="stream")
    change = find_rule_change([rule], FAILURE, {"user": "u", "tools": []})
    assert change is not None
    assert change.conditions == (("tools", True), ("stream", False))
    assert find_rule_change([rule], FAILURE, {"user": "u"}) is None
