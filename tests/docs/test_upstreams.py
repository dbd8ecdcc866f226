"""docs/upstreams.md contains the tables, and its variables configure each provider."""

from typing import get_args, get_type_hints

import pytest

from anthropic_proxy.config.settings import Settings
from anthropic_proxy.config.upstreams import upstreams_from_settings
from anthropic_proxy.providers.profiles import (
    PROFILE_NAMES,
    ProviderProfile,
    find_profile_by_name,
)
from docs.generators import upstreams as upstreams_page
from docs.generators.upstreams import GUIDES, VALUES
from tests.support.paths import ROOT

PAGE = ROOT / "docs" / "upstreams.md"

# Self-hosted servers have no host name that identifies the provider.
_SELF_HOSTED = {"ollama", "llamacpp", "vllm", "sglang", "lmstudio", "litellm", "generic"}


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == upstreams_page.render_page(), "run: make docs"


def test_every_provider_is_described() -> None:
    assert tuple(sorted(GUIDES)) == PROFILE_NAMES


@pytest.mark.parametrize("name", VALUES)
def test_every_value_is_described(name: str) -> None:
    assert VALUES[name].keys() == {*get_args(get_type_hints(ProviderProfile)[name])}


@pytest.mark.parametrize("name", GUIDES)
def test_the_documented_variables_configure_the_provider(name: str) -> None:
    url = GUIDES[name].url.replace("NAME", "name").replace("HOST", "host.example")
    (upstream,) = upstreams_from_settings(
        Settings(_env_file=None, UPSTREAM_BASE_URL=url, UPSTREAM_API_KEY=GUIDES[name].api_key)
    )
    assert upstream.profile.name == ("generic" if name in _SELF_HOSTED else name)
    if name not in _SELF_HOSTED:
        assert upstream.base_url.endswith(find_profile_by_name(name).api_path)
