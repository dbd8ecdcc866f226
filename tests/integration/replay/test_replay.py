"""Recorded responses of real upstreams, replayed through the whole proxy to the official SDK.

Each recording is requested twice, as a stream and whole, in whichever form it was recorded: some
servers respond with JSON to a request for a stream, and with a stop sequence the proxy reads a
stream for a whole response. The SDK checks every field, and its result is compared with a naive
reading of the recording.
"""

import re
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from tests.integration.replay.playing import Replaying
from tests.integration.replay.reading import EXCEPTIONS, Reading, read
from tests.integration.replay.recordings import BESIDE, NATIVE, Recording, recordings
from tests.support import grammar
from tests.support.running_proxy import running_proxy
from tests.support.scripted_upstream import DEADLINE

Json = dict[str, Any]

RECORDINGS = {name: each for name, each in recordings().items() if f"/{NATIVE}" not in name}
_BESIDE_ALONE = pytest.mark.skipif(
    not BESIDE.is_dir(), reason=f"only the project's own recordings: there is no {BESIDE}"
)
NAMES: list[Any] = [
    *RECORDINGS,
    *([] if BESIDE.is_dir() else [pytest.param("", marks=_BESIDE_ALONE)]),
]

NEVER_SAID = "\0never said\0"

# The client's status for an upstream's, where they differ: the key and the base URL are the
# proxy's, and a wrong request is a 400 in the API.
STATUS = {401: 500, 405: 500, 422: 400}
TYPES = {
    400: "invalid_request_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "api_error",
}
STOPS = {"length": "max_tokens", "content_filter": "refusal"}


@pytest.fixture(scope="module")
def client() -> Iterator[anthropic.Anthropic]:
    with (
        Replaying(RECORDINGS) as upstream,
        running_proxy(upstream.url) as proxy,
        anthropic.Anthropic(
            base_url=proxy,
            api_key="any",
            max_retries=0,
            timeout=DEADLINE,
            _strict_response_validation=True,
        ) as made,
    ):
        yield made


