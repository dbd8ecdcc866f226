"""Removal of secrets from texts that leave the process: errors for clients, log lines and spans.

What is removed depends on the length of a secret, because short ones are also parts of words (`k`, `none`, `test`):

- 16 characters or more: everywhere, also inside a longer run of letters and digits. Ordinary text does not contain such a
  run by chance, and an upstream that forgets a separator (`keysk-or-...`) must not expose a real key.
- 8 to 15 characters: as a whole token, that is, where no ASCII letter or digit precedes or follows it. Other characters
  end a token: keys are ASCII, so a letter of another script is the text around a key.
- fewer: as a whole token after the name of a credential (`key=`, `"api_key": "`, `Bearer `), or after the name of the
  header or parameter in which the secret is sent.

A secret is found in the forms in which servers repeat it: as it is, percent-encoded (once or twice), escaped for JSON (up
to three times) or for HTML, and mixtures of these.
"""

import base64
import binascii
import html
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import cached_property
from itertools import combinations
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, unquote

MASK = "***"

_MIN_TOKEN_LENGTH = 8
_MIN_EMBEDDED_LENGTH = 16
# Characters of a text that are searched when only its beginning is shown.
MAX_SEARCHED = 16 * 1024
# The longest form of one character: `\\\\u00e9` for each of two UTF-16 units.
_MAX_ENCODED_CHARACTER = 18

# Names, in lower case, of headers and parameters whose values are never credentials. They say which version of an API is
# used and which program sends the request, and readers of an error need them. Everything else counts as secret, also
# OpenAI-Organization and OpenAI-Project: they identify the operator's account, which is not the clients' business.
_HARMLESS_HEADERS = frozenset(
    {
        "accept",
        "accept-language",
        "anthropic-beta",
        "anthropic-version",
        "api-version",
        "content-type",
        "http-referer",
        "openai-beta",
        "referer",
        "user-agent",
        "x-title",
    }
)
_HARMLESS_PARAMETERS = frozenset({"api-version", "beta"})
_CREDENTIAL_FIELD = re.compile(r"auth|key|token|secret|cookie|password|credential", re.IGNORECASE)


class Secret(NamedTuple):
    """A value that must not leave the process."""

    value: str
    # Of the header or parameter in which it is sent.
    name: str = ""


class Redactor:
    """Removes a fixed set of secrets. Its regular expressions are compiled when a text first needs them, and kept."""

    def __init__(self, secrets: Iterable[Secret] = (), addresses: Iterable[str] = ()) -> None:
        """addresses: hosts and URLs to remove as whole tokens whatever their length, in capital and small letters alike."""
        stripped = (Secret(secret.value.strip(), secret.name) for secret in secrets)
        self._secrets = tuple(dict.fromkeys(secret for secret in stripped if secret.value))
        self._addresses = tuple(address for address in addresses if address)
        # No encoding changes ASCII letters and digits, so a text without a secret's longest run of them cannot hold it.
        # This spares nearly all texts the regular expressions.
        runs = {_find_longest_run(secret.value) for secret in self._secrets}
        self._runs = ("",) if self._addresses else tuple(runs)

    @cached_property
    def _patterns(self) -> tuple[re.Pattern[str] | None, re.Pattern[str] | None]:
        """Of secrets that are found by their length alone, and of those that are found after a name."""
        values = {
            secret.value for secret in self._secrets if len(secret.value) >= _MIN_TOKEN_LENGTH
        }
        short = [secret for secret in self._secrets if len(secret.value) < _MIN_TOKEN_LENGTH]
        return _build_length_pattern(values, self._addresses), _build_name_pattern(short)

    @cached_property
    def _max_encoded_length(self) -> int:
        return max(
            map(_max_length, (*(secret.value for secret in self._secrets), *self._addresses)),
            default=0,
        )

    def redact(self, text: str) -> str:
        """Return the text with each secret replaced by `***`, in linear time."""
        if not any(run in text for run in self._runs):
            return text
        length_pattern, name_pattern = self._patterns
        # Short secrets last: they may be the beginning of longer ones.
        text = length_pattern.sub(MASK, text) if length_pattern else text
        return name_pattern.sub(rf"\g<kept>{MASK}", text) if name_pattern else text

    def redact_beginning(self, text: str) -> str:
        """Return the redacted beginning of a text of any length, which does not end within a secret."""
        redacted = self.redact(text[:MAX_SEARCHED])
        # The last characters may be the first part of a secret.
        return (
            redacted
            if len(text) <= MAX_SEARCHED
            else redacted[: max(len(redacted) - self._max_encoded_length, 0)]
        )


