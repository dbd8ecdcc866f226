"""Replace secrets in texts that leave the process: errors for clients, log lines and spans.

The rule depends on the length of a secret, because short secrets (`k`, `none`, `test`) are also
ordinary words or parts of words:

- 16 characters or more: replaced everywhere, also within a longer sequence of letters and digits.
  Ordinary text does not contain such a sequence by chance, and an upstream that omits a separator
  (`keysk-or-...`) must not expose a real key.
- 8 to 15 characters: replaced only as a complete token: no ASCII letter or digit is before or after
  it. A letter of another script ends a token, because keys are ASCII.
- fewer: replaced only as a complete token after the name of a credential (`key=`, `"api_key": "`,
  `Bearer `), or after the name of the header or parameter in which the secret is sent.

A secret is recognized in all forms in which servers repeat it: unchanged, percent-encoded (once or
twice), escaped for JSON (up to three times) or for HTML, and in mixtures of these forms.
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
# Number of characters that are searched if only the beginning of a text is shown.
MAX_SEARCHED = 16 * 1024
# Length of the longest form of one character: `\\\\u00e9` for each of two UTF-16 units.
_MAX_ENCODED_CHARACTER = 18

# Names, in lower case, of headers and parameters whose values are not secret: the version of an API
# and the program that sends the request. Readers of an error need them. All other values are
# secret, also OpenAI-Organization and OpenAI-Project, which identify the operator's account.
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
    # Name of the header or parameter in which the value is sent.
    name: str = ""


class Redactor:
    """Replaces a fixed set of secrets in texts."""

    def __init__(self, secrets: Iterable[Secret] = (), addresses: Iterable[str] = ()) -> None:
        """Create a redactor.

        addresses: hosts and URLs that are replaced too, as complete tokens of any length and case.
        """
        # A dict removes duplicates and keeps the order.
        unique_secrets: dict[Secret, None] = {}
        for secret in secrets:
            value = secret.value.strip()
            if value:
                unique_secrets[Secret(value, secret.name)] = None
        self._secrets = tuple(unique_secrets)
        self._addresses = tuple(address for address in addresses if address)
        # No encoding changes ASCII letters and digits. So a text that does not contain the longest
        # run of letters and digits of a secret does not contain the secret. This check is fast, and
        # nearly all texts need no regular expressions.
        self._runs = {_find_longest_run(secret.value) for secret in self._secrets}
        if self._addresses:
            self._runs = {""}

    # Cached on first use: most redactors never need the patterns.
    @cached_property
    def _patterns(self) -> tuple[re.Pattern[str] | None, re.Pattern[str] | None]:
        """The pattern of long secrets and addresses, and the pattern of short secrets."""
        long_values, short_secrets = set(), []
        for secret in self._secrets:
            if len(secret.value) >= _MIN_TOKEN_LENGTH:
                long_values.add(secret.value)
            else:
                short_secrets.append(secret)
        return (
            _build_length_pattern(long_values, self._addresses),
            _build_name_pattern(short_secrets),
        )

    @cached_property
    def _max_encoded_length(self) -> int:
        values = [secret.value for secret in self._secrets]
        return max(map(_max_length, (*values, *self._addresses)), default=0)

    def redact(self, text: str) -> str:
        """Return the text with each secret replaced by `***`, in linear time."""
        if not any(run in text for run in self._runs):
            return text
        length_pattern, name_pattern = self._patterns
        if length_pattern:
            text = length_pattern.sub(MASK, text)
        # Short secrets last: they may be the beginning of longer ones.
        if name_pattern:
            text = name_pattern.sub(rf"\g<kept>{MASK}", text)
        return text

    def redact_beginning(self, text: str) -> str:
        """Return the redacted beginning of a text of any length.

        It does not contain a part of a secret at its end.
        """
        redacted = self.redact(text[:MAX_SEARCHED])
        if len(text) <= MAX_SEARCHED:
            return redacted
        # The last characters may be the first part of a secret.
        return redacted[: max(len(redacted) - self._max_encoded_length, 0)]


NO_SECRETS = Redactor()


def find_header_secrets(name: str, value: str) -> Iterator[Secret]:
    """Yield the secrets in a header that the proxy adds to requests.

    They are the complete value, and the credentials within it.
    """
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
    """Yield the value of a query parameter if it is secret."""
    if name.lower() not in _HARMLESS_PARAMETERS:
        yield Secret(value, name)


def find_url_secrets(url: str) -> Iterator[Secret]:
    """Yield the secrets in a URL, which may be malformed: its login, and values of its query."""
    # The URL of an HTTP proxy may have no scheme.
    login, _, _ = (url.partition("//")[2] or url).rpartition("@")
    user, colon, password = login.partition(":")
    if colon:
        yield from _find_login_secrets(user, password)
        # Parsers split a password at such a character, and their errors contain a part of it.
        for part in re.split(r"[/?#@]", password):
            if len(part) >= _MIN_TOKEN_LENGTH:
                yield Secret(part)
    elif login:
        yield Secret(login)
        yield Secret(unquote(login))
    _, *query = re.split(r"[?#]", url, maxsplit=1)
    for name, value in parse_qsl("".join(query)):
        yield from find_parameter_secrets(name, value)


def find_field_secrets(fields: object) -> Iterator[Secret]:
    """Yield the strings in a JSON value that are in fields with names of credentials."""
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
    """Return whether a text looks like a key, which may be in the wrong place by mistake."""
    return bool(_KEY_LIKE.fullmatch(text))


def quote_name(text: str) -> str:
    """Return a name in quotes for an error message; `***` if the name looks like a key."""
    return MASK if is_key_like(text) else repr(text)


def quote_url(text: str) -> str:
    """Return a URL in quotes for an error message. Its login and its query are masked."""
    return repr(_LOGIN_OR_QUERY.sub(MASK, text))


_LOGIN_OR_QUERY = re.compile(r"(?<=//).*(?=@)|(?<=[?#]).+", re.DOTALL)
# The usual prefixes of keys, or a long sequence that contains letters and digits.
_KEY_LIKE = re.compile(
    r"(?:sk|pk|rk|gsk|xai|hf|ghp|nvapi)[-_].*|(?=.*\d)(?=.*[A-Za-z])[A-Za-z0-9_.~+=-]{20,}",
    re.DOTALL,
)


def mask_api_keys(text: str, is_key: Callable[[str], bool]) -> str:
    """Return the text with the API keys of callers replaced by `***`.

    The proxy knows only the hashes of these keys. So it calls `is_key` for every token that is long
    enough. It uses several definitions of a token.
    """

    def mask_key(token: re.Match[str]) -> str:
        return MASK if is_key(token[0]) else token[0]

    for pattern in _TOKENS:
        text = pattern.sub(mask_key, text)
    return text


_MAX_KEY_LENGTH = 256


def _build_any_token_pattern(characters: str, suffix: str = "") -> re.Pattern[str]:
    length = f"{_MIN_TOKEN_LENGTH},{_MAX_KEY_LENGTH}"
    return re.compile(
        rf"(?<!{characters}){characters}{{{length}}}{suffix}(?!{characters})", re.ASCII
    )


# A key may contain `=` only at its end, as base64 padding.
_TOKENS = (
    _build_any_token_pattern(r"[^\s\"'`<>]"),
    _build_any_token_pattern(r"[\w.~+/-]", "={0,2}"),
    _build_any_token_pattern(r"[\w.~+-]", "={0,2}"),
    _build_any_token_pattern(r"[\w-]"),
)


def mask_path(path: str, is_key: Callable[[str], bool]) -> str:
    """Return the path of a client's request in a form that may be logged.

    A segment is shown if it is short, consists of letters, digits and `._~-`, and does not contain
    a key. Other segments are masked, and so are the segments after the eighth.
    """
    first, *segments = path.split("/", _MAX_SEGMENTS + 1)
    shown_segments = []
    for segment in (first, *segments[:_MAX_SEGMENTS]):
        shown_segments.append(segment if _is_loggable(segment, is_key) else MASK)
    if len(segments) > _MAX_SEGMENTS:
        shown_segments.append(MASK)
    return "/".join(shown_segments)


_MAX_SEGMENTS = 8
_SEGMENT = re.compile(r"[A-Za-z0-9._~-]{0,16}")


def _is_loggable(segment: str, is_key: Callable[[str], bool]) -> bool:
    if not _SEGMENT.fullmatch(segment) or is_key_like(segment):
        return False
    # A key may begin and end at any separator.
    bounds = [0]
    for separator in re.finditer(r"[._~-]", segment):
        bounds += separator.span()
    bounds.append(len(segment))
    return not any(is_key(segment[start:end]) for start, end in combinations(bounds, 2))


def _find_login_secrets(user: str, password: str) -> Iterator[Secret]:
    """Yield a password and the login in HTTP's Basic scheme, both also percent-decoded."""
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
# A token begins after a character that is not a letter or digit, or after an escape: `%22`,
# `%2522`, `\n`, `\u0022`, `\x22`.
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
    """Return the pattern of long secrets and of addresses; None if there are none."""
    patterns_by_value = {value: _build_secret_pattern(value) for value in secrets}
    for address in addresses:
        token_pattern = _build_token_pattern(address, re.escape(address))
        patterns_by_value[address] = f"(?i:{token_pattern})"
    if not patterns_by_value:
        return None
    # Longer values are first, because a value may be the beginning of another value.
    longest_first = sorted(patterns_by_value, key=len, reverse=True)
    return re.compile("|".join(patterns_by_value[value] for value in longest_first))


