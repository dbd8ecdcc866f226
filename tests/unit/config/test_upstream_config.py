"""What goes on after the name of something unknown. The kinds of values themselves are in test_config_file.py, as they are
told.
"""

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
