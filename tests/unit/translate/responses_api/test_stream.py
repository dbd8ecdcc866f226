"""Responses streams: every case three ways, and any events at all.

The events of the cases are checked against OpenAI's own types.
"""

from collections.abc import Iterator
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import ResponseError

from anthropic_proxy.errors import ApiError
from anthropic_proxy.translate.apis import APIS
from anthropic_proxy.translate.reasoning.fields import parse_reasoning
from anthropic_proxy.translate.response.stream import StreamTranslator
from anthropic_proxy.translate.response.whole import collect_message, to_message
from anthropic_proxy.translate.responses_api.response_end import build_error_chunk
from anthropic_proxy.translate.responses_api.stream import ResponsesReader, to_completion
from anthropic_proxy.translate.upstream_errors import parse_chunk_error
from anthropic_proxy.translate.upstream_failure import UpstreamIdentity
from anthropic_proxy.wire.json_codec import dumps, loads
from anthropic_proxy.wire.sse import DONE, SSEDecoder
from tests.support import grammar, responses_shapes
from tests.support.cases import cases
from tests.support.response_specs import answer_spec
from tests.support.splits import byte_by_byte, random_splits, whole
from tests.support.streams import LOOK

Json = dict[str, Any]

_API = APIS["responses"]
# Cases of servers that don't keep to OpenAI's types.
_ODD = {
    "unknown",
    "no_index",
    "error_event_nested",
    "error_event_context",
    "error_of_a_gateway",
    "forms_otherwise",
    # Azure.
    "failed_content_filter_at_once",
    "failed_content_filter_after_text",
    "failed_content_filter_in_call",
}
_OURS = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-test"}


def translated(
    pieces: Iterator[bytes], request: Json | None = None
) -> tuple[list[Json], ApiError | None]:
    """Return Messages API events for an upstream's bytes, and the error that ended them."""
    translator, decoder, reader = (
        StreamTranslator(answer_spec(request)),
        SSEDecoder(),
        _API.new_reader(),
    )
    events = translator.start()
    try:
        for piece in pieces:
            for payload in decoder.feed(piece):
                if payload == DONE:
                    events += translator.close(done=_API.done_ends_stream)
                else:
                    events += [
                        event
                        for chunk in reader.feed(loads(payload))
                        for event in translator.feed(chunk)
                    ]
        events += translator.close(done=False)
    except ApiError as error:
        return [*events, *translator.fail(error, "req_1")], error
    return events, None


def wire(case: Json) -> bytes:
    events = [
        f"event: {event.get('type')}\ndata: ".encode() + dumps(event) + b"\n\n"
        for event in case["events"]
    ]
    return b"".join([*events, b"data: [DONE]\n\n" if case["done"] else b""])


def told(case: Json, split: Any = whole) -> tuple[Json, ApiError | None]:
    """The message that a case comes to, or the error."""
    events, error = translated(split(wire(case)), case.get("request"))
    grammar.check(events)
    return {} if error else collect_message(events), error


@pytest.mark.parametrize("split", [whole, byte_by_byte, random_splits])
@pytest.mark.parametrize("case", cases("responses_api/streams"))
def test_case(case: Json, split: Any) -> None:
    message, error = told(case, split)
    if "error" in case:
        assert error is not None
        assert {"status": error.status, "message": error.message} == case["error"]
    else:
        assert message == {**_OURS, **case["message"]}


@pytest.mark.parametrize(
    "case",
    [
        case
        for case in cases("responses_api/streams")
        if case.id not in _ODD and not case.values[0].get("odd")
    ],
)
def test_openai_sends_such_events(case: Json) -> None:
    for event in case["events"]:
        responses_shapes.check_event(event)


@pytest.mark.parametrize(
    "case", [case for case in cases("responses_api/streams") if case.values[0].get("whole")]
)
def test_a_whole_answer_is_what_its_stream_is(case: Json) -> None:
    completion = to_completion(case["events"][-1]["response"])
    translator = StreamTranslator(answer_spec(case.get("request")))
    if "error" in case:
        with pytest.raises(ApiError) as caught:
            to_message(completion, translator)
        assert caught.value.status == case["error"]["status"]
        assert caught.value.message == case["error"]["message"]
    else:
        assert to_message(completion, translator) == {**_OURS, **case["message"]}


