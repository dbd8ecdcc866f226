"""Members replaced in the text of an object, as parsing shows. Every other byte stays."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anthropic_proxy.wire.json_edit import remove_members, replace_members

_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
_NAMES = st.sampled_from(["model", "mode", 'mo"del', "\\", "messages", ""]) | st.text(max_size=3)
_VALUES = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_NAMES, inner, max_size=4),
    max_leaves=20,
)
_OBJECTS = st.dictionaries(_NAMES, _VALUES, max_size=6)


@given(
    _OBJECTS,
    st.dictionaries(_NAMES, _VALUES, max_size=3),
    st.sampled_from([None, 1, "\t"]),
    st.booleans(),
)
def test_any_object(document: Any, values: Any, indent: Any, ascii_only: bool) -> None:
    text = json.dumps(document, indent=indent, ensure_ascii=ascii_only).encode()
    written = json.loads(replace_members(text, values))
    assert written == document | values
    assert list(written) == list(document | values)
    assert replace_members(text, {}) == text


@given(
    _OBJECTS,
    st.lists(_NAMES, max_size=3),
    st.sampled_from([None, 1, "\t"]),
)
def test_members_are_removed_from_any_object(document: Any, names: Any, indent: Any) -> None:
    text = json.dumps(document, indent=indent).encode()
    written = json.loads(remove_members(text, names))
    assert list(written.items()) == [
        (name, value) for name, value in document.items() if name not in names
    ]
    assert remove_members(text, ()) == text


@pytest.mark.parametrize(
    ("text", "written"),
    [
        (b' { "x" : 1 , "n" : 1E5 } ', b' { "n" : 1E5 } '),
        (b'{"x":1,"y":[2],"n":1.0,"x":3}', b'{"n":1.0}'),
        (b'{"n":1.0, "x":1, "m":2}', b'{"n":1.0, "m":2}'),
        (b'{"n":{"x":1}, "x":1\n}', b'{"n":{"x":1}\n}'),
        (b'{"x":1}', b"{}"),
    ],
)
def test_other_bytes_stay(text: bytes, written: bytes) -> None:
    assert remove_members(text, {"x", "y"}) == written


@pytest.mark.parametrize(
    ("text", "written"),
    [
        pytest.param(rb'{"model":"a","n":1.0}', rb'{"model":"b","n":1.0}', id="first"),
        pytest.param(
            b' {\n "n" : 1E5 ,\r\n\t"model" :  "a" } \n',
            b' {\n "n" : 1E5 ,\r\n\t"model" :  "b" } \n',
            id="spaces",
        ),
        pytest.param(
            rb'{"m":{"model":"a"},"model":"a"}',
            rb'{"m":{"model":"a"},"model":"b"}',
            id="not-within",
        ),
        pytest.param(
            rb'{"x":"\"model\":\\","model":"a"}', rb'{"x":"\"model\":\\","model":"b"}', id="escapes"
        ),
        pytest.param(
            rb'{"x":["]}","{["],"model":"a"}',
            rb'{"x":["]}","{["],"model":"b"}',
            id="brackets-in-strings",
        ),
        pytest.param(rb'{"model":"a","model":"c"}', rb'{"model":"b"}', id="twice"),
        pytest.param(
            b'{"model":"a" , "x":1 ,\n"model" : {"c":[]} , "y":2,"model":3}',
            b'{"model":"b" , "x":1 , "y":2}',
            id="three-times",
        ),
        pytest.param(
            rb'{"mod\u0065l":"a","\ud83d":"\ude00"}',
            rb'{"mod\u0065l":"b","\ud83d":"\ude00"}',
            id="escaped-name",
        ),
        pytest.param(rb'{"model":null, "a":-1}', rb'{"model":"b", "a":-1}', id="null"),
        pytest.param(rb'{"a":true}', rb'{"a":true,"model":"b"}', id="not-there"),
        pytest.param(b"{ }", b'{ "model":"b"}', id="empty"),
        pytest.param(
            b'{"a":12345678901234567890123}',
            b'{"a":12345678901234567890123,"model":"b"}',
            id="long-number",
        ),
    ],
)
def test_every_other_byte_stays(text: bytes, written: bytes) -> None:
    assert replace_members(text, {"model": "b"}) == written


def test_long_documents_take_time_in_proportion() -> None:
    """A walk that goes back would not end here."""
    text = json.dumps(
        {"messages": [{"role": "user", "content": '"\\{' * 1000}] * 500, "model": "a"}
    ).encode()
    assert replace_members(text, {"model": "b"}) == text[: -len(b'"a"}')] + b'"b"}'
