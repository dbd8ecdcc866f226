import pytest

from anthropic_proxy.config.key_hints import key_hint


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("sk-0123456789", ""),
        ("c2VjcmV0c2VjcmV0==", ""),
        ("bearer-0123456789", ""),
        ("Bearer sk-canary", "begins with Bearer"),
        ("bearer  sk-canary", "begins with Bearer"),
        ("Authorization: Bearer sk-canary", "begins with Bearer"),
        ("'sk-canary'", "holds quotes"),
        ('"sk-canary"', "holds quotes"),
        ('sk-"canary', "holds quotes"),
        ("`sk-canary`", "holds quotes"),
        ("sk-canary sk-canary", "holds blanks"),
        ("sk- canary", "holds blanks"),
    ],
)
def test_hints(key: str, hint: str) -> None:
    found = key_hint(key)
    assert bool(found) is bool(hint)
    assert hint in found
    assert "canary" not in found
