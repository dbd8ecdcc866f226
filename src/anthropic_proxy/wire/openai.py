"""Build and read Chat Completions messages, parts and tools as dicts in the wire format.

Source: the request types of the `openai` package (3.51); the tests check the results against them.
"""

from typing import Any

from anthropic_proxy.wire.json_codec import JsonObject

# The fields of a delta that contains only text.
_PLAIN_FIELDS = frozenset(("content", "role"))
_TEXT_PART_FIELDS = {"type", "text"}


def text_part(text: str, cache_mark: JsonObject | None = None) -> JsonObject:
    """Return a text part. `cache_mark` is the field that marks the end of a cached prefix."""
    return {"type": "text", "text": text, **(cache_mark or {})}


def image_url_part(url: str) -> JsonObject:
    """Return an image part. `url` is an http, https or data URL."""
    return {"type": "image_url", "image_url": {"url": url}}


def file_part(filename: str, data_url: str) -> JsonObject:
    return {"type": "file", "file": {"filename": filename, "file_data": data_url}}


def system_message(content: str | list[JsonObject]) -> JsonObject:
    return {"role": "system", "content": content}


def user_message(parts: list[JsonObject], *, joins_texts: bool = True) -> JsonObject:
    """Return a user message. Parts that are only text become a string.

    So a string and a single text block give the same request for the upstream. Several texts are
    joined by blank lines: some servers only accept strings (NVIDIA NIM, DashScope).

    joins_texts: whether several texts become a string.
    """
    if joins_texts or len(parts) == 1:
        text = join_texts(parts)
        if text is not None:
            return {"role": "user", "content": text}
    return {"role": "user", "content": parts}


def join_texts(parts: list[JsonObject]) -> str | None:
    """Return the texts of text parts, or None if a part is not plain text."""
    if any(part.keys() != _TEXT_PART_FIELDS for part in parts):
        return None
    return "\n\n".join(part["text"] for part in parts)


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


def list_choices(chunk: JsonObject) -> list[JsonObject]:
    """Return the choices of a response or chunk, in the order of their indices.

    Chunks with usage or moderation results have no choices. A single choice may be an object
    instead of a list.
    """
    choices: Any = chunk.get("choices")
    if isinstance(choices, dict):
        return [choices]
    if not isinstance(choices, list):
        return []
    if len(choices) == 1 and isinstance(choices[0], dict):
        # A fast path for nearly all chunks.
        return choices
    objects = [choice for choice in choices if isinstance(choice, dict)]
    if len(objects) > 1:
        objects.sort(key=get_choice_index)
    return objects


def get_choice_index(choice: JsonObject) -> int:
    """Return the index of a choice, or 0 if it has none."""
    index = choice.get("index")
    return index if isinstance(index, int) else 0


def get_plain_text(chunk: JsonObject) -> str:
    """Return the text of a chunk that contains only text; empty for other chunks."""
    choices = chunk.get("choices")
    # Groq reports the usage in `x_groq`, Moonshot in the choice.
    has_other_fields = chunk.get("usage") or chunk.get("error") or chunk.get("x_groq")
    # MiniMax reports an error in `base_resp`, OpenRouter in the choice.
    if has_other_fields or chunk.get("base_resp") or not isinstance(choices, list):
        return ""
    choice = choices[0] if len(choices) == 1 else None
    if not isinstance(choice, dict) or choice.get("finish_reason") or choice.get("usage"):
        return ""
    # `ChoiceReader` reads other choices, and content outside of the delta.
    if choice.get("index") or choice.get("message") or choice.get("error"):
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
    """Return the text of a `content` field: a string, null, one part, or a list of parts.

    Mistral sends parts; its thinking parts have no `text`.
    """
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(map(_get_part_text, content))
    return _get_part_text(content)


def _get_part_text(part: Any) -> str:
    """Return the text of a part, which is an object or a string.

    The Assistants API has an object with the text in `value`.
    """
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        return ""
    text = part.get("text")
    if isinstance(text, dict):
        text = text.get("value")
    return string_or_empty(text) or string_or_empty(part.get("refusal"))


# Members in which gateways put the response (`{"data": {...}, "success": true}`, cline#13348). The
# native APIs of Cloudflare (`result`) and DashScope (`output`) do the same.
_ENVELOPES = ("data", "result", "response", "output", "body")
# Members of a response of Chat Completions, and of one of the Responses API.
_RESPONSE_FIELDS = ("choices", "error", "output")


def unwrap_envelope(body: JsonObject) -> JsonObject:
    """Return the response or chunk within an envelope, with the envelope's other fields.

    Returns the same object if it is no envelope.
    """
    if "choices" in body and body["choices"] is not None:
        return body
    if body.get("error"):
        return body
    for name in _ENVELOPES:
        inner = body.get(name)
        if isinstance(inner, dict) and any(inner.get(each) for each in _RESPONSE_FIELDS):
            outer = {key: value for key, value in body.items() if key != name}
            return {**outer, **inner}
    return body
