"""What is said of a variable that can't be used: its name, what was given and what is expected, and no secret."""

import re
from collections.abc import Mapping
from typing import Any

from pydantic import AliasChoices, SecretStr
from pydantic.fields import FieldInfo

from anthropic_proxy.errors.redaction import is_key_like, shown_url

# Errors that say all there is to say.
_WHOLE_SENTENCES = ("missing_upstream", "excluded")
# Variables, by their fields, that may hold keys, and those that hold addresses.
_HIDDEN = ("upstream_headers", "upstream_extra_body")
_ADDRESSES = ("upstream_base_url",)

# What is certainly meant as an address: a URL, a name or number of this machine, or something too short for a key. Keys may
# hold any of the characters `/`, `.` and `:`, so nothing else without a scheme is shown.
_ADDRESS = re.compile(
    r"[a-z]{2,5}://.*|(?:localhost|[\d.]{7,15})(?::\d+)?(?:/.*)?|.{0,7}", re.DOTALL | re.IGNORECASE
)


def problem(error: Mapping[str, Any], fields: Mapping[str, FieldInfo]) -> str:
    """The text for one of pydantic's errors. fields: of the settings, by name; their descriptions say what is expected."""
    if error["type"] in _WHOLE_SENTENCES:
        return str(error["msg"])
    variable = str(error["loc"][0])
    name = next(
        name for name, field in fields.items() if variable in _names(field.validation_alias)
    )
    reason = str(error["msg"]).removeprefix("Value error, ")
    return f"{variable}: {_shown(str(error['input']), name, fields[name])} is not {fields[name].description}: {reason}"


def _names(alias: Any) -> list[str]:
    return (
        [str(choice) for choice in alias.choices]
        if isinstance(alias, AliasChoices)
        else [str(alias)]
    )


def _shown(given: str, name: str, field: FieldInfo) -> str:
    """Return what was given, without what may be secret in it: whole keys, and the user, password and query of a URL."""
    if field.annotation == SecretStr | None or name in _HIDDEN or is_key_like(given):
        return "the given value"
    if name not in _ADDRESSES:
        return repr(given)
    is_shown = all(_ADDRESS.fullmatch(url.strip()) for url in re.split(r"[;\n]", given)) and (
        "://" in given or "@" not in given
    )
    return shown_url(given) if is_shown else "the given value"
