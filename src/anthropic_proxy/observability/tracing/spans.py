"""What spans say of a request: one for the request itself, one for each that was sent to an upstream for it.

Names and attributes are OpenTelemetry's semantic conventions for HTTP and for generative AI; what they have no name for
begins with `anthropic_proxy.`. Usage is told by the span of the upstream's answer alone, as those who add up tokens would
count it twice. Nothing here is a prompt, an answer, a key, or the text of an error, which may repeat one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from anthropic_proxy.observability.observation import Observation, UpstreamRequest

Attributes = dict[str, str | int | float | bool | Sequence[str]]

# Routes are few, paths are many.
_ROUTES = {
    "chat": "/v1/messages",
    "count_tokens": "/v1/messages/count_tokens",
    "models": "/v1/models",
}

# The conventions' names of providers; all others go by their own.
_PROVIDERS = {
    "openai": "openai",
    "azure": "azure.ai.openai",
    "deepseek": "deepseek",
    "mistral": "mistral_ai",
    "groq": "groq",
    "xai": "x_ai",
    "gemini": "gcp.gemini",
    "perplexity": "perplexity",
}

_FAILED = frozenset({"upstream_error", "truncated", "error"})


@dataclass(frozen=True)
class Span:
    """error: whether the span's status is that of an error."""

    name: str
    attributes: Attributes
    error: bool


def of_request(observation: Observation) -> Span:
    """The span of a request that is over, whose kind is SERVER."""
    route = _ROUTES.get(observation.operation)
    status = observation.status
    attributes = {
        **started(observation),
        "http.route": route,
        "http.response.status_code": status,
        "error.type": observation.error_type,
        "anthropic_proxy.outcome": observation.outcome,
        "anthropic_proxy.client_key": observation.client_key,
        "anthropic_proxy.retries": observation.retries or None,
        "anthropic_proxy.failovers": observation.failovers or None,
        **_model(observation, observation.model),
    }
    # By the conventions an error of the client's is none of its server's.
    failed = observation.outcome in _FAILED and not (status is not None and 400 <= status < 500)
    return Span(
        f"{observation.method} {route}" if route else observation.method, _given(attributes), failed
    )


def started(observation: Observation) -> Attributes:
    """What is known of a request when it begins; samplers may decide by it."""
    return {
        "http.request.method": observation.method,
        "url.path": observation.path,
        "url.scheme": observation.scheme,
        "anthropic_proxy.request_id": observation.request_id,
    }


def of_upstream_request(observation: Observation, asked: UpstreamRequest) -> Span:
    """The span of one request to an upstream, whose kind is CLIENT."""
    refused = str(asked.status) if asked.status is not None and asked.status >= 400 else None
    error = asked.error_type or refused
    model, endpoint = asked.model, asked.endpoint
    attributes = {
        "gen_ai.provider.name": _PROVIDERS.get(endpoint.profile.name, endpoint.name),
        "server.address": endpoint.host,
        "server.port": endpoint.port,
        "http.request.method": asked.method,
        "http.response.status_code": asked.status,
        "error.type": error,
        "anthropic_proxy.upstream": endpoint.name,
        **_model(observation, model),
        **(_answer(observation, model) if asked is observation.asked[-1] and not refused else {}),
    }
    name = (
        f"{observation.operation} {model}" if model else f"{asked.method} {observation.operation}"
    )
    return Span(name, _given(attributes), error is not None)


def _model(observation: Observation, model: str | None) -> Mapping[str, str | bool | None]:
    if observation.operation not in ("chat", "count_tokens"):
        return {}
    return {
        "gen_ai.operation.name": observation.operation,
        "gen_ai.request.model": model,
        "gen_ai.request.stream": observation.is_stream or None,
    }


def _answer(
    observation: Observation, model: str | None
) -> Mapping[str, str | int | float | list[str] | None]:
    """Input tokens are all of them, cached ones among them, as the conventions have it for Anthropic's usage."""
    tokens = observation.tokens
    if not tokens:
        return {}
    kinds = ("input", "cache_read", "cache_creation")
    return {
        "gen_ai.response.model": model,
        "gen_ai.response.finish_reasons": [observation.stop_reason]
        if observation.stop_reason
        else None,
        "gen_ai.response.time_to_first_chunk": observation.seconds_to_first_token,
        "gen_ai.usage.input_tokens": sum(tokens.get(kind, 0) for kind in kinds),
        "gen_ai.usage.output_tokens": tokens.get("output", 0),
        "gen_ai.usage.cache_read.input_tokens": tokens.get("cache_read"),
        "gen_ai.usage.cache_creation.input_tokens": tokens.get("cache_creation"),
        "gen_ai.usage.reasoning.output_tokens": tokens.get("thinking"),
    }


def _given(attributes: Mapping[str, str | int | float | bool | Sequence[str] | None]) -> Attributes:
    return {name: value for name, value in attributes.items() if value is not None}
