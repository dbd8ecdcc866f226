"""Types and configuration that the request models share."""

from collections.abc import Collection
from typing import Annotated, Any, TypeVar

from pydantic import ConfigDict, Discriminator, Field, with_config

_Item = TypeVar("_Item")

# A list that is checked up to its first problem: a list of all its problems can take a hundred times its own memory.
Items = Annotated[list[_Item], Field(fail_fast=True)]

# Unknown fields pass through untouched.
ALLOW_EXTRA = with_config(ConfigDict(extra="allow"))
# The same for models that are seldom used: pydantic builds them at the first use, not at each start.
ALLOW_EXTRA_LAZY = with_config(ConfigDict(extra="allow", defer_build=True))


def discriminate_by_type(types: Collection[str], default: str = "other") -> Discriminator:
    """Choose the union member tagged with the value's `type`, or `default` where that is none of `types`."""

    def tag(value: Any) -> str:
        kind = value.get("type") if isinstance(value, dict) else None
        return kind if isinstance(kind, str) and kind in types else default

    return Discriminator(tag)
