"""Model selection by thinking, settings and the model of the request."""

from typing import Any

import pytest

from anthropic_proxy.config.settings import Settings
from anthropic_proxy.config.upstreams import routing_from_settings, upstreams_from_settings
from anthropic_proxy.routing.model_names import to_claude_id
from anthropic_proxy.routing.router import Route, has_images, requests_thinking

_THINKER = {"REASONING_MODEL": "thinker"}
_WRITER = {"COMPLETION_MODEL": "writer"}


def _settings(**variables: str) -> Settings:
    values: dict[str, Any] = {"UPSTREAM_BASE_URL": "http://localhost:8080"}
    return Settings(_env_file=None, **values | variables)


def select_route(request: dict[str, Any], settings: Settings) -> Route:
    routing = routing_from_settings(settings, upstreams_from_settings(settings))
    groups = routing.select_groups({"messages": [], **request}, lambda: 0)
    return routing.build_routes(groups[0], request["model"])[0]


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


_NAMES = {
    "MODEL_ALIASES": "claude-mine=v/mine;claude-long[1m]=v/long",
    "MODEL_MAP": "claude-x=x;claude-x[2m]=x2;haiku=small;gpt-*=any;*[[]200k]=wide",
}
_TWO_URLS = {"UPSTREAM_BASE_URL": "https://api.openai.com;http://localhost:8080"}


@pytest.mark.parametrize(
    ("requested", "model"),
    [
        # No setting has the name: no upstream knows the suffix.
        ("llama", "llama"),
        ("llama[1m]", "llama"),
        ("llama[1M]", "llama"),
        ("llama[2m]", "llama"),
        ("llama[1M][1m]", "llama"),
        ("org/llama:free[1m]", "org/llama:free"),
        # Aliases.
        ("claude-mine", "v/mine"),
        ("claude-mine[1m]", "v/mine"),
        ("claude-mine[1m][1m]", "v/mine"),
        ("claude-long[1m]", "v/long"),
        ("claude-long", "claude-long"),
        # Names, globs and tiers of the model map.
        ("claude-x[1m]", "x"),
        ("claude-x[2m]", "x2"),
        ("claude-haiku-5[1m]", "small"),
        ("gpt-6[1m]", "any"),
        # A glob that is only for the suffix.
        ("claude-x[200k]", "wide"),
        ("llama[200k]", "wide"),
        ("claude-x[128k]", "x"),
        # These are parts of names.
        ("llama-1m", "llama-1m"),
        ("llama[1m]-fast", "llama[1m]-fast"),
        ("llama[one]", "llama[one]"),
        ("llama[1g]", "llama[1g]"),
        ("llama[1000000m]", "llama[1000000m]"),
        ("llama[]", "llama[]"),
        ("llama[1m", "llama[1m"),
        ("[1m]", "[1m]"),
    ],
)
def test_suffixes_of_the_context_size(requested: str, model: str) -> None:
    assert select_route({"model": requested}, _settings(**_NAMES)).model == model


@pytest.mark.parametrize(
    ("requested", "upstream", "model"),
    [
        ("api.openai.com/gpt-6[1m]", "api.openai.com", "gpt-6"),
        ("localhost:8080/org/llama[1M]", "localhost:8080", "org/llama"),
        # A glob for the suffix changes neither an alias nor the name of an upstream.
        ("localhost:8080/llama[200k]", "localhost:8080", "llama"),
        ("claude-mine[200k]", "api.openai.com", "v/mine"),
        ("llama[1m]", "api.openai.com", "llama"),
        (to_claude_id("localhost:8080/llama"), "localhost:8080", "llama"),
        (to_claude_id("localhost:8080/llama") + "[1m]", "localhost:8080", "llama"),
    ],
)
def test_suffixes_with_several_upstreams(requested: str, upstream: str, model: str) -> None:
    route = select_route({"model": requested}, _settings(**_NAMES | _TWO_URLS))
    assert (route.upstream.name, route.model) == (upstream, model)


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("llama", "llama"),
        ("llama[1m]", "llama"),
        ("gpt-6", "any"),
        ("org/haiku-writer", "small"),
        ("claude-mine", "v/mine"),
        ("long[200k]", "wide"),
    ],
)
def test_a_claude_id_has_the_route_of_its_name(name: str, model: str) -> None:
    settings = _settings(**_NAMES)
    assert select_route({"model": to_claude_id(name)}, settings).model == model
    assert select_route({"model": name}, settings).model == model


@pytest.mark.parametrize(
    ("requested", "names"),
    [
        ("llama", {"llama"}),
        ("llama[1m]", {"llama[1m]", "llama"}),
        ("claude-mine[1m]", {"claude-mine[1m]", "claude-mine"}),
        # These have targets of their own.
        ("claude-long[1m]", {"claude-long[1m]"}),
        ("claude-x[2m]", {"claude-x[2m]"}),
        ("llama[200k]", {"llama[200k]"}),
        (to_claude_id("llama"), {"llama"}),
        (to_claude_id("llama") + "[1m]", {"llama[1m]", "llama"}),
    ],
)
def test_names_by_which_a_key_allows_a_model(requested: str, names: set[str]) -> None:
    settings = _settings(**_NAMES)
    routing = routing_from_settings(settings, upstreams_from_settings(settings))
    assert set(routing.list_names(requested)) == names


def test_an_alias_may_have_the_form_of_a_claude_id() -> None:
    name = to_claude_id("llama")
    settings = _settings(MODEL_ALIASES=f"{name}=mine")
    routing = routing_from_settings(settings, upstreams_from_settings(settings))
    assert select_route({"model": name}, settings).model == "mine"
    assert routing.list_names(name) == (name,)


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