def _build_name_pattern(secrets: list[Secret]) -> re.Pattern[str] | None:
    """Return the pattern of secrets after the name of a credential; None if there are none."""
    if not secrets:
        return None
    secret_names = set()
    for secret in secrets:
        if len(secret.name) > 1:
            secret_names.add(re.escape(secret.name).replace(r"\-", "[-_]"))
    names = "|".join((*_NAMES, *sorted(secret_names, key=len, reverse=True)))
    scheme = rf"(?:bearer|basic)(?:\s|%20|\+){{1,4}}{_QUOTES}"
    name_prefix = (
        rf"(?:{names})(?:\s(?:provided|given|used|is|was))?{_QUOTES}"
        rf"\s{{0,4}}{_EQUALS}\s{{0,4}}{_QUOTES}(?:{scheme})?"
        rf"|(?:{names})\s{{1,4}}[\"'`]"
    )
    patterns = []
    for value in sorted({secret.value for secret in secrets}, key=len, reverse=True):
        patterns.append(_build_token_pattern(value, _build_encoded_pattern(value)))
    return re.compile(f"(?P<kept>(?i:{name_prefix}|{scheme}))(?:{'|'.join(patterns)})")


def _build_secret_pattern(value: str) -> str:
    pattern = _build_encoded_pattern(value)
    if len(value) >= _MIN_EMBEDDED_LENGTH:
        return pattern
    return _build_token_pattern(value, pattern)