def test_nothing_is_held_back() -> None:
    reader = _API.new_reader()
    names = ("reasoning_summary_text", "output_text", "function_call_arguments")
    for index, name in enumerate(names):
        assert (
            len(
                reader.feed({"type": f"response.{name}.delta", "output_index": index, "delta": "a"})
            )
            == 1
        )


texts = st.text("ab\n", max_size=3)
junk: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda each: (
        st.lists(each, max_size=2)
        | st.dictionaries(
            st.sampled_from(["type", "text", "summary", "content", "error", "name"]),
            each,
            max_size=3,
        )
    ),
    max_leaves=6,
)
parts = st.fixed_dictionaries(
    {
        "type": st.sampled_from(
            ["summary_text", "reasoning_text", "output_text", "refusal", "text", "output_audio", ""]
        )
    },
    optional={"text": junk, "refusal": junk, "transcript": junk},
)
items = st.fixed_dictionaries(
    {
        "type": st.sampled_from(
            ["reasoning", "message", "function_call", "custom_tool_call", "other", ""]
        )
    },
    optional={
        "role": st.just("assistant"),
        "status": texts | st.sampled_from(["completed", "incomplete"]),
        "call_id": texts,
        "input": junk,
        "id": texts,
        "name": junk,
        "arguments": junk,
        "phase": junk,
        "encrypted_content": junk,
        "summary": junk | st.lists(parts, max_size=2),
        "content": junk | st.lists(parts, max_size=2),
    },
)
kinds = [
    *(
        f"response.{name}.{end}"
        for name in ("output_text", "refusal", "reasoning_text")
        for end in ("delta", "done")
    ),
    "response.reasoning_summary_text.delta",
    "response.function_call_arguments.delta",
    "response.function_call_arguments.done",
    "response.custom_tool_call_input.delta",
    "response.custom_tool_call_input.done",
    "response.audio.transcript.delta",
    "response.content_part.done",
    "response.done",
    "response.output_item.added",
    "response.output_item.done",
    "response.completed",
    "response.failed",
    "error",
    "other",
]
responses = st.fixed_dictionaries(
    {"output": junk | st.lists(items, max_size=2)},
    optional={
        "status": junk,
        "usage": junk,
        "incomplete_details": junk,
        "status_details": junk,
        "output_text": junk,
    },
)
event_like = st.fixed_dictionaries(
    {"type": st.sampled_from(kinds)},
    optional={
        **dict.fromkeys(
            (
                "delta",
                "text",
                "refusal",
                "arguments",
                "input",
                "item_id",
                "content_index",
                "summary_index",
                "error",
            ),
            junk,
        ),
        "output_index": st.integers(0, 2) | junk,
        "item": junk | items,
        "part": junk | parts,
        "response": junk | responses,
    },
)


@given(st.lists(event_like | st.dictionaries(texts, junk, max_size=2), max_size=6), st.booleans())
def test_no_events_break_the_grammar(events: list[Json], done: bool) -> None:
    request = {"thinking": {"type": "enabled"}, "stop_sequences": ["a"]}
    grammar.check(translated(whole(wire({"events": events, "done": done})), request)[0])


@given(responses | st.dictionaries(texts, junk, max_size=2))
def test_any_whole_answer_is_one_or_an_error(response: Json) -> None:
    try:
        message = to_message(to_completion(response), StreamTranslator(answer_spec()))
    except ApiError:
        return
    assert message["stop_reason"] is not None


_CALL_BEGUN: Json = {
    "type": "response.output_item.added",
    "output_index": 0,
    "item": {"type": "function_call", "call_id": "c", "name": "look", "arguments": '{"a":"b'},
}


