"""Format error messages about settings, with name, value and valid values, without secrets."""

import re
from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from anthropic_proxy.config.setting_fields import expected_values, upstream_path, variable_names
from anthropic_proxy.config.upstream_config import SECRET_FIELDS
from anthropic_proxy.errors.redaction import MASK, is_key_like, quote_url

HIDDEN_VALUE = "the given value"

# Types of errors whose message is complete without name and value.
WHOLE_SENTENCE = "whole_sentence"
MISSING_URL_TYPE = "missing_upstream"

# Texts that cannot be keys: a URL, an address of this machine, or a short text. Keys may contain
# `/`, `.` and `:`, so messages show no other text without a scheme.
_ADDRESS = re.compile(
    r"[a-z]{2,5}://.*|(?:localhost|[\d.]{7,15})(?::\d+)?(?:/.*)?|.{0,7}",
    re.DOTALL | re.IGNORECASE,
)
_TYPES: Mapping[type, str] = {dict: "a mapping", list: "a list", type(None): "nothing"}


def variable_problem(error: Mapping[str, Any], fields: Mapping[str, FieldInfo]) -> str:
    """Return the message for an error of pydantic.

    fields: of the settings, by name.
    """
    if error["type"] in (WHOLE_SENTENCE, MISSING_URL_TYPE):
        return str(error["msg"])
    variable = str(error["loc"][0])
    field = next(each for each in fields.values() if variable in variable_names(each))
    # The texts of settings are Markdown.
    expected = f"expected {expected_values(field)}".replace("`", "")
    if field.annotation != SecretStr | None:
        value = show_value(error["input"], upstream_path(field)[:1])
        if value != HIDDEN_VALUE:
            expected = f"got {value}, {expected}"
    reason = str(error["msg"])
    # The reasons of pydantic itself would repeat the expected values.
    if error["type"] == "value_error":
        expected = f"{expected}: {reason.removeprefix('Value error, ')}"
    return f"invalid {variable}: {expected}"


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
    return _in_double_quotes(repr(text))


def _show_addresses(text: str) -> str:
    """Return one or several URLs in quotes, without user, password and query."""
    are_addresses = all(_ADDRESS.fullmatch(url.strip()) for url in re.split(r"[;\n]", text))
    if are_addresses and ("://" in text or "@" not in text):
        return _in_double_quotes(quote_url(text))
    return HIDDEN_VALUE


def _in_double_quotes(literal: str) -> str:
    """Return a string literal of Python with double quotes."""
    inner = literal[1:-1].replace("\\'", "'")
    return f'"{inner}"'


def show_name(name: str) -> str:
    """Return a name in the configuration file for a message.

    An operator may have written a header or a key in place of the name.
    """
    if is_key_like(name) or ":" in name:
        return MASK
    return name