NO_SECRETS = Redactor()


def find_header_secrets(name: str, value: str) -> Iterator[Secret]:
    """Yield the secrets in a header that the proxy adds to requests: the value, and the credentials within it."""
    if name.lower() in _HARMLESS_HEADERS:
        return
    yield Secret(value, name)
    scheme, _, credentials = value.strip().partition(" ")
    if credentials and re.fullmatch("[A-Za-z-]+", scheme) and " " not in credentials.strip():
        yield Secret(credentials, name)
    if scheme.lower() == "basic":
        yield from _find_basic_secrets(credentials.strip())
    for pair in re.split(r"[;,\s]+", value):
        key, _, inner = pair.partition("=")
        if len(inner.strip("\"'=")) >= _MIN_TOKEN_LENGTH:
            yield Secret(inner.strip("\"'"), key)


def find_parameter_secrets(name: str, value: str) -> Iterator[Secret]:
    """Yield the secret in a parameter of a URL's query."""
    if name.lower() not in _HARMLESS_PARAMETERS:
        yield Secret(value, name)


def find_url_secrets(url: str) -> Iterator[Secret]:
    """Yield the secrets in a URL, which may be malformed: its login and the values of its query."""
    # Proxies may be given without a scheme.
    login, _, _ = (url.partition("//")[2] or url).rpartition("@")
    if login:
        user, colon, password = login.partition(":")
        yield from (
            _find_login_secrets(user, password) if colon else (Secret(user), Secret(unquote(user)))
        )
        # A parser that splits a password at such a character repeats a part of it.
        yield from (
            Secret(part) for part in re.split(r"[/?#@]", password) if len(part) >= _MIN_TOKEN_LENGTH
        )
    query = re.split(r"[?#]", url, maxsplit=1)[1:]
    for name, value in parse_qsl(query[0] if query else ""):
        yield from find_parameter_secrets(name, value)


def find_field_secrets(fields: object) -> Iterator[Secret]:
    """Yield the texts in a JSON value whose fields are named like credentials."""
    if isinstance(fields, list):
        for item in fields:
            yield from find_field_secrets(item)
    if not isinstance(fields, dict):
        return
    for name, value in fields.items():
        if isinstance(value, str) and _CREDENTIAL_FIELD.search(name):
            yield Secret(value, name)
        else:
            yield from find_field_secrets(value)


def is_key_like(text: str) -> bool:
    """Return whether a text, given where no key belongs, looks like one."""
    return bool(_KEY_LIKE.fullmatch(text))


def quote_name(text: str) -> str:
    """Return a name for an error message, in quotes; masked if it looks like a key that was written in its place."""
    return MASK if is_key_like(text) else repr(text)


def quote_url(text: str) -> str:
    """Return a URL for an error message, in quotes, with its login and its query masked."""
    return repr(_LOGIN_OR_QUERY.sub(MASK, text))


_LOGIN_OR_QUERY = re.compile(r"(?<=//).*(?=@)|(?<=[?#]).+", re.DOTALL)
# The usual prefixes of keys, or a long run with letters and digits.
_KEY_LIKE = re.compile(
    r"(?:sk|pk|rk|gsk|xai|hf|ghp|nvapi)[-_].*|(?=.*\d)(?=.*[A-Za-z])[A-Za-z0-9_.~+=-]{20,}",
    re.DOTALL,
)


def mask_caller_keys(text: str, is_key: Callable[[str], bool]) -> str:
    """Return the text without the tokens that are keys of clients. The proxy knows these keys by their hashes alone, so
    each token that is long enough is looked up, for several definitions of a token.
    """
    for pattern in _TOKENS:
        text = pattern.sub(lambda token: MASK if is_key(token[0]) else token[0], text)
    return text


