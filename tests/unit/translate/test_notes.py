"""The response header for unavailable tools."""

from anthropic_proxy.translate.notes import build_unavailable_header

HEADER = "anthropic-proxy-unavailable-tools"


def test_names_that_a_header_can_not_hold() -> None:
    assert build_unavailable_header(["a", "n\u00e9\n"]) == {HEADER: "a, n??"}
    assert build_unavailable_header([]) == {}


def test_a_header_has_its_length() -> None:
    value = build_unavailable_header([f"{number:098}" for number in range(50)])[HEADER]
    assert value.endswith(f"{39:098}, and 10 more")
