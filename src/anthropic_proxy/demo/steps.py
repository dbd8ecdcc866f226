"""The steps of the demo: requests with the official `anthropic` SDK, and checks of the responses.

The prompts are simple enough for a model of 135 million parameters at temperature 0. A step raises
StepError for an unexpected response. The SDK is imported late, because only the demo needs it.
"""

import importlib
import json
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from anthropic_proxy.demo.embedded import MODEL
from anthropic_proxy.demo.figures import StreamTimes

if TYPE_CHECKING:
    from anthropic import Anthropic
    from anthropic.types import Message, MessageParam, ToolParam

MAX_TOKENS = 60
# The SDK follows the newest API version, which has no `temperature`. The older version has it.
TEMPERATURE = {"temperature": 0}
OLDER_VERSION = {"anthropic-version": "2023-06-01"}
TIMEOUT_SECONDS = 60.0

STREAM_PROMPT = "What does a translator do? Answer in one sentence."

STRUCTURED_PROMPT = "Maria is 34 years old and lives in Lisbon. Extract name, age and city."
FIELDS: dict[str, tuple[str, type]] = {
    "name": ("string", str),
    "age": ("integer", int),
    "city": ("string", str),
}
SCHEMA: dict[str, object] = {
    "type": "object",
    "properties": {field: {"type": json_type} for field, (json_type, _) in FIELDS.items()},
    "required": list(FIELDS),
    "additionalProperties": False,
}

TOOL_PROMPT = "What is the weather in Paris? Answer in one sentence."
TOOL_INPUT: dict[str, object] = {"city": "Paris"}
TOOL_RESULT = "The weather in Paris is 18 degrees Celsius with light rain."
# Only the tool result contains this text, so a response with it uses the result.
TOOL_EVIDENCE = "18"
TOOL: "ToolParam" = {
    "name": "get_weather",
    "description": "Weather in a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}
REPLAY: "list[MessageParam]" = [
    {"role": "user", "content": TOOL_PROMPT},
    {
        "role": "assistant",
        "content": [
            {"type": "tool_use", "id": "toolu_demo", "name": TOOL["name"], "input": TOOL_INPUT}
        ],
    },
    {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": "toolu_demo", "content": TOOL_RESULT}],
    },
]


class StepError(RuntimeError):
    """A response is not as expected. The text describes the difference."""


def preload_sdk() -> None:
    """Import the SDK, which takes a second or more. Call it in a thread."""
    # `connect` reports failures.
    with suppress(Exception):
        importlib.import_module("anthropic")


def connect(base_url: str) -> "Anthropic":
    """Return a client of the official SDK."""
    import anthropic

    return anthropic.Anthropic(
        base_url=base_url,
        api_key="demo",
        # Retries would hide errors.
        max_retries=0,
        timeout=TIMEOUT_SECONDS,
        # Do not use an HTTP proxy of the user's environment for this address.
        http_client=anthropic.DefaultHttpxClient(mounts={base_url: None}),
    )


def stream_response(client: "Anthropic", show: Callable[[str], None]) -> StreamTimes:
    """Stream a response, and return its times. Raises StepError and errors of the SDK.

    show: called with each piece of the text.
    """
    sent_at = time.perf_counter()
    first_text_at = None
    with client.messages.stream(
        model=MODEL,
        max_tokens=MAX_TOKENS,
        extra_body=TEMPERATURE,
        extra_headers=OLDER_VERSION,
        messages=[{"role": "user", "content": STREAM_PROMPT}],
    ) as response:
        for text in response.text_stream:
            first_text_at = first_text_at or time.perf_counter()
            show(text)
        message = response.get_final_message()
    ended_at = time.perf_counter()
    if first_text_at is None or not _join_text(message).strip():
        raise StepError("the stream contained no text")
    return StreamTimes(
        sent_at=sent_at,
        first_text_at=first_text_at,
        ended_at=ended_at,
        tokens=message.usage.output_tokens,
    )


def request_structured(client: "Anthropic") -> dict[str, Any]:
    """Request and return an object that fits SCHEMA. Raises StepError and errors of the SDK."""
    message = client.messages.create(
        model=MODEL,
        max_tokens=MAX_TOKENS,
        extra_body=TEMPERATURE,
        extra_headers=OLDER_VERSION,
        output_config={"format": {"type": "json_schema", "schema": SCHEMA}},
        messages=[{"role": "user", "content": STRUCTURED_PROMPT}],
    )
    return parse_structured(_join_text(message))


def parse_structured(text: str) -> dict[str, Any]:
    """Parse the object in `text`. Raises StepError if it does not fit SCHEMA."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise StepError(f"the response is not JSON ({error}): {text!r}") from None
    expected_types = {name: python_type for name, (_, python_type) in FIELDS.items()}
    is_object = isinstance(value, dict)
    if not is_object or {name: type(field) for name, field in value.items()} != expected_types:
        raise StepError(f"the response does not fit the schema: {text!r}")
    return dict(value)


def replay_tool_call(client: "Anthropic") -> str:
    """Replay a tool call and its result, and return the model's text about it.

    `tool_choice` forbids another call: a model of this size does not select tools reliably. Raises
    StepError and errors of the SDK.
    """
    message = client.messages.create(
        model=MODEL,
        max_tokens=MAX_TOKENS,
        extra_body=TEMPERATURE,
        extra_headers=OLDER_VERSION,
        tools=[TOOL],
        tool_choice={"type": "none"},
        messages=REPLAY,
    )
    text = _join_text(message).strip()
    if TOOL_EVIDENCE not in text:
        raise StepError(f"the response does not use the tool result: {text!r}")
    return text


def _join_text(message: "Message") -> str:
    return "".join(block.text for block in message.content if block.type == "text")
