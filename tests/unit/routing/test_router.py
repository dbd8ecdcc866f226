"""Model selection by thinking, settings and the model of the request."""

from typing import Any

import pytest

from anthropic_proxy.config.settings import Settings
from anthropic_proxy.config.upstreams import routing_from_settings, upstreams_from_settings
from anthropic_proxy.routing.router import Route, build_routes, has_images, requests_thinking

_THINKER = {"REASONING_MODEL": "thinker"}
_WRITER = {"COMPLETION_MODEL": "writer"}


def _settings(**variables: str) -> Settings:
    values: dict[str, Any] = {"UPSTREAM_BASE_URL": "http://localhost:8080"}
    return Settings(_env_file=None, **values | variables)


def select_route(request: dict[str, Any], settings: Settings) -> Route:
    groups = routing_from_settings(settings, upstreams_from_settings(settings)).select_groups(
        {"messages": [], **request}, lambda: 0
    )
    return build_routes(groups[0], request["model"])[0]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({}, False, id="absent"),
        pytest.param({"thinking": None}, False, id="null"),
        pytest.param({"thinking": {"type": "enabled", "budget_tokens": 1024}}, True, id="enabled"),
        pytest.param({"thinking": {"type": "adaptive"}}, True, id="adaptive"),
        pytest.param({"thinking": {"type": "disabled"}}, False, id="disabled"),
        pytest.param({"thinking": {"type": "between_tools"}}, False, id="between-tools"),
        pytest.param({"thinking": {"type": "of next month"}}, False, id="unknown"),
    ],
)
def test_thinking_is_detected(fields: dict[str, Any], expected: bool) -> None:
    assert requests_thinking({"model": "client", **fields}) is expected


@pytest.mark.parametrize(
    ("variables", "thinking", "model"),
    [
        pytest.param({}, None, "client", id="nothing-set"),
        pytest.param({}, "enabled", "client", id="nothing-set-thinking"),
        pytest.param(_THINKER | _WRITER, None, "writer", id="both"),
        pytest.param(_THINKER | _WRITER, "disabled", "writer", id="both-disabled"),
        pytest.param(_THINKER | _WRITER, "enabled", "thinker", id="both-enabled"),
        pytest.param(_THINKER | _WRITER, "adaptive", "thinker", id="both-adaptive"),
        pytest.param(_THINKER, None, "client", id="only-reasoning"),
        pytest.param(_THINKER, "enabled", "thinker", id="only-reasoning-enabled"),
        pytest.param(_WRITER, None, "writer", id="only-completion"),
        pytest.param(_WRITER, "enabled", "client", id="only-completion-enabled"),
    ],
)
def test_the_model_depends_on_settings_and_thinking(
    variables: dict[str, str], thinking: str | None, model: str
) -> None:
    request = (
        {"model": "client", "thinking": {"type": thinking}} if thinking else {"model": "client"}
    )
    assert select_route(request, _settings(**variables)).model == model


@pytest.mark.parametrize(
    ("requested", "model"),
    [
        ("claude-opus-4-6[1m]", "large"),
        ("claude-opus-4-62", "glob"),
        ("claude-opus-4-6", "claude-opus-4-6"),
    ],
)
def test_a_literal_name_with_brackets_is_also_a_glob(requested: str, model: str) -> None:
    settings = _settings(MODEL_MAP="claude-opus-4-6[1m]=large;claude-opus-4-6[0-9]=glob")
    assert select_route({"model": requested}, settings).model == model


@pytest.mark.parametrize(
    ("requested", "thinking", "model"),
    [
        ("claude-qwen", None, "qwen/qwen3"),
        ("claude-qwen", "enabled", "qwen/qwen3"),
        ("Claude-Qwen", None, "writer"),
        ("qwen/qwen3", "enabled", "thinker"),
    ],
)
def test_an_alias_overrides_other_settings(
    requested: str, thinking: str | None, model: str
) -> None:
    request = {"model": requested, "thinking": {"type": thinking}}
    settings = _settings(**_THINKER | _WRITER, MODEL_ALIASES="claude-qwen=qwen/qwen3; claude-b = b")
    assert select_route(request, settings).model == model


@pytest.mark.parametrize(
    ("base", "url", "profile_name"),
    [
        (
            "https://openrouter.ai/api",
            "https://openrouter.ai/api/v1/chat/completions",
            "openrouter",
        ),
        ("https://API.OpenAI.com/v1", "https://API.OpenAI.com/v1/chat/completions", "openai"),
        ("http://localhost:11434", "http://localhost:11434/v1/chat/completions", "generic"),
    ],
)
def test_the_base_url_selects_url_and_profile(base: str, url: str, profile_name: str) -> None:
    route = select_route({"model": "client"}, _settings(UPSTREAM_BASE_URL=base))
    assert (route.upstream.build_url("/chat/completions"), route.profile.name) == (
        url,
        profile_name,
    )


@pytest.mark.parametrize("tier", ["haiku", "Haiku"])
def test_tiers_in_the_model_map_are_case_insensitive(tier: str) -> None:
    settings = _settings(MODEL_MAP=f"{tier}=small")
    assert select_route({"model": "claude-haiku-5"}, settings).model == "small"


_IMAGE = {"type": "image"}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("image", False),
        ([{"type": "text"}], False),
        ([{"type": "text"}, _IMAGE], True),
        ([{"type": "tool_result", "content": [_IMAGE]}], True),
        ([{"type": "tool_result", "content": "image"}], False),
        ([{"type": "document", "content": [_IMAGE]}], False),
        (["image"], False),
    ],
)
def test_images_are_detected(content: Any, expected: bool) -> None:
    assert has_images({"messages": [{"content": "x"}, {"content": content}]}) is expected