@pytest.mark.parametrize("split", [whole, byte_by_byte, random_splits])
@pytest.mark.parametrize("event_type", ["completed", "incomplete"])
@pytest.mark.parametrize(
    ("response", "result"),
    [
        ({"status": "cancelled"}, 500),
        ({"status": "canceled"}, 500),
        ({"status": "failed"}, 500),
        ({"status": "completed", "error": {"code": "rate_limit_exceeded", "message": "a"}}, 429),
        ({"status": "incomplete", "incomplete_details": {"reason": "network_error"}}, 500),
        ({"status": "incomplete", "incomplete_details": {"reason": "cancelled"}}, 500),
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, "cut"),
        ({"status": "incomplete", "incomplete_details": {"reason": "max_tokens"}}, "cut"),
        ({"status": "incomplete", "incomplete_details": {"reason": "whim"}}, "cut"),
        ({"status": "incomplete", "incomplete_details": {"reason": "stop"}}, "cut"),
        ({"status": "incomplete", "incomplete_details": None}, "cut"),
        ({"status": "incomplete"}, "cut"),
        ({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, "refusal"),
        ({"status": "incomplete", "incomplete_details": {"reason": "SAFETY"}}, "refusal"),
    ],
)
def test_the_status_of_a_response(
    response: Json, result: int | str, event_type: str, split: Any
) -> None:
    last_event = {"type": f"response.{event_type}", "response": response}
    message, error = told({"events": [_CALL_BEGUN, last_event], "done": False}, split)
    if error is not None:
        assert error.status == result
    else:
        assert message["stop_reason"] == {"cut": "max_tokens"}.get(str(result), result)
        assert "INVALID_JSON" not in message["content"][0]["input"]


@pytest.mark.parametrize(
    ("response", "stop_reason"),
    [
        ({"status": "incomplete", "incomplete_details": {"reason": "max_tokens"}}, "max_tokens"),
        ({"status": "incomplete", "incomplete_details": {"reason": "safety"}}, "refusal"),
        (
            {"status": "incomplete", "incomplete_details": {"reason": "context_length_exceeded"}},
            "model_context_window_exceeded",
        ),
    ],
)
def test_the_reason_of_a_whole_incomplete_response(response: Json, stop_reason: str) -> None:
    completion = to_completion({**response, "output": []})
    message = to_message(completion, StreamTranslator(answer_spec()))
    assert message["stop_reason"] == stop_reason


@pytest.mark.parametrize("status", [None, "completed", "in_progress", "whim"])
def test_a_last_event_whose_status_is_no_failure(status: str | None) -> None:
    last_event = {"type": "response.completed", "response": {"status": status}}
    text = {"type": "response.output_text.delta", "output_index": 0, "delta": "a"}
    message, error = told({"events": [text, last_event], "done": False})
    assert error is None
    assert message["stop_reason"] == "end_turn"


@pytest.mark.parametrize(
    ("status", "text"),
    [
        ("in_progress", "before it was complete"),
        ("queued", "before it was complete"),
        ("cancelled", "aborted the response .*cancelled"),
        ("failed", "aborted the response"),
    ],
)
def test_a_response_that_has_not_ended_is_an_error(status: str, text: str) -> None:
    with pytest.raises(ApiError, match=text):
        to_message(to_completion({"status": status, "output": []}), StreamTranslator(answer_spec()))


@pytest.mark.parametrize(
    ("response", "status", "message"),
    [
        (
            {"object": "list"},
            500,
            "The upstream up:1 returned status 200 and a body that is not a chat completion",
        ),
        (
            {
                "status": "failed",
                "error": {"code": "invalid_prompt", "message": "No."},
                "output": [],
            },
            400,
            "No.",
        ),
        ({"error": {"message": "Gone", "code": 503}}, 529, "Gone"),
    ],
)
def test_what_is_no_answer_is_an_error(response: Json, status: int, message: str) -> None:
    with pytest.raises(ApiError) as caught:
        to_message(to_completion(response), StreamTranslator(answer_spec()))
    assert (caught.value.status, caught.value.message) == (status, message)


# Complete responses.

_MESSAGE = {"type": "message", "content": [{"type": "output_text", "text": "Hello"}]}


