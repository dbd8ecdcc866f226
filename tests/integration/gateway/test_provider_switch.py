"""Tool loops that continue at an upstream with the same or another API, over real sockets.

The upstreams check requests as strictly as the real ones: each accepts only its own signatures and
encrypted reasoning, and one with the Messages API requires thinking as Anthropic does.
"""

import itertools
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support import openai_shapes, responses_shapes
from tests.support.messages_api import events_of, post
from tests.support.running_proxy import running_proxy
from tests.support.scripted_upstream import Received, Script, ScriptedUpstream, answers, streams

Json = dict[str, Any]

TOOL = {
    "name": "weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
USAGE = {"input_tokens": 20, "output_tokens": 9}

CONFIG = """
upstreams:
  first: {{url: "{first.url}", api: {first.api}, key: sk-first}}
  second: {{url: "{second.url}", api: {second.api}, key: sk-second}}
routes:
  - {{targets: [first/m, second/m]}}
"""


class StrictUpstream(ScriptedUpstream, ABC):
    """An upstream that responds to each valid request with reasoning and a tool call."""

    api: str

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.is_down = False
        # Whether it refuses all requests, for the reason `foreign_reasoning`.
        self.refuses_all = False
        # Whether the status of its refusals is 200.
        self.refuses_with_success = False
        # The texts of its refusals since the last turn.
        self.refusals: list[str] = []
        # The reasoning in its last accepted request.
        self.replayed: list[str] = []
        self._count = 0

    def script_for(self, received: Received) -> Script:
        if self.is_down:
            return answers({"error": {"message": "unavailable"}}, 503)
        body = received.body
        self.replayed = self.find_reasoning(body)
        try:
            refusal = self.check(body)
        except (AssertionError, ValueError) as problem:
            refusal = repr(problem)
        if self.refuses_all or any(not data.startswith(self.name) for data in self.replayed):
            refusal = self.foreign_reasoning
        if refusal:
            self.refusals.append(refusal)
            error = {"type": "invalid_request_error", "message": refusal}
            error_body = {"type": "error", "error": error}
            if not self.refuses_with_success:
                return answers(error_body, 400)
            if body.get("stream"):
                return streams([_event(error_body)], done=False)
            return answers(error_body)
        self._count += 1
        return self.respond(body, f"{self.name}-{self._count}")

    foreign_reasoning: str

    @abstractmethod
    def find_reasoning(self, body: Json) -> list[str]:
        """Return the signatures and the encrypted reasoning of the history."""

    @abstractmethod
    def check(self, body: Json) -> str:
        """Return the reason to refuse a request; empty if it is valid."""

    @abstractmethod
    def respond(self, body: Json, label: str) -> Script:
        """Return a response. The label is unique, and marks its reasoning."""


class MessagesUpstream(StrictUpstream):
    api = "messages"
    foreign_reasoning = "messages.1.content.0: Invalid `signature` in `thinking` block"

    def find_reasoning(self, body: Json) -> list[str]:
        blocks = itertools.chain.from_iterable(
            message["content"] for message in body["messages"] if message["role"] == "assistant"
        )
        return [block["signature"] for block in blocks if block["type"] == "thinking"]

    def check(self, body: Json) -> str:
        if len(body["messages"]) == 1:
            return ""
        *_, assistant, user = body["messages"]
        calls = [block["id"] for block in assistant["content"] if block["type"] == "tool_use"]
        results = [block for block in user["content"] if block["type"] == "tool_result"]
        if [result["tool_use_id"] for result in results] != calls:
            return "messages: results without calls"
        kind = body.get("thinking", {}).get("type")
        starts_with_thinking = assistant["content"][0]["type"] == "thinking"
        if kind == "enabled" and not starts_with_thinking:
            return (
                "messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found "
                "`tool_use`. When `thinking` is enabled, a final `assistant` message must start "
                "with a thinking block"
            )
        if kind is None and starts_with_thinking:
            return (
                "messages.1.content.0: When thinking is disabled, an `assistant` message in the "
                "final position cannot contain `thinking`"
            )
        if kind is None and "context_management" in body:
            return "`clear_thinking_20251015` strategy requires `thinking` to be enabled"
        return ""

    def respond(self, body: Json, label: str) -> Script:
        content: list[Json] = []
        if "thinking" in body:
            content.append({"type": "thinking", "thinking": "Hm", "signature": label})
        call = {"type": "tool_use", "id": f"toolu_{label}", "name": "weather"}
        content.append({**call, "input": {"city": "Oslo"}})
        message: Json = {"id": "msg_1", "type": "message", "role": "assistant", "content": content}
        message |= {"model": "m", "stop_reason": "tool_use", "usage": USAGE}
        if not body.get("stream"):
            return answers(message)
        start = {"type": "message_start", "message": {**message, "content": []}}
        events: list[Json] = [start]
        for index, block in enumerate(content):
            # Each block in one piece: the client sees the same as from deltas.
            events.append({"type": "content_block_start", "index": index, "content_block": block})
            events.append({"type": "content_block_stop", "index": index})
        delta = {"stop_reason": "tool_use"}
        events.append({"type": "message_delta", "delta": delta, "usage": USAGE})
        events.append({"type": "message_stop"})
        return streams([_event(event) for event in events], done=False)


class ChatUpstream(StrictUpstream):
    api = "chat_completions"
    foreign_reasoning = "Provider returned error: Invalid signature in thinking block"

    def find_reasoning(self, body: Json) -> list[str]:
        details = itertools.chain.from_iterable(
            message.get("reasoning_details", ()) for message in body["messages"]
        )
        return [detail["data"] for detail in details if "data" in detail]

    def check(self, body: Json) -> str:
        messages = [dict(message) for message in body["messages"]]
        for message in messages:
            for name in ("reasoning", "reasoning_details"):
                message.pop(name, None)
        openai_shapes.check({**body, "messages": messages})
        return ""

    def respond(self, body: Json, label: str) -> Script:
        detail = {"type": "reasoning.encrypted", "data": label, "index": 0}
        function = {"name": "weather", "arguments": '{"city":"Oslo"}'}
        call = {"index": 0, "id": f"call_{label}", "type": "function", "function": function}
        message = {"reasoning": "Hm", "reasoning_details": [detail], "tool_calls": [call]}
        usage = {"prompt_tokens": 20, "completion_tokens": 9, "total_tokens": 29}
        choice: Json = {"index": 0, "finish_reason": "tool_calls"}
        if not body.get("stream"):
            return answers({"choices": [{**choice, "message": message}], "usage": usage})
        return streams(
            [{"choices": [{**choice, "delta": message}]}, {"choices": [], "usage": usage}]
        )


class ResponsesUpstream(StrictUpstream):
    api = "responses"
    foreign_reasoning = "The encrypted content could not be verified (invalid_encrypted_content)"

    def find_reasoning(self, body: Json) -> list[str]:
        items = [item for item in body["input"] if item["type"] == "reasoning"]
        return [item["encrypted_content"] for item in items]

    def check(self, body: Json) -> str:
        responses_shapes.check(body)
        return ""

    def respond(self, body: Json, label: str) -> Script:
        summary = [{"type": "summary_text", "text": "Hm"}]
        reasoning: Json = {"type": "reasoning", "id": f"rs_{label}", "summary": summary}
        reasoning["encrypted_content"] = label
        call = {"type": "function_call", "id": f"fc_{label}", "call_id": f"call_{label}"}
        call |= {"name": "weather", "arguments": '{"city":"Oslo"}', "status": "completed"}
        response: Json = {"id": "resp_1", "object": "response", "status": "completed"}
        response |= {"output": [reasoning, call], "usage": {**USAGE, "total_tokens": 29}}
        if not body.get("stream"):
            return answers(response)
        events: list[Json] = []
        for index, item in enumerate((reasoning, call)):
            done = {"type": "response.output_item.done", "output_index": index}
            events.append({**done, "item": item})
        events.append({"type": "response.completed", "response": response})
        return streams(events, done=False)


KINDS = (MessagesUpstream, ChatUpstream, ResponsesUpstream)


def _event(event: Json) -> bytes:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


@contextmanager
def upstreams_of(
    directory: Path,
    kinds: tuple[type[StrictUpstream], type[StrictUpstream]],
    **variables: Any,
) -> Iterator[tuple[str, StrictUpstream, StrictUpstream]]:
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(kind(name))
            for kind, name in zip(kinds, ("first", "second"), strict=True)
        )
        file = directory / "upstreams.yaml"
        file.write_text(CONFIG.format(first=first, second=second))
        yield stack.enter_context(running_proxy(None, CONFIG_FILE=file, **variables)), first, second


