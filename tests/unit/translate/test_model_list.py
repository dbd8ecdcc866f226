"""The list of models, and its pages."""

from typing import Any

import pytest
from anthropic.types import ModelCapabilities, ModelInfo

from anthropic_proxy.errors import ApiError
from anthropic_proxy.routing.model_names import to_claude_id
from anthropic_proxy.translate.model_list import (
    add_aliases,
    paginate,
    to_claude_models,
    to_configured_models,
    to_model_infos,
)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"id": "m"}, {"display_name": "m", "created_at": "1970-01-01T00:00:00Z"}),
        (
            {"id": "m", "created": 1795376859},
            {"display_name": "m", "created_at": "2026-11-22T19:47:39Z"},
        ),
        # Azure.
        ({"id": "m", "created_at": 1795376859}, {"created_at": "2026-11-22T19:47:39Z"}),
        ({"id": "m", "created": 1795376859000}, {"created_at": "1970-01-01T00:00:00Z"}),
        (
            {"id": "m", "created": "yesterday", "name": 5},
            {"display_name": "m", "created_at": "1970-01-01T00:00:00Z"},
        ),
        (
            {"id": "o/m", "name": "M", "context_length": 8192},
            {"display_name": "M", "max_input_tokens": 8192},
        ),
        ({"id": "m", "max_model_len": 4096}, {"max_input_tokens": 4096}),
        ({"id": "m", "meta": {"n_ctx": 2048, "n_ctx_train": 8192}}, {"max_input_tokens": 2048}),
        (
            {"id": "m", "meta": {"n_ctx_train": 8192}, "context_length": None},
            {"max_input_tokens": 8192},
        ),
        (
            {"id": "m", "context_window": 9, "max_completion_tokens": 5},
            {"max_input_tokens": 9, "max_tokens": 5},
        ),
        ({"id": "m", "top_provider": {"max_completion_tokens": 7}}, {"max_tokens": 7}),
        ({"id": "m", "top_provider": {"max_completion_tokens": None}}, {"display_name": "m"}),
    ],
)
def test_model_info(entry: dict[str, Any], expected: dict[str, Any]) -> None:
    [info] = to_model_infos({"data": [entry]}) or []
    assert {
        "type": "model",
        "id": entry["id"],
        "lifecycle": "active",
        **expected,
    }.items() <= info.items()


