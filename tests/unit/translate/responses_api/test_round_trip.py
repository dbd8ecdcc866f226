"""Reasoning of a response, through the client and back into the next request.

Every item comes back unchanged, in its place.
"""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from anthropic_proxy.translate.response.stream import StreamTranslator
from anthropic_proxy.translate.response.whole import collect_message
from anthropic_proxy.translate.responses_api.request import to_responses_request
from anthropic_proxy.translate.responses_api.stream import ResponsesReader
from tests.support import responses_shapes
from tests.support.chat_bodies import chat_body
from tests.support.response_specs import answer_spec

Json = dict[str, Any]

_TOOLS = [{"name": "read", "input_schema": {"type": "object", "properties": {}}}]

texts = st.text("ab \n", min_size=1, max_size=4).filter(lambda text: not text.startswith("\n\n"))
encrypted = st.none() | st.text("xyz", min_size=1, max_size=3)


def reasoning(place: int, parts: list[str], data: str | None) -> Json:
    summary = [{"type": "summary_text", "text": text} for text in parts]
    return {"id": f"rs_{place}", "type": "reasoning", "summary": summary, "encrypted_content": data}


def call(place: int) -> Json:
    return {
        "id": f"fc_{place}",
        "type": "function_call",
        "call_id": f"c{place}",
        "name": "read",
        "arguments": "{}",
    }


@st.composite
def outputs(draw: st.DrawFn) -> list[Json]:
    """What a model says: a message, then calls, with reasoning anywhere."""
    kinds = ["message"] * draw(st.booleans()) + ["call"] * draw(st.integers(0, 3))
    output: list[Json] = []
    for kind in [*kinds, None]:
        for _ in range(draw(st.integers(0, 2))):
            output.append(
                reasoning(len(output), draw(st.lists(texts, max_size=2)), draw(encrypted))
            )
        if kind == "message":
            part = {"type": "output_text", "text": draw(texts.filter(str.strip)), "annotations": []}
            output.append({"id": "msg", "type": "message", "role": "assistant", "content": [part]})
        elif kind == "call":
            output.append(call(len(output)))
    return output


def events_of(output: list[Json]) -> list[Json]:
    """A stream, in which the summaries come in pieces of one character."""
    events: list[Json] = []
    for place, item in enumerate(output):
        events.append(
            {
                "type": "response.output_item.added",
                "output_index": place,
                "item": {**item, "summary": []},
            }
        )
        for number, part in enumerate(item.get("summary", ())):
            where = {"output_index": place, "summary_index": number}
            events += [
                {"type": "response.reasoning_summary_text.delta", **where, "delta": each}
                for each in part["text"]
            ]
        events.append({"type": "response.output_item.done", "output_index": place, "item": item})
    return [
        *events,
        {"type": "response.completed", "response": {"status": "completed", "output": output}},
    ]


def content_of(output: list[Json], request: Json) -> list[Json]:
    """The blocks that the client gets."""
    translator, reader = StreamTranslator(answer_spec(request)), ResponsesReader()
    told = translator.start()
    for event in events_of(output):
        told += [each for chunk in reader.feed(event) for each in translator.feed(chunk)]
    content: list[Json] = collect_message([*told, *translator.close(done=False)])["content"]
    return content


def followed(output: list[Json]) -> list[str]:
    """What can be sent back: encrypted reasoning of which something came, before all of that."""
    said = [place for place, item in enumerate(output) if item["type"] != "reasoning"]
    names = [
        item["id"] for item in output if item["type"] != "reasoning" or item["encrypted_content"]
    ]
    if not said:
        return []
    last = output[said[-1]]["id"]
    return [*(name for name in names if name != last), last]


@given(outputs(), st.sampled_from(["summarized", "omitted"]))
def test_reasoning_comes_back_as_it_was(output: list[Json], display: str) -> None:
    thinking = {"type": "adaptive", "display": display}
    content = content_of(output, {"thinking": thinking, "tools": _TOOLS})
    results = [
        {"type": "tool_result", "tool_use_id": each["id"]}
        for each in content
        if each["type"] == "tool_use"
    ]
    messages: list[Json] = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": content},
    ]
    messages.append({"role": "user", "content": [*results, {"type": "text", "text": "b"}]})
    chat = {
        "model": "m",
        "max_tokens": 9,
        "messages": messages,
        "thinking": thinking,
        "tools": _TOOLS,
    }
    body = to_responses_request(chat_body(chat))
    responses_shapes.check(body)
    items = [item for item in body["input"][1:-1] if item["type"] != "function_call_output"]
    known = {item["id"]: item for item in output}
    for item, name in zip(items, followed(output), strict=True):
        if item["type"] == "reasoning":
            assert item == known[name]
        else:
            assert item["type"] == known[name]["type"]
