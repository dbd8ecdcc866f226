"""An upstream as it is when only its name, its address and its profile are known."""

from anthropic_proxy.providers.profiles import PROFILES
from anthropic_proxy.routing.upstream import Upstream


def test_the_defaults_are_the_safe_choices() -> None:
    upstream = Upstream("a", "https://example.com/v1", PROFILES[0])
    assert upstream.api == "chat_completions"
    assert (upstream.keys, upstream.key_passthrough) == ((), False)
    assert (upstream.headers, upstream.query, upstream.extra_body) == ({}, {}, {})
    assert upstream.retries == 0
    assert upstream.is_profile_guessed is False
