"""Names and attributes of spans that the integration tests do not cover."""

from dataclasses import replace
from typing import Any

import pytest

from anthropic_proxy.observability.observation import Observation
from anthropic_proxy.observability.tracing import spans
from anthropic_proxy.providers.profiles import GENERIC, find_profile_by_name
from anthropic_proxy.routing.upstream import Upstream

UPSTREAM = Upstream("mine", "https://host.example/v1", GENERIC)


@pytest.mark.parametrize(
    ("profile_name", "provider"),
    [
        ("generic", "openai"),
        ("azure", "azure.ai.openai"),
        ("mistral", "mistral_ai"),
        ("openai", "openai"),
        ("vllm", "vllm"),
        ("openrouter", "openrouter"),
    ],
)
def test_spans_name_the_provider(profile_name: str, provider: str) -> None:
    observation = Observation("POST", "/v1/messages", operation="chat", upstream_model="m")
    upstream_request = observation.start_upstream_request(
        replace(UPSTREAM, profile=find_profile_by_name(profile_name)), "POST"
    )
    span = spans.describe_upstream_request(observation, upstream_request)
    assert span.name == "chat m"
    assert span.attributes["gen_ai.provider.name"] == provider
    assert (span.attributes["server.address"], span.attributes["server.port"]) == (
        "host.example",
        443,
    )


@pytest.mark.parametrize(
    ("values", "is_error"),
    [
        ({"outcome": "complete", "status": 200}, False),
        ({"outcome": "client_closed"}, False),
        ({"outcome": "refused", "status": 400}, False),
        ({"outcome": "upstream_error", "status": 429}, False),
        ({"outcome": "upstream_error", "status": 529}, True),
        ({"outcome": "upstream_error", "status": 200}, True),
        ({"outcome": "truncated", "status": 200}, True),
        ({"outcome": "error", "status": 500}, True),
    ],
)
def test_only_errors_of_the_proxy_and_upstreams_mark_the_span(
    values: dict[str, Any], is_error: bool
) -> None:
    span = spans.describe_request(Observation("POST", "/v1/messages", operation="chat", **values))
    assert span.is_error is is_error
    assert span.attributes["anthropic_proxy.outcome"] == values["outcome"]


def test_token_counts_are_attributes_of_the_last_request() -> None:
    observation = Observation("POST", "/v1/messages", operation="chat", upstream_model="m")
    first, last = (
        observation.start_upstream_request(UPSTREAM, "POST"),
        observation.start_upstream_request(UPSTREAM, "POST"),
    )
    usage = {
        "input_tokens": 1,
        "output_tokens": 20,
        "cache_read_input_tokens": 300,
        "cache_creation_input_tokens": 4000,
    }
    observation.record_response(
        usage | {"output_tokens_details": {"thinking_tokens": 5}}, "tool_use", 1
    )
    attributes = spans.describe_upstream_request(observation, last).attributes
    assert {
        name.removeprefix("gen_ai.usage."): value
        for name, value in attributes.items()
        if "usage" in name
    } == {
        "input_tokens": 4301,
        "output_tokens": 20,
        "cache_read.input_tokens": 300,
        "cache_creation.input_tokens": 4000,
        "reasoning.output_tokens": 5,
    }
    assert attributes["gen_ai.response.finish_reasons"] == ["tool_use"]
    assert not any(
        "usage" in name for name in spans.describe_upstream_request(observation, first).attributes
    )
    assert not any("usage" in name for name in spans.describe_request(observation).attributes)
