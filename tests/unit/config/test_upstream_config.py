"""The end of a message about an unknown name. The values of an upstream are tested in test_settings.py and test_file.py."""

import pytest

from anthropic_proxy.config.upstream_config import suggestion


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
