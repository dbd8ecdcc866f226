"""Sampling, limits and output format: top-level fields -> top-level fields."""

from anthropic_proxy.providers.profiles import Dialect
from anthropic_proxy.translate.request.schemas import fits_strict
from anthropic_proxy.wire import openai
from anthropic_proxy.wire.json_codec import JsonObject

_SERVICE_TIERS = {"auto": "auto", "standard_only": "default"}


def to_parameters(request: JsonObject, dialect: Dialect) -> JsonObject:
    """Limits, sampling and format. `stop_sequences` are not among them: see translate/stops.py."""
    parameters = {
        dialect.max_tokens_field: request.get("max_tokens"),
        "temperature": request.get("temperature"),
        "top_p": request.get("top_p"),
        "top_k": request.get("top_k") if dialect.sampling_top_k else None,
        "response_format": _response_format(request),
        "service_tier": _service_tier(request) if dialect.service_tiers else None,
    }
    return {name: value for name, value in parameters.items() if value is not None}


def output_format(request: JsonObject) -> JsonObject | None:
    """The format that the answer must have: `output_config.format`, or `output_format` of clients from before that."""
    wanted: JsonObject | None = (request.get("output_config") or {}).get("format") or request.get(
        "output_format"
    )
    return wanted


def _service_tier(request: JsonObject) -> str | None:
    """OpenAI's fast processing is a tier; it costs more, as Anthropic's does."""
    if request.get("speed") == "fast":
        return "priority"
    return _SERVICE_TIERS.get(request.get("service_tier") or "")


def _response_format(request: JsonObject) -> JsonObject | None:
    wanted = output_format(request)
    if wanted is None:
        return None
    schema = wanted["schema"]
    return openai.json_schema_format(schema, strict=fits_strict(schema))
