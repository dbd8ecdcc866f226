"""Requests of a session, of which an upstream has a prompt cache."""

from typing import Any

import pytest
from hypothesis import given

from anthropic_proxy.routing.sessions import identify_session
from tests.support.strategies import ANYTHING

_BEGINNING: dict[str, Any] = {
    "system": "Be brief.",
    "messages": [{"role": "user", "content": "Hi"}],
}
_BILLING = "x-anthropic-billing-header: cc_version=2.1.330.abc; cch="


def _with_user(user_id: Any) -> dict[str, Any]:
    return {**_BEGINNING, "metadata": {"user_id": user_id}}


@pytest.mark.parametrize(
    ("request_", "headers"),
    [
        ({}, {"x-claude-code-session-id": "s1"}),
        (_with_user("user_a_session_other"), {"x-claude-code-session-id": " s1 "}),
        (_with_user('{"device_id":"d","account_uuid":"","session_id":"s1"}'), {}),
        (_with_user("user_a_account_b_session_s1"), {"x-claude-code-session-id": ""}),
    ],
)
def test_ids_of_sessions(request_: dict[str, Any], headers: dict[str, str]) -> None:
    assert identify_session(request_, headers) == "s1"


@pytest.mark.parametrize(
    "user_id", ["alice", "", None, 7, {"session_id": "s1"}, '{"session_id":7}', "user__session_"]
)
def test_an_id_without_a_session_does_not_identify_one(user_id: Any) -> None:
    """A user has many sessions."""
    assert identify_session(_with_user(user_id), {}) == identify_session(_BEGINNING, {})


_SAME: list[dict[str, Any]] = [
    {**_BEGINNING, "model": "other", "max_tokens": 7, "tools": [{"name": "t"}]},
    {
        "system": "Be brief.",
        "messages": [
            *_BEGINNING["messages"],
            {"role": "assistant", "content": "Hello"},
            {"role": "user", "content": "More"},
        ],
    },
    {
        "system": [
            {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}},
        ],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"cache_control": {"type": "ephemeral"}, "type": "text", "text": "Hi"},
                ],
            }
        ],
    },
    {**_BEGINNING, "system": f"{_BILLING}1;\nBe brief."},
]


@pytest.mark.parametrize("request_", _SAME)
def test_later_requests_have_the_same_beginning(request_: dict[str, Any]) -> None:
    assert identify_session(request_, {}) == identify_session(_BEGINNING, {})


def test_the_billing_header_is_ignored() -> None:
    def request(code: str) -> dict[str, Any]:
        header = {"type": "text", "text": f"{_BILLING}{code};"}
        return {**_BEGINNING, "system": [header, {"type": "text", "text": "Be brief."}]}

    assert identify_session(request("1"), {}) == identify_session(request("2"), {})


_OTHERS: list[dict[str, Any]] = [
    {},
    {**_BEGINNING, "system": "Be verbose."},
    {**_BEGINNING, "system": None},
    {**_BEGINNING, "messages": []},
    {**_BEGINNING, "messages": [{"role": "user", "content": "Hello"}]},
    {**_BEGINNING, "messages": [{"role": "user", "content": [{"type": "text", "text": "Ho"}]}]},
    {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "One"},
        ]
    },
    {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Two"},
        ]
    },
]


def test_other_conversations_are_other_sessions() -> None:
    sessions = {identify_session(request, {}) for request in (_BEGINNING, *_OTHERS)}
    assert len(sessions) == len(_OTHERS) + 1


@given(ANYTHING, ANYTHING, ANYTHING)
def test_fields_may_have_any_type(system: Any, messages: Any, metadata: Any) -> None:
    """Requests that the proxy cannot translate are routed too."""
    request = {"system": system, "messages": messages, "metadata": metadata}
    for each in (request, {**request, "messages": [messages, system]}):
        session = identify_session(each, {})
        assert session
        assert session == identify_session(each, {})