_MAX_KEY_LENGTH = 256
_TOKENS = tuple(
    # Only at its end `=` is a part of a key, in base64.
    re.compile(
        rf"(?<!{characters}){characters}{{{_MIN_TOKEN_LENGTH},{_MAX_KEY_LENGTH}}}{end}(?!{characters})",
        re.ASCII,
    )
    for characters, end in (
        (r"[^\s\"'`<>]", ""),
        (r"[\w.~+/-]", "={0,2}"),
        (r"[\w.~+-]", "={0,2}"),
        (r"[\w-]", ""),
    )
)


def mask_path(path: str, is_key: Callable[[str], bool]) -> str:
    """Return a path that clients made up as far as it may be logged.

    A segment stays when it is short, is made of letters, digits and `._~-`, and neither is nor contains a key; others are
    masked, and so are segments after the eighth.
    """
    first, *segments = path.split("/", _MAX_SEGMENTS + 1)
    shown_segments = [
        segment if _is_loggable(segment, is_key) else MASK for segment in segments[:_MAX_SEGMENTS]
    ]
    rest = [MASK] if len(segments) > _MAX_SEGMENTS else []
    return "/".join([first if _is_loggable(first, is_key) else MASK, *shown_segments, *rest])


_MAX_SEGMENTS = 8
_SEGMENT = re.compile(r"[A-Za-z0-9._~-]{0,16}")


def _is_loggable(segment: str, is_key: Callable[[str], bool]) -> bool:
    if not _SEGMENT.fullmatch(segment) or is_key_like(segment):
        return False
    bounds = [
        0,
        *(end for separator in re.finditer(r"[._~-]", segment) for end in separator.span()),
        len(segment),
    ]
    return not any(is_key(segment[start:end]) for start, end in combinations(bounds, 2))


def _find_login_secrets(user: str, password: str) -> Iterator[Secret]:
    """Yield a password, in both forms when it is percent-encoded, and what HTTP's Basic scheme makes of the login."""
    for name, secret in {(user, password), (unquote(user), unquote(password))}:
        yield Secret(secret, "password")
        login = f"{name}:{secret}"
        yield Secret(login)
        encoded = base64.b64encode(login.encode("utf-8", "surrogateescape")).decode().rstrip("=")
        yield Secret(encoded, "basic")
        yield Secret(encoded.translate(str.maketrans("+/", "-_")), "basic")


def _find_basic_secrets(encoded: str) -> Iterator[Secret]:
    try:
        login = base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return
    user, colon, password = login.partition(":")
    if colon:
        yield from _find_login_secrets(user, password)


_ALPHANUMERIC = "[A-Za-z0-9]"
# Characters that no encoding changes.
_UNCHANGED = "[A-Za-z0-9_.~-]"
# A letter or digit before a token belongs to it, except as the end of an escape: `%22`, `%2522`, `\n`, `\u0022`, `\x22`.
_TOKEN_START = (
    rf"(?:(?<!{_ALPHANUMERIC})|(?<=%[0-9A-Fa-f]{{2}})|(?<=%25[0-9A-Fa-f]{{2}})|(?<=\\[bfnrt])"
    r"|(?<=\\u[0-9A-Fa-f]{4})|(?<=\\x[0-9A-Fa-f]{2}))"
)
_TOKEN_END = rf"(?!{_ALPHANUMERIC})"

_NAMES = (
    r"keys?",
    "token",
    "secret",
    "passw(?:or)?d",
    "passphrase",
    "pass",
    "pwd",
    "auth(?:orization)?",
    "credentials?",
    "cookie",
    "signature",
    "sig",
)
_QUOTES = r"[\\\"'`<>(){}\[\]]{0,4}"
_EQUALS = r"(?:[=:]>?|%3[AaDd])"


