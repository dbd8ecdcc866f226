"""Parse and write JSON: one library accepts what the other rejects, and no text of a peer is
lost.
"""

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anthropic_proxy.wire.json_codec import (
    InvalidJsonError,
    dumps,
    loads,
    loads_first,
    loads_object,
    loads_partial,
    loads_received,
    loads_strict,
    repair_json_surrogates,
)

# Any code point, halves of surrogate pairs among them.
_ANY_TEXT = st.text(st.characters())
_HALF = st.integers(0xD800, 0xDFFF).map(chr)
_CUT_TEXT = st.lists(_ANY_TEXT | _HALF, max_size=6).map("".join)


def _documents(texts: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    leaves = (
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | texts
    )
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
        max_leaves=20,
    )


@pytest.mark.parametrize(
    ("document", "value"),
    [
        pytest.param(b'{"a":[1,2.5,true,null,"x"]}', {"a": [1, 2.5, True, None, "x"]}, id="bytes"),
        pytest.param('{"a":"ü"}', {"a": "ü"}, id="text"),
        pytest.param(b" [1] \n", [1], id="white-space"),
        pytest.param(rb'"\ud83d\ude00"', "😀", id="pair"),
        pytest.param(rb'"a\ud83d"', "a\ud83d", id="half-of-a-pair"),
        pytest.param(rb'"\ude00b"', "\ude00b", id="other-half"),
        pytest.param(rb'{"\ud83d":"\u0000"}', {"\ud83d": "\0"}, id="half-in-a-name"),
        pytest.param(b"18446744073709551615", 2**64 - 1, id="largest-of-64-bits"),
        pytest.param(
            b'{"a":12345678901234567890123}', {"a": 12345678901234567890123}, id="beyond-64-bits"
        ),
        pytest.param(b"-9223372036854775809", -(2**63) - 1, id="beyond-64-bits-below-zero"),
    ],
)
def test_loads(document: bytes | str, value: Any) -> None:
    assert loads(document) == value


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"{", id="cut"),
        pytest.param(b'{"a":1} x', id="more-after-it"),
        pytest.param(b"{'a':1}", id="single-quotes"),
        pytest.param(b"[1,]", id="trailing-comma"),
        pytest.param(b'"\n"', id="bare-line-end"),
        pytest.param(b'"\xff"', id="no-UTF-8"),
        pytest.param("[DONE]", id="done"),
        pytest.param(b"[" * 100_000 + b"]" * 100_000, id="nested-too-deeply"),
        pytest.param(b"[" * 100_000, id="nested-too-deeply-and-cut"),
        pytest.param(b"1" * 10_000, id="endless-number"),
    ],
)
def test_no_json(document: bytes | str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        loads(document)


@pytest.mark.parametrize(
    ("value", "document"),
    [
        pytest.param(
            {"b": [1, 2.5, None, True], "a": "x"},
            b'{"b":[1,2.5,null,true],"a":"x"}',
            id="compact-in-order",
        ),
        pytest.param({"a": "ü😀"}, '{"a":"ü😀"}'.encode(), id="UTF-8"),
        pytest.param({"a": "\ud83d"}, rb'{"a":"\ud83d"}', id="half-of-a-pair"),
        pytest.param({"a": 2**70}, b'{"a":1180591620717411303424}', id="integer-beyond-64-bits"),
    ],
)
def test_dumps(value: Any, document: bytes) -> None:
    assert dumps(value) == document


@pytest.mark.parametrize("depth", [100, 254, 255, 500], ids="{}-levels".format)
def test_deep_documents_go_through(depth: int) -> None:
    document = b'{"a":' * depth + b"1" + b"}" * depth
    assert dumps(loads(document)) == document


@given(_documents(_CUT_TEXT))
@settings(deadline=None)
def test_what_is_dumped_is_the_same_to_any_reader(value: Any) -> None:
    assert json.loads(dumps(value)) == json.loads(json.dumps(value))


@given(_documents(_ANY_TEXT))
@settings(deadline=None)
def test_round_trip(value: Any) -> None:
    assert loads(dumps(value)) == value
    assert dumps(loads(dumps(value))) == dumps(value)


@pytest.mark.parametrize(
    ("document", "repaired"),
    [
        pytest.param(rb'"a\ud83d b"', "a\ufffd b", id="first-half"),
        pytest.param(rb'"\ude00"', "\ufffd", id="second-half"),
        pytest.param(rb'"\ude00\ud83d"', "\ufffd\ufffd", id="halves-in-the-wrong-order"),
        pytest.param(rb'"\ud83d\ude00"', "😀", id="pair-stays"),
        pytest.param(rb'"\ud83d\ud83d\ude00"', "\ufffd😀", id="half-before-a-pair"),
        pytest.param(rb'{"\ud83d":["\ud83d"]}', {"\ufffd": ["\ufffd"]}, id="names-and-lists"),
        pytest.param(b'"\xed\xa0\xbd"', "\ufffd", id="unescaped"),
        pytest.param(rb'"\\ud83d"', r"\ud83d", id="escaped-backslash-stays"),
        pytest.param('{"a":"ü"}'.encode(), {"a": "ü"}, id="nothing-to-repair"),
    ],
)
def test_without_lone_surrogates(document: bytes, repaired: Any) -> None:
    assert json.loads(repair_json_surrogates(document).decode()) == repaired


def test_without_lone_surrogates_takes_json_only() -> None:
    with pytest.raises(ValueError, match=r"\S"):
        repair_json_surrogates(rb'{"a":"\ud83d"')


@given(_documents(_CUT_TEXT))
@settings(deadline=None)
def test_a_repair_changes_only_halves(value: Any) -> None:
    document = json.dumps(value).encode()
    assert json.loads(repair_json_surrogates(document).decode()) == _repaired(json.loads(document))


def _repaired(value: Any) -> Any:
    match value:
        case str():
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case list():
            return [_repaired(item) for item in value]
        case dict():
            return {_repaired(name): _repaired(item) for name, item in value.items()}
    return value


def test_not_a_number_is_written_as_json() -> None:
    """Python reads NaN, which is no JSON; what leaves must be JSON."""
    assert math.isnan(loads(b"NaN"))
    assert dumps([math.nan, math.inf]) == b"[null,null]"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": 1}', {"a": 1}),
        ('{"a": 1, "b": "half', {"a": 1}),
        ('{"a": [1, {"b', {"a": [1, {}]}),
        ("{", {}),
    ],
)
def test_the_beginning_of_a_document(text: str, expected: Any) -> None:
    assert loads_partial(text) == expected