def _build_token_pattern(value: str, pattern: str) -> str:
    """Return the pattern of a complete token."""
    # Punctuation at the start or end of a value already separates it from other text.
    prefix = _TOKEN_START if re.match(_ALPHANUMERIC, value[0]) else ""
    suffix = _TOKEN_END if re.match(_ALPHANUMERIC, value[-1]) else ""
    return f"{prefix}{pattern}{suffix}"


def _build_encoded_pattern(value: str) -> str:
    """Return the pattern of a value. Each of its characters may have a different encoding."""
    units = re.findall(r"\\+|(?s:.)", value)
    return "".join(map(_build_character_pattern, units))


def _build_character_pattern(run: str) -> str:
    """Return the pattern of one character, or of a run of backslashes.

    Each escaping doubles the number of backslashes.
    """
    if re.fullmatch(_UNCHANGED, run):
        return re.escape(run)
    if run.startswith("\\"):
        return rf"(?:\\{{{len(run)},{8 * len(run)}}}|(?i:%5c|%255c){{{len(run)}}})"
    percent = quote(run, safe="", errors="surrogatepass")
    code = ord(run)
    forms = [rf"\\{{0,7}}{re.escape(run)}", percent, percent.replace("%", "%25")]
    forms.append(_build_utf16_escape_pattern(run))
    forms += [f"&#{code};", f"&#x{code:x};", rf"\\{{1,4}}U{code:08x}"]
    if code <= _LATIN_1:
        forms.append(rf"\\{{1,4}}x{code:02x}")
    entity = html.escape(run)
    if entity != run:
        forms.append(re.escape(entity))
    if run in _JSON_ESCAPES:
        forms.append(rf"\\{{1,4}}{_JSON_ESCAPES[run]}")
    if run == " ":
        forms.append(r"\+")
    return f"(?i:{'|'.join(forms)})"


def _build_utf16_escape_pattern(character: str) -> str:
    """Return the pattern of the Unicode escapes of JSON, one for each UTF-16 unit."""
    units = character.encode("utf-16-be", "surrogatepass").hex()
    pattern = ""
    for start in range(0, len(units), 4):
        pattern += rf"\\{{1,4}}u{units[start : start + 4]}"
    return pattern


_LATIN_1 = 0xFF
_JSON_ESCAPES = {"\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t"}


def _max_length(value: str) -> int:
    """Return the maximum length of a value in any encoding, in characters."""
    unchanged = len(re.findall(_UNCHANGED, value))
    return unchanged + (len(value) - unchanged) * _MAX_ENCODED_CHARACTER


def _find_longest_run(value: str) -> str:
    return max(re.findall(f"{_ALPHANUMERIC}+", value), key=len, default="")
