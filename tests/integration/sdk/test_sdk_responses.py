"""Responses in both forms, by the official SDK: a stream adds up to the whole response.

Both return upstream in the same form.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

import anthropic
import pytest

from tests.integration.sdk.both_ways import (
    ASK,
    PARAMETERS,
    BothWays,
    check_content,
    check_replay,
    next_turn,
    without_ids,
)
from tests.support import grammar
from tests.support.scripted_upstream import DEADLINE, ScriptedUpstream, answers, completion


def raw_events(events: Iterable[Any]) -> list[dict[str, Any]]:
    """The API's own events among those of the SDK's stream helper."""
    own = {
        "message_start",
        "message_delta",
        "message_stop",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
    }
    return [event.to_dict(warnings=False) for event in events if event.type in own]


def plain(message: Any) -> dict[str, Any]:
    """Return a message without the additions of the SDK's stream helper, which 0.121 warns of."""
    made: dict[str, Any] = message.to_dict(warnings=False)
    made["content"] = [
        {name: each for name, each in block.items() if name != "parsed_output"}
        for block in made["content"]
    ]
    return made


def assert_equal(streamed: dict[str, Any], whole: dict[str, Any], answer: BothWays) -> None:
    check_content(streamed["content"], whole["content"], answer)
    for name in ("stop_reason", "stop_sequence", "usage", "model", "role", "type"):
        assert without_ids(streamed.get(name)) == without_ids(whole.get(name)), name
    assert streamed["stop_reason"] == answer.stop_reason


@pytest.mark.parametrize("answer", PARAMETERS)
@pytest.mark.parametrize("beta", [False, True], ids=["stable", "beta"])
def test_a_stream_adds_up(
    client: anthropic.Anthropic, upstream: ScriptedUpstream, answer: BothWays, *, beta: bool
) -> None:
    messages: Any = client.beta.messages if beta else client.messages
    upstream.then(answer.streamed, answer.whole)
    ask = ASK | answer.ask
    with messages.stream(**ask) as stream:
        grammar.check(raw_events(stream))
        streamed = plain(stream.get_final_message())
        assert stream.request_id.startswith("req_")
    assert_equal(streamed, plain(messages.create(**ask)), answer)


@pytest.mark.parametrize("answer", PARAMETERS)
def test_both_ways_go_back_as_one(
    client: anthropic.Anthropic, upstream: ScriptedUpstream, answer: BothWays
) -> None:
    """The next turn sends the SDK's own blocks, as applications do with their history."""
    upstream.then(answer.streamed, answer.whole, *[answers(completion()) for _ in range(2)])
    ask = ASK | answer.ask
    with client.messages.stream(**ask) as stream:
        streamed = stream.get_final_message()
    for message in (streamed, client.messages.create(**ask)):
        client.messages.create(**{**ask, "messages": ASK["messages"] + next_turn(message.content)})
    *_, first, second = [upstream.request().body for _ in range(4)]
    assert without_ids(first) == without_ids(second)
    check_replay(first, answer)
    check_replay(second, answer)


@pytest.mark.parametrize("answer", PARAMETERS)
def test_the_asynchronous_client(proxy: str, upstream: ScriptedUpstream, answer: BothWays) -> None:
    async def main() -> tuple[Any, Any]:
        async with anthropic.AsyncAnthropic(
            base_url=proxy,
            api_key="any",
            max_retries=0,
            timeout=DEADLINE,
            _strict_response_validation=True,
        ) as client:
            async with client.messages.stream(**ASK | answer.ask) as stream:
                grammar.check(raw_events([event async for event in stream]))
                streamed = await stream.get_final_message()
            return streamed, await client.messages.create(**ASK | answer.ask)

    upstream.then(answer.streamed, answer.whole)
    streamed, whole = asyncio.run(main())
    assert_equal(plain(streamed), plain(whole), answer)
