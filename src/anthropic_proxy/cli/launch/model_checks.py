"""Check what a model can do, with requests that each test one feature of the Messages API."""

import base64
import http.client
import struct
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from anthropic_proxy.cli.launch.local_proxy import LocalProxy
from anthropic_proxy.translate.response.whole import collect_message
from anthropic_proxy.wire.json_codec import JsonObject, dumps, loads_object
from anthropic_proxy.wire.sse import SSEDecoder

State = Literal["ok", "warning", "failed"]

# Seconds. A local server may load the model first.
_TIMEOUT_SECONDS = 300.0


@dataclass(frozen=True)
class Result:
    """The result of one check."""

    name: str
    state: State
    # One line for people.
    text: str


@dataclass(frozen=True)
class ModelCheck:
    """A request, and the judgement of its response."""

    name: str
    # The request without `model`.
    body: JsonObject
    # Returns what is wrong with a Message; an empty string if nothing is.
    find_problem: Callable[[JsonObject], str]
    # Whether Claude Code cannot work without the feature.
    is_required: bool
    # What a failure means for the user.
    consequence: str


def _ask(text: str, **fields: Any) -> JsonObject:
    # Models that reason need many tokens before the first one of the text.
    return {"max_tokens": 2048, "messages": [{"role": "user", "content": text}], **fields}


def _blocks(message: JsonObject, kind: str) -> list[JsonObject]:
    return [block for block in message.get("content", []) if block.get("type") == kind]


def _text(message: JsonObject) -> str:
    return "".join(block["text"] for block in _blocks(message, "text"))


def _find_no_text(message: JsonObject) -> str:
    return "" if _text(message).strip() else f"no text (stop reason: {message.get('stop_reason')})"


def _find_no_call(message: JsonObject) -> str:
    calls = _blocks(message, "tool_use")
    if not calls:
        return f"no tool call, but the text {_text(message)[:60]!r}"
    if not isinstance(calls[0]["input"].get("city"), str):
        return f"a call with the wrong arguments {calls[0]['input']}"
    return ""


def _find_no_second_call(message: JsonObject) -> str:
    count = len(_blocks(message, "tool_use"))
    if count > 1:
        return ""
    return "only one call" if count else "no call"


def _find_no_color(message: JsonObject) -> str:
    return "" if "red" in _text(message).lower() else f"the response was {_text(message)[:60]!r}"


def _find_no_document(message: JsonObject) -> str:
    document = loads_object(_text(message).encode())
    if document is None or not isinstance(document.get("age"), int):
        return f"the response was {_text(message)[:60]!r}"
    return ""


def _find_no_thinking(message: JsonObject) -> str:
    return "" if _blocks(message, "thinking") else "no reasoning in the response"


def _build_png() -> str:
    """Return a red square of 32 x 32 pixels in base64."""
    size = 32
    header = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    rows = (b"\0" + b"\xff\0\0" * size) * size
    parts = [b"\x89PNG\r\n\x1a\n"]
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        parts.append(struct.pack(">I", len(data)) + kind + data + checksum)
    return base64.b64encode(b"".join(parts)).decode()


_WEATHER_TOOL: JsonObject = {
    "name": "get_weather",
    "description": "Return the current weather in a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
_PERSON_SCHEMA: JsonObject = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
_IMAGE: JsonObject = {
    "type": "image",
    "source": {"type": "base64", "media_type": "image/png", "data": _build_png()},
}

MODEL_CHECKS: tuple[ModelCheck, ...] = (
    ModelCheck(
        "completion",
        _ask("Reply with the word: ready"),
        _find_no_text,
        is_required=True,
        consequence="no client can use the model",
    ),
    ModelCheck(
        "stream",
        _ask("Reply with the word: ready", stream=True),
        _find_no_text,
        is_required=True,
        consequence="Claude Code streams every response",
    ),
    ModelCheck(
        "tool call",
        _ask("What is the weather in Paris? Use the tool.", tools=[_WEATHER_TOOL], stream=True),
        _find_no_call,
        is_required=True,
        consequence="Claude Code cannot read files or run commands",
    ),
    ModelCheck(
        "parallel calls",
        _ask(
            "What is the weather in Paris, and in Rome? Call the tool for both cities at once.",
            tools=[_WEATHER_TOOL],
        ),
        _find_no_second_call,
        is_required=False,
        consequence="Claude Code needs more turns",
    ),
    ModelCheck(
        "image",
        {
            "max_tokens": 2048,
            "messages": [
                {
                    "role": "user",
                    "content": [
                        _IMAGE,
                        {"type": "text", "text": "Which color is this? Reply with one word."},
                    ],
                }
            ],
        },
        _find_no_color,
        is_required=False,
        consequence="Claude Code cannot look at screenshots",
    ),
    ModelCheck(
        "JSON schema",
        _ask(
            "Maria is 34 years old.",
            output_config={"format": {"type": "json_schema", "schema": _PERSON_SCHEMA}},
        ),
        _find_no_document,
        is_required=False,
        consequence="structured outputs are not reliable",
    ),
    ModelCheck(
        "reasoning",
        _ask("What is 17 * 23?", thinking={"type": "enabled", "budget_tokens": 1024}),
        _find_no_thinking,
        is_required=False,
        consequence="the model does not think before it responds, or does not show it",
    ),
)


def run_model_check(check: ModelCheck, proxy: LocalProxy, model: str) -> Result:
    """Send the request of a check, and judge the response."""
    started_at = time.monotonic()
    try:
        message = _request_message(proxy, {**check.body, "model": model})
    except _RequestError as error:
        problem = str(error)
    else:
        problem = check.find_problem(message)
    if not problem:
        return Result(check.name, "ok", f"{time.monotonic() - started_at:.1f} s")
    state: State = "failed" if check.is_required else "warning"
    return Result(check.name, state, f"{problem}: {check.consequence}")


class _RequestError(Exception):
    """The proxy returned an error. The text is its message."""


def _request_message(proxy: LocalProxy, body: JsonObject) -> JsonObject:
    """Return the Message, also of a stream. Raises _RequestError."""
    connection = http.client.HTTPConnection(
        urlsplit(proxy.base_url).netloc, timeout=_TIMEOUT_SECONDS
    )
    headers = {"authorization": f"Bearer {proxy.token}", "anthropic-version": "2023-06-01"}
    headers["content-type"] = "application/json"
    try:
        connection.request("POST", "/v1/messages", dumps(body), headers)
        response = connection.getresponse()
        raw = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise _RequestError(f"no response from the proxy ({error})") from error
    finally:
        connection.close()
    if response.status != http.HTTPStatus.OK:
        raise _RequestError(_read_error(loads_object(raw)))
    if body.get("stream"):
        return _collect(raw)
    return loads_object(raw) or {}


def _read_error(envelope: Mapping[str, Any] | None) -> str:
    error = (envelope or {}).get("error")
    return str(error.get("message")) if isinstance(error, dict) else "an unreadable error"


def _collect(stream: bytes) -> JsonObject:
    """Return the Message of the events of a stream. Raises _RequestError."""
    decoder = SSEDecoder()
    events = [loads_object(data) or {} for data in [*decoder.feed(stream), *decoder.close()]]
    for event in events:
        if event.get("type") == "error":
            raise _RequestError(_read_error(event))
    if not events or events[-1].get("type") != "message_stop":
        raise _RequestError("the stream ended before its end event")
    return collect_message(events)
