"""What is said of a variable that can't be used: its name, what was given and what is expected, and no secret."""

import re
from collections.abc import Mapping
from typing import Any

from pydantic import AliasChoices, SecretStr
from pydantic.fields import FieldInfo

# Errors that say all there is to say.
_WHOLE_SENTENCES = ("missing_upstream", "excluded")
# Variables, by their fields, that may hold keys, and those that hold addresses.
_HIDDEN = ("upstream_headers", "upstream_extra_body")
_ADDRESSES = ("upstream_base_url",)

_KEY_LENGTH = 20
_URL_SECRETS = re.compile(r"(?<=//).*(?=@)|(?<=[?#]).+", re.DOTALL)


def problem(error: Mapping[str, Any], fields: Mapping[str, FieldInfo]) -> str:
    """The text for one of pydantic's errors. fields: of the settings, by name; their descriptions say what is expected."""
    if error["type"] in _WHOLE_SENTENCES:
        return str(error["msg"])
    variable = str(error["loc"][0])
    name = next(name for name, field in fields.items() if variable in _names(field.validation_alias))
    reason = str(error["msg"]).removeprefix("Value error, ")
    return f"{variable}: {_shown(str(error['input']), name, fields[name])} is not {fields[name].description}: {reason}"


def _names(alias: Any) -> list[str]:
    return [str(choice) for choice in alias.choices] if isinstance(alias, AliasChoices) else [str(alias)]


def _shown(given: str, name: str, field: FieldInfo) -> str:
    """What was given, without what may be secret in it: whole keys, and the user, password and query of a URL."""
    is_url = name in _ADDRESSES
    if field.annotation == SecretStr | None or name in _HIDDEN or (is_url and _looks_secret(given)):
        return "the given value"
    return repr(_URL_SECRETS.sub("***", given) if is_url else given)


def _looks_secret(url: str) -> bool:
    """A key in the place of the URL, or a password in what is no URL."""
    return "://" not in url and ("@" in url or (len(url) >= _KEY_LENGTH and not re.search(r"[.:/]", url)))