@pytest.mark.parametrize(
    ("response", "content", "finish_reason"),
    [
        ({"status": "completed", "output": [_MESSAGE]}, "Hello", "stop"),
        ({"status": "completed", "output": []}, None, "stop"),
        ({"status": "in_progress", "output": [_MESSAGE]}, None, None),
        ({"type": "response.completed", "response": {"output": [_MESSAGE]}}, "Hello", "stop"),
    ],
    ids=["text", "nothing", "not ended", "the last event"],
)
def test_the_only_choice(response: Any, content: str | None, finish_reason: str | None) -> None:
    assert to_completion(response)["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": content},
            "finish_reason": finish_reason,
        }
    ]


@pytest.mark.parametrize("response", [{}, {"status": None}, {"output": []}, {"output": {}}])
def test_json_that_is_no_response_has_no_choices(response: Any) -> None:
    assert to_completion(response) == {"choices": []}


@pytest.mark.parametrize("status", ["failed", "completed", None])
def test_an_error_counts_whatever_the_status(status: str | None) -> None:
    response = {"status": status, "error": {"message": "No."}, "output": [_MESSAGE]}
    assert to_completion(response)["error"]["message"] == "No."


# Errors within a response: each code that OpenAI's types know has its status.

_SERVERS = {"server_error": 500, "vector_store_timeout": 500, "rate_limit_exceeded": 429}


@pytest.mark.parametrize("code", get_args(ResponseError.model_fields["code"].annotation))
def test_each_code_has_its_status(code: str) -> None:
    status = _SERVERS.get(code, 400)
    chunk = build_error_chunk({"code": code, "message": "No."})
    assert chunk["error"] == {
        "message": "No.",
        "type": code,
        "code": code if status == 500 else status,
    }
    error = parse_chunk_error(chunk, UpstreamIdentity("up:1"))
    assert error is not None
    assert error.status == status
    assert "No." in error.message


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("insufficient_quota", 429),
        ("server_is_overloaded", 529),
        ("slow_down", 529),
        ("invalid_request_error", 400),
        ("context_length_exceeded", 400),
    ],
)
@pytest.mark.parametrize("field", ["code", "type"])
def test_other_servers_errors_have_their_status(field: str, name: str, status: int) -> None:
    chunk = build_error_chunk({field: name, "message": "No."})
    assert chunk["error"] == {"message": "No.", "type": name, "code": status}


@pytest.mark.parametrize("error", [None, "", [], {}, {"message": None, "code": None}])
def test_an_error_without_words_is_one(error: Any) -> None:
    found = parse_chunk_error(build_error_chunk(error), UpstreamIdentity("up:1"))
    assert found is not None
    assert (found.status, found.message) == (
        500,
        "The upstream up:1 aborted the response without an error message",
    )


_REASONING_DELTA = {
    "type": "response.reasoning_summary_text.delta",
    "item_id": "rs_1",
    "output_index": 0,
    "summary_index": 0,
    "delta": "Thinking.",
}
_MESSAGE_DELTA = {
    "type": "response.output_text.delta",
    "item_id": "msg_1",
    "output_index": 0,
    "content_index": 0,
    "delta": "Hello",
}
_CALL_ITEM = {
    "type": "function_call",
    "id": "fc_1",
    "call_id": "call_1",
    "name": "look",
    "arguments": "{}",
}


_CALL_DONE = {"type": "response.output_item.done", "item": _CALL_ITEM}


@pytest.mark.parametrize(
    ("between", "separator"), [([], "\n\n"), ([_MESSAGE_DELTA], ""), ([_CALL_DONE], "")]
)
def test_reasoning_is_separated_from_adjacent_reasoning(
    between: list[Json], separator: str
) -> None:
    reader = ResponsesReader()
    later = {**_REASONING_DELTA, "item_id": "rs_2"}
    chunks: list[Json] = []
    for index, event in enumerate([_REASONING_DELTA, *between, later]):
        chunks = reader.feed({**event, "output_index": index})
    reasoning = parse_reasoning(chunks[-1]["choices"][0]["delta"])
    assert reasoning is not None
    assert reasoning.text == f"{separator}Thinking."


def _completed(*output: Json) -> Json:
    response = {"status": "completed", "output": [*output], "usage": None}
    return {"type": "response.completed", "response": response}


