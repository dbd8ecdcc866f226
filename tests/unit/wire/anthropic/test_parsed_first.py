"""A request that is parsed first and checked then is the one that pydantic makes of its text."""

import copy
import json
from collections.abc import Iterable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from anthropic_proxy.wire.anthropic import request as anthropic
from tests.support.strategies import REQUEST

Json = dict[str, Any]

# Of every kind that JSON has, and what could be taken for another kind.
_VALUES = st.sampled_from(
    [
        None,
        True,
        False,
        0,
        1,
        -1,
        5.0,
        5.5,
        float("nan"),
        10**30,
        "",
        "5",
        "true",
        "5.5",
        "text",
        "\ud83d",
        [],
        ["a"],
        {},
        {"a": 1},
    ]
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """All containers within a value, each with each of its keys."""
    keys: Iterable[Any] = ()
    if isinstance(value, dict):
        keys = value.keys()
    elif isinstance(value, list):
        keys = range(len(value))
    found = []
    for key in keys:
        found += [(value, key), *places(value[key])]
    return found


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(request=REQUEST, changes=st.lists(st.tuples(st.integers(min_value=0), _VALUES), max_size=3))
def test_both_ways_are_one(request: Json, changes: list[tuple[int, Any]]) -> None:
    changed = copy.deepcopy(request)
    for number, value in changes:
        found = places(changed)
        container, key = found[number % len(found)]
        container[key] = copy.deepcopy(value)
    document, text = anthropic._parse_json(json.dumps(changed).encode())
    try:
        expected = json.dumps(anthropic._MESSAGES.validate_json(text))
    except ValidationError as error:
        expected = str(error)
    try:
        validated = json.dumps(anthropic._validate(anthropic._MESSAGES, document, text))
    except ValidationError as error:
        validated = str(error)
    assert validated == expected
