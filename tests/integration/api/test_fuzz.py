"""Random faults in requests and upstream responses cause no internal errors.

The bodies of the request cases are changed at random positions, as text or as JSON.
Upstream responses are changed in the same way.
"""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.cases import CASES
from tests.support.raw_client import exchange
from tests.support.running_proxy import running_proxy
from tests.support.scripted_upstream import (
    DEADLINE,
    Received,
    Script,
    ScriptedUpstream,
    answers,
    completion,
    streams,
    text_chunks,
)

FEW = settings(max_examples=25, suppress_health_check=list(HealthCheck))
REQUESTS: list[Any] = [
    json.loads(file.read_text())["request"] for file in sorted((CASES / "requests").glob("*.json"))
]
CHUNKS = [json.dumps(chunk) for chunk in text_chunks("<think>a", "</think>b")]
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["type", "text", "content", "source"]), inner)
    ),
    max_leaves=4,
)
HEADS = [
    b"POST /v1/messages HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\n{}{}",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",
]


class _RepeatingUpstream(ScriptedUpstream):
    """An upstream that sends the same response to every request."""

    def __init__(self) -> None:
        super().__init__()
        self.script: Script | None = None

    def script_for(self, received: Received) -> Script:
        if self.script is not None:
            return self.script
        return streams(text_chunks("a")) if received.body.get("stream") else answers(completion())


@pytest.fixture(scope="module")
def proxy_and_upstream() -> Iterator[tuple[str, _RepeatingUpstream]]:
    with _RepeatingUpstream() as upstream, running_proxy(upstream.url, DOWNLOADS="off") as proxy:
        yield proxy, upstream


@st.composite
def mutated(draw: st.DrawFn, value: Any) -> Any:
    """Generate `value` with one part, at any depth, removed or replaced."""
    parts = (
        list(value)
        if isinstance(value, dict)
        else list(range(len(value)))
        if isinstance(value, list)
        else []
    )
    if not parts or draw(st.integers(0, 4)) == 0:
        return draw(VALUES)
    part, copy = draw(st.sampled_from(parts)), value.copy()
    if draw(st.integers(0, 5)) == 0:
        del copy[part]
    else:
        copy[part] = draw(mutated(value[part]))
    return copy


@st.composite
def corrupted(draw: st.DrawFn, data: bytes) -> bytes:
    """Generate `data` with some bytes removed or replaced."""
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(data)))
        data = data[:start] + draw(st.binary(max_size=4)) + data[start + draw(st.integers(0, 8)) :]
    return data


def _post(proxy: str, raw: bytes) -> httpx.Response:
    return httpx.post(f"{proxy}/v1/messages", content=raw, timeout=DEADLINE, trust_env=False)


def _is_expected(response: httpx.Response) -> bool:
    """Return whether the response is not an internal error."""
    return response.status_code < 500 and "Internal server error" not in response.text


@FEW
@given(st.data())
def test_mutated_requests_cause_no_internal_error(
    proxy_and_upstream: tuple[str, _RepeatingUpstream], data: st.DataObject
) -> None:
    proxy_and_upstream[1].script = None
    body = data.draw(mutated(data.draw(st.sampled_from(REQUESTS))))
    response = _post(proxy_and_upstream[0], json.dumps(body).encode())
    assert _is_expected(response), response.text


@FEW
@given(st.data())
def test_corrupted_requests_cause_no_internal_error(
    proxy_and_upstream: tuple[str, _RepeatingUpstream], data: st.DataObject
) -> None:
    proxy_and_upstream[1].script = None
    response = _post(
        proxy_and_upstream[0],
        data.draw(corrupted(json.dumps(data.draw(st.sampled_from(REQUESTS))).encode())),
    )
    assert _is_expected(response), response.text


@FEW
@given(st.data())
def test_mutated_upstream_responses_cause_no_internal_error(
    proxy_and_upstream: tuple[str, _RepeatingUpstream], data: st.DataObject
) -> None:
    body = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "a"}]}
    if data.draw(st.booleans()):
        proxy_and_upstream[1].script = answers(data.draw(mutated(completion())))
    else:
        body["stream"] = True
        stream = "".join(
            f"data: {json.dumps(data.draw(mutated(json.loads(chunk))))}\n\n" for chunk in CHUNKS
        )
        proxy_and_upstream[1].script = streams(
            [data.draw(st.just(stream.encode()) | corrupted(stream.encode()))]
        )
    response = _post(proxy_and_upstream[0], json.dumps(body).encode())
    assert "Internal server error" not in response.text
    assert response.text


@pytest.fixture(scope="module")
def short_timeout_proxy() -> Iterator[str]:
    with (
        _RepeatingUpstream() as upstream,
        running_proxy(
            upstream.url, HEADER_TIMEOUT=0.3, KEEPALIVE_TIMEOUT=0.3, BODY_TIMEOUT=0.3
        ) as proxy,
    ):
        yield proxy


@settings(FEW, max_examples=15)
@given(st.sampled_from(HEADS).flatmap(corrupted) | st.binary(max_size=60))
def test_random_bytes_do_not_stop_the_server(short_timeout_proxy: str, sent: bytes) -> None:
    """The server closes the connection and serves the next request."""
    received = exchange(short_timeout_proxy, sent)
    assert b"HTTP/1.1 5" not in received
    assert httpx.get(f"{short_timeout_proxy}/health", trust_env=False).status_code == 200