def _build_length_pattern(secrets: set[str], addresses: Collection[str]) -> re.Pattern[str] | None:
    """Return the pattern of secrets that are found by their length alone, and of addresses."""
    patterns_by_value = {value: _build_secret_pattern(value) for value in secrets}
    patterns_by_value |= {
        address: f"(?i:{_build_token_pattern(address, re.escape(address))})"
        for address in addresses
    }
    # Of two that begin alike the longer one comes first.
    patterns = [
        patterns_by_value[value] for value in sorted(patterns_by_value, key=len, reverse=True)
    ]
    return re.compile("|".join(patterns)) if patterns else None


def _build_name_pattern(secrets: list[Secret]) -> re.Pattern[str] | None:
    """Return the pattern of secrets that are found after the name of a credential."""
    if not secrets:
        return None
    secret_names = {
        re.escape(secret.name).replace(r"\-", "[-_]") for secret in secrets if len(secret.name) > 1
    }
    names = "|".join((*_NAMES, *sorted(secret_names, key=len, reverse=True)))
    scheme = rf"(?:bearer|basic)(?:\s|%20|\+){{1,4}}{_QUOTES}"
    name_prefix = (
        rf"(?:{names})(?:\s(?:provided|given|used|is|was))?{_QUOTES}\s{{0,4}}{_EQUALS}\s{{0,4}}{_QUOTES}(?:{scheme})?"
        rf"|(?:{names})\s{{1,4}}[\"'`]"
    )
    ordered = sorted({secret.value for secret in secrets}, key=len, reverse=True)
    values = "|".join(
        _build_token_pattern(value, _build_encoded_pattern(value)) for value in ordered
    )
    return re.compile(f"(?P<kept>(?i:{name_prefix}|{scheme}))(?:{values})")


def _build_secret_pattern(value: str) -> str:
    pattern = _build_encoded_pattern(value)
    return pattern if len(value) >= _MIN_EMBEDDED_LENGTH else _build_token_pattern(value, pattern)


def _build_token_pattern(value: str, pattern: str) -> str:
    """Return the pattern of a whole token. Punctuation at an end of the value separates it from its surroundings."""
    prefix = _TOKEN_START if re.match(_ALPHANUMERIC, value[0]) else ""
    suffix = _TOKEN_END if re.match(_ALPHANUMERIC, value[-1]) else ""
    return f"{prefix}{pattern}{suffix}"


def _build_encoded_pattern(value: str) -> str:
    """Return the pattern of a value, each character of which may be encoded in another way."""
    return "".join(
        _build_character_pattern(match[0]) for match in re.finditer(r"\\+|(?s:.)", value)
    )


def _build_character_pattern(run: str) -> str:
    """Return the pattern of one character, or of a run of backslashes, which escapes multiply."""
    if re.fullmatch(_UNCHANGED, run):
        return re.escape(run)
    if run.startswith("\\"):
        return rf"(?:\\{{{len(run)},{8 * len(run)}}}|(?i:%5c|%255c){{{len(run)}}})"
    percent = quote(run, safe="", errors="surrogatepass")
    units = run.encode("utf-16-be", "surrogatepass").hex()
    escaped = r"\\{1,4}u" + r"\\{1,4}u".join(units[at : at + 4] for at in range(0, len(units), 4))
    forms = [rf"\\{{0,7}}{re.escape(run)}", percent, percent.replace("%", "%25"), escaped]
    forms += [f"&#{ord(run)};", f"&#x{ord(run):x};", rf"\\{{1,4}}U{ord(run):08x}"]
    forms += [rf"\\{{1,4}}x{ord(run):02x}"] if ord(run) <= _LATIN_1 else []
    forms += [re.escape(entity) for entity in [html.escape(run)] if entity != run]
    forms += [rf"\\{{1,4}}{_JSON_ESCAPES[run]}"] if run in _JSON_ESCAPES else []
    forms += [r"\+"] if run == " " else []
    return f"(?i:{'|'.join(forms)})"


_LATIN_1 = 0xFF
_JSON_ESCAPES = {"\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t"}


def _max_length(value: str) -> int:
    """Return how many characters a value has at most in any form."""
    return sum(
        1 if re.fullmatch(_UNCHANGED, character) else _MAX_ENCODED_CHARACTER for character in value
    )


def _find_longest_run(value: str) -> str:
    return max(re.findall(f"{_ALPHANUMERIC}+", value), key=len, default="")
