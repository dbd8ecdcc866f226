"""What the request models have in common."""

from collections.abc import Collection
from typing import Annotated, Any, TypeVar

from pydantic import ConfigDict, Discriminator, Field, with_config

_Item = TypeVar("_Item")

# A list that is checked up to its first problem: a list of all its problems can take a hundred times its own memory.
Items = Annotated[list[_Item], Field(fail_fast=True)]

# Unknown fields pass through untouched.
ALLOW_EXTRA = with_config(ConfigDict(extra="allow"))
# The same, for what is seldom read: it is made ready with the first that is, not at each start.
ALLOW_EXTRA_LAZY = with_config(ConfigDict(extra="allow", defer_build=True))


def discriminate_by_type(types: Collection[str], default: str = "other") -> Discriminator:
    """Chooses of a union's members the one tagged with the value's `type`; `otherwise` where that is none of `known`."""

    def tag(value: Any) -> str:
        kind = value.get("type") if isinstance(value, dict) else None
        return kind if isinstance(kind, str) and kind in types else default

    return Discriminator(tag)
