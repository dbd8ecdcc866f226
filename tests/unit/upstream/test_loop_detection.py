"""Loop detection: accepted ids in the header, and its limited cost."""

import pytest

from anthropic_proxy.errors import ApiError
from anthropic_proxy.upstream.loop_detection import (
    HOPS_HEADER,
    MAX_HOPS,
    PROXY_ID,
    hops_value,
    refuse_loop,
)

OTHER = "0123456789abcdef"


@pytest.mark.parametrize(
    ("value", "forwarded"),
    [
        ("", [PROXY_ID]),
        (OTHER, [OTHER, PROXY_ID]),
        (f" {OTHER} ,x,{OTHER.upper()}", [OTHER, PROXY_ID]),
        # Longer than any value that proxies send.
        ("," * 4000, [PROXY_ID]),
        (", ".join([OTHER] * 100), [PROXY_ID]),
        (f"{PROXY_ID}{',' * 4000}", [PROXY_ID]),
    ],
    ids=["none", "one", "not-ids", "commas", "many", "own-and-commas"],
)
def test_only_ids_are_forwarded(value: str, forwarded: list[str]) -> None:
    headers = {HOPS_HEADER: value}
    assert hops_value(headers).split(", ") == forwarded
    refuse_loop(headers)


# The proxy's id is random, so it must not be in the ids of the tests.
@pytest.mark.parametrize(
    "value",
    [PROXY_ID, f"{OTHER}, {PROXY_ID}", ", ".join([OTHER] * MAX_HOPS)],
    ids=["own", "own-last", "many"],
)
def test_loops_are_rejected(value: str) -> None:
    with pytest.raises(ApiError, match="address"):
        refuse_loop({HOPS_HEADER: value})
