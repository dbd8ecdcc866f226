"""Upstreams of several kinds and the official SDK: their requests, and the SDK's messages."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import anthropic
import pytest

from tests.support import openai_shapes, responses_shapes
from tests.support.running_proxy import running_proxy
from tests.support.scripted_upstream import (
    DEADLINE,
    Received,
    Script,
    ScriptedUpstream,
    answers,
    completion,
    streams,
    text_chunks,
)

Json = dict[str, Any]

TOOL: Json = {
    "name": "look",
    "input_schema": {"type": "object", "properties": {"n": {"type": "integer"}}},
}
THINKS: Json = {"thinking": {"type": "enabled", "budget_tokens": 5000}}
IMAGE: Json = {
    "type": "image",
    "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="},
}
MARK: Json = {"type": "ephemeral"}
FORMS = pytest.mark.parametrize("form", ["whole", "stream"])


@dataclass
class Asked:
    """A client of a proxy in front of an upstream of one kind."""

    client: anthropic.Anthropic
    upstream: ScriptedUpstream
    form: str
    history: list[Json] = field(default_factory=list)

    def ask(
        self, content: Any, *scripts: Script, **params: Any
    ) -> tuple[anthropic.types.Message, Received]:
        """Return the response to the next turn, and the last upstream request for it."""
        self.upstream.then(*scripts)
        self.history.append({"role": "user", "content": content})
        ask: Json = {"model": "m", "max_tokens": 9000, "messages": self.history, **params}
        if self.form == "whole":
            message = self.client.messages.create(**ask)
        else:
            with self.client.messages.stream(**ask) as stream:
                message = stream.get_final_message()
        self.history.append({"role": "assistant", "content": message.content})
        return message, [self.upstream.request() for _ in scripts][-1]


@contextmanager
def asked(
    upstream: ScriptedUpstream, form: str, path: str = "", **settings: Any
) -> Iterator[Asked]:
    with (
        running_proxy(f"{upstream.url}{path}", UPSTREAM_API_KEY="key", **settings) as address,
        anthropic.Anthropic(
            base_url=address,
            api_key="any",
            max_retries=0,
            timeout=DEADLINE,
            _strict_response_validation=True,
        ) as client,
    ):
        yield Asked(client, upstream, form)


def said(form: str, message: Json, finish: str = "stop", first: list[Any] | None = None) -> Script:
    """Return a response in either form: `message` is all of it, or the one delta after `first`."""
    if form == "whole":
        return answers(completion(message=message, finish_reason=finish))
    return streams(
        [*(first or []), {"choices": [{"index": 0, "delta": message}]}, *text_chunks(finish=finish)]
    )


def call(number: int, **more: Any) -> Json:
    arguments = json.dumps({"n": number})
    return {
        "id": f"call_{number}",
        "type": "function",
        "function": {"name": "look", "arguments": arguments},
        **more,
    }


def results(message: anthropic.types.Message, *more: Json) -> list[Json]:
    uses = [block for block in message.content if block.type == "tool_use"]
    return [
        *(
            {"type": "tool_result", "tool_use_id": use.id, "content": f"result {use.input}"}
            for use in uses
        ),
        *more,
    ]


@FORMS
def test_azure(upstream: ScriptedUpstream, form: str) -> None:
    """A deployment's URL; the first chunk has no choices, and the content filter is a refusal."""
    first = {"id": "", "model": "", "choices": [], "prompt_filter_results": [{"prompt_index": 0}]}
    path = "/openai/deployments/gpt?api-version=2024-10-21"
    with asked(upstream, form, path, UPSTREAM_PROVIDER="azure") as azure:
        message, request = azure.ask(
            "Hi", said(form, {"content": "Hello"}, first=[first]), system="Be brief"
        )
        assert message.content[0].to_dict() == {"type": "text", "text": "Hello"}
        assert request.path == "/openai/deployments/gpt/chat/completions?api-version=2024-10-21"
        assert (request.headers["api-key"], "authorization" in request.headers) == ("key", False)
        assert request.body["max_completion_tokens"] == 9000
        openai_shapes.check(request.body)
        message, _ = azure.ask("Go on", said(form, {"content": "Once"}, "content_filter"))
    assert message.stop_reason == "refusal"


@FORMS
def test_gemini(upstream: ScriptedUpstream, form: str) -> None:
    """The signature goes back with the call that it came with."""
    signed = call(1, extra_content={"google": {"thought_signature": "c2ln"}})
    calls = [
        {name: value for name, value in each.items() if name != "index"}
        for each in (signed, call(2))
    ]
    with asked(upstream, form, UPSTREAM_PROVIDER="gemini") as gemini:
        message, request = gemini.ask(
            "Look", said(form, {"tool_calls": calls}), tools=[TOOL], **THINKS
        )
        assert (message.stop_reason, request.path) == (
            "tool_use",
            "/v1beta/openai/chat/completions",
        )
        assert request.body["reasoning_effort"] == "medium"
        _, request = gemini.ask(
            results(message), said(form, {"content": "Done"}), tools=[TOOL], **THINKS
        )
    sent = request.body["messages"]
    assert [each.get("extra_content") for each in sent[1]["tool_calls"]] == [
        signed["extra_content"],
        None,
    ]
    assert [each["name"] for each in sent[2:]] == ["look", "look"]
    openai_shapes.check(openai_shapes.plain(request.body))


