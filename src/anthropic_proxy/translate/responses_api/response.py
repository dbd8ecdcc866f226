"""Convert a complete Responses response to a completion, by way of the stream events, so that the
two can't differ.
"""

from anthropic_proxy.translate.reasoning.fields import DETAILS
from anthropic_proxy.translate.responses_api.stream import ResponsesReader
from anthropic_proxy.wire.json_codec import JsonObject

_TEXT_FIELDS = ("content", "refusal")
_LIST_FIELDS = (DETAILS, "tool_calls")


def to_completion(response: JsonObject) -> JsonObject:
    """Return the completion for the JSON of a response with status 200, or `{"error": ...}`.

    JSON that is no response becomes a completion without choices. A response that has not ended
    (`in_progress`, `cancelled`) has no finish reason.
    """
    status = "failed" if response.get("error") else response.get("status")
    if status is None:
        return {"choices": []}
    message: JsonObject = {"role": "assistant", "content": None}
    completion: JsonObject = {"choices": [{"index": 0, "message": message, "finish_reason": None}]}
    for chunk in ResponsesReader().feed({"type": f"response.{status}", "response": response}):
        if "error" in chunk:
            return chunk
        choice, completion = chunk["choices"][0], {**chunk, "choices": completion["choices"]}
        completion["choices"][0]["finish_reason"] = choice.get("finish_reason")
        _merge_delta(message, choice["delta"])
    return completion


def _merge_delta(message: JsonObject, delta: JsonObject) -> None:
    for name in _TEXT_FIELDS:
        if name in delta:
            message[name] = (message.get(name) or "") + delta[name]
    for name in _LIST_FIELDS:
        if name in delta:
            message.setdefault(name, []).extend(delta[name])
