"""Types and configuration that the request models share."""

from collections.abc import Collection
from typing import Annotated, Any, TypeVar

from pydantic import ConfigDict, Discriminator, Field, with_config

_Item = TypeVar("_Item")

# Validation stops at the first problem: the errors of all items can take a hundred times the
# memory of the list.
Items = Annotated[list[_Item], Field(fail_fast=True)]

# Unknown fields pass through untouched.
ALLOW_EXTRA = with_config(ConfigDict(extra="allow"))
# The same, but pydantic builds the model at its first use, not at each start.
ALLOW_EXTRA_LAZY = with_config(ConfigDict(extra="allow", defer_build=True))


def discriminate_by_type(types: Collection[str], default: str = "other") -> Discriminator:
    """Return a discriminator that selects the union member tagged with a value's `type`.

    It selects the member tagged `default` when the type is not one of `types`.
    """

    def tag(value: Any) -> str:
        value_type = value.get("type") if isinstance(value, dict) else None
        if isinstance(value_type, str) and value_type in types:
            return value_type
        return default

    return Discriminator(tag)
