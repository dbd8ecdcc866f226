"""Read a recorded response as naively as possible, for comparison with the proxy's response.

Shares no code with the proxy. `exceptions.json` lists what reading alone can't show, with reasons.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.integration.replay.recordings import Recording

Json = dict[str, Any]

# By the recording's name: fields of Reading that are to be taken for what it says, and `why`.
EXCEPTIONS: dict[str, Json] = json.loads(Path(__file__).with_name("exceptions.json").read_text())


@dataclass
class Call:
    """One tool call: name and arguments as they add up. key: what its fragments have in common."""

    key: Any
    id: str = ""
    name: str = ""
    arguments: str = ""

    @property
    def input(self) -> Any:
        """The arguments; a text that is not whole has none."""
        return _loads(self.arguments or "{}") or {}


@dataclass
class Reading:
    """The content of a response, with pieces of a stream joined.

    finish: the first finish reason. usage: the last one. done: the upstream marked the end.
    status, error: of a failure (of HTTP or within the stream), and its text.
    """

    text: str = ""
    thinking: str = ""
    refusal: str = ""
    calls: list[Call] = field(default_factory=list)
    finish: str = ""
    usage: Json = field(default_factory=dict)
    done: bool = False
    status: int = 200
    error: str = ""
    why: str = ""

    @property
    def lacks_path(self) -> bool:
        """Whether the server reports in its own words that the path, so the base URL, is wrong."""
        words = {"404 page not found", "File Not Found", "Not Found"}
        return self.status == 404 and self.error.strip() in words

    @property
    def says_nothing(self) -> bool:
        return not (self.text or self.thinking or self.refusal or self.calls)

    @property
    def fails(self) -> bool:
        """Whether the upstream failed, or broke off without saying so."""
        return bool(self.error) or not (self.finish or (self.done and not self.says_nothing))


def read(recording: Recording) -> Reading:
    """What a recorded answer says."""
    reading = Reading(status=recording.status)
    if recording.is_stream:
        for payload in _payloads(recording.body.decode()):
            _chunk(reading, payload)
    else:
        _whole(reading, recording)
    _split_tags(reading)
    for name, value in EXCEPTIONS.get(recording.name, {}).items():
        assert hasattr(reading, name), name
        setattr(reading, name, [Call("", **call) for call in value] if name == "calls" else value)
    return reading


def _payloads(text: str) -> list[str]:
    events = text.replace("\r\n", "\n").split("\n\n")
    payloads = [
        "\n".join(line[5:].strip() for line in event.split("\n") if line.startswith("data:"))
        for event in events
    ]
    return [payload for payload in payloads if payload]


def _loads(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _whole(reading: Reading, recording: Recording) -> None:
    answer = _loads(recording.body)
    if recording.status >= 300 or "choices" not in answer:
        reading.error = _words(answer) or recording.body.decode()
        return
    reading.done = True
    choice = answer["choices"][0]
    message = choice.get("message") or {}
    calls = [{**call, "index": index} for index, call in enumerate(message.get("tool_calls") or [])]
    delta = {**choice, "delta": {**message, "tool_calls": calls}}
    _chunk(reading, json.dumps({**answer, "choices": [delta]}))


def _chunk(reading: Reading, payload: str) -> None:
    if payload == "[DONE]":
        reading.done = True
        return
    chunk = json.loads(payload)
    reading.usage = chunk.get("usage") or reading.usage
    for choice in (chunk.get("choices") or [])[:1]:
        _delta(reading, choice.get("delta") or {})
        reading.finish = reading.finish or choice.get("finish_reason") or ""
    if chunk.get("error") and not reading.error:
        code = chunk["error"].get("code")
        reading.status = code if isinstance(code, int) else 500
        reading.error = _words(chunk)


def _words(answer: Any) -> str:
    """Those of an error, wherever in its body they stand."""
    body = answer if isinstance(answer, dict) else {}
    error = body.get("error") or body.get("detail") or ""
    error = error.get("message") if isinstance(error, dict) else error
    return error if isinstance(error, str) else json.dumps(error, separators=(",", ":"))


def _delta(reading: Reading, delta: Json) -> None:
    content = delta.get("content") or ""
    parts: list[Json] = [{"type": "text", "text": content}] if isinstance(content, str) else content
    for part in parts:
        reading.text += part["text"] if part["type"] == "text" else ""
        reading.thinking += "".join(each["text"] for each in part.get("thinking") or ())
    reading.refusal += delta.get("refusal") or ""
    details = "".join(
        each.get("text") or each.get("summary") or ""
        for each in delta.get("reasoning_details") or ()
    )
    reading.thinking += delta.get("reasoning") or delta.get("reasoning_content") or details
    for fragment in delta.get("tool_calls") or ():
        _fragment(reading.calls, fragment)


def _fragment(calls: list[Call], fragment: Json) -> None:
    function = fragment.get("function") or {}
    piece = function.get("arguments") or ""
    key = fragment.get("index", fragment.get("id"))
    same = [call for call in calls if key in (None, call.key)]
    call = same[-1] if same else None
    has_new_id = call and call.id and fragment.get("id") not in (None, "", call.id)
    begins_again = call and _loads(call.arguments) is not None and piece.startswith("{")
    if call is None or has_new_id or begins_again:
        call = Call(key)
        calls.append(call)
    call.id = call.id or fragment.get("id") or ""
    call.name = call.name or function.get("name") or ""
    call.arguments += piece


def _split_tags(reading: Reading) -> None:
    """Reasoning within the text, between tags."""
    before, closed, text = reading.text.partition("</think>")
    if closed and before.lstrip().startswith("<think>"):
        reading.thinking += before.lstrip().removeprefix("<think>").lstrip()
        reading.text = text.lstrip()
