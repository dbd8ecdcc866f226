"""Which model answers: thinking, overrides and the client's own choice."""

from typing import Any

import pytest

from anthropic_proxy.config.settings import Settings
from anthropic_proxy.config.upstreams import routing_from_settings, upstreams_from_settings
from anthropic_proxy.routing.router import Route, build_routes, has_images, requests_thinking

_THINKER = {"REASONING_MODEL": "thinker"}
_WRITER = {"COMPLETION_MODEL": "writer"}


def _settings(**variables: str) -> Settings:
    places: dict[str, Any] = {"UPSTREAM_BASE_URL": "http://localhost:8080"}
    return Settings(_env_file=None, **places | variables)


def route(request: dict[str, Any], settings: Settings) -> Route:
    groups = routing_from_settings(settings, upstreams_from_settings(settings)).select_groups(
        {"messages": [], **request}, lambda: 0
    )
    return build_routes(groups[0], request["model"])[0]


@pytest.mark.parametrize(
    ("fields", "wanted"),
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
def test_wants_thinking(fields: dict[str, Any], wanted: bool) -> None:
    assert requests_thinking({"model": "client", **fields}) is wanted


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
def test_model(variables: dict[str, str], thinking: str | None, model: str) -> None:
    request = (
        {"model": "client", "thinking": {"type": thinking}} if thinking else {"model": "client"}
    )
    assert route(request, _settings(**variables)).model == model


@pytest.mark.parametrize(
    ("asked", "model"),
    [
        ("claude-opus-4-6[1m]", "large"),
        ("claude-opus-4-62", "glob"),
        ("claude-opus-4-6", "claude-opus-4-6"),
    ],
)
def test_a_name_that_looks_like_a_glob_is_one_too(asked: str, model: str) -> None:
    settings = _settings(MODEL_MAP="claude-opus-4-6[1m]=large;claude-opus-4-6[0-9]=glob")
    assert route({"model": asked}, settings).model == model


@pytest.mark.parametrize(
    ("asked", "thinking", "model"),
    [
        ("claude-qwen", None, "qwen/qwen3"),
        ("claude-qwen", "enabled", "qwen/qwen3"),
        ("Claude-Qwen", None, "writer"),
        ("qwen/qwen3", "enabled", "thinker"),
    ],
)
def test_an_alias_wins(asked: str, thinking: str | None, model: str) -> None:
    request = {"model": asked, "thinking": {"type": thinking}}
    settings = _settings(**_THINKER | _WRITER, MODEL_ALIASES="claude-qwen=qwen/qwen3; claude-b = b")
    assert route(request, settings).model == model


@pytest.mark.parametrize(
    ("base", "url", "dialect"),
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
def test_address_and_dialect(base: str, url: str, dialect: str) -> None:
    found = route({"model": "client"}, _settings(UPSTREAM_BASE_URL=base))
    assert (found.upstream.build_url("/chat/completions"), found.profile.name) == (url, dialect)


@pytest.mark.parametrize("tier", ["haiku", "Haiku"])
def test_tiers_in_the_map(tier: str) -> None:
    settings = _settings(MODEL_MAP=f"{tier}=small")
    assert route({"model": "claude-haiku-5"}, settings).model == "small"


_IMAGE = {"type": "image"}


@pytest.mark.parametrize(
    ("content", "is_found"),
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
def test_images(content: Any, is_found: bool) -> None:
    assert has_images({"messages": [{"content": "x"}, {"content": content}]}) is is_found
