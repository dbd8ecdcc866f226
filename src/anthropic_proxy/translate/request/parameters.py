"""Sampling, limits, output format and metadata: top-level fields -> top-level fields."""

import hashlib

from anthropic_proxy.dialects import Dialect
from anthropic_proxy.translate.request.schemas import fits_strict
from anthropic_proxy.wire import openai
from anthropic_proxy.wire.codec import JsonObject


def to_parameters(request: JsonObject, dialect: Dialect) -> JsonObject:
    """Everything but model, messages, tools and stream. `stop_sequences` are not among them: see translate/stops.py."""
    parameters = {
        dialect.max_tokens_field: request.get("max_tokens"),
        "temperature": request.get("temperature"),
        "top_p": request.get("top_p"),
        "top_k": request.get("top_k") if dialect.sampling_top_k else None,
        "response_format": _response_format(request),
        "user": _user(request),
    }
    return {name: value for name, value in parameters.items() if value is not None}


def _response_format(request: JsonObject) -> JsonObject | None:
    output_format = (request.get("output_config") or {}).get("format")
    if output_format is None:
        return None
    schema = output_format["schema"]
    return openai.json_schema_format(schema, strict=fits_strict(schema))


def _user(request: JsonObject) -> str | None:
    """A hash: Claude Code's user_id is 170 characters of JSON with account ids in it, and OpenAI takes 64 characters."""
    user_id = (request.get("metadata") or {}).get("user_id")
    return hashlib.sha256(user_id.encode()).hexdigest() if user_id else None
