"""Sets of markers, and their beginnings at the end of a text."""

import pytest

from anthropic_proxy.translate.tool_calls.markers import Markers

_MARKERS = Markers(("<a>", "<ab>", "<abc", "`"))


@pytest.mark.parametrize(
    ("text", "found"),
    [("x<a>", "<a>"), ("<ab><a>", "<ab>"), ("<abc>", "<abc"), ("a`", "`"), ("<b>", None)],
)
def test_the_longest_marker_is_found(text: str, found: str | None) -> None:
    match = _MARKERS.pattern.search(text)
    assert (match and match[0]) == found


@pytest.mark.parametrize(
    ("text", "start", "size"),
    [("x<", 0, 1), ("x<a", 0, 2), ("x<ab", 0, 3), ("x<ab", 2, 0), ("x<abc", 0, 0), ("", 0, 0)],
)
def test_beginnings(text: str, start: int, size: int) -> None:
    assert _MARKERS.measure_beginning(text, start) == size
    assert not size or _MARKERS.may_start(text, len(text) - size)