def test_no_beginning_of_a_document() -> None:
    with pytest.raises(ValueError, match="column"):
        loads_partial("{'a': 1}")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"])
def test_json_is_utf_8(encoding: str) -> None:
    """RFC 8259, 8.1. Values of other encodings could not be counted."""
    with pytest.raises(ValueError, match=r"utf-8|Expecting"):
        loads('{"a":"\\"","b":["\u225b"]}'.encode(encoding))


def test_a_byte_order_mark_is_ignored() -> None:
    assert loads(b'\xef\xbb\xbf{"a":1}') == {"a": 1}


def test_received_documents_have_a_bound_for_values() -> None:
    most = b"[" + b",".join([b"[]"] * 999_999) + b"]"
    assert len(loads_received(most)) == 999_999
    with pytest.raises(ValueError, match="more than 1000000 values"):
        loads_received(most[:-1] + b",[]]")
    assert loads_received(b'["' + b"," * 2_000_000 + b'"]') == ["," * 2_000_000]
    assert loads_object(b'{"a":' + most + b"}") is None


@pytest.mark.parametrize(
    ("text", "start", "value", "end"),
    [
        ('{"a": 1} and more', 0, {"a": 1}, 8),
        ("x [1, 2][3]", 2, [1, 2], 8),
        ('"\\ud83d\\ude00"', 0, "😀", 14),
    ],
)
def test_the_first_document(text: str, start: int, value: Any, end: int) -> None:
    assert loads_first(text, start) == (value, end)


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("[1, x]", 0, 4),
        ("ab[", 2, 3),
        ("[NaN] more", 0, 10),
        ('["\\ud83d"] more', 0, 10),
        ("[" * 100_000, 0, 100_000),
    ],
    ids=["no document", "cut", "NaN", "half a pair", "nested"],
)
def test_no_first_document(text: str, start: int, end: int) -> None:
    with pytest.raises(InvalidJsonError) as raised:
        loads_first(text, start)
    assert raised.value.end == end


def test_half_a_surrogate_pair_in_a_text() -> None:
    text = '["\ud800"]'
    assert loads(text) == ["\ud800"]
    with pytest.raises(ValueError, match="surrogate"):
        loads_strict(text)
    with pytest.raises(InvalidJsonError, match="surrogate"):
        loads_first(text, 0)
    with pytest.raises(ValueError, match="surrogate"):
        loads_partial('["\ud800", ')