@pytest.mark.parametrize(
    ("events", "types"),
    [
        ([_REASONING_DELTA, _completed(_MESSAGE)], ["thinking", "text"]),
        ([_REASONING_DELTA, _completed(_CALL_ITEM)], ["thinking", "tool_use"]),
        ([_MESSAGE_DELTA, _completed(_MESSAGE, _CALL_ITEM)], ["text", "tool_use"]),
        ([_MESSAGE_DELTA, _completed(_MESSAGE)], ["text"]),
        ([_completed(_MESSAGE, _CALL_ITEM)], ["text", "tool_use"]),
    ],
)
def test_what_only_the_last_event_has_is_not_lost(events: list[Json], types: list[str]) -> None:
    request = {**LOOK, "thinking": {"type": "adaptive"}}
    message, error = told({"events": events, "done": False, "request": request})
    assert error is None
    assert [block["type"] for block in message["content"]] == types


@pytest.mark.parametrize(
    ("event", "status", "message"),
    [
        ({"detail": "worker died"}, 500, "worker died"),
        ({"message": "slow", "code": 429}, 429, "slow"),
        ({"object": "error", "type": "InternalServerError", "message": "died"}, 500, "died"),
        (
            {"type": "error", "error": {"type": "usage_limit_reached", "resets_in_seconds": 30}},
            429,
            "The upstream up:1 aborted the response without an error message",
        ),
    ],
)
def test_errors_in_other_shapes(event: Json, status: int, message: str) -> None:
    (chunk,) = ResponsesReader().feed(event)
    error = parse_chunk_error(chunk, UpstreamIdentity("up:1"))
    assert error is not None
    assert (error.status, error.message) == (status, message)
    assert error.headers.get("retry-after") == ("30" if "resets_in" in str(event) else None)


@pytest.mark.parametrize(
    "event",
    [
        {"type": "response.new", "message": "a note"},
        {"type": "ping"},
        {"type": "codex.rate_limits", "plan": "a"},
    ],
)
def test_unknown_events_are_skipped(event: Json) -> None:
    assert ResponsesReader().feed(event) == []


def test_a_body_that_is_an_error_keeps_its_words() -> None:
    completion = to_completion({"detail": "worker died"})
    error = parse_chunk_error(completion, UpstreamIdentity("up:1"))
    assert error is not None
    assert error.message == "worker died"


def _message_item(*texts: str, item_id: str = "m") -> Json:
    content = [{"type": "output_text", "text": text} for text in texts]
    return {"type": "message", "id": item_id, "content": content}


def _text_delta(text: str, item_id: str = "m", content_index: int = 0) -> Json:
    return {
        "type": "response.output_text.delta",
        "item_id": item_id,
        "content_index": content_index,
        "delta": text,
    }


@pytest.mark.parametrize(
    ("events", "output", "text"),
    [
        ([_text_delta("Hel")], [_message_item("Hello")], "Hello"),
        ([_text_delta("Hel")], [{**_message_item("Hello"), "id": None}], "Hello"),
        ([_text_delta("Hello")], [_message_item("Hello")], "Hello"),
        ([_text_delta("Hello"), _CALL_DONE], [_message_item("Hello!"), _CALL_ITEM], "Hello!"),
        # What was sent has another form, or other numbers.
        ([_text_delta("Hel")], [_message_item("Other")], "Hel"),
        ([_text_delta("Hello")], [_message_item("Hel")], "Hello"),
        ([_text_delta("Hello", content_index=1)], [_message_item("Hello")], "Hello"),
        ([_text_delta("Hello")], [_message_item("Hello", item_id="other")], "Hello"),
        (
            [_text_delta("One", "a"), _text_delta("Two", "b")],
            [_message_item("One more", item_id="a"), _message_item("Two", item_id="b")],
            "One\n\nTwo",
        ),
    ],
)
def test_the_last_event_completes_a_text(events: list[Json], output: list[Json], text: str) -> None:
    completed = {
        "type": "response.completed",
        "response": {"status": "completed", "output": output},
    }
    reader = ResponsesReader()
    chunks = [chunk for event in [*events, completed] for chunk in reader.feed(event)]
    written = [chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks]
    assert "".join(written) == text
