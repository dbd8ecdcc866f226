"""Chunks that are alike but for their text: reading the text alone gives what parsing gives."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anthropic_proxy.translate.response import text_fast_path
from anthropic_proxy.translate.response.text_fast_path import ChunkTemplate
from anthropic_proxy.wire.json_codec import loads
from anthropic_proxy.wire.openai import get_plain_text

# What could be taken for the place of the text, or for its end.
_MARKS = st.sampled_from(
    [
        '"',
        "\\",
        '"content":',
        '"content": "',
        "content",
        "},",
        "]",
        "\n",
        "\n\ndata: ",
        "a",
        "é",
        "\ud83d",
        "😀",
    ]
)
_TEXTS = st.lists(_MARKS, max_size=5).map("".join)
_FIELDS = st.dictionaries(st.sampled_from(["id", "content", 'a"content', "x"]), _TEXTS, max_size=2)


def chunk(text: str, delta: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    return {
        **fields,
        "choices": [
            {"index": 0, "delta": {"content": text, **(delta or {})}, "finish_reason": None}
        ],
    }


def event(payload: bytes) -> bytes:
    return b"data: " + payload


def written(value: Any) -> bytes:
    return json.dumps(value).encode()


def after(*learned: bytes) -> ChunkTemplate:
    repeats = ChunkTemplate()
    for payload in learned:
        repeats.learn(payload, get_plain_text(loads(payload)))
    return repeats


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")], ids=["compact", "with spaces"])
@pytest.mark.parametrize("is_ascii", [True, False])
def test_texts_of_chunks_that_are_alike(*, separators: tuple[str, str], is_ascii: bool) -> None:
    def said(text: str) -> bytes:
        return json.dumps(
            chunk(text, id="1"), separators=separators, ensure_ascii=is_ascii
        ).encode()

    repeats = after(said("Hello"))
    texts = [" world", "", '"quoted"', "\\", "\n", "é😀", "</think>"]
    assert repeats.parse_texts([event(said(text)) for text in texts]) == texts
    assert repeats.parse_texts([event(said("alone"))]) == ["alone"]


@given(
    first=_TEXTS,
    fields=_FIELDS,
    delta=_FIELDS,
    texts=st.lists(_TEXTS, min_size=1, max_size=4),
    is_ascii=st.booleans(),
)
def test_they_are_what_parsing_gives(
    *, first: str, fields: dict[str, str], delta: dict[str, str], texts: list[str], is_ascii: bool
) -> None:
    def said(text: str) -> bytes:
        return json.dumps(chunk(text, delta, **fields), ensure_ascii=is_ascii).encode(
            "utf-8", "surrogatepass"
        )

    try:
        repeats = after(said(first))
    except ValueError:
        return  # bytes that are no UTF-8 are no chunk
    read = repeats.parse_texts([event(said(text)) for text in texts])
    assert read in ([], [get_plain_text(loads(said(text))) for text in texts])


@given(
    st.lists(
        st.binary()
        | st.sampled_from([b'"', b"\\", b'\\"', b'","', b'",', b',"', b"a", b"\xff", b"\n"]),
        max_size=6,
    )
)
def test_what_is_no_chunk_is_not_read(pieces: list[bytes]) -> None:
    payload = written(chunk("?"))
    before, behind = payload.split(b"?")
    payloads = [before + piece + behind for piece in pieces]
    for text, read in zip(after(payload).parse_texts(map(event, payloads)), payloads, strict=False):
        assert loads(read) == chunk(text)


@pytest.mark.parametrize(
    ("learned", "whole"),
    [
        pytest.param(chunk(""), chunk("a"), id="nothing was said"),
        pytest.param(
            chunk("a", {"tool_calls": [{"index": 0}]}),
            chunk("b", {"tool_calls": [{"index": 0}]}),
            id="more was said",
        ),
        pytest.param(chunk("a", id="1"), chunk("a", id="2"), id="something else is new"),
        pytest.param(
            chunk("a"), chunk("b") | {"usage": {"prompt_tokens": 1}}, id="something is added"
        ),
        pytest.param(
            chunk("a", {"x": {"content": "a"}}),
            chunk("b", {"x": {"content": "b"}}),
            id="the key is there twice",
        ),
        pytest.param(
            chunk("a"),
            {"choices": [{"index": 0, "delta": {"content": 7}, "finish_reason": None}]},
            id="no text",
        ),
        pytest.param(
            chunk("a"),
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
            id="the end",
        ),
    ],
)
def test_others_have_to_be_parsed(learned: dict[str, Any], whole: dict[str, Any]) -> None:
    assert after(written(learned)).parse_texts([event(written(whole))]) == []


def test_they_are_read_as_far_as_they_are_alike() -> None:
    same, end = (
        event(written(chunk("a"))),
        event(written({"choices": [{"delta": {}, "finish_reason": "stop"}]})),
    )
    repeats = after(written(chunk("a")))
    assert repeats.parse_texts([same, same, end, same]) == ["a", "a"]
    assert repeats.parse_texts([end, same]) == []


def test_they_are_read_as_far_as_they_are_json() -> None:
    good, bad = chunk("a"), written(chunk("a")).replace(b'"a"', b'"\\x"')
    repeats = after(written(good))
    assert repeats.parse_texts([event(written(good)), event(bad), event(written(good))]) == ["a"]


@pytest.mark.parametrize(
    ("strings", "parsed"),
    [
        pytest.param([b"a", b"", b"b"], 1, id="together"),
        pytest.param([b"a", b"\\n", b"b"], 3, id="one by one, with an escape"),
    ],
)
def test_strings_without_escapes_are_parsed_together(
    strings: list[bytes], parsed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    repeats = after(written(chunk("?")))
    before, behind = written(chunk("?")).split(b"?")
    documents: list[bytes] = []

    def recording_loads(document: bytes) -> Any:
        documents.append(document)
        return loads(document)

    monkeypatch.setattr(text_fast_path, "loads", recording_loads)
    assert len(repeats.parse_texts([event(before + each + behind) for each in strings])) == 3
    assert len(documents) == parsed


def test_an_escaped_quote_does_not_join_two_strings() -> None:
    r"""`a\` and `,"b` are no strings.

    Between the quotes of a list they would be the two strings `a",` and `b`.
    """
    before, behind = written(chunk("?")).split(b"?")
    strings = (b"a\\", b',"b')
    events = [event(before + each + behind) for each in strings]
    assert after(written(chunk("?"))).parse_texts(events) == []


def test_without_anything_learned_nothing_is_known() -> None:
    assert ChunkTemplate().parse_texts([event(written(chunk("a")))]) == []


def test_what_is_new_is_learned() -> None:
    repeats = after(written(chunk("a", created=1)), written(chunk("b", created=2)))
    assert repeats.parse_texts([event(written(chunk("c", created=2)))]) == ["c"]


def test_a_stream_without_repeats_is_left_alone() -> None:
    repeats = ChunkTemplate()
    for number in range(16):
        assert repeats.is_learning
        repeats.learn(written(chunk("a", id=number)), "a")
        assert repeats.parse_texts([event(written(chunk("a", id=number + 1)))]) == []
    assert not repeats.is_learning
    assert repeats.parse_texts([event(written(chunk("b", id=15)))]) == ["b"]
    assert repeats.is_learning


def test_the_batch_grows_with_each_parsed_text() -> None:
    """The number of calls grows with the logarithm of the number of texts."""
    template = after(written(chunk("a")))
    invalid = written(chunk("?")).replace(b"?", b"\\x")
    # The first string that is not JSON limits the next batch.
    assert template.parse_texts([event(written(chunk("a"))), event(invalid)]) == ["a"]
    template.parse_texts([event(written(chunk("a")))] * 1000)
    second_batch = len(template.parse_texts([event(written(chunk("a")))] * 1000))
    assert len(template.parse_texts([event(written(chunk("a")))] * 1000)) > second_batch
