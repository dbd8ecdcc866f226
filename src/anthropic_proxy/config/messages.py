"""Texts of error messages about settings: name, value and what is expected, without secrets."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import AliasChoices, SecretStr
from pydantic.fields import FieldInfo

from anthropic_proxy.config.upstream_config import SECRET_FIELDS
from anthropic_proxy.errors.redaction import MASK, is_key_like, quote_url

HIDDEN_VALUE = "the given value"

# Types of errors whose message is complete.
WHOLE_SENTENCE = "whole_sentence"
MISSING_URL_TYPE = "missing_upstream"

# What is certainly meant as an address: a URL, a name or number of this machine, or something too short for a key. Keys may
# hold any of the characters `/`, `.` and `:`, so nothing else without a scheme is shown.
_ADDRESS = re.compile(
    r"[a-z]{2,5}://.*|(?:localhost|[\d.]{7,15})(?::\d+)?(?:/.*)?|.{0,7}", re.DOTALL | re.IGNORECASE
)
_TYPES: Mapping[type, str] = {dict: "a mapping", list: "a list", type(None): "nothing"}


def variable_names(field: FieldInfo) -> list[str]:
    """Return the variables of the environment that set a field of the settings, the preferred one first."""
    alias = field.validation_alias
    choices: Iterable[Any] = alias.choices if isinstance(alias, AliasChoices) else [alias]
    return [str(each) for each in choices]


def variable_problem(error: Mapping[str, Any], fields: Mapping[str, FieldInfo]) -> str:
    """Return the message for one of pydantic's errors.

    fields: of the settings, by name; their descriptions say what is expected.
    """
    if error["type"] in (WHOLE_SENTENCE, MISSING_URL_TYPE):
        return str(error["msg"])
    variable = str(error["loc"][0])
    field = next(each for each in fields.values() if variable in variable_names(each))
    is_secret = field.annotation == SecretStr | None
    value = HIDDEN_VALUE if is_secret else show_value(error["input"], upstream_field(field)[:1])
    reason = str(error["msg"]).removeprefix("Value error, ")
    return f"{variable}: {value} is not {field.description}: {reason}"


def upstream_field(field: FieldInfo) -> tuple[str, ...]:
    """Return the path of the field of UpstreamConfig that a field of the settings sets; () for others."""
    extra = field.json_schema_extra
    return extra["upstream_field"] if isinstance(extra, dict) and "upstream_field" in extra else ()  # type: ignore[return-value]


def show_value(value: object, upstream_path: tuple[str | int, ...] = ()) -> str:
    """Return a value for a message, without what may be secret in it.

    upstream_path: of the value in UpstreamConfig, where it belongs to an upstream.
    """
    if not SECRET_FIELDS.isdisjoint(upstream_path):
        return HIDDEN_VALUE
    if type(value) in _TYPES:
        return _TYPES[type(value)]
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return repr(value)
    if is_key_like(value):
        return HIDDEN_VALUE
    return _show_addresses(value) if upstream_path == ("url",) else repr(value)


def _show_addresses(text: str) -> str:
    """Return one or several URLs without user, password and query."""
    are_addresses = all(_ADDRESS.fullmatch(url.strip()) for url in re.split(r"[;\n]", text))
    if are_addresses and ("://" in text or "@" not in text):
        return quote_url(text)
    return HIDDEN_VALUE


def show_name(name: str) -> str:
    """Return a name in the configuration file for a message. A header or a key may have been written in its place."""
    return MASK if is_key_like(name) or ":" in name else name
