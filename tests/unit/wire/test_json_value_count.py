"""How many values a JSON document holds, on its text."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from anthropic_proxy.wire import json_codec
from anthropic_proxy.wire.json_codec import has_more_values
from tests.support.scaling import assert_linear_cpu

TEXTS = st.text('ab,[]{}":\\ \n', max_size=6)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


def values_in(value: Any) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + (sum(map(values_in, value)) if isinstance(value, list) else 0)


@given(VALUES, st.sampled_from([None, 1, "\t"]), st.integers(1, 40))
@example([[], {}, [[]], ""], 1, 5)
@example(['\\"', "\\", '\\\\"', "[,"], None, 5)
def test_values_are_counted(value: Any, indent: int | str | None, piece: int) -> None:
    document = json.dumps(value, indent=indent).encode()
    count = values_in(value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_codec, "_PIECE_BYTES", piece)
        assert not has_more_values(document, count)
        assert has_more_values(document, count - 1)


@pytest.mark.parametrize(
    "document", [b"", b"]]}}", b'"', b'["a', b'{"a":[1,2', b"\\", b'"\\', b"[" * 100]
)
def test_any_bytes_are_counted(document: bytes) -> None:
    assert not has_more_values(document, 1000)
    assert has_more_values(document, 0)


def test_commas_in_a_text_are_no_values() -> None:
    assert not has_more_values(json.dumps({"a": '[]{},\\",' * 100_000}).encode(), 2)


@pytest.mark.parametrize(
    "unit",
    [b'"",', b"[],", b"[]", b'{"a":1},', b'"a,"', b"[", b'"\\","', b","],
    ids=lambda unit: unit.decode(),
)
def test_counting_stops_at_the_limit(unit: bytes) -> None:
    """Which is in the first piece, so that the rest is only searched for separators."""
    examined: list[int] = []

    def pieces(document: bytes) -> Iterator[bytes]:
        for piece in all_pieces(document):
            examined.append(len(piece))
            yield piece

    all_pieces = json_codec._iter_pieces
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_codec, "_iter_pieces", pieces)
        assert has_more_values(b"[" + unit * 1_000_000, 1000)
    assert len(examined) == 1


@pytest.mark.parametrize("piece", [1, 2, 3, 1000])
@pytest.mark.parametrize(
    ("document", "count"),
    [
        (b'["' + b"\\" * 50 + b'", 1]', 3),
        (b'["' + b'\\"' * 50 + b'", 1]', 3),
        (b'[[ ], { }, "", "' + b"x" * 50 + b'"]', 5),
        (b'{"' + b"x" * 50 + b'": {}}', 2),
    ],
    ids=["backslashes", "quotation marks", "empty containers", "long name"],
)
def test_pieces_end_anywhere(
    monkeypatch: pytest.MonkeyPatch, document: bytes, count: int, piece: int
) -> None:
    monkeypatch.setattr(json_codec, "_PIECE_BYTES", piece)
    assert has_more_values(document, count - 1)
    assert not has_more_values(document, count)


@pytest.mark.parametrize(
    "unit", [b"[],", b'"",', b'"\\\\\\"",', b"{ },", b'","', b"\\\\", b'"a":[{"b":1}],']
)
def test_counting_is_linear(unit: bytes) -> None:
    def prepare(size: int) -> Any:
        document = b"[" + unit * size + b"1]"
        return lambda: [has_more_values(document, 1) for _ in range(10)]

    assert_linear_cpu(prepare, 1000)
