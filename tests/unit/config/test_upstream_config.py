"""Suggestions for unknown names and hints about invalid keys.

`test_settings.py` and `test_file.py` test the other upstream values.
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
def test_unknown_names_get_a_suggestion(name: str, text: str) -> None:
    assert suggestion(name, ("queue", "total")) == text


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("sk-0123456789", ""),
        ("c2VjcmV0c2VjcmV0==", ""),
        ("bearer-0123456789", ""),
        ("'sk-canary'", "contains quotes"),
        ('"sk-canary"', "contains quotes"),
        ('sk-"canary', "contains quotes"),
        ("`sk-canary`", "contains quotes"),
        ("sk-canary sk-canary", "contains spaces"),
        ("sk- canary", "contains spaces"),
    ],
)
def test_invalid_keys_get_a_hint(key: str, expected: str) -> None:
    hint = key_hint(key)
    assert bool(hint) is bool(expected)
    assert expected in hint
    assert "canary" not in hint
