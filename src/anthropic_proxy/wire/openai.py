"""Build and read Chat Completions messages, parts and tools as dicts in the wire format.

Source: the request types of the `openai` package (3.51); the tests check the results against them.
"""

from typing import Any

from anthropic_proxy.wire.json_codec import JsonObject

# The fields of a delta that contains only text.
_PLAIN_FIELDS = frozenset(("content", "role"))


def text_part(text: str, cache_control: JsonObject | None = None) -> JsonObject:
    """Return a text part. `cache_control` is OpenRouter's field with the Messages API's format."""
    part: JsonObject = {"type": "text", "text": text}
    if cache_control:
        part["cache_control"] = cache_control
    return part


def image_url_part(url: str) -> JsonObject:
    """Return an image part. `url` is an http, https or data URL."""
    return {"type": "image_url", "image_url": {"url": url}}


def file_part(filename: str, data_url: str) -> JsonObject:
    return {"type": "file", "file": {"filename": filename, "file_data": data_url}}


def system_message(content: str | list[JsonObject]) -> JsonObject:
    return {"role": "system", "content": content}


def user_message(parts: list[JsonObject]) -> JsonObject:
    """Return a user message. A single text part becomes a string.

    So a string and a single text block give the same request for the upstream.
    """
    if len(parts) == 1 and parts[0].keys() == {"type", "text"}:
        return {"role": "user", "content": parts[0]["text"]}
    return {"role": "user", "content": parts}


def assistant_message(text: str, tool_calls: list[JsonObject]) -> JsonObject:
    """Return an assistant message. Its `content` is null if there are only calls."""
    message: JsonObject = {"role": "assistant", "content": text}
    if tool_calls:
        message["content"] = text or None
        message["tool_calls"] = tool_calls
    return message


def tool_call(call_id: str, name: str, arguments: str) -> JsonObject:
    """Return a tool call. `arguments` is a JSON document in a string."""
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def tool_message(call_id: str, content: str | list[JsonObject]) -> JsonObject:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def function_tool(
    name: str, description: str | None, parameters: JsonObject, *, strict: bool = False
) -> JsonObject:
    function: JsonObject = {"name": name, "parameters": parameters}
    if description:
        function["description"] = description
    if strict:
        function["strict"] = True
    return {"type": "function", "function": function}


def json_schema_format(schema: JsonObject, *, strict: bool) -> JsonObject:
    return {
        "type": "json_schema",
        "json_schema": {"name": "output", "schema": schema, "strict": strict},
    }


def get_first_choice(chunk: JsonObject) -> JsonObject | None:
    """Return the first choice of a response or chunk, or None.

    Chunks with usage or moderation results have no choices.
    """
    choices: Any = chunk.get("choices")
    if not isinstance(choices, list) or not choices:
        return None
    choice: Any = choices[0]
    return choice if isinstance(choice, dict) else None


def get_plain_text(chunk: JsonObject) -> str:
    """Return the text of a chunk that contains only text; empty for other chunks."""
    # Groq reports the usage in `x_groq`, Moonshot in the choice.
    if chunk.get("usage") or chunk.get("error") or chunk.get("x_groq"):
        return ""
    choice = get_first_choice(chunk)
    if not choice or choice.get("finish_reason") or choice.get("usage"):
        return ""
    delta = choice.get("delta")
    if not isinstance(delta, dict):
        return ""
    if not _PLAIN_FIELDS.issuperset(delta):
        # Fields without a value are ignored.
        for name, value in delta.items():
            if value and name not in _PLAIN_FIELDS:
                return ""
    return string_or_empty(delta.get("content"))


def string_or_empty(value: Any) -> str:
    """Return `value` if it is a string, else an empty string.

    Some upstreams send null or other types instead of strings.
    """
    return value if isinstance(value, str) else ""


def get_content_text(content: Any) -> str:
    """Return the text of a `content` field: a string, null, or a list of parts.

    Mistral sends parts; its thinking parts have no `text`.
    """
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    texts = [string_or_empty(part.get("text")) for part in content if isinstance(part, dict)]
    return "".join(texts)
