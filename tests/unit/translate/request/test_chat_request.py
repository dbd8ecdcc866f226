"""Requests: every case, by whole bodies; and what holds for any request."""

from typing import Any

import pytest

from anthropic_proxy.errors import ApiError
from anthropic_proxy.providers.profiles import find_profile_by_name
from anthropic_proxy.routing.router import Route
from anthropic_proxy.routing.upstream import Upstream
from anthropic_proxy.translate.compaction_blocks import expand_compaction_blocks
from anthropic_proxy.translate.request.chat_request import to_chat_request
from anthropic_proxy.wire.anthropic.request import parse_messages_request
from anthropic_proxy.wire.json_codec import dumps
from tests.support import openai_shapes
from tests.support.cases import cases

Json = dict[str, Any]


def route(case: Json) -> Route:
    return Route(
        Upstream("up", "http://up/v1", find_profile_by_name(case["dialect"])),
        case["request"]["model"],
    )


def parsed(case: Json) -> Json:
    """The request as the gateway hands it to the translation."""
    return expand_compaction_blocks(parse_messages_request(dumps(case["request"])))


@pytest.mark.parametrize("case", cases("requests"))
def test_case(case: Json) -> None:
    request = parsed(case)
    if "error" in case:
        with pytest.raises(ApiError) as caught:
            to_chat_request(request, route(case))
        assert {"status": caught.value.status, "message": caught.value.message} == case["error"]
        return
    translated = to_chat_request(request, route(case))
    assert translated.body == case["upstream"]
    assert sorted(translated.notes.ignored) == case.get("ignored", [])
    assert translated.notes.unavailable == case.get("unavailable", [])


@pytest.mark.parametrize(
    "case", [case for case in cases("requests") if "upstream" in case.values[0]]
)
def test_openai_would_take_it(case: Json) -> None:
    body = to_chat_request(parsed(case), route(case)).body
    openai_shapes.check(openai_shapes.plain(body))


@pytest.mark.parametrize(
    "case", [case for case in cases("requests") if "upstream" in case.values[0]]
)
def test_the_same_request_gives_the_same_bytes(case: Json) -> None:
    first, second = (dumps(to_chat_request(parsed(case), route(case)).body) for _ in range(2))
    assert first == second


def test_unknown_fields_are_noted() -> None:
    request = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "brand_new": 1}
    upstream = Upstream("up", "http://up/v1", find_profile_by_name("openai"))
    translated = to_chat_request(request, Route(upstream, "m"))
    assert translated.notes.ignored == {"field brand_new"}
