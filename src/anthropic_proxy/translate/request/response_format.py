"""Response formats for servers that do not support JSON schemas.

Some servers refuse schemas, others ignore them (profile field `answer_format`). For them, the
schema moves into the system prompt.
"""

from collections.abc import Callable, Mapping

from anthropic_proxy.translate.request.system_prompt import append_system_text
from anthropic_proxy.wire.json_codec import JsonObject, dumps

_FIELD = "response_format"


def to_json_object_format(body: JsonObject) -> JsonObject:
    """Move the schema into the system prompt, and request any JSON object."""
    response_format = body.get(_FIELD)
    if not isinstance(response_format, dict) or response_format.get("type") != "json_schema":
        return body
    schema = dumps(response_format["json_schema"]["schema"]).decode()
    text = (
        f"Respond with one JSON object that matches this JSON schema, and nothing else:\n{schema}"
    )
    return {
        **body,
        "messages": append_system_text(body["messages"], text),
        _FIELD: {"type": "json_object"},
    }


def to_prompted_format(body: JsonObject) -> JsonObject:
    """Move the schema into the system prompt, and request no format."""
    body = to_json_object_format(body)
    return {name: value for name, value in body.items() if name != _FIELD}


RESPONSE_FORMAT_CONVERTERS: Mapping[str, Callable[[JsonObject], JsonObject]] = {
    "json_schema": lambda body: body,
    "json_object": to_json_object_format,
    "words": to_prompted_format,
}
