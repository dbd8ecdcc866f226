"""Messages about unknown names, and hints on keys.

Other values of an upstream are tested in test_settings.py and test_file.py.
"""

import pytest

from anthropic_proxy.config.upstream_config import key_hint, suggestion


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("queu", "; did you mean queue? (known: queue, total)"),
        ("totals", "; did you mean total? (known: queue, total)"),
        ("zzz", " (known: queue, total)"),
    ],
)
def test_suggestion(name: str, text: str) -> None:
    assert suggestion(name, ("queue", "total")) == text


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("sk-0123456789", ""),
        ("c2VjcmV0c2VjcmV0==", ""),
        ("bearer-0123456789", ""),
        ("Bearer sk-canary", "begins with Bearer"),
        ("bearer  sk-canary", "begins with Bearer"),
        ("Authorization: Bearer sk-canary", "begins with Bearer"),
        ("'sk-canary'", "contains quotes"),
        ('"sk-canary"', "contains quotes"),
        ('sk-"canary', "contains quotes"),
        ("`sk-canary`", "contains quotes"),
        ("sk-canary sk-canary", "contains spaces"),
        ("sk- canary", "contains spaces"),
    ],
)
def test_hints_on_keys(key: str, hint: str) -> None:
    found = key_hint(key)
    assert bool(found) is bool(hint)
    assert hint in found
    assert "canary" not in found
