"""Messages and streams, judged by the official SDK, whose strict validation checks every field.

`make test` runs the modules test_sdk*.py twice: with the newest SDK, and with 0.121 (2023-06-01).
"""

import asyncio
from typing import Any

import anthropic
import pytest
from anthropic.types import ToolUseBlock

from tests.integration.sdk.requests import ASK, TOOL, tool_chunks
from tests.support.running_proxy import running_proxy
from tests.support.scripted_upstream import (
    DEADLINE,
    Pause,
    ScriptedUpstream,
    answers,
    completion,
    streams,
    text_chunks,
)


def test_message(client: anthropic.Anthropic, upstream: ScriptedUpstream) -> None:
    upstream.then(answers(completion("Hello")))
    message = client.messages.create(**ASK, system="Be brief.")
    assert [block.to_dict() for block in message.content] == [{"type": "text", "text": "Hello"}]
    assert (message.stop_reason, message.usage.input_tokens, message.usage.output_tokens) == (
        "end_turn",
        11,
        2,
    )
    assert message._request_id is not None


def test_stream(client: anthropic.Anthropic, upstream: ScriptedUpstream) -> None:
    upstream.then(streams(text_chunks("Hel", "lo")))
    with client.messages.stream(**ASK) as stream:
        assert list(stream.text_stream) == ["Hel", "lo"]
        message = stream.get_final_message()
    assert (message.stop_reason, message.usage.input_tokens, message.usage.output_tokens) == (
        "end_turn",
        11,
        2,
    )


def test_a_stream_adds_up_to_the_message(
    client: anthropic.Anthropic, upstream: ScriptedUpstream
) -> None:
    calls = [("get_weather", '{"city":"Paris"}'), ("get_weather", '{"city":"Rome"}')]
    functions = [
        {"id": "x", "type": "function", "function": {"name": name, "arguments": raw}}
        for name, raw in calls
    ]
    upstream.then(
        streams(tool_chunks(*calls)),
        answers(
            completion("Let me see.", message={"tool_calls": functions}, finish_reason="tool_calls")
        ),
    )
    with client.messages.stream(**ASK, tools=[TOOL]) as stream:
        streamed = stream.get_final_message()
    whole = client.messages.create(**ASK, tools=[TOOL])
    seen = [
        [(block.type, getattr(block, "input", None)) for block in message.content]
        for message in (streamed, whole)
    ]
    assert (
        seen[0]
        == seen[1]
        == [("text", None), ("tool_use", {"city": "Paris"}), ("tool_use", {"city": "Rome"})]
    )
    assert streamed.stop_reason == whole.stop_reason == "tool_use"
    assert (
        len(
            {
                block.id
                for message in (streamed, whole)
                for block in message.content
                if isinstance(block, ToolUseBlock)
            }
        )
        == 4
    )


@pytest.mark.parametrize(
    ("raw", "finish", "expected"),
    [
        ("{'city':'Paris'}", "tool_calls", {"city": "Paris"}),
        (
            '{"city":"Paris" nonsense}',
            "tool_calls",
            {"city": "Paris", "INVALID_JSON": '{"city":"Paris" nonsense}'},
        ),
        ('{"city":"Par', "length", {}),
        ('{"city":"Paris","unit', "length", {"city": "Paris"}),
    ],
)
def test_broken_arguments(
    client: anthropic.Anthropic,
    upstream: ScriptedUpstream,
    raw: str,
    finish: str,
    expected: dict[str, Any],
) -> None:
    """Streamed and whole, the SDK reads the same input."""
    call = {"id": "x", "type": "function", "function": {"name": "get_weather", "arguments": raw}}
    upstream.then(
        streams(tool_chunks(("get_weather", raw), finish=finish)),
        answers(completion(None, message={"tool_calls": [call]}, finish_reason=finish)),
    )
    with client.messages.stream(**ASK, tools=[TOOL]) as stream:
        streamed = stream.get_final_message()
    whole = client.messages.create(**ASK, tools=[TOOL])
    inputs = [
        [block.input for block in message.content if isinstance(block, ToolUseBlock)]
        for message in (streamed, whole)
    ]
    assert inputs == [[expected], [expected]]


