"""Provider profiles: selection by host name, and unique names and hosts."""

from typing import Any

import pytest

from anthropic_proxy.providers.profiles import (
    GENERIC,
    PROFILE_NAMES,
    PROFILES,
    ProviderProfile,
    find_profile_by_host,
    find_profile_by_name,
    override_profile,
    to_responses_profile,
)


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("api.openai.com", "openai"),
        ("my-company.openai.azure.com", "azure"),
        ("generativelanguage.googleapis.com", "gemini"),
        ("openrouter.ai", "openrouter"),
        ("localhost", "generic"),
        ("127.0.0.1", "generic"),
        ("::1", "generic"),
        ("", "generic"),
        ("openai.com", "generic"),
        ("openai.azure.com", "generic"),
        ("notopenai.azure.com", "generic"),
        ("api.openai.com.example", "generic"),
        ("eu.api.openai.com", "openai"),
        ("company.openai.azure.us", "azure"),
        ("ws-1.ap-southeast-1.maas.aliyuncs.com", "qwen"),
        ("x.api.openai.com", "openai"),
        ("x.openai.azure.com", "azure"),
        ("x.cognitiveservices.azure.com", "azure"),
        ("x.services.ai.azure.com", "azure"),
        ("x.openai.azure.us", "azure"),
        ("api.deepseek.com", "deepseek"),
        ("api.mistral.ai", "mistral"),
        ("codestral.mistral.ai", "mistral"),
        ("api.groq.com", "groq"),
        ("api.together.xyz", "together"),
        ("api.together.ai", "together"),
        ("api.fireworks.ai", "fireworks"),
        ("api.cerebras.ai", "cerebras"),
        ("api.x.ai", "xai"),
        ("api.moonshot.ai", "moonshot"),
        ("api.moonshot.cn", "moonshot"),
        ("api.kimi.com", "moonshot"),
        ("api.z.ai", "glm"),
        ("open.bigmodel.cn", "glm"),
        ("api.minimax.io", "minimax"),
        ("api.minimaxi.com", "minimax"),
        ("dashscope.aliyuncs.com", "qwen"),
        ("dashscope-intl.aliyuncs.com", "qwen"),
        ("dashscope-us.aliyuncs.com", "qwen"),
        ("x.dashscope.aliyuncs.com", "qwen"),
        ("x.maas.aliyuncs.com", "qwen"),
        ("integrate.api.nvidia.com", "nvidia"),
        ("models.github.ai", "github"),
        ("router.huggingface.co", "huggingface"),
        ("api.perplexity.ai", "perplexity"),
        ("xapi.openai.com", "generic"),
        ("notopenrouter.ai", "generic"),
        ("openrouter.ai.example", "generic"),
    ],
)
def test_host_names_select_a_profile(host: str, name: str) -> None:
    assert find_profile_by_host(host).name == name


def test_names_and_hosts_are_unique() -> None:
    profiles = (*PROFILES, GENERIC)
    hosts = [host for profile in profiles for host in profile.hosts]
    assert len({profile.name for profile in profiles}) == len(profiles)
    assert len(set(hosts)) == len(hosts)


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_every_profile_is_found_by_name_and_host(profile: ProviderProfile) -> None:
    assert find_profile_by_name(profile.name.upper()) is profile
    for host in profile.hosts:
        assert find_profile_by_host(f"x{host}" if host.startswith(".") else host) is profile


def test_unknown_servers_get_the_most_compatible_fields() -> None:
    assert (GENERIC.max_tokens_field, GENERIC.system_anywhere, GENERIC.hosts) == (
        "max_tokens",
        False,
        (),
    )


def test_unknown_servers_are_expected_to_have_no_optional_features() -> None:
    assert (GENERIC.takes_files, GENERIC.fetches_image_urls, GENERIC.prefill) == (
        False,
        False,
        "continued",
    )


def test_the_profile_defaults_describe_openai() -> None:
    openai = find_profile_by_host("api.openai.com")
    assert openai == ProviderProfile("openai", hosts=openai.hosts)
    assert (openai.max_tokens_field, openai.sampling_top_k) == ("max_completion_tokens", False)


def test_an_unknown_name_is_rejected() -> None:
    assert len(PROFILE_NAMES) == len(PROFILES) + 1
    with pytest.raises(ValueError, match=r"must be one of azure, cerebras, .*xai"):
        find_profile_by_name("gpt")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {}),
        (
            {"max_tokens_field": "max_completion_tokens"},
            {"max_tokens_field": "max_completion_tokens"},
        ),
        (
            {"sampling_top_k": "false", "takes_files": True},
            {"sampling_top_k": False, "takes_files": True},
        ),
        ({"headers": [["a", "b"]]}, {"headers": (("a", "b"),)}),
    ],
)
def test_provider_settings_override_the_profile(
    settings: dict[str, Any], expected: dict[str, Any]
) -> None:
    profile = override_profile(GENERIC, settings)
    assert {name: getattr(profile, name) for name in expected} == expected
    assert override_profile(profile, {name: getattr(GENERIC, name) for name in expected}) == GENERIC


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"max_tokens": "x"},
            r"'max_tokens' is not a setting of a provider \(known: api_path, auth, .*\)",
        ),
        ({"name": "x"}, r"'name' is not a setting"),
        (
            {"prefill": "x"},
            r"prefill: Input should be 'continued', 'refused', .* or 'partial'",
        ),
        ({"sampling_top_k": "maybe"}, r"sampling_top_k: Input should be a valid boolean"),
    ],
)
def test_invalid_provider_settings_are_rejected(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        override_profile(GENERIC, settings)


@pytest.mark.parametrize(
    ("name", "chat", "responses"),
    [
        ("openai", True, True),
        ("azure", False, True),
        ("litellm", True, True),
        ("vllm", False, False),
        ("generic", False, False),
    ],
)
def test_file_support_depends_on_the_api(name: str, chat: bool, responses: bool) -> None:
    responses_profile = to_responses_profile(find_profile_by_name(name))
    assert (
        find_profile_by_name(name).takes_files,
        responses_profile.takes_files,
        responses_profile.tool_parts,
    ) == (
        chat,
        responses,
        responses,
    )


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_the_responses_profile_disables_unsupported_features(profile: ProviderProfile) -> None:
    responses = to_responses_profile(profile)
    assert (responses.reasoning, responses.replays_reasoning) == ("responses", True)
    assert (responses.prefill, responses.sampling_top_k, responses.cache_control) == (
        "refused",
        False,
        False,
    )


@pytest.mark.parametrize(
    ("name", "api_path"),
    [
        ("openai", "/v1"),
        ("azure", "/openai/v1"),
        ("openrouter", "/api/v1"),
        ("generic", "/v1"),
    ],
)
def test_profiles_have_an_api_path(name: str, api_path: str) -> None:
    profile = find_profile_by_name(name)
    assert profile is not None
    assert profile.api_path == api_path


@pytest.mark.parametrize(
    ("host", "api_path"),
    [
        ("dashscope.aliyuncs.com", "/compatible-mode/v1"),
        ("dashscope-intl.aliyuncs.com", "/compatible-mode/v1"),
        ("api.openai.com", "/v1"),
    ],
)
def test_a_host_selects_an_api_path(host: str, api_path: str) -> None:
    assert find_profile_by_host(host).api_path == api_path
