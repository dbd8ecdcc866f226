"""The end of a JSON document that arrives in pieces."""

from typing import Any

import pytest

from anthropic_proxy.wire.json_codec import dumps
from anthropic_proxy.wire.json_end import JsonEndFinder, is_whole_response
from tests.support.scaling import assert_linear_cpu
from tests.support.splits import byte_by_byte, random_splits, whole

_DOCUMENTS = [
    b"{}",
    b"[]",
    b'{"a":1}',
    b'[{"a":[1,2]},{"b":{}}]',
    b' \n\xef\xbb\xbf{"a":"}"}',
    rb'{"a":"\"}","b":"\\"}',
    rb'{"a":"x\\\"}{","b":[1,{"c":"\\"}]}',
    rb'{"a":"\\\\\\"}',
    '{"a":"é€😀}"}'.encode(),
]


@pytest.mark.parametrize("split", [whole, byte_by_byte, random_splits])
@pytest.mark.parametrize("document", _DOCUMENTS)
def test_a_document_is_complete_at_its_last_byte(document: bytes, split: Any) -> None:
    finder = JsonEndFinder()
    found = [finder.feed(piece) for piece in split(document) if piece]
    assert found.pop()
    assert not any(found)


@pytest.mark.parametrize("split", [whole, byte_by_byte, random_splits])
@pytest.mark.parametrize(
    "body", [b"", b" \n", b"text {}", b"<html>{}</html>", b'"{}"', b'{"a":"{}', b'{"a":{}', b"[{}"]
)
def test_other_bodies_have_no_end(body: bytes, split: Any) -> None:
    finder = JsonEndFinder()
    found = [finder.feed(piece) for piece in split(body)]
    assert not any(found)


def test_each_line_of_json_lines_is_an_end() -> None:
    finder = JsonEndFinder()
    pieces = [b'{"a":1}', b"\n", b'{"b"', b":{}}", b"\n"]
    assert [finder.feed(piece) for piece in pieces] == [True, True, False, True, True]


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ({"choices": [{"message": {"content": "a"}}]}, True),
        ({"type": "message", "content": [{"type": "text", "text": "a"}]}, True),
        ({"object": "response", "output": [{"type": "message"}]}, True),
        ({"error": {"message": "a"}}, True),
        ({"choices": [{"delta": {"content": "a"}}]}, False),
        ({"choices": [{"delta": {"content": "a"}, "message": {"content": "a"}}]}, False),
        ({"choices": []}, False),
        ({"choices": [None]}, False),
        ({"message": {"content": "a"}, "done": False}, False),
        ({"type": "response.output_text.delta", "delta": "a"}, False),
        ([{"error": {"message": "a"}}], False),
    ],
)
def test_whole_responses(response: Any, expected: bool) -> None:
    assert is_whole_response(dumps(response)) is expected


def test_invalid_json_is_no_response() -> None:
    assert not is_whole_response(b'{"error":1}{')


@pytest.mark.parametrize("unit", [b"[", b"{", b'"', b"\\", b'\\"', b'{"a":["', b"]}"])
def test_the_cost_is_linear(unit: bytes) -> None:
    def prepare(size: int) -> Any:
        pieces = [b"[", *([unit * 64] * size)]

        def work() -> None:
            finder = JsonEndFinder()
            for piece in pieces:
                finder.feed(piece)

        return work

    assert_linear_cpu(prepare, 100)
