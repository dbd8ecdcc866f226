"""Parse PROXY_API_KEYS: the API keys of clients, in one variable."""

import re

from anthropic_proxy.auth.api_keys import ApiKey, ApiKeyRegistry, hash_key, validate_key_name
from anthropic_proxy.config import env_values

# In base64 = stands at the end of a key, where it can't be what divides it from its name.
_NAMED_KEY = re.compile(r"(?P<name>[^=]*)=(?P<key>\s*[^=\s].*)")


def parse_client_keys(text: str) -> tuple[ApiKey, ...]:
    """Return the keys of a variable.

    It has `name=key`, keys alone, which are named by their positions, or a JSON object of names and keys.
    Raises ValueError, which shows no key.
    """
    if text.lstrip().startswith("{"):
        pairs = list((env_values.parse_pairs(text) or {}).items())
    else:
        pairs = [
            _split_name(number, part) for number, part in enumerate(env_values.split_list(text), 1)
        ]
    if not pairs:
        raise ValueError("it holds no key")
    keys = tuple(_client_key(name, secret) for name, secret in pairs)
    ApiKeyRegistry(keys)
    return keys


def _split_name(number: int, part: str) -> tuple[str, str]:
    match = _NAMED_KEY.fullmatch(part)
    return (match["name"].strip(), match["key"].strip()) if match else (f"key-{number}", part)


def _client_key(name: str, secret: str) -> ApiKey:
    # A name that is none may be a part of a key.
    return ApiKey(validate_key_name(name), hash_key(env_values.check_header_value(secret)))
