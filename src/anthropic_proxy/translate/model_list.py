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
from anthropic_proxy.routing.model_names import to_claude_id
from anthropic_proxy.routing.router import parse_tier
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

# Fields with the date of a model's end, and the field of the Anthropic API with the same meaning.
_END_FIELDS = {
    # OpenAI (docs/deprecations): `YYYY-MM-DD`, or null if no date is announced.
    "shutdown_date": "retires_at",
    # OpenRouter: `YYYY-MM-DD` or null.
    "expiration_date": "retires_at",
    # Mistral: a time in ISO 8601, or null.
    "deprecation": "deprecated_at",
}
# Azure ("Models - List") reports a date in `deprecation.inference` for active models as well.
_AZURE_DEPRECATED = ("deprecating", "deprecated")
# The year 5138. Larger numbers are milliseconds.
_MAX_TIMESTAMP = 1e11
# The tier of models in a list for Claude Desktop whose names contain no tier.
_DEFAULT_TIER = "sonnet"
_LONG_CONTEXT_TOKENS = 1_000_000


def to_model_infos(response: Any) -> list[JsonObject] | None:
    """Convert an upstream's response to `GET /v1/models`, in the same order.

    Drops entries without an id and entries that repeat an id, because ids mark the ends of pages.
    Drops LiteLLM's patterns, such as `*` and `openai/*`, because they are not names of models.
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
        model_id = string_or_empty(entry.get("id")) if isinstance(entry, dict) else ""
        if model_id and "*" not in model_id:
            entries_by_id.setdefault(model_id, entry)
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


def to_claude_models(models: list[JsonObject]) -> list[JsonObject]:
    """Return the models with ids and fields with which Claude's clients show them.

    Claude Desktop shows an entry with a tier, and uses the first entry of a tier for requests that
    need only the tier (https://claude.com/docs/third-party/claude-desktop/gateway). It offers a
    context of one million tokens for entries with `supports_1m`.
    """
    return [_to_claude_model(model) for model in models]


def _to_claude_model(model: JsonObject) -> JsonObject:
    name = model["id"]
    claude_model = {
        **model,
        "id": to_claude_id(name),
        "anthropic_family_tier": parse_tier(name) or _DEFAULT_TIER,
    }
    # The id is not readable, so the label includes the name of the upstream.
    if name.endswith(model["display_name"]):
        claude_model["display_name"] = name
    if _get_first_count(model, ("max_input_tokens",)) >= _LONG_CONTEXT_TOKENS:
        claude_model["supports_1m"] = True
    return claude_model


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
        "created_at": _to_created_at(entry.get("created") or entry.get("created_at")),
        **_to_lifecycle(entry),
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


def _to_lifecycle(entry: JsonObject) -> JsonObject:
    """Return the lifecycle of a model and its dates.

    A model with an announced date of its end is deprecated. It stays so after that date, until the
    upstream no longer lists it.
    """
    for field, date_field in _END_FIELDS.items():
        date = _to_time(entry.get(field))
        if date:
            return {"lifecycle": "deprecated", date_field: date}
    if entry.get("lifecycle_status") not in _AZURE_DEPRECATED:
        return {"lifecycle": "active"}
    lifecycle: JsonObject = {"lifecycle": "deprecated"}
    dates = entry.get("deprecation")
    date = _to_time(dates.get("inference")) if isinstance(dates, dict) else None
    if date:
        lifecycle["retires_at"] = date
    return lifecycle


def _to_created_at(value: Any) -> str:
    """Return an RFC 3339 time. It is the epoch if unknown, as in the Anthropic API."""
    return _to_time(value) or "1970-01-01T00:00:00Z"


def _to_time(value: Any) -> str | None:
    """Convert seconds since the epoch, or a date or time of ISO 8601, to an RFC 3339 time.

    Returns None for 0 and for other values.
    """
    try:
        if isinstance(value, str):
            time = datetime.fromisoformat(value)
            time = time if time.tzinfo else time.replace(tzinfo=UTC)
        elif isinstance(value, int | float) and 0 < value < _MAX_TIMESTAMP:
            time = datetime.fromtimestamp(value, UTC)
        else:
            return None
        utc = time.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return utc.isoformat(timespec="seconds").replace("+00:00", "Z")