class Conversation:
    """A client with a tool loop, which sends the content of each response back."""

    def __init__(self, proxy: str, thinking: Json, *, is_stream: bool) -> None:
        self._proxy = proxy
        self._request: Json = {
            "model": "claude",
            "max_tokens": 4000,
            "stream": is_stream,
            "thinking": thinking,
            "tools": [TOOL],
            "messages": [{"role": "user", "content": "Is it warm in Oslo?"}],
            "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        }

    def send(self) -> httpx.Response:
        """Send the next request, without keeping its response."""
        return post(self._proxy, self._request)

    def take_turn(self) -> Json:
        """Send the next request, and return the blocks of its response by their types."""
        response = self.send()
        assert response.status_code == 200, response.text
        if self._request["stream"]:
            content = _collect(events_of(response.text))
        else:
            content = response.json()["content"]
        calls = [block for block in content if block["type"] == "tool_use"]
        assert [call["input"] for call in calls] == [{"city": "Oslo"}]
        results = [
            {"type": "tool_result", "tool_use_id": call["id"], "content": "21"} for call in calls
        ]
        self._request["messages"] += [
            {"role": "assistant", "content": content},
            {"role": "user", "content": results},
        ]
        return {block["type"]: block for block in content}


def _collect(events: list[Json]) -> list[Json]:
    """Return the content of a streamed Message."""
    content: list[Json] = []
    arguments = ""
    for event in events:
        assert event["type"] != "error", event
        if event["type"] == "content_block_start":
            content.append(event["content_block"])
            arguments = ""
        elif event["type"] == "content_block_delta":
            for name, text in event["delta"].items():
                if name == "partial_json":
                    arguments += text
                elif name != "type":
                    content[-1][name] = content[-1].get(name, "") + text
        elif event["type"] == "content_block_stop" and arguments:
            content[-1]["input"] = json.loads(arguments)
    return content


ENABLED = {"type": "enabled", "budget_tokens": 2000}
ADAPTIVE = {"type": "adaptive"}


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("thinking", [ENABLED, ADAPTIVE], ids=["enabled", "adaptive"])
@pytest.mark.parametrize(
    "kinds",
    list(itertools.product(KINDS, KINDS)),
    ids=lambda kinds: "-".join(each.api for each in kinds),
)
def test_a_tool_loop_continues_at_the_next_upstream_and_returns(
    tmp_path: Path,
    kinds: tuple[type[StrictUpstream], type[StrictUpstream]],
    thinking: Json,
    *,
    is_stream: bool,
) -> None:
    are_native = [kind is MessagesUpstream for kind in kinds]
    with upstreams_of(tmp_path, kinds) as (proxy, first, second):
        conversation = Conversation(proxy, thinking, is_stream=is_stream)
        conversation.take_turn()
        conversation.take_turn()
        assert (first.replayed, first.refusals) == (["first-1"], [])

        first.is_down = True
        for _ in range(2):
            conversation.take_turn()
        # Only an upstream with the Messages API receives thinking of another one, and only once.
        expected_refusals = [second.foreign_reasoning] if all(are_native) else []
        assert second.refusals == expected_refusals
        is_omitted = are_native[1] and thinking == ENABLED
        assert second.replayed == ([] if is_omitted else ["second-1"])

        first.is_down = False
        second.is_down = True
        for _ in range(2):
            conversation.take_turn()
        assert len(first.refusals) <= are_native[0]
        if not are_native[0]:
            assert first.replayed == ["first-1", "first-2", "first-3"]


def test_the_thinking_of_new_turns_is_kept_after_a_refusal(tmp_path: Path) -> None:
    kinds = (MessagesUpstream, MessagesUpstream)
    with upstreams_of(tmp_path, kinds) as (proxy, first, second):
        conversation = Conversation(proxy, ADAPTIVE, is_stream=False)
        conversation.take_turn()
        first.is_down = True
        for count in range(1, 4):
            conversation.take_turn()
            assert second.replayed == [f"second-{number}" for number in range(1, count)]
        assert second.refusals == [second.foreign_reasoning]


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
def test_refusals_in_successful_responses(tmp_path: Path, *, is_stream: bool) -> None:
    kinds = (MessagesUpstream, MessagesUpstream)
    with upstreams_of(tmp_path, kinds) as (proxy, first, second):
        conversation = Conversation(proxy, ADAPTIVE, is_stream=is_stream)
        conversation.take_turn()
        first.is_down = second.refuses_with_success = True
        conversation.take_turn()
        conversation.take_turn()
        assert second.refusals == [second.foreign_reasoning]
        assert second.replayed == ["second-1"]


def test_a_refusal_is_remembered_beyond_the_limit_of_requests(tmp_path: Path) -> None:
    kinds = (MessagesUpstream, MessagesUpstream)
    with upstreams_of(tmp_path, kinds, MAX_UPSTREAM_REQUESTS=2) as (proxy, first, second):
        conversation = Conversation(proxy, ADAPTIVE, is_stream=False)
        conversation.take_turn()
        first.is_down = True
        assert conversation.send().status_code == 400
        assert second.refusals == [second.foreign_reasoning]
        conversation.take_turn()
        assert second.refusals == [second.foreign_reasoning]


def test_a_refusal_that_no_change_prevents_is_returned(tmp_path: Path) -> None:
    kinds = (MessagesUpstream, ChatUpstream)
    with upstreams_of(tmp_path, kinds) as (proxy, first, _):
        signed = {"type": "thinking", "thinking": "Hm", "signature": "of another server"}
        body = {
            "model": "claude",
            "max_tokens": 10,
            "messages": [
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": [signed, {"type": "text", "text": "Yes"}]},
                {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
            ],
        }
        first.refuses_all = True
        response = post(proxy, body)
        assert response.status_code == 400
        assert response.json()["error"]["message"] == first.foreign_reasoning
        assert len(first.requests) == 2
        assert [len(each.body["messages"][1]["content"]) for each in first.requests] == [2, 1]