@FORMS
def test_mistral(upstream: ScriptedUpstream, form: str) -> None:
    """Ids of nine characters, thinking as parts, no `stream_options`, results apart from text."""
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}
    refusal = {
        "object": "error",
        "message": "Unexpected role 'user' after role 'tool'",
        "type": "invalid_request_message_order",
    }
    with asked(upstream, form, UPSTREAM_PROVIDER="mistral") as mistral:
        first = said(form, {"content": [thinking], "tool_calls": [call(1), call(2)]}, "tool_calls")
        message, request = mistral.ask("Look", first, tools=[TOOL], **THINKS)
        assert [block.type for block in message.content] == ["thinking", "tool_use", "tool_use"]
        assert "stream_options" not in request.body
        turn = results(message, {"type": "text", "text": "Go on"})
        _, request = mistral.ask(
            turn, answers(refusal, 400), said(form, {"content": "Done"}), tools=[TOOL], **THINKS
        )
    sent = request.body["messages"]
    assert [each["role"] for each in sent] == [
        "user",
        "assistant",
        "tool",
        "tool",
        "assistant",
        "user",
    ]
    assert sent[1]["content"] == [thinking]
    ids = [each["id"] for each in sent[1]["tool_calls"]]
    assert ids == [each["tool_call_id"] for each in sent[2:4]]
    assert all(len(each) == 9 and each.isalnum() for each in ids)


@FORMS
def test_openrouter(upstream: ScriptedUpstream, form: str) -> None:
    """Comments in the stream; caching marks and provider are sent; signed reasoning returns."""
    detail = {
        "type": "reasoning.text",
        "text": "Hm",
        "signature": "c2ln",
        "index": 0,
        "format": "anthropic-claude-v1",
    }
    system = [{"type": "text", "text": "Be brief", "cache_control": MARK}]
    extra = '{"provider": {"order": ["anthropic"]}}'
    with asked(
        upstream, form, UPSTREAM_PROVIDER="openrouter", UPSTREAM_EXTRA_BODY=extra
    ) as openrouter:
        first = said(
            form,
            {"content": "Hi", "reasoning": "Hm", "reasoning_details": [detail]},
            first=[b": PROCESSING\n\n"],
        )
        message, request = openrouter.ask("Hi", first, system=system, **THINKS)
        assert [block.type for block in message.content] == ["thinking", "text"]
        assert request.path == "/api/v1/chat/completions"
        assert request.body["provider"] == {"order": ["anthropic"]}
        assert request.body["messages"][0]["content"] == system
        assert request.body["reasoning"] == {"max_tokens": 5000}
        _, request = openrouter.ask("Go on", said(form, {"content": "Done"}), **THINKS)
    assert request.body["messages"][1]["reasoning_details"] == [detail]


def test_openrouter_breaks_off(upstream: ScriptedUpstream) -> None:
    """An error within the stream, beside a choice."""
    broken = {
        "error": {"code": 502, "message": "Provider disconnected"},
        "choices": [{"delta": {}, "finish_reason": "error"}],
    }
    with (
        asked(upstream, "stream", UPSTREAM_PROVIDER="openrouter") as openrouter,
        pytest.raises(anthropic.APIStatusError),
    ):
        openrouter.ask(
            "Hi", streams([{"choices": [{"index": 0, "delta": {"content": "Hel"}}]}, broken])
        )


# Items and events of the Responses API.

USAGE = {"input_tokens": 20, "output_tokens": 9, "total_tokens": 29}
REASONING: Json = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [{"type": "summary_text", "text": "Hm"}],
    "encrypted_content": "c2VjcmV0",
}


def item_call(number: int) -> Json:
    arguments = json.dumps({"n": number})
    return {
        "type": "function_call",
        "id": f"fc_{number}",
        "call_id": f"call_{number}",
        "name": "look",
        "arguments": arguments,
    }


def item_text(text: str, kind: str = "output_text", name: str = "text") -> Json:
    return {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "content": [{"type": kind, name: text}],
    }


def responds(form: str, *items: Json, status: str = "completed", **more: Any) -> Script:
    response = {"id": "resp_1", "status": status, "output": list(items), "usage": USAGE, **more}
    if form == "whole":
        return answers(response)
    done = [
        {"type": "response.output_item.done", "output_index": index, "item": item}
        for index, item in enumerate(items)
    ]
    return streams([*done, {"type": f"response.{status}", "response": response}], done=False)


