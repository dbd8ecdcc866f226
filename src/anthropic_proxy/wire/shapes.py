"""What the request models have in common."""

from collections.abc import Collection
from typing import Any

from pydantic import ConfigDict, Discriminator, with_config

# Unknown fields pass through untouched.
OPEN = with_config(ConfigDict(extra="allow"))
# The same, for what is seldom read: it is made ready with the first that is, not at each start.
SELDOM = with_config(ConfigDict(extra="allow", defer_build=True))


def by_type(known: Collection[str], otherwise: str = "other") -> Discriminator:
    """Chooses of a union's members the one tagged with the value's `type`; `otherwise` where that is none of `known`."""

    def tag(value: Any) -> str:
        kind = value.get("type") if isinstance(value, dict) else None
        return kind if isinstance(kind, str) and kind in known else otherwise

    return Discriminator(tag)
