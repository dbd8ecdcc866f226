"""The table of top-level fields: complete, and the one place that says what is known."""

from typing import Any

import anthropic
import pytest
from anthropic.types.beta import message_create_params as beta
from anthropic.types.message_create_params import MessageCreateParamsBase

from anthropic_proxy.translate.request.field_table import REQUEST_FIELDS, list_ignored_fields
from anthropic_proxy.wire.anthropic.request import MessagesRequest


@pytest.mark.parametrize(
    "params", [MessagesRequest, MessageCreateParamsBase, beta.MessageCreateParamsBase]
)
def test_every_field_has_its_row(params: Any) -> None:
    assert params.__annotations__.keys() <= REQUEST_FIELDS.keys(), anthropic.__version__


def test_what_is_noted() -> None:
    assert list_ignored_fields(dict.fromkeys(REQUEST_FIELDS) | {"brand_new": 1}) == {
        "field brand_new"
    }
