"""Convert an upstream's list of models to the format of the Anthropic API.

The list has pages and includes the configured aliases. Fields that an upstream does not report are
omitted, not guessed.

Source: the SDK's ModelInfo and paging types (`before_id`, `after_id`, `limit`; `has_more`,
`first_id`, `last_id`).
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from anthropic_proxy.errors import invalid_request
from anthropic_proxy.translate.context_edits import SUPPORTED_EDITS
from anthropic_proxy.wire.json_codec import JsonObject
from anthropic_proxy.wire.openai import string_or_empty
from anthropic_proxy.wire.quoting import shorten

DEFAULT_LIMIT = 20
MAX_LIMIT = 1000

# The context size in tokens, as OpenRouter, vLLM, LM Studio and Groq name it.
_CONTEXT_FIELDS = ("context_length", "max_model_len", "max_context_length", "context_window")
# Fields of llama.cpp's `meta`: the context size of the server, then the one used in training.
_META_FIELDS = ("n_ctx", "n_ctx_train")
# The maximum length of a response in tokens, in OpenRouter's `top_provider` and Groq's entries.
_OUTPUT_FIELDS = ("max_completion_tokens",)


def to_model_infos(response: Any) -> list[JsonObject] | None:
    """Convert an upstream's response to `GET /v1/models`, in the same order.

    Drops entries without an id and entries that repeat an id, because ids mark the ends of pages.
    Entries in the Anthropic format stay unchanged. Returns None if the response is not a list of
    models.
    """
    # Together returns a bare list. Ollama's `data` is null when it has no models.
    entries = response
    if isinstance(response, dict) and "data" in response:
        entries = response["data"] or []
    if not isinstance(entries, list):
        return None
    entries_by_id: dict[str, JsonObject] = {}
    for entry in entries:
        if isinstance(entry, dict) and string_or_empty(entry.get("id")):
            entries_by_id.setdefault(entry["id"], entry)
    return [_to_model_info(entry) for entry in entries_by_id.values()]


def to_configured_models(names: Iterable[str]) -> list[JsonObject]:
    """Return entries for configured model names, for upstreams without a model list."""
    return [_to_model_info({"id": name}) for name in dict.fromkeys(names)]


def add_aliases(models: list[JsonObject], aliases: Mapping[str, str] | None) -> list[JsonObject]:
    """Return the aliases, with the fields of their models, followed by the models.

    An alias hides the model with the same name.
    """
    if not aliases:
        return models
    models_by_id = {model["id"]: model for model in models}
    entries = []
    for alias, model_id in aliases.items():
        model = models_by_id.get(model_id) or _to_model_info({"id": model_id})
        entries.append({**model, "id": alias, "display_name": f"{alias} ({model_id})"})
    entries += [model for model in models if model["id"] not in aliases]
    return entries


def paginate(
    models: list[JsonObject], *, limit: int, before_id: str | None, after_id: str | None
) -> JsonObject:
    """Return one page of at most `limit` models, directly after or before an id.

    Raises ApiError (400) for invalid parameters.
    """
    if not 1 <= limit <= MAX_LIMIT:
        raise invalid_request(f"limit: must be between 1 and {MAX_LIMIT}")
    if before_id is not None and after_id is not None:
        raise invalid_request("before_id: cannot be combined with after_id")
    if before_id is not None:
        end = _find_position(models, before_id, "before_id")
        start = max(0, end - limit)
        has_more = start > 0
    else:
        start = 0
        if after_id is not None:
            start = _find_position(models, after_id, "after_id") + 1
        end = min(start + limit, len(models))
        has_more = end < len(models)
    data = models[start:end]
    ids = [model["id"] for model in data] or [None]
    return {"data": data, "has_more": has_more, "first_id": ids[0], "last_id": ids[-1]}


def _find_position(models: list[JsonObject], model_id: str, parameter: str) -> int:
    for position, model in enumerate(models):
        if model["id"] == model_id:
            return position
    raise invalid_request(f"{parameter}: no model has the id {shorten(model_id)}")


def _to_model_info(entry: JsonObject) -> JsonObject:
    if entry.get("type") == "model" and string_or_empty(entry.get("display_name")):
        return entry
    info: JsonObject = {
        "type": "model",
        "id": entry["id"],
        "display_name": string_or_empty(entry.get("name")) or entry["id"],
        "created_at": _to_created_at(entry.get("created")),
        "lifecycle": "active",
    }
    max_input_tokens = _get_first_count(entry, _CONTEXT_FIELDS)
    if not max_input_tokens:
        max_input_tokens = _get_first_count(entry.get("meta"), _META_FIELDS)
    if max_input_tokens:
        info["max_input_tokens"] = max_input_tokens
    max_tokens = _get_first_count(entry.get("top_provider"), _OUTPUT_FIELDS)
    if not max_tokens:
        max_tokens = _get_first_count(entry, _OUTPUT_FIELDS)
    if max_tokens:
        info["max_tokens"] = max_tokens
    parameters = entry.get("supported_parameters")
    if isinstance(parameters, list):
        info["capabilities"] = _to_capabilities(parameters, entry.get("architecture"))
    return info


def _get_first_count(entry: Any, names: tuple[str, ...]) -> int:
    """Return the value of the first field with a number of tokens, or 0."""
    if not isinstance(entry, dict):
        return 0
    for name in names:
        value = entry.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return 0


def _to_capabilities(parameters: list[Any], architecture: Any) -> JsonObject:
    """Return the `capabilities` of a model from OpenRouter's fields.

    Features of Anthropic's service (batches, citations, server tools) are not supported. Context
    management is, because the proxy does it.
    """
    inputs = architecture.get("input_modalities") if isinstance(architecture, dict) else None
    if not isinstance(inputs, list):
        inputs = []
    no, yes = {"supported": False}, {"supported": True}
    thinks = {"supported": "reasoning" in parameters}
    thinking_types = {
        "adaptive": thinks,
        "between_tools": no,
        "disabled": thinks,
        "enabled": thinks,
    }
    return {
        "batch": no,
        "citations": no,
        "code_execution": no,
        "compaction": {**yes, "summarize": yes},
        "context_management": {**yes, **dict.fromkeys(SUPPORTED_EDITS, yes)},
        "effort": {**thinks, **dict.fromkeys(("low", "medium", "high", "max", "xhigh"), thinks)},
        "image_input": {"supported": "image" in inputs},
        "pdf_input": {"supported": "file" in inputs},
        "server_tools": {**no, "code_execution": no, "web_search": no},
        "structured_outputs": {"supported": "structured_outputs" in parameters},
        "thinking": {**thinks, "types": thinking_types},
    }


def _to_created_at(seconds: Any) -> str:
    """Convert seconds since the epoch to an RFC 3339 time.

    The result is the epoch if the server reports no time or 0, as in the Anthropic API for unknown
    dates.
    """
    timestamp = seconds if isinstance(seconds, int | float) and 0 < seconds < 1e11 else 0
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
