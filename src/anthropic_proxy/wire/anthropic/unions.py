"""Types and configuration of all request models."""

from collections.abc import Collection
from typing import Annotated, Any, TypeVar

from pydantic import ConfigDict, Discriminator, Field, with_config

_Item = TypeVar("_Item")

# Validation stops at the first invalid item: the errors of all items could use a hundred times the
# memory of the list.
Items = Annotated[list[_Item], Field(fail_fast=True)]

# Unknown fields are accepted unchanged.
ALLOW_EXTRA = with_config(ConfigDict(extra="allow"))
# The same, but pydantic builds the model when it is first used, not at the start of the server.
ALLOW_EXTRA_LAZY = with_config(ConfigDict(extra="allow", defer_build=True))


def discriminate_by_type(types: Collection[str], default: str = "other") -> Discriminator:
    """Return a discriminator that selects the union member by the `type` of a value.

    For types that are not in `types`, it selects the member with the tag `default`.
    """

    def tag(value: Any) -> str:
        value_type = value.get("type") if isinstance(value, dict) else None
        if isinstance(value_type, str) and value_type in types:
            return value_type
        return default

    return Discriminator(tag)
