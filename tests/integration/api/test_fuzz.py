"""Random faults in requests and in responses of upstreams: no internal error, and always an end.

Bodies of recorded and written cases are changed anywhere, as text or as JSON.
Responses of the upstream are changed in the same way.
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


class _Repeating(ScriptedUpstream):
    """Says the same to everybody."""

    def __init__(self) -> None:
        super().__init__()
        self.said: Script | None = None

    def script_for(self, received: Received) -> Script:
        if self.said is not None:
            return self.said
        return streams(text_chunks("a")) if received.body.get("stream") else answers(completion())


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[str, _Repeating]]:
    with _Repeating() as upstream, running_proxy(upstream.url, DOWNLOADS="off") as proxy:
        yield proxy, upstream


@st.composite
def changed(draw: st.DrawFn, value: Any) -> Any:
    """`value` with one part of it, at any depth, gone or another."""
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
        copy[part] = draw(changed(value[part]))
    return copy


@st.composite
def cut(draw: st.DrawFn, data: bytes) -> bytes:
    """`data` with some of its bytes gone or others."""
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(data)))
        data = data[:start] + draw(st.binary(max_size=4)) + data[start + draw(st.integers(0, 8)) :]
    return data


def _post(proxy: str, raw: bytes) -> httpx.Response:
    return httpx.post(f"{proxy}/v1/messages", content=raw, timeout=DEADLINE, trust_env=False)


def _is_good(told: httpx.Response) -> bool:
    """Whether it is an answer or an error that was foreseen."""
    return told.status_code < 500 and "Internal server error" not in told.text


@FEW
@given(st.data())
def test_changed_requests(served: tuple[str, _Repeating], data: st.DataObject) -> None:
    served[1].said = None
    body = data.draw(changed(data.draw(st.sampled_from(REQUESTS))))
    told = _post(served[0], json.dumps(body).encode())
    assert _is_good(told), told.text


@FEW
@given(st.data())
def test_cut_requests(served: tuple[str, _Repeating], data: st.DataObject) -> None:
    served[1].said = None
    told = _post(
        served[0], data.draw(cut(json.dumps(data.draw(st.sampled_from(REQUESTS))).encode()))
    )
    assert _is_good(told), told.text


@FEW
@given(st.data())
def test_changed_answers(served: tuple[str, _Repeating], data: st.DataObject) -> None:
    body = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "a"}]}
    if data.draw(st.booleans()):
        served[1].said = answers(data.draw(changed(completion())))
    else:
        body["stream"] = True
        said = "".join(
            f"data: {json.dumps(data.draw(changed(json.loads(chunk))))}\n\n" for chunk in CHUNKS
        )
        served[1].said = streams([data.draw(st.just(said.encode()) | cut(said.encode()))])
    told = _post(served[0], json.dumps(body).encode())
    assert "Internal server error" not in told.text
    assert told.text


@pytest.fixture(scope="module")
def impatient() -> Iterator[str]:
    with (
        _Repeating() as upstream,
        running_proxy(
            upstream.url, HEADER_TIMEOUT=0.3, KEEPALIVE_TIMEOUT=0.3, BODY_TIMEOUT=0.3
        ) as proxy,
    ):
        yield proxy


@settings(FEW, max_examples=15)
@given(st.sampled_from(HEADS).flatmap(cut) | st.binary(max_size=60))
def test_bytes_on_a_socket(impatient: str, sent: bytes) -> None:
    """Whatever it is, it comes to an end, and the next one is served."""
    received = exchange(impatient, sent)
    assert b"HTTP/1.1 5" not in received
    assert httpx.get(f"{impatient}/health", trust_env=False).status_code == 200
