"""Any valid request becomes a legal body with the same bytes each time, and is not changed."""

import copy
import functools
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anthropic_proxy.errors import ApiError
from anthropic_proxy.providers.profiles import GENERIC, PROFILES, ProviderProfile
from anthropic_proxy.routing.router import Route
from anthropic_proxy.routing.upstream import Upstream
from anthropic_proxy.translate.reasoning.signatures import UNSIGNED
from anthropic_proxy.translate.request.chat_request import to_chat_request
from anthropic_proxy.translate.request.pdf import read_pages
from anthropic_proxy.wire.anthropic.request import parse_messages_request
from anthropic_proxy.wire.json_codec import dumps
from tests.support import openai_shapes
from tests.support.chat_bodies import fetched
from tests.support.strategies import REQUEST

Json = dict[str, Any]

# What may be refused, each for a reason that the client can act on.
_REFUSED = (
    "messages: all messages are empty",
    "messages: final assistant content cannot end with trailing whitespace",
    "messages: This model does not support assistant message prefill.",
    "The PDF specified was not valid: ",
)
_ANY_DIALECT = st.sampled_from((*PROFILES, GENERIC))
_PDF_PAGES = functools.cache(read_pages)


@settings(max_examples=600, suppress_health_check=[HealthCheck.too_slow])
@given(dialect=_ANY_DIALECT, request=REQUEST)
def test_any_request(dialect: ProviderProfile, request: Json) -> None:
    route = Route(Upstream("up", "http://up/v1", dialect), "m")
    checked = fetched(parse_messages_request(dumps(request)), dialect)
    before = copy.deepcopy(checked)
    try:
        made = to_chat_request(checked, route, UNSIGNED, _PDF_PAGES)
    except ApiError as error:
        if not (error.status == 400 and error.message.startswith(_REFUSED)):
            raise
        return
    finally:
        assert checked == before, "the request is not touched"
    openai_shapes.check(made.body if dialect.name == "openai" else openai_shapes.plain(made.body))
    calls = [
        call["id"] for message in made.body["messages"] for call in message.get("tool_calls", ())
    ]
    assert len(set(calls)) == len(calls), "each call has its own id"
    assert dumps(made.body) == dumps(to_chat_request(before, route, UNSIGNED, _PDF_PAGES).body)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(dialect=_ANY_DIALECT, request=REQUEST)
def test_the_next_turn_begins_with_this_one(dialect: ProviderProfile, request: Json) -> None:
    """So that the upstream's prefix cache holds."""
    route = Route(Upstream("up", "http://up/v1", dialect), "m")
    said = [
        message for message in request["messages"] if message.get("clear_at") != "next_user_message"
    ]
    asked: list[Json] = [*said, {"role": "user", "content": "May I?"}]
    answered: list[Json] = [
        *asked,
        {"role": "assistant", "content": "Yes"},
        {"role": "user", "content": "Then go"},
    ]
    turns = [{**request, "messages": messages} for messages in (asked, answered)]
    try:
        this, following = (
            to_chat_request(
                fetched(parse_messages_request(dumps(turn)), dialect), route, UNSIGNED, _PDF_PAGES
            ).body["messages"]
            for turn in turns
        )
    except ApiError:
        return
    assert dumps(following[: len(this)]) == dumps(this)
