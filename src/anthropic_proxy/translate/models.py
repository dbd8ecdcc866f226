"""The upstream's list of models -> the API's, with its pages.

Source: the SDK's ModelInfo and paging types (`before_id`, `after_id`, `limit`; `has_more`, `first_id`, `last_id`).
"""

from datetime import UTC, datetime
from typing import Any

from anthropic_proxy.errors import invalid_request
from anthropic_proxy.wire.codec import JsonObject
from anthropic_proxy.wire.openai import string

DEFAULT_LIMIT = 20
MAX_LIMIT = 1000

# Where servers tell the size of a model's context, in tokens: OpenRouter, vLLM, LM Studio.
_CONTEXT_FIELDS = ("context_length", "max_model_len", "max_context_length")
# llama.cpp tells it within `meta`: what the server was started with, then what the model was trained for.
_META_FIELDS = ("n_ctx", "n_ctx_train")


def to_model_infos(answer: Any) -> list[JsonObject]:
    """All models of an upstream's answer to `GET /v1/models`, in its order; entries without an id are none."""
    entries = answer.get("data") if isinstance(answer, dict) else None
    return [_model_info(entry) for entry in entries or () if isinstance(entry, dict) and string(entry.get("id"))]


def page(models: list[JsonObject], *, limit: int, before_id: str | None, after_id: str | None) -> JsonObject:
    """One page of at most `limit` models, right after or right before an id. Raises ApiError (400)."""
    if not 1 <= limit <= MAX_LIMIT:
        raise invalid_request(f"limit: must be between 1 and {MAX_LIMIT}")
    if before_id is not None and after_id is not None:
        raise invalid_request("before_id: can't be used together with after_id")
    start, end = 0, len(models)
    if after_id is not None:
        start = _position(models, after_id, "after_id") + 1
    if before_id is not None:
        end = _position(models, before_id, "before_id")
        start = max(0, end - limit)
    data = models[start:end][:limit]
    has_more = start > 0 if before_id is not None else start + len(data) < end
    ids = [model["id"] for model in data] or [None]
    return {"data": data, "has_more": has_more, "first_id": ids[0], "last_id": ids[-1]}


def _position(models: list[JsonObject], model_id: str, parameter: str) -> int:
    for position, model in enumerate(models):
        if model["id"] == model_id:
            return position
    raise invalid_request(f"{parameter}: no model has the id {model_id}")


def _model_info(entry: JsonObject) -> JsonObject:
    context = _context(entry)
    return {
        "type": "model",
        "id": entry["id"],
        "display_name": string(entry.get("name")) or entry["id"],
        "created_at": _created_at(entry.get("created")),
        "lifecycle": "active",
        **({"max_input_tokens": context} if context else {}),
    }


def _context(entry: JsonObject) -> int:
    meta = entry.get("meta")
    values = [entry.get(name) for name in _CONTEXT_FIELDS]
    values += [meta.get(name) for name in _META_FIELDS] if isinstance(meta, dict) else []
    return next((value for value in values if isinstance(value, int) and value > 0), 0)


def _created_at(seconds: Any) -> str:
    """RFC 3339. Servers that don't know it say nothing or 0: the epoch, as the API does for unknown dates."""
    known = seconds if isinstance(seconds, int | float) and 0 < seconds < 1e11 else 0
    return datetime.fromtimestamp(known, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
