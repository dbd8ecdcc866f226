"""Reasoning items of earlier responses, taken from an assistant message's `reasoning_details`."""

from typing import Any

import pytest

from anthropic_proxy.translate.responses_api.reasoning import (
    REASONING_FORMAT,
    build_encrypted_detail,
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


@pytest.mark.parametrize(
    ("item_id", "is_sent"),
    [
        ("rs_1", True),
        ("r" * 64, True),
        ("r" * 65, False),
        ("r" * 416, False),
        ("", False),
        (1, False),
    ],
)
def test_ids_that_openai_refuses_are_not_sent(item_id: Any, is_sent: bool) -> None:
    detail = build_encrypted_detail(0, {"id": item_id, "encrypted_content": "E"}, 0)
    assert ("id" in detail) is is_sent
    # Signatures of earlier versions contain such ids.
    (restored,) = parse_reasoning_items([{**detail, "id": item_id}])
    assert ("id" in restored.item) is is_sent
