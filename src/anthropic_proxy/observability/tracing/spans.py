"""Create the data of spans: one for each request, and one for each upstream request.

Names and attributes follow OpenTelemetry's semantic conventions for HTTP and for generative AI.
Other attributes begin with `anthropic_proxy.`. Only the span of the successful upstream request has
the usage, so that sums over spans count it once. Attributes do not contain prompts, responses, keys
or error messages, which may quote them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from anthropic_proxy.observability.observation import Observation, UpstreamRequest

_Value = str | int | float | bool | Sequence[str]
Attributes = dict[str, _Value]

# By operation. Unlike paths, routes have a bounded number of values.
_ROUTES = {
    "chat": "/v1/messages",
    "count_tokens": "/v1/messages/count_tokens",
    "models": "/v1/models",
}

# Provider names of the conventions, by profile. By the conventions, a server without a profile has
# the name of the API that it is compatible with; `server.address` identifies it.
_PROVIDERS = {
    "generic": "openai",
    "openai": "openai",
    "azure": "azure.ai.openai",
    "deepseek": "deepseek",
    "mistral": "mistral_ai",
    "groq": "groq",
    "xai": "x_ai",
    "gemini": "gcp.gemini",
    "perplexity": "perplexity",
}

_FAILURE_OUTCOMES = frozenset({"upstream_error", "truncated", "error"})


@dataclass(frozen=True)
class SpanData:
    """The content of one span."""

    name: str
    attributes: Attributes
    # Whether the status of the span is an error.
    is_error: bool


def describe_request(observation: Observation) -> SpanData:
    """Return the span of a finished request. Its kind is SERVER."""
    route = _ROUTES.get(observation.operation)
    status = observation.status
    attributes = {
        **initial_attributes(observation),
        "http.route": route,
        "http.response.status_code": status,
        "error.type": observation.error_type,
        "anthropic_proxy.outcome": observation.outcome,
        "anthropic_proxy.client_key": observation.api_key_name,
        "anthropic_proxy.retries": observation.retries or None,
        "anthropic_proxy.failovers": observation.failovers or None,
        **_model_attributes(observation, observation.model),
    }
    # By the conventions, a client error (4xx) is not an error of the server span.
    is_client_error = status is not None and 400 <= status < 500
    is_error = observation.outcome in _FAILURE_OUTCOMES and not is_client_error
    name = f"{observation.method} {route}" if route else observation.method
    return SpanData(name, _without_none(attributes), is_error)


def initial_attributes(observation: Observation) -> Attributes:
    """Return the attributes of a request at its start, for samplers."""
    return {
        "http.request.method": observation.method,
        "url.path": observation.path,
        "url.scheme": observation.scheme,
        "anthropic_proxy.request_id": observation.request_id,
    }


def describe_upstream_request(
    observation: Observation, upstream_request: UpstreamRequest
) -> SpanData:
    """Return the span of one request to an upstream. Its kind is CLIENT."""
    has_failed = upstream_request.status is not None and upstream_request.status >= 400
    error = upstream_request.error_type
    if error is None and has_failed:
        error = str(upstream_request.status)
    model, upstream = upstream_request.model, upstream_request.upstream
    response_attributes: Mapping[str, _Value | None] = {}
    if upstream_request is observation.upstream_requests[-1] and not has_failed:
        response_attributes = _response_attributes(observation, model)
    attributes = {
        "gen_ai.provider.name": _PROVIDERS.get(upstream.profile.name, upstream.profile.name),
        "server.address": upstream.host,
        "server.port": upstream.port,
        "http.request.method": upstream_request.method,
        "http.response.status_code": upstream_request.status,
        "error.type": error,
        "anthropic_proxy.upstream": upstream.name,
        **_model_attributes(observation, model),
        **response_attributes,
    }
    name = f"{upstream_request.method} {observation.operation}"
    if model:
        name = f"{observation.operation} {model}"
    return SpanData(name, _without_none(attributes), error is not None)


def _model_attributes(
    observation: Observation, model: str | None
) -> Mapping[str, str | bool | None]:
    if observation.operation not in ("chat", "count_tokens"):
        return {}
    return {
        "gen_ai.operation.name": observation.operation,
        "gen_ai.request.model": model,
        "gen_ai.request.stream": observation.is_stream or None,
    }


def _response_attributes(
    observation: Observation, model: str | None
) -> Mapping[str, _Value | None]:
    """Return the attributes of a response.

    By the conventions, input tokens include cached tokens; in Anthropic's usage they do not.
    """
    tokens = observation.tokens
    if not tokens:
        return {}
    kinds = ("input", "cache_read", "cache_creation")
    finish_reasons = [observation.stop_reason] if observation.stop_reason else None
    return {
        "gen_ai.response.model": model,
        "gen_ai.response.finish_reasons": finish_reasons,
        "gen_ai.response.time_to_first_chunk": observation.seconds_to_first_token,
        "gen_ai.usage.input_tokens": sum(tokens.get(kind, 0) for kind in kinds),
        "gen_ai.usage.output_tokens": tokens.get("output", 0),
        "gen_ai.usage.cache_read.input_tokens": tokens.get("cache_read"),
        "gen_ai.usage.cache_creation.input_tokens": tokens.get("cache_creation"),
        "gen_ai.usage.reasoning.output_tokens": tokens.get("thinking"),
    }


def _without_none(attributes: Mapping[str, _Value | None]) -> Attributes:
    return {name: value for name, value in attributes.items() if value is not None}