def request_for(recording: Recording, reading: Reading) -> Json:
    """What a client would ask to get this answer."""
    recorded = recording.request
    ask: Json = {
        "model": recording.name,
        "max_tokens": 2000,
        "messages": [{"role": "user", "content": "Hi"}],
    }
    tools = _tools(recorded) or {call.name: {} for call in reading.calls if call.name}
    if tools:
        ask["tools"] = [
            {"name": name, "input_schema": {"type": "object", **schema}}
            for name, schema in tools.items()
        ]
    if recorded.get("tool_choice") == "none":
        ask["tool_choice"] = {"type": "none"}
    schema = (recorded.get("response_format") or {}).get("json_schema", {}).get("schema")
    if schema:
        ask["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
    stop = recorded.get("stop") or []
    if stop:
        ask["stop_sequences"] = [stop] if isinstance(stop, str) else stop
    messages = recorded.get("messages") or ask["messages"]
    if messages[-1]["role"] == "assistant":
        return ask | {"messages": messages}
    return ask | {"thinking": {"type": "enabled", "budget_tokens": 1024}}


def _tools(recorded: Json) -> dict[str, Json]:
    functions = [tool.get("function") for tool in recorded.get("tools") or ()]
    named = [each for each in functions if each and isinstance(each.get("name"), str)]
    return {
        each["name"]: each.get("parameters")
        if each.get("parameters", {}).get("type") == "object"
        else {}
        for each in named
    }


@pytest.mark.parametrize("name", NAMES)
def test_stream(client: anthropic.Anthropic, name: str) -> None:
    recording = RECORDINGS[name]
    reading = read(recording)
    ask = request_for(recording, reading)
    if not reading.fails:
        with client.messages.stream(**ask) as stream:
            grammar.check(
                [event.to_dict(warnings=False) for event in stream if event.type not in _HELPERS]
            )
            check_answer(stream.get_final_message(), reading, ask)
        return
    heard: list[Any] = []
    with pytest.raises(anthropic.APIStatusError) as caught:
        _listen(client, ask, heard)
    check_error(caught.value, reading)
    # On a slow machine the message begins before its first content, as with slow upstreams.
    if heard and heard[-1].content:
        check_beginning(heard[-1], reading)


def _listen(client: anthropic.Anthropic, ask: Json, heard: list[Any]) -> None:
    with client.messages.stream(**ask) as stream:
        heard.extend(stream.current_message_snapshot for _ in stream)


# Events that the SDK's stream helper adds to the API's own.
_HELPERS = ("text", "thinking", "signature", "input_json", "citation")


@pytest.mark.parametrize("name", NAMES)
def test_whole(client: anthropic.Anthropic, name: str) -> None:
    recording = RECORDINGS[name]
    reading = read(recording)
    ask = request_for(recording, reading)
    if recording.is_stream:
        ask["stop_sequences"] = [*ask.get("stop_sequences", []), NEVER_SAID]
    if not reading.fails:
        check_answer(client.messages.create(**ask), reading, ask)
        return
    with pytest.raises(anthropic.APIStatusError) as caught:
        client.messages.create(**ask)
    assert caught.value.status_code == _status(reading)
    check_error(caught.value, reading)


def _status(reading: Reading) -> int:
    """The status that the client gets."""
    if reading.lacks_path:
        return 500
    return STATUS.get(reading.status, reading.status if reading.error else 500)


def check_answer(message: Any, reading: Reading, ask: Json) -> None:
    """What the SDK got is what the recording says."""
    text, stopped_at = _until(_expected_text(reading, ask), ask.get("stop_sequences", []))
    assert _joined(message, "text") == text
    assert _joined(message, "thinking") == reading.thinking
    called = [(block.name, block.input) for block in message.content if block.type == "tool_use"]
    assert called == [(call.name, call.input) for call in reading.calls]
    assert (message.stop_reason, message.stop_sequence) == (_stop(reading, stopped_at), stopped_at)
    if reading.refusal:
        assert message.stop_details.explanation == reading.refusal
    if stopped_at is None:
        check_usage(message.usage, reading)


def check_beginning(message: Any, reading: Reading) -> None:
    """Content before the break. The end may be missing of text that looked like a tag or a call."""
    assert reading.text.startswith(_joined(message, "text"))
    assert reading.thinking.startswith(_joined(message, "thinking"))
    calls = [block for block in message.content if block.type == "tool_use"]
    assert [block.name for block in calls] == [call.name for call in reading.calls]
    assert [block.input for block in calls if block.input] == [
        call.input for call in reading.calls if call.input
    ]


def _expected_text(reading: Reading, ask: Json) -> str:
    """A refusal is no JSON document, and the client's own beginning is not repeated."""
    beginning = ask["messages"][-1]
    prefill = beginning["content"] if beginning["role"] == "assistant" else ""
    return reading.text.removeprefix(prefill) + ("" if "output_config" in ask else reading.refusal)


def _joined(message: Any, kind: str) -> str:
    return "".join(getattr(block, kind) for block in message.content if block.type == kind)


def _until(text: str, sequences: list[str]) -> tuple[str, str | None]:
    found = [(text.index(each), each) for each in sequences if each in text]
    at, sequence = min(found, default=(len(text), None))
    return text[:at], sequence


def _stop(reading: Reading, stopped_at: str | None) -> str:
    if stopped_at is not None:
        return "stop_sequence"
    otherwise = "refusal" if reading.refusal else "tool_use" if reading.calls else "end_turn"
    return STOPS.get(reading.finish, otherwise)


def check_usage(usage: Any, reading: Reading) -> None:
    told = reading.usage
    prompt, completion = told.get("prompt_tokens") or 0, told.get("completion_tokens") or 0
    if not prompt or not completion:
        assert usage.input_tokens > 0, "no estimate"
        assert (usage.output_tokens > 0) is not reading.says_nothing
        return
    details = told.get("completion_tokens_details") or {}
    reasoning = details.get("reasoning_tokens") or told.get("reasoning_tokens") or 0
    # Some leave the reasoning out of the completion, and some say of it nothing but the total.
    hidden = (
        reasoning
        if reasoning > completion
        else max(0, told.get("total_tokens", 0) - prompt - completion)
    )
    cached = (
        (told.get("prompt_tokens_details") or {}).get("cached_tokens")
        or told.get("cached_tokens")
        or 0
    )
    read, written = usage.cache_read_input_tokens, usage.cache_creation_input_tokens
    assert usage.input_tokens + read + written == prompt
    assert read == min(prompt, cached or told.get("prompt_cache_hit_tokens") or 0)
    assert usage.output_tokens == completion + hidden


def check_error(error: anthropic.APIStatusError, reading: Reading) -> None:
    """It has the right type and the upstream's text; for a long prompt the API's, with numbers."""
    assert isinstance(error.body, dict)
    told = error.body["error"]
    words = reading.error or "ended the response before it was complete"
    assert told["type"] == TYPES[_status(reading)]
    overflow = re.fullmatch(r"prompt is too long: (\d+) tokens > (\d+) maximum", told["message"])
    assert (
        all(number in words for number in overflow.groups())
        if overflow
        else words in told["message"]
    )


@_BESIDE_ALONE
def test_each_exception_has_its_recording() -> None:
    assert EXCEPTIONS.keys() <= RECORDINGS.keys()
