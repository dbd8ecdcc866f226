"""The table of the APIs."""

from typing import Any, get_args

from anthropic_proxy.providers.base_url import CHAT_COMPLETIONS
from anthropic_proxy.providers.profiles import PROFILES
from anthropic_proxy.routing.upstream import UpstreamApi
from anthropic_proxy.translate.apis import APIS


def test_each_api_that_needs_a_translation_has_a_row() -> None:
    assert {*APIS, "messages"} == set(get_args(UpstreamApi))


def test_chat_completions_stay_as_they_are() -> None:
    chat = APIS["chat_completions"]
    body: dict[str, Any] = {"model": "m"}
    chunk: dict[str, Any] = {"choices": []}
    assert chat.path == CHAT_COMPLETIONS
    assert chat.to_body(body) is body
    assert [id(each) for each in chat.new_reader().feed(chunk)] == [id(chunk)]
    assert chat.to_completion(chunk) is chunk
    assert chat.to_profile(PROFILES[0]) is PROFILES[0]


def test_responses_have_readers_that_know_nothing_of_each_other() -> None:
    responses = APIS["responses"]
    assert responses.path == "/responses"
    assert not responses.done_ends_stream
    assert responses.new_reader() is not responses.new_reader()