def test_a_tool_loop(client: anthropic.Anthropic, upstream: ScriptedUpstream) -> None:
    """The answer, replayed as the SDK made it, with a result."""
    upstream.then(
        streams(tool_chunks(("get_weather", '{"city":"Paris"}'))), answers(completion("Sunny."))
    )
    with client.messages.stream(**ASK, tools=[TOOL], tool_choice={"type": "any"}) as stream:
        first = stream.get_final_message()
    call = next(block for block in first.content if block.type == "tool_use")
    result = {
        "type": "tool_result",
        "tool_use_id": call.id,
        "content": [{"type": "text", "text": "22 degrees"}],
    }
    history = [
        *ASK["messages"],
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": [result]},
    ]
    message = client.messages.create(**{**ASK, "messages": history}, tools=[TOOL])
    assert message.stop_reason == "end_turn"
    first, second = upstream.request().body, upstream.request().body
    assert first["tool_choice"] == "required"
    assert second["messages"][1:] == [
        {
            "role": "assistant",
            "content": "Let me see.",
            "tool_calls": [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": "get_weather", "arguments": '{"city":"Paris"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": call.id, "content": "22 degrees"},
    ]


def test_thinking_is_returned_to_the_upstream(
    client: anthropic.Anthropic, upstream: ScriptedUpstream
) -> None:
    reasoning = [
        {"choices": [{"index": 0, "delta": {"reasoning_content": text}}]}
        for text in ("Let me", " think")
    ]
    upstream.then(streams([*reasoning, *text_chunks("Yes")]), answers(completion("More")))
    thinking: Any = {"type": "enabled", "budget_tokens": 1024}
    with client.messages.stream(**{**ASK, "max_tokens": 2000}, thinking=thinking) as stream:
        answer = stream.get_final_message()
    assert [block.type for block in answer.content] == ["thinking", "text"]
    assert answer.content[0].to_dict()["thinking"] == "Let me think"
    history = [
        *ASK["messages"],
        {"role": "assistant", "content": answer.content},
        {"role": "user", "content": "Go on"},
    ]
    client.messages.create(**{**ASK, "messages": history})
    upstream.request()
    assert upstream.request().body["messages"][1] == {
        "role": "assistant",
        "content": "Yes",
        "reasoning_content": "Let me think",
    }


def test_stop_sequences(client: anthropic.Anthropic, upstream: ScriptedUpstream) -> None:
    upstream.then(*[streams(text_chunks("one", " ST", "OP two")) for _ in range(2)])
    with client.messages.stream(**ASK, stop_sequences=["STOP"]) as stream:
        streamed = stream.get_final_message()
    for message in (streamed, client.messages.create(**ASK, stop_sequences=["STOP"])):
        assert message.content[0].to_dict()["text"] == "one "
        assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "STOP")


def test_refusal(client: anthropic.Anthropic, upstream: ScriptedUpstream) -> None:
    upstream.then(
        answers(completion(None, message={"refusal": "No."})),
        streams(text_chunks("a", finish="content_filter")),
    )
    message = client.messages.create(**ASK)
    assert (message.stop_reason, message.content[0].to_dict()["text"]) == ("refusal", "No.")
    with client.messages.stream(**ASK) as stream:
        assert stream.get_final_message().stop_reason == "refusal"


def test_count_tokens(client: anthropic.Anthropic) -> None:
    counted = client.messages.count_tokens(model="m", messages=ASK["messages"], tools=[TOOL])
    assert 10 < counted.input_tokens < 100


def test_beta(client: anthropic.Anthropic, upstream: ScriptedUpstream) -> None:
    upstream.then(answers(completion("Hello")))
    message = client.beta.messages.create(
        **ASK, betas=["context-management-2025-06-27", "unheard-of-2031-01-01"]
    )
    assert message.content[0].to_dict()["text"] == "Hello"


@pytest.mark.parametrize(
    ("status", "error", "name"),
    [
        (400, {"message": "bad"}, "BadRequestError"),
        (404, {"message": "The model `x` does not exist"}, "NotFoundError"),
        (413, {"message": "big"}, "APIStatusError"),
        (429, {"message": "slow down"}, "RateLimitError"),
        (500, {"message": "broken"}, "InternalServerError"),
        (503, {"message": "busy"}, "APIStatusError"),
    ],
)
def test_errors(
    client: anthropic.Anthropic, upstream: ScriptedUpstream, status: int, error: Any, name: str
) -> None:
    upstream.then(answers({"error": error}, status))
    with pytest.raises(getattr(anthropic, name)) as caught:
        client.messages.create(**ASK)
    body: Any = caught.value.body
    assert body["error"]["message"] == error["message"]
    assert body["request_id"] == caught.value.request_id


def test_an_error_within_the_stream(
    client: anthropic.Anthropic, upstream: ScriptedUpstream
) -> None:
    pause = Pause()
    first, *_ = text_chunks("one")
    upstream.then(streams([first, pause, {"error": {"message": "out of memory"}}], done=False))
    with client.messages.stream(**ASK) as stream:
        assert next(iter(stream.text_stream)) == "one"
        pause.go.set()
        with pytest.raises(anthropic.APIStatusError, match="out of memory"):
            stream.get_final_message()


def test_without_an_upstream() -> None:
    with (
        running_proxy("http://127.0.0.1:9") as proxy,
        anthropic.Anthropic(base_url=proxy, api_key="any", max_retries=0) as client,
        pytest.raises(anthropic.InternalServerError, match=r"127\.0\.0\.1:9 refuses connections"),
    ):
        client.messages.create(**ASK)


def test_many_streams_at_once(proxy: str, upstream: ScriptedUpstream) -> None:
    """Answers do not mix: each client gets what its own request was answered with."""

    async def main() -> list[str]:
        async with anthropic.AsyncAnthropic(
            base_url=proxy, api_key="any", max_retries=0, timeout=DEADLINE
        ) as client:

            async def read_text() -> str:
                async with client.messages.stream(**ASK) as stream:
                    return await stream.get_final_text()

            return await asyncio.gather(*[read_text() for _ in range(20)])

    upstream.then(*[streams(text_chunks(*[f"<{number}>"] * 10)) for number in range(20)])
    texts = asyncio.run(main())
    assert sorted(texts) == sorted(f"<{number}>" * 10 for number in range(20))
