"""Parse PROXY_API_KEYS, the variable with the API keys of clients."""

import re

from anthropic_proxy.auth.api_keys import ApiKey, ApiKeyRegistry, hash_key, validate_key_name
from anthropic_proxy.config import env_values
from anthropic_proxy.errors.redaction import MASK, is_key_like

# Shorter keys are easy to guess.
MIN_CHARACTERS = 8

_NAMED = re.compile(r"(?P<name>[^=]*)=(?P<key>\s*[^=\s].*)")
_NAME_ALONE = re.compile(r"(?P<name>[^=]*)[=\s]+")
# A key in base64 may end in =, but so does `name=$KEY` with an empty variable. A text counts as a
# key only if it cannot be a name: at least 16 bytes in base64, with upper case, lower case and
# digits.
_MIXED = re.compile(r"(?=.*[A-Z])(?=.*[a-z])(?=.*\d)")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{22,}={1,2}")
# A variable that was not expanded: .env files expand only ${NAME}, and systemd expands nothing. The
# text would be a key that is easy to guess.
_REFERENCE = re.compile(r"\$([A-Za-z_]\w*|\{.*\}|\(.*\))")


def parse_api_keys(text: str) -> tuple[ApiKey, ...]:
    """Return the keys in the text of the variable.

    text: a list of `name=key` or keys, or a JSON object of names and keys. A key without a name is
    named by its position. Raises ValueError, whose message never shows a key.
    """
    pairs = _names_and_keys(text)
    if not pairs:
        raise ValueError("no key found")
    keys = tuple(_create_api_key(name, secret) for name, secret in pairs)
    ApiKeyRegistry(keys)
    return keys


def short_keys(text: str) -> list[str]:
    """Return the names of keys that are shorter than MIN_CHARACTERS. Raises ValueError."""
    return [name for name, secret in _names_and_keys(text) if len(secret.strip()) < MIN_CHARACTERS]


def _names_and_keys(text: str) -> list[tuple[str, str]]:
    if text.lstrip().startswith("{"):
        return list((env_values.parse_pairs(text) or {}).items())
    parts = env_values.split_list(env_values.strip_quotes(text))
    return [_name_and_key(number, part) for number, part in enumerate(parts, 1)]


def _name_and_key(number: int, part: str) -> tuple[str, str]:
    named = _NAMED.fullmatch(part)
    if named:
        return named["name"].strip(), env_values.strip_key(named["key"])
    name_alone = _NAME_ALONE.fullmatch(part)
    if name_alone and not _is_base64(part):
        raise _empty_key(name_alone["name"].strip())
    return f"key-{number}", env_values.strip_key(part)


def _is_base64(part: str) -> bool:
    return bool(_BASE64.fullmatch(part) and _MIXED.match(part)) and len(part) % 4 == 0


def _empty_key(name: str) -> ValueError:
    # An invalid name may be a key.
    shown = name if _is_name(name) else MASK
    return ValueError(f"{shown} has an empty key (a key that ends in = requires a name: name=key)")


def _is_name(text: str) -> bool:
    """Return whether an error may show a text: it is a name, and does not look like a key."""
    try:
        validate_key_name(text)
    except ValueError:
        return False
    return not (is_key_like(text) or _MIXED.match(text))


def _create_api_key(name: str, secret: str) -> ApiKey:
    if not secret.strip():
        raise _empty_key(name)
    if _REFERENCE.fullmatch(secret.strip()):
        # Neither text is shown, because each may be a key.
        raise ValueError("a key is the name of a variable: in a .env file, write ${NAME}")
    return ApiKey(validate_key_name(name), hash_key(env_values.check_header_value(secret)))
