"""The table of top-level fields is complete."""

from typing import Any

import anthropic
import pytest
from anthropic.types.beta import message_create_params as beta
from anthropic.types.message_create_params import MessageCreateParamsBase

from anthropic_proxy.translate.request.field_table import REQUEST_FIELDS
from anthropic_proxy.wire.anthropic.request import MessagesRequest


@pytest.mark.parametrize(
    "params", [MessagesRequest, MessageCreateParamsBase, beta.MessageCreateParamsBase]
)
def test_every_field_has_its_row(params: Any) -> None:
    assert params.__annotations__.keys() <= REQUEST_FIELDS.keys(), anthropic.__version__
