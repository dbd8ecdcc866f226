"""Fields of the settings, with the texts of docs/settings.md and of error messages."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Any, cast

from pydantic import AliasChoices, AliasGenerator
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo
from pydantic_settings import SettingsConfigDict

# Configuration of all classes of settings.
SETTINGS_CONFIG = SettingsConfigDict(
    alias_generator=AliasGenerator(validation_alias=str.upper),
    frozen=True,
    extra="ignore",
    env_ignore_empty=True,
    hide_input_in_errors=True,
)


class Section(StrEnum):
    """The sections of docs/settings.md, in the order of the page."""

    UPSTREAM = "Upstream"
    UPSTREAM_TIMEOUTS = "Upstream timeouts"
    UPSTREAM_REQUESTS = "Upstream requests"
    MODELS = "Models"
    CONTENT = "Content"
    CLIENTS = "Client access"
    RATE_LIMITS = "Rate limits"
    SERVER = "Server"
    TLS = "TLS"
    LIMITS = "Client limits"
    OBSERVABILITY = "Logs and metrics"


def reference(
    section: Section,
    expected: str,
    *,
    if_unset: str = "none",
    upstream_field: tuple[str, ...] = (),
) -> JsonDict:
    """Return the `json_schema_extra` of a setting. Its texts are Markdown.

    expected: the valid values, for docs/settings.md and for error messages.
    if_unset: the default in words, where it is None.
    upstream_field: path in `UpstreamConfig`, if the setting belongs to an upstream.
    """
    return {
        "section": section,
        "expected": expected,
        "if_unset": if_unset,
        "upstream_field": list(upstream_field),
    }


def section_of(field: FieldInfo) -> Section:
    """Return the section of a setting."""
    return Section(_text(field, "section"))


def expected_values(field: FieldInfo) -> str:
    """Return the valid values of a setting in words."""
    return _text(field, "expected")


def default_in_words(field: FieldInfo) -> str:
    """Return the default of a setting whose value is None, in Markdown."""
    return _text(field, "if_unset")


def upstream_path(field: FieldInfo) -> tuple[str, ...]:
    """Return the path of a setting in `UpstreamConfig`; () if it belongs to no upstream."""
    return tuple(cast("list[str]", _extra(field)["upstream_field"]))


def variable_names(field: FieldInfo) -> list[str]:
    """Return the variables that set a field of the settings, the preferred one first."""
    alias = field.validation_alias
    choices: Iterable[Any] = alias.choices if isinstance(alias, AliasChoices) else [alias]
    return [str(each) for each in choices]


def _text(field: FieldInfo, name: str) -> str:
    return str(_extra(field)[name])


def _extra(field: FieldInfo) -> dict[str, Any]:
    return cast("dict[str, Any]", field.json_schema_extra)
