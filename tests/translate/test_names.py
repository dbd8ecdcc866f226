"""Tool names, there and back."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anthropic_proxy.translate.names import renamed, upstream_name

LONG = "mcp__a_server_with_a_long_name__and_a_tool_whose_name_is_even_longer_than_that"


@pytest.mark.parametrize("name", ["a", "get_weather", "mcp__a-b__c", "x" * 64])
def test_legal_names_stay(name: str) -> None:
    assert upstream_name(name) == name
    assert renamed([name]) == {}


def test_long_names_are_cut_and_stay_apart() -> None:
    first, second = upstream_name(LONG + "_1"), upstream_name(LONG + "_2")
    assert first != second
    assert first.startswith("mcp__a_server_with_a_long_name__and_a_tool_")
    assert renamed([LONG + "_1", "short"]) == {first: LONG + "_1"}


@given(st.text(min_size=1, max_size=100))
def test_every_name_becomes_legal_and_comes_back(name: str) -> None:
    legal = upstream_name(name)
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", legal)
    assert renamed([name]).get(legal, legal) == name
    assert upstream_name(legal) == legal
