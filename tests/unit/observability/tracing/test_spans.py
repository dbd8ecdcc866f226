"""Names and attributes of spans, where a running proxy does not show them."""

from dataclasses import replace
from typing import Any

import pytest

from anthropic_proxy.observability.observation import Observation
from anthropic_proxy.observability.tracing import spans
from anthropic_proxy.providers.profiles import GENERIC, find_profile_by_name
from anthropic_proxy.routing.upstream import Upstream

ENDPOINT = Upstream("mine", "https://host.example/v1", GENERIC)


@pytest.mark.parametrize(
    ("dialect", "provider"),
    [
        ("generic", "openai"),
        ("azure", "azure.ai.openai"),
        ("mistral", "mistral_ai"),
        ("openai", "openai"),
        ("vllm", "vllm"),
        ("openrouter", "openrouter"),
    ],
)
def test_providers(dialect: str, provider: str) -> None:
    observation = Observation("POST", "/v1/messages", operation="chat", upstream_model="m")
    asked = observation.start_upstream_request(
        replace(ENDPOINT, profile=find_profile_by_name(dialect)), "POST"
    )
    told = spans.describe_upstream_request(observation, asked)
    assert told.name == "chat m"
    assert told.attributes["gen_ai.provider.name"] == provider
    assert (told.attributes["server.address"], told.attributes["server.port"]) == (
        "host.example",
        443,
    )


@pytest.mark.parametrize(
    ("known", "is_error"),
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
def test_whose_error_it_is(known: dict[str, Any], is_error: bool) -> None:
    told = spans.describe_request(Observation("POST", "/v1/messages", operation="chat", **known))
    assert told.is_error is is_error
    assert told.attributes["anthropic_proxy.outcome"] == known["outcome"]


def test_all_kinds_of_tokens() -> None:
    observation = Observation("POST", "/v1/messages", operation="chat", upstream_model="m")
    first, last = (
        observation.start_upstream_request(ENDPOINT, "POST"),
        observation.start_upstream_request(ENDPOINT, "POST"),
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
    told = spans.describe_upstream_request(observation, last).attributes
    assert {
        name.removeprefix("gen_ai.usage."): value for name, value in told.items() if "usage" in name
    } == {
        "input_tokens": 4301,
        "output_tokens": 20,
        "cache_read.input_tokens": 300,
        "cache_creation.input_tokens": 4000,
        "reasoning.output_tokens": 5,
    }
    assert told["gen_ai.response.finish_reasons"] == ["tool_use"]
    assert not any(
        "usage" in name for name in spans.describe_upstream_request(observation, first).attributes
    )
    assert not any("usage" in name for name in spans.describe_request(observation).attributes)
