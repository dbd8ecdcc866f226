"""Error messages about settings: name, value and what is expected, without secrets."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, cast

from pydantic import AliasChoices, SecretStr
from pydantic.fields import FieldInfo

from anthropic_proxy.config.upstream_config import SECRET_FIELDS
from anthropic_proxy.errors.redaction import MASK, is_key_like, quote_url

HIDDEN_VALUE = "the given value"

# Types of pydantic errors whose message needs no name or value.
WHOLE_SENTENCE = "whole_sentence"
MISSING_URL_TYPE = "missing_upstream"

# Texts that are certainly no keys: a URL, an address of this machine, or a text that is too short.
# Keys may hold `/`, `.` and `:`, so no other text without a scheme is shown.
_ADDRESS = re.compile(
    r"[a-z]{2,5}://.*|(?:localhost|[\d.]{7,15})(?::\d+)?(?:/.*)?|.{0,7}",
    re.DOTALL | re.IGNORECASE,
)
_TYPES: Mapping[type, str] = {dict: "a mapping", list: "a list", type(None): "nothing"}


def variable_names(field: FieldInfo) -> list[str]:
    """Return the variables that set a field of the settings, the preferred one first."""
    alias = field.validation_alias
    choices: Iterable[Any] = alias.choices if isinstance(alias, AliasChoices) else [alias]
    return [str(each) for each in choices]


def variable_problem(error: Mapping[str, Any], fields: Mapping[str, FieldInfo]) -> str:
    """Return the message for one of pydantic's errors.

    fields: of the settings, by name; their descriptions are the expected values.
    """
    if error["type"] in (WHOLE_SENTENCE, MISSING_URL_TYPE):
        return str(error["msg"])
    variable = str(error["loc"][0])
    field = next(each for each in fields.values() if variable in variable_names(each))
    is_secret = field.annotation == SecretStr | None
    value = HIDDEN_VALUE
    if not is_secret:
        value = show_value(error["input"], upstream_field(field)[:1])
    reason = str(error["msg"]).removeprefix("Value error, ")
    return f"{variable}: {value} is not {field.description}: {reason}"


def upstream_field(field: FieldInfo) -> tuple[str, ...]:
    """Return the path in UpstreamConfig of a field of the settings; () if it has none."""
    extra = field.json_schema_extra
    if not isinstance(extra, dict):
        return ()
    return cast("tuple[str, ...]", extra["upstream_field"])


def show_value(value: object, upstream_path: tuple[str | int, ...] = ()) -> str:
    """Return a value for a message, without possible secrets.

    upstream_path: of the value in UpstreamConfig; () for values that belong to no upstream.
    """
    if not SECRET_FIELDS.isdisjoint(upstream_path):
        return HIDDEN_VALUE
    if isinstance(value, str):
        return _show_text(value, is_address=upstream_path == ("url",))
    if isinstance(value, bool):
        return str(value).lower()
    if type(value) in _TYPES:
        return _TYPES[type(value)]
    return repr(value)


def _show_text(text: str, *, is_address: bool) -> str:
    if is_key_like(text):
        return HIDDEN_VALUE
    if is_address:
        return _show_addresses(text)
    return repr(text)


def _show_addresses(text: str) -> str:
    """Return one or several URLs in quotes, without user, password and query."""
    are_addresses = all(_ADDRESS.fullmatch(url.strip()) for url in re.split(r"[;\n]", text))
    if are_addresses and ("://" in text or "@" not in text):
        return quote_url(text)
    return HIDDEN_VALUE


def show_name(name: str) -> str:
    """Return a name in the configuration file for a message.

    An operator may have written a header or a key in place of the name.
    """
    if is_key_like(name) or ":" in name:
        return MASK
    return name
