"""The variables that settings are read from."""

from typing import Any

from pydantic import AliasChoices


def names(field: Any) -> list[str]:
    alias = field.validation_alias
    return (
        [str(each) for each in alias.choices] if isinstance(alias, AliasChoices) else [str(alias)]
    )
