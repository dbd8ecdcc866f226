"""Reasoning items of earlier responses, taken from an assistant message's `reasoning_details`."""

from typing import Any

import pytest

from anthropic_proxy.translate.responses_api.reasoning import (
    REASONING_FORMAT,
    parse_reasoning_items,
)


def _detail(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": f"reasoning.{kind}", "format": REASONING_FORMAT, "index": 0, **fields}


_ENCRYPTED = _detail("encrypted", data="E")


@pytest.mark.parametrize(
    ("details", "summaries"),
    [
        ([_detail("summary", summary="a"), _ENCRYPTED], [["a"]]),
        (
            [_detail("summary", summary="a"), _detail("summary", summary="b"), _ENCRYPTED],
            [["a", "b"]],
        ),
        ([_detail("text", summary="a"), _ENCRYPTED], [[]]),
        ([_detail("summary", summary="a"), _ENCRYPTED | {"index": 1}], [[]]),
        ([_detail("summary", summary="a"), _ENCRYPTED, _ENCRYPTED], [["a"], []]),
        ([_detail("summary", summary=""), _ENCRYPTED], [[]]),
        ([_detail("summary", summary="a")], []),
        ([_detail("text", data="E")], []),
        ([_detail("encrypted", data="")], []),
        ([_ENCRYPTED | {"format": "other"}, "junk"], []),
        ({"0": _ENCRYPTED}, []),
        (None, []),
    ],
)
def test_summaries(details: Any, summaries: list[list[str]]) -> None:
    items = parse_reasoning_items(details)
    assert [[part["text"] for part in each.item["summary"]] for each in items] == summaries
    assert all(each.item["encrypted_content"] == "E" for each in items)