REFUSED = item_text("No.", "refusal", "refusal")
CUT = {"incomplete_details": {"reason": "max_output_tokens"}}
FILTERED = {"incomplete_details": {"reason": "content_filter"}}


@FORMS
@pytest.mark.parametrize(
    ("items", "status", "more", "stop", "text"),
    [
        ([item_text("Hello")], "completed", {}, "end_turn", "Hello"),
        ([REFUSED], "completed", {}, "refusal", "No."),
        ([item_text("Once")], "incomplete", CUT, "max_tokens", "Once"),
        ([item_text("Once")], "incomplete", FILTERED, "refusal", "Once"),
        ([item_text("one STOP two")], "completed", {}, "stop_sequence", "one "),
    ],
    ids=["text", "refusal", "length", "filter", "stop-sequence"],
)
def test_responses_ends(
    upstream: ScriptedUpstream,
    form: str,
    items: list[Json],
    status: str,
    more: Json,
    stop: str,
    text: str,
) -> None:
    # An answer that may have to be cut is read as a stream in both cases.
    script = responds("stream" if stop == "stop_sequence" else form, *items, status=status, **more)
    params: Json = {"stop_sequences": ["STOP"]} if stop == "stop_sequence" else {}
    with asked(upstream, form, UPSTREAM_API="responses", UPSTREAM_PROVIDER="openai") as responses:
        message, request = responses.ask("Hi", script, max_tokens=1, **params)
    assert (message.stop_reason, message.content[0].to_dict()) == (
        stop,
        {"type": "text", "text": text},
    )
    assert (request.path, request.body["max_output_tokens"], "stop" in request.body) == (
        "/v1/responses",
        16,
        False,
    )
    responses_shapes.check(request.body)


@FORMS
@pytest.mark.parametrize(
    ("event", "status"),
    [
        (
            {
                "type": "response.failed",
                "response": {"error": {"code": "rate_limit_exceeded", "message": "Slow"}},
            },
            429,
        ),
        ({"type": "error", "code": "server_error", "message": "Oops", "param": None}, 500),
    ],
    ids=["failed", "error"],
)
def test_responses_fails(upstream: ScriptedUpstream, form: str, event: Json, status: int) -> None:
    whole = answers({"status": "failed", "error": event.get("response", {}).get("error") or event})
    script = streams([event], done=False) if form == "stream" else whole
    with (
        asked(upstream, form, UPSTREAM_API="responses") as responses,
        pytest.raises(anthropic.APIStatusError) as caught,
    ):
        responses.ask("Hi", script)
    assert caught.value.status_code == status


@FORMS
def test_responses_tools(upstream: ScriptedUpstream, form: str) -> None:
    """Reasoning comes back before the call that it led to, and images stand in the results."""
    with asked(upstream, form, UPSTREAM_API="responses", UPSTREAM_PROVIDER="openai") as responses:
        message, request = responses.ask(
            "Look", responds(form, REASONING, item_call(1)), tools=[TOOL], **THINKS
        )
        assert [block.type for block in message.content] == ["thinking", "tool_use"]
        assert request.body["reasoning"] == {"summary": "auto", "effort": "medium"}
        result = {**results(message)[0], "content": [{"type": "text", "text": "Here"}, IMAGE]}
        _, request = responses.ask(
            [result], responds(form, item_text("Done")), tools=[TOOL], **THINKS
        )
    responses_shapes.check(request.body)
    sent = request.body["input"]
    assert [item["type"] for item in sent] == [
        "message",
        "reasoning",
        "function_call",
        "function_call_output",
    ]
    assert sent[1] == REASONING
    assert [part["type"] for part in sent[3]["output"]] == ["input_text", "input_image"]


@FORMS
@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ({"type": "any"}, "required"),
        ({"type": "tool", "name": "look"}, {"type": "function", "name": "look"}),
        ({"type": "none"}, "none"),
    ],
    ids=["any", "tool", "none"],
)
def test_responses_choice(upstream: ScriptedUpstream, form: str, choice: Any, sent: Any) -> None:
    with asked(upstream, form, UPSTREAM_API="responses") as responses:
        _, request = responses.ask(
            "Look", responds(form, item_text("Hm")), tools=[TOOL], tool_choice=choice
        )
    assert request.body.get("tool_choice") == sent
    responses_shapes.check(request.body)


@FORMS
def test_responses_structured(upstream: ScriptedUpstream, form: str) -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    }
    wanted = {"output_config": {"format": {"type": "json_schema", "schema": schema}}}
    with asked(upstream, form, UPSTREAM_API="responses", UPSTREAM_PROVIDER="openai") as responses:
        message, request = responses.ask("Count", responds(form, item_text('{"n": 1}')), **wanted)
    assert message.content[0].to_dict() == {"type": "text", "text": '{"n": 1}'}
    assert request.body["text"]["format"] == {
        "type": "json_schema",
        "name": "output",
        "schema": schema,
        "strict": True,
    }
    responses_shapes.check(request.body)
