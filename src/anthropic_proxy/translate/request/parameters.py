"""Convert sampling, limits and output format: top-level fields to top-level fields."""

from anthropic_proxy.providers.provider_profile import ProviderProfile
from anthropic_proxy.translate.request.schemas import is_strict_compatible
from anthropic_proxy.wire import openai
from anthropic_proxy.wire.json_codec import JsonObject

_SERVICE_TIERS = {"auto": "auto", "standard_only": "default"}


def to_parameters(
    request: JsonObject, output_format: JsonObject | None, profile: ProviderProfile
) -> JsonObject:
    """Return limits, sampling and format.

    Without `stop_sequences`, which the proxy applies itself.
    """
    parameters = {
        profile.max_tokens_field: request.get("max_tokens"),
        "temperature": request.get("temperature"),
        "top_p": request.get("top_p"),
        "top_k": request.get("top_k") if profile.sampling_top_k else None,
        "response_format": _build_response_format(output_format),
        "service_tier": _choose_service_tier(request) if profile.service_tiers else None,
    }
    return {name: value for name, value in parameters.items() if value is not None}


def get_output_format(request: JsonObject) -> JsonObject | None:
    """Return the required format: `output_config.format`, or `output_format` of older clients."""
    output_config = request.get("output_config") or {}
    return output_config.get("format") or request.get("output_format")


def _choose_service_tier(request: JsonObject) -> str | None:
    """Return the service tier. OpenAI's fast processing is a tier; it costs more, as Anthropic's
    does.
    """
    if request.get("speed") == "fast":
        return "priority"
    return _SERVICE_TIERS.get(request.get("service_tier") or "")


def _build_response_format(output_format: JsonObject | None) -> JsonObject | None:
    if output_format is None:
        return None
    schema = output_format["schema"]
    return openai.json_schema_format(schema, strict=is_strict_compatible(schema))
