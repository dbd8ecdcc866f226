"""The list of models, and its pages."""

from typing import Any

import pytest

from anthropic_proxy.errors import ApiError
from anthropic_proxy.translate.models import page, to_model_infos


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"id": "m"}, {"display_name": "m", "created_at": "1970-01-01T00:00:00Z"}),
        ({"id": "m", "created": 1795376859}, {"display_name": "m", "created_at": "2026-11-22T19:47:39Z"}),
        ({"id": "m", "created": "yesterday", "name": 5}, {"display_name": "m", "created_at": "1970-01-01T00:00:00Z"}),
        ({"id": "o/m", "name": "M", "context_length": 8192}, {"display_name": "M", "max_input_tokens": 8192}),
        ({"id": "m", "max_model_len": 4096}, {"max_input_tokens": 4096}),
        ({"id": "m", "meta": {"n_ctx": 2048, "n_ctx_train": 8192}}, {"max_input_tokens": 2048}),
        ({"id": "m", "meta": {"n_ctx_train": 8192}, "context_length": None}, {"max_input_tokens": 8192}),
    ],
)
def test_model_info(entry: dict[str, Any], expected: dict[str, Any]) -> None:
    [info] = to_model_infos({"data": [entry]})
    assert {"type": "model", "id": entry["id"], "lifecycle": "active", **expected}.items() <= info.items()


@pytest.mark.parametrize("answer", [None, [], {}, {"data": None}, {"data": [{}, 5, {"id": ""}, {"id": None}]}])
def test_nothing_of_use(answer: Any) -> None:
    assert to_model_infos(answer) == []


MODELS = [{"id": each} for each in "abcde"]


@pytest.mark.parametrize(
    ("limit", "before_id", "after_id", "ids", "has_more"),
    [
        (20, None, None, "abcde", False),
        (2, None, None, "ab", True),
        (2, None, "b", "cd", True),
        (2, None, "c", "de", False),
        (2, None, "e", "", False),
        (2, "d", None, "bc", True),
        (5, "c", None, "ab", False),
        (2, "a", None, "", False),
    ],
)
def test_page(limit: int, before_id: str | None, after_id: str | None, ids: str, has_more: bool) -> None:  # noqa: FBT001
    got = page(MODELS, limit=limit, before_id=before_id, after_id=after_id)
    assert "".join(model["id"] for model in got["data"]) == ids
    assert (got["first_id"], got["last_id"]) == ((ids[0], ids[-1]) if ids else (None, None))
    assert got["has_more"] is has_more


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"limit": 0}, "limit: must be between 1 and 1000"),
        ({"limit": 1001}, "limit: must be between 1 and 1000"),
        ({"after_id": "z"}, "after_id: no model has the id z"),
        ({"before_id": "a", "after_id": "b"}, "before_id: can't be used together with after_id"),
    ],
)
def test_bad_pages(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ApiError) as caught:
        page(MODELS, **{"limit": 20, "before_id": None, "after_id": None, **arguments})
    assert (caught.value.status, caught.value.message) == (400, text)
