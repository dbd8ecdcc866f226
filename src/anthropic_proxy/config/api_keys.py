"""Parse PROXY_API_KEYS: the API keys of clients, in one variable."""

import re

from anthropic_proxy.auth.api_keys import ClientKey, ClientKeys, checked_name, hashed
from anthropic_proxy.config import env_values

# In base64 = stands at the end of a key, where it can't be what divides it from its name.
_NAMED = re.compile(r"(?P<name>[^=]*)=(?P<key>\s*[^=\s].*)")


def parse(text: str) -> tuple[ClientKey, ...]:
    """The keys of a variable: `name=key`, keys alone, which are named by their places, or a JSON object of names and keys.

    Raises ValueError, which shows no key.
    """
    if text.lstrip().startswith("{"):
        given = list((env_values.pairs(text) or {}).items())
    else:
        given = [
            _name_and_key(number, part) for number, part in enumerate(env_values.parts(text), 1)
        ]
    if not given:
        raise ValueError("it holds no key")
    keys = tuple(_client_key(name, secret) for name, secret in given)
    ClientKeys(keys)
    return keys


def _name_and_key(number: int, part: str) -> tuple[str, str]:
    named = _NAMED.fullmatch(part)
    return (named["name"].strip(), named["key"].strip()) if named else (f"key-{number}", part)


def _client_key(name: str, secret: str) -> ClientKey:
    # A name that is none may be a part of a key.
    return ClientKey(checked_name(name), hashed(env_values.header_value(secret)))
