"""docs/compatibility.md contains the tables, and the tables cover the complete API."""

import typing
from typing import Any

import pytest
from anthropic.types import beta
from anthropic.types.beta import beta_tool_result_block_param, message_create_params

from anthropic_proxy.translate.request import builtin_tools, content, server_tool_blocks, toolsets
from anthropic_proxy.translate.request.field_table import REQUEST_FIELDS
from anthropic_proxy.translate.response.stop_reasons import STOP_REASONS
from anthropic_proxy.wire.anthropic.tools import TOOL_CHANGE_TYPES
from docs.generators import compatibility
from tests.support.paths import ROOT

PAGE = ROOT / "docs" / "compatibility.md"


def literals(annotation: Any) -> list[str]:
    """Return all strings within the Literals of an annotation."""
    if typing.get_origin(annotation) is typing.Literal:
        return [each for each in typing.get_args(annotation) if isinstance(each, str)]
    return [each for inner in typing.get_args(annotation) for each in literals(inner)]


def block_types(union: Any) -> set[str]:
    members = [member for member in typing.get_args(union) if hasattr(member, "__annotations__")]
    return {
        block_type
        for member in members
        for block_type in literals(typing.get_type_hints(member, include_extras=True)["type"])
    }


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == compatibility.render_page(), "run: make docs"


def test_every_field_of_the_sdk_is_described() -> None:
    hints = typing.get_type_hints(message_create_params.MessageCreateParamsBase)
    assert hints.keys() <= REQUEST_FIELDS.keys()


@pytest.mark.parametrize(
    "union", [beta.BetaContentBlockParam, beta_tool_result_block_param.Content]
)
def test_every_block_of_the_sdk_is_described(union: Any) -> None:
    kinds = block_types(union)
    assert len(kinds) > 5
    assert kinds <= compatibility.REQUEST_BLOCKS.keys()


def test_every_block_of_the_translation_is_described() -> None:
    translated = {
        *content._CONVERTERS,
        *server_tool_blocks.DESCRIBERS,
        *server_tool_blocks.SILENT_TYPES,
        *TOOL_CHANGE_TYPES,
    }
    assert translated <= compatibility.REQUEST_BLOCKS.keys()


def test_every_tool_of_the_sdk_is_described() -> None:
    kinds = block_types(beta.BetaToolUnionParam)
    assert len(kinds) > 20
    assert not [kind for kind in kinds if not kind.startswith(tuple(compatibility.TOOLS))]


def test_every_tool_of_the_translation_is_described() -> None:
    prefixes = {f"{family}_" for family in builtin_tools._FAMILIES} | {
        f"{family}_toolset_" for family in toolsets._FAMILIES
    }
    assert prefixes <= compatibility.TOOLS.keys()


def test_every_stop_reason_is_described() -> None:
    assert set(literals(beta.BetaStopReason)) == compatibility.STOP_REASON_NOTES.keys()
    assert set(STOP_REASONS.values()) <= compatibility.STOP_REASON_NOTES.keys()
