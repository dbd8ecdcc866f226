"""The upstream's list of models -> the API's, with its pages, and the aliases that are configured for them.

What an upstream does not tell is left out, not guessed.

Source: the SDK's ModelInfo and paging types (`before_id`, `after_id`, `limit`; `has_more`, `first_id`, `last_id`).
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

# Where servers tell the size of a model's context, in tokens: OpenRouter, vLLM, LM Studio, Groq.
_CONTEXT_FIELDS = ("context_length", "max_model_len", "max_context_length", "context_window")
# llama.cpp tells it within `meta`: what the server was started with, then what the model was trained for.
_META_FIELDS = ("n_ctx", "n_ctx_train")
# The longest answer, in tokens: OpenRouter (within `top_provider`), Groq.
_OUTPUT_FIELDS = ("max_completion_tokens",)


def to_model_infos(response: Any) -> list[JsonObject] | None:
    """Convert an upstream's response to `GET /v1/models`, in its order; None when it is not a list of models.

    Entries without an id are none, and of those that share one the first counts: pages begin at an id. Entries in the
    API's own shape stay as they are.
    """
    # Together answers with the list itself; Ollama's `data` is null when it has no models.
    entries = (
        (response["data"] or []) if isinstance(response, dict) and "data" in response else response
    )
    if not isinstance(entries, list):
        return None
    entries_by_id: dict[str, JsonObject] = {}
    for entry in entries:
        if isinstance(entry, dict) and string_or_empty(entry.get("id")):
            entries_by_id.setdefault(entry["id"], entry)
    return [_to_model_info(entry) for entry in entries_by_id.values()]


def to_configured_models(names: Iterable[str]) -> list[JsonObject]:
    """Return the models that the configuration names, for upstreams without a model list."""
    return [_to_model_info({"id": name}) for name in dict.fromkeys(names)]


def add_aliases(models: list[JsonObject], aliases: Mapping[str, str] | None) -> list[JsonObject]:
    """Return the aliases with the fields of their models, then the models; an alias hides a model of its name."""
    models_by_id = {model["id"]: model for model in models}
    alias_entries = [
        {
            **models_by_id.get(model, _to_model_info({"id": model})),
            "id": alias,
            "display_name": f"{alias} ({model})",
        }
        for alias, model in (aliases or {}).items()
    ]
    return [*alias_entries, *(model for model in models if model["id"] not in (aliases or {}))]


def paginate(
    models: list[JsonObject], *, limit: int, before_id: str | None, after_id: str | None
) -> JsonObject:
    """Return one page of at most `limit` models, directly after or before an id. Raises ApiError (400)."""
    if not 1 <= limit <= MAX_LIMIT:
        raise invalid_request(f"limit: must be between 1 and {MAX_LIMIT}")
    if before_id is not None and after_id is not None:
        raise invalid_request("before_id: can't be used together with after_id")
    start, end = 0, len(models)
    if after_id is not None:
        start = _find_position(models, after_id, "after_id") + 1
    if before_id is not None:
        end = _find_position(models, before_id, "before_id")
        start = max(0, end - limit)
    data = models[start:end][:limit]
    has_more = start > 0 if before_id is not None else start + len(data) < end
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
    optional_fields = {
        "max_input_tokens": _get_first_count(entry, _CONTEXT_FIELDS)
        or _get_first_count(entry.get("meta"), _META_FIELDS),
        "max_tokens": _get_first_count(entry.get("top_provider"), _OUTPUT_FIELDS)
        or _get_first_count(entry, _OUTPUT_FIELDS),
        "capabilities": _to_capabilities(entry),
    }
    return {
        "type": "model",
        "id": entry["id"],
        "display_name": string_or_empty(entry.get("name")) or entry["id"],
        "created_at": _to_created_at(entry.get("created")),
        "lifecycle": "active",
        **{name: value for name, value in optional_fields.items() if value},
    }


def _get_first_count(entry: Any, names: tuple[str, ...]) -> int:
    """The first of the fields that holds a number of tokens; 0 when none does."""
    values = (entry.get(name) for name in names) if isinstance(entry, dict) else ()
    return next(
        (
            value
            for value in values
            if isinstance(value, int) and not isinstance(value, bool) and value > 0
        ),
        0,
    )


def _to_capabilities(entry: JsonObject) -> JsonObject | None:
    """All that the API's type wants said, where OpenRouter's fields say what the model takes.

    What is the service's around a model (batches, citations, tools that it runs) is not here, whatever the model.
    Context is managed by the proxy.
    """
    parameters = entry.get("supported_parameters")
    if not isinstance(parameters, list):
        return None
    architecture = entry.get("architecture")
    modalities = architecture.get("input_modalities") if isinstance(architecture, dict) else None
    inputs = modalities if isinstance(modalities, list) else []
    no, yes = {"supported": False}, {"supported": True}
    thinks = {"supported": "reasoning" in parameters}
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
        "thinking": {
            **thinks,
            "types": {
                "adaptive": thinks,
                "between_tools": no,
                "disabled": thinks,
                "enabled": thinks,
            },
        },
    }


def _to_created_at(seconds: Any) -> str:
    """RFC 3339. Servers that don't know it say nothing or 0: the epoch, as the API does for unknown dates."""
    timestamp = seconds if isinstance(seconds, int | float) and 0 < seconds < 1e11 else 0
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
