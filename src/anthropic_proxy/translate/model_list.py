"""The upstream's list of models -> the API's, with its pages, and the aliases that are configured for them.

What an upstream does not tell is left out, not guessed.

Source: the SDK's ModelInfo and paging types (`before_id`, `after_id`, `limit`; `has_more`, `first_id`, `last_id`).
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from anthropic_proxy.errors import invalid_request
from anthropic_proxy.translate.context_edits import KNOWN_EDITS
from anthropic_proxy.wire.json_codec import JsonObject
from anthropic_proxy.wire.openai import string
from anthropic_proxy.wire.quoting import shortened

DEFAULT_LIMIT = 20
MAX_LIMIT = 1000

# Where servers tell the size of a model's context, in tokens: OpenRouter, vLLM, LM Studio, Groq.
_CONTEXT_FIELDS = ("context_length", "max_model_len", "max_context_length", "context_window")
# llama.cpp tells it within `meta`: what the server was started with, then what the model was trained for.
_META_FIELDS = ("n_ctx", "n_ctx_train")
# The longest answer, in tokens: OpenRouter (within `top_provider`), Groq.
_OUTPUT_FIELDS = ("max_completion_tokens",)


def to_model_infos(answer: Any) -> list[JsonObject] | None:
    """All models of an upstream's answer to `GET /v1/models`, in its order; None when that is no list of models.

    Entries without an id are none, and of those that share one the first counts: pages begin at an id. Entries in the
    API's own shape stay as they are.
    """
    # Together answers with the list itself; Ollama's `data` is null when it has no models.
    entries = (answer["data"] or []) if isinstance(answer, dict) and "data" in answer else answer
    if not isinstance(entries, list):
        return None
    named: dict[str, JsonObject] = {}
    for entry in entries:
        if isinstance(entry, dict) and string(entry.get("id")):
            named.setdefault(entry["id"], entry)
    return [_model_info(entry) for entry in named.values()]


def configured_models(names: Iterable[str]) -> list[JsonObject]:
    """The models that the configuration names, for upstreams that have no list."""
    return [_model_info({"id": name}) for name in dict.fromkeys(names)]


def with_aliases(models: list[JsonObject], aliases: Mapping[str, str] | None) -> list[JsonObject]:
    """The aliases with the facts of what they stand for, then the models; an alias hides a model of its name."""
    facts = {model["id"]: model for model in models}
    named = [
        {
            **facts.get(model, _model_info({"id": model})),
            "id": alias,
            "display_name": f"{alias} ({model})",
        }
        for alias, model in (aliases or {}).items()
    ]
    return [*named, *(model for model in models if model["id"] not in (aliases or {}))]


def page(
    models: list[JsonObject], *, limit: int, before_id: str | None, after_id: str | None
) -> JsonObject:
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
    raise invalid_request(f"{parameter}: no model has the id {shortened(model_id)}")


def _model_info(entry: JsonObject) -> JsonObject:
    if entry.get("type") == "model" and string(entry.get("display_name")):
        return entry
    facts = {
        "max_input_tokens": _first_count(entry, _CONTEXT_FIELDS)
        or _first_count(entry.get("meta"), _META_FIELDS),
        "max_tokens": _first_count(entry.get("top_provider"), _OUTPUT_FIELDS)
        or _first_count(entry, _OUTPUT_FIELDS),
        "capabilities": _capabilities(entry),
    }
    return {
        "type": "model",
        "id": entry["id"],
        "display_name": string(entry.get("name")) or entry["id"],
        "created_at": _created_at(entry.get("created")),
        "lifecycle": "active",
        **{name: value for name, value in facts.items() if value},
    }


def _first_count(entry: Any, names: tuple[str, ...]) -> int:
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


def _capabilities(entry: JsonObject) -> JsonObject | None:
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
        "context_management": {**yes, **dict.fromkeys(KNOWN_EDITS, yes)},
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


def _created_at(seconds: Any) -> str:
    """RFC 3339. Servers that don't know it say nothing or 0: the epoch, as the API does for unknown dates."""
    known = seconds if isinstance(seconds, int | float) and 0 < seconds < 1e11 else 0
    return datetime.fromtimestamp(known, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
