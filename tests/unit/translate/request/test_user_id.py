"""Users and sessions in `metadata.user_id`, and the cost of over-long ids."""

import hashlib
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from anthropic_proxy.providers.profiles import PROFILES
from anthropic_proxy.translate.request.chat_request import to_user_fields
from tests.support.scaling import assert_linear_cpu

OPENAI = next(dialect for dialect in PROFILES if dialect.name == "openai")
# The form of Claude Code before 2.1, as an expression: right, but too slow for long texts.
OLD_FORM = re.compile(r"(user_.+)_session_([\w-]+)")
PIECES = st.lists(
    st.sampled_from(["user_", "_session_", "session_", "_", "a", "é", "-", "\n", "!", " ", "²"]),
    max_size=9,
)


def identity(user_id: str) -> dict[str, Any]:
    return to_user_fields({"metadata": {"user_id": user_id}}, OPENAI)


def hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def expected(user: str, session: str) -> dict[str, Any]:
    assert OPENAI.user_field
    return {OPENAI.user_field: hashed(user), "prompt_cache_key": hashed(session)}


@given(PIECES)
@example(["user_", "a", "_session_", "b", "_session_"])
@example(["user_", "_session_", "session_", "b"])
@example(["user_", "a", "_session_", "b", "\n"])
def test_the_old_form_is_what_the_expression_says(pieces: list[str]) -> None:
    user_id = "user_" + "".join(pieces)
    found = OLD_FORM.fullmatch(user_id)
    assert identity(user_id) == (
        expected(found[1], found[2]) if found else expected(user_id, user_id)
    )


@pytest.mark.parametrize(
    ("user_id", "user", "session"),
    [
        (f"user_{'a' * 240}_session_b1", f"user_{'a' * 240}", "b1"),
        (f"user_{'a' * 241}_session_b1", None, None),
        ('{"device_id":"d","account_uuid":"u","session_id":"s"}', "d/u", "s"),
        ('{"device_id":"d","session_id":"s","more":"' + "x" * 256 + '"}', None, None),
        ("[" * 5000, None, None),
    ],
    ids=["256 characters", "257 characters", "JSON", "JSON of more than 256 characters", "nested"],
)
def test_an_id_of_more_than_256_characters_is_hashed_whole(
    user_id: str, user: str | None, session: str | None
) -> None:
    assert identity(user_id) == expected(user or user_id, session or user_id)


@pytest.mark.parametrize(
    ("user_id", "user", "session"),
    [
        ('{"device_id":"d","account_uuid":null,"session_id":"s"}', "d/", "s"),
        ('{"account_uuid":"u","session_id":"s"}', "/u", "s"),
        ('{"device_id":"\ud800","account_uuid":"u","session_id":"s"}', "?/u", "s"),
        ("a\ud800", "a?", "a?"),
        ('{"device_id":"d","session_id":1}', None, None),
    ],
    ids=["null", "absent", "lone surrogate in JSON", "lone surrogate", "session that is no text"],
)
def test_odd_ids(user_id: str, user: str | None, session: str | None) -> None:
    assert identity(user_id) == expected(user or user_id, session or user_id)


@pytest.mark.parametrize("unit", ["_session_", "{", '{"a":', "user__session_a"])
def test_any_id_costs_linear_time(unit: str) -> None:
    def prepare(size: int) -> Any:
        user_id = "user_" + unit * size + "!" if unit == "_session_" else unit * size
        # Often, so that the texts stay small enough for the caches of any machine.
        return lambda: [identity(user_id) for _ in range(100)]

    assert_linear_cpu(prepare, 1_000)