_RETIRES = {"lifecycle": "deprecated", "retires_at": "2026-12-11T00:00:00Z"}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        # OpenAI and OpenRouter.
        ({"shutdown_date": "2026-12-11"}, _RETIRES),
        ({"shutdown_date": "2026-12-11T00:00:00Z"}, _RETIRES),
        ({"expiration_date": "2026-12-11"}, _RETIRES),
        ({"shutdown_date": None, "expiration_date": None}, {"lifecycle": "active"}),
        # Mistral.
        (
            {"deprecation": "2026-08-31T14:00:00+02:00"},
            {"lifecycle": "deprecated", "deprecated_at": "2026-08-31T12:00:00Z"},
        ),
        ({"deprecation": None}, {"lifecycle": "active"}),
        # Azure.
        (
            {"lifecycle_status": "generally-available", "deprecation": {"inference": 1796947200}},
            {"lifecycle": "active"},
        ),
        (
            {"lifecycle_status": "deprecated", "deprecation": {"inference": 1796947200}},
            _RETIRES,
        ),
        (
            {"lifecycle_status": "deprecating", "deprecation": {"fine_tune": 1796947200}},
            {"lifecycle": "deprecated"},
        ),
        ({"lifecycle_status": "deprecated"}, {"lifecycle": "deprecated"}),
        # No dates.
        ({"shutdown_date": ""}, {"lifecycle": "active"}),
        ({"shutdown_date": "next year"}, {"lifecycle": "active"}),
        ({"shutdown_date": "0001-01-01T00:00:00+23:00"}, {"lifecycle": "active"}),
        ({"shutdown_date": []}, {"lifecycle": "active"}),
        ({"lifecycle_status": {}}, {"lifecycle": "active"}),
    ],
)
def test_lifecycle(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    [info] = to_model_infos({"data": [{"id": "m", **fields}]}) or []
    names = ("lifecycle", "retires_at", "deprecated_at")
    assert {name: info[name] for name in names if name in info} == expected
    ModelInfo.model_validate(info)


def test_what_is_not_told_is_left_out() -> None:
    entry = {
        "id": "m",
        "top_provider": None,
        "meta": 5,
        "supported_parameters": "all",
        "context_length": True,
    }
    [info] = to_model_infos({"data": [entry]}) or []
    assert info.keys() == {"type", "id", "display_name", "created_at", "lifecycle"}


@pytest.mark.parametrize(
    ("parameters", "modalities", "supported"),
    [
        (["tools", "reasoning", "structured_outputs"], ["text", "image", "file"], True),
        ([], ["text"], False),
        ([], None, False),
    ],
)
def test_capabilities(parameters: list[str], modalities: list[str] | None, supported: bool) -> None:
    entry = {
        "id": "m",
        "supported_parameters": parameters,
        "architecture": {"input_modalities": modalities},
    }
    [info] = to_model_infos({"data": [entry]}) or []
    found = ModelCapabilities.model_validate(info["capabilities"], strict=True)
    told = (
        found.image_input,
        found.pdf_input,
        found.structured_outputs,
        found.effort,
        found.effort.high,
        found.thinking,
    )
    assert [each.supported for each in told] == [supported] * 6
    types = found.thinking.types
    assert (types.enabled.supported, types.adaptive.supported, types.between_tools.supported) == (
        supported,
        supported,
        False,
    )
    assert not any(
        each.supported
        for each in (found.batch, found.citations, found.code_execution, found.server_tools)
    )


@pytest.mark.parametrize(
    ("answer", "ids"),
    [
        ({"data": []}, []),
        ({"data": None}, []),
        ([{"id": "a"}], ["a"]),
        (
            {"data": [{"id": "a"}, 1, None, {}, {"id": 5}, {"id": ""}, {"id": "b"}, {"id": "a"}]},
            ["a", "b"],
        ),
        # Patterns of LiteLLM.
        ([{"id": "*"}, {"id": "openai/*"}, {"id": "bedrock/us.*"}, {"id": "a"}], ["a"]),
        ([], []),
        ({}, None),
        ({"data": 5}, None),
        ({"data": {"id": "a"}}, None),
        ({"error": "no"}, None),
        ("a", None),
        (None, None),
    ],
)
def test_odd_lists(answer: Any, ids: list[str] | None) -> None:
    infos = to_model_infos(answer)
    assert (infos if infos is None else [info["id"] for info in infos]) == ids


def test_aliases() -> None:
    models = (
        to_model_infos(
            {"data": [{"id": "a", "context_length": 9}, {"id": "claude-x"}, {"id": "b"}]}
        )
        or []
    )
    found = add_aliases(models, {"claude-a": "a", "claude-x": "elsewhere"})
    assert [model["id"] for model in found] == ["claude-a", "claude-x", "a", "b"]
    assert (found[0]["display_name"], found[0]["max_input_tokens"]) == ("claude-a (a)", 9)
    assert (found[1]["display_name"], "max_input_tokens" in found[1]) == (
        "claude-x (elsewhere)",
        False,
    )
    assert add_aliases(models, None) == models


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (
            {"id": "qwen3:4b"},
            {
                "id": "claude-proxy-7177656e333a3462",
                "display_name": "qwen3:4b",
                "anthropic_family_tier": "sonnet",
            },
        ),
        (
            {"id": "o/m", "name": "Vendor: M", "context_length": 1_000_000},
            {
                "id": "claude-proxy-6f2f6d",
                "display_name": "Vendor: M",
                "anthropic_family_tier": "sonnet",
                "supports_1m": True,
            },
        ),
        (
            {"id": "anthropic/claude-opus-4.1", "context_length": 999_999},
            {
                "id": "anthropic/claude-opus-4.1",
                "display_name": "anthropic/claude-opus-4.1",
                "anthropic_family_tier": "opus",
            },
        ),
        # An entry of a Messages API.
        (
            {
                "id": "claude-haiku-5",
                "type": "model",
                "display_name": "Haiku",
                "max_input_tokens": None,
            },
            {
                "id": "claude-haiku-5",
                "display_name": "Haiku",
                "anthropic_family_tier": "haiku",
            },
        ),
    ],
)
def test_models_for_claude_clients(entry: dict[str, Any], expected: dict[str, Any]) -> None:
    models = to_model_infos([entry]) or []
    [model] = to_claude_models(models)
    changed = {name: model[name] for name in model if model[name] != models[0].get(name)}
    assert changed == {
        name: value for name, value in expected.items() if value != models[0].get(name)
    }
    assert expected.items() <= model.items()


def test_the_label_of_a_claude_id_contains_the_upstream() -> None:
    models = to_configured_models(["m"])
    models[0]["id"] = "local/m"
    [model] = to_claude_models(models)
    assert (model["id"], model["display_name"]) == (to_claude_id("local/m"), "local/m")


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
def test_page(
    limit: int, before_id: str | None, after_id: str | None, ids: str, has_more: bool
) -> None:
    got = paginate(MODELS, limit=limit, before_id=before_id, after_id=after_id)
    assert "".join(model["id"] for model in got["data"]) == ids
    assert (got["first_id"], got["last_id"]) == ((ids[0], ids[-1]) if ids else (None, None))
    assert got["has_more"] is has_more


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"limit": 0}, "limit: must be between 1 and 1000"),
        ({"limit": 1001}, "limit: must be between 1 and 1000"),
        ({"after_id": "z"}, "after_id: no model has the id z"),
        ({"before_id": "a", "after_id": "b"}, "before_id: cannot be combined with after_id"),
    ],
)
def test_bad_pages(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ApiError) as caught:
        paginate(MODELS, **{"limit": 20, "before_id": None, "after_id": None, **arguments})
    assert (caught.value.status, caught.value.message) == (400, text)


def test_configured_models_are_listed_once() -> None:
    models = to_configured_models(["b", "a", "b"])
    assert [model["id"] for model in models] == ["b", "a"]
    assert all(model["type"] == "model" and model["display_name"] for model in models)


def test_entries_in_the_shape_of_the_api_stay() -> None:
    model = {"type": "model", "id": "m", "display_name": "M", "more": 1}
    assert to_model_infos({"data": [model]}) == [model]
