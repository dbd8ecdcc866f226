"""Redaction of secrets in all encodings that servers return, and of nothing else."""

import base64
import html
import re
from collections.abc import Callable, Iterable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from anthropic_proxy.errors.redaction import (
    MAX_SEARCHED,
    Redactor,
    Secret,
    find_field_secrets,
    find_header_secrets,
    find_parameter_secrets,
    find_url_secrets,
    is_key_like,
    mask_api_keys,
    mask_path,
)
from anthropic_proxy.wire.json_codec import dumps
from tests.support.scaling import assert_linear_cpu

LONG = "sk-or-v1-0123456789abcdef"
MEDIUM = "hunter2hunter"
ODD = 'a/b+c "d"\\e\'f%g&h<i>#j?k@l:m=n'


def redact(text: str, *secrets: str, names: dict[str, str] | None = None) -> str:
    return Redactor([Secret(secret, (names or {}).get(secret, "")) for secret in secrets]).redact(
        text
    )


@pytest.mark.parametrize(
    "secret",
    [
        LONG,
        MEDIUM,
        ODD,
        "-medium-",
        '"quoted"',
        "p\u00e4ssw\u00f6rd-\U0001f511",
        "with\ttab\nand\rline\fends\b.",
    ],
)
@pytest.mark.parametrize(
    "encode",
    [
        pytest.param(str, id="plain"),
        pytest.param(quote, id="percent"),
        pytest.param(lambda text: quote(text, safe=""), id="percent-all"),
        pytest.param(quote_plus, id="form"),
        pytest.param(
            lambda text: quote(text, safe="").replace("%2F", "%2f").replace("%3A", "%3a"),
            id="small-hex",
        ),
        pytest.param(lambda text: quote(quote(text)), id="percent-twice"),
        pytest.param(lambda text: quote(text, safe="!'()*"), id="javascript"),
        pytest.param(lambda text: dumps(text).decode()[1:-1], id="json"),
        pytest.param(
            lambda text: dumps(dumps(text).decode()[1:-1]).decode()[1:-1], id="json-twice"
        ),
        pytest.param(lambda text: text.encode("ascii", "backslashreplace").decode(), id="python"),
        pytest.param(lambda text: repr(text)[1:-1], id="repr"),
        pytest.param(lambda text: dumps(text).decode()[1:-1].replace("/", r"\/"), id="php"),
        pytest.param(html.escape, id="html"),
    ],
)
def test_encoded_secrets_are_redacted(secret: str, encode: Callable[[str], str]) -> None:
    for delimiter in (
        "",
        " ",
        '"',
        "'",
        "=",
        ":",
        "/",
        "&",
        ",",
        ".",
        "(",
        "\n",
        r"\n",
        "%22",
        "%2522",
        "\u4f60",
    ):
        assert (
            redact(f"a {delimiter}{encode(secret)}{delimiter} z", secret)
            == f"a {delimiter}***{delimiter} z"
        )


@pytest.mark.parametrize(
    ("secret", "text", "expected"),
    [
        (LONG, f"key{LONG}x", "key***x"),
        (MEDIUM, f"x{MEDIUM}", f"x{MEDIUM}"),
        (MEDIUM, f"{MEDIUM}2", f"{MEDIUM}2"),
        (MEDIUM, f"{MEDIUM}.{MEDIUM}_{MEDIUM}", "***.***_***"),
        ("k", "max_tokens: k tokens like k", "max_tokens: k tokens like k"),
        ("test", "the latest test", "the latest test"),
        ("none", "tool_choice none is not supported", "tool_choice none is not supported"),
        ("ollama", "the ollama server at ollama:11434", "the ollama server at ollama:11434"),
        ("k", "key=k&api_key=k", "key=***&api_key=***"),
        ("k", "Incorrect API key provided: k.", "Incorrect API key provided: ***."),
        ("k", '{"api_key": "k", "kind": "k"}', '{"api_key": "***", "kind": "k"}'),
        ("k", r"{\"apiKey\":\"k\"}", r"{\"apiKey\":\"***\"}"),
        ("k", "Authorization: Bearer k", "Authorization: Bearer ***"),
        ("k", "authorization=[Basic k]", "authorization=[Basic ***]"),
        ("k", "the key 'k' is wrong", "the key '***' is wrong"),
        ("k", "token=kk key=key", "token=kk key=key"),
        ("k", "token%3Dk", "token%3D***"),
        ("k", "x_key: k-and-more", "x_key: ***-and-more"),
    ],
)
def test_redaction_depends_on_length_and_context(secret: str, text: str, expected: str) -> None:
    assert redact(text, secret) == expected


def test_a_short_secret_is_redacted_after_its_name() -> None:
    names = {"abc": "x-sig-code"}
    assert (
        redact("X-Sig-Code: abc, x_sig_code=abc, abc", "abc", names=names)
        == "X-Sig-Code: ***, x_sig_code=***, abc"
    )


def test_a_short_secret_that_is_a_prefix_of_another_is_redacted() -> None:
    assert redact(f"key=k-{LONG}", "k", f"k-{LONG}") == "key=***"


def test_addresses_are_redacted() -> None:
    redactor = Redactor([], ["10.0.0.7:80/v1", "10.0.0.7:80", "10.0.0.7", "Up.io"])
    text = "http://10.0.0.7:80/v1/x 10.0.0.7:8080 10.0.0.70 up.io a.UP.IO startup.io"
    assert redactor.redact(text) == "http://***/x ***:8080 10.0.0.70 *** a.*** startup.io"


@pytest.mark.parametrize(
    ("secrets", "expected"),
    [
        (find_header_secrets("X-Anything", "value"), {"value"}),
        (find_header_secrets("HTTP-Referer", "https://a"), set()),
        (find_header_secrets("Authorization", "Bearer abc"), {"Bearer abc", "abc"}),
        (
            find_header_secrets("Cookie", 'a=b; session="0123456789"'),
            {'a=b; session="0123456789"', "0123456789"},
        ),
        (find_parameter_secrets("sig", "x"), {"x"}),
        (find_parameter_secrets("api-version", "2024"), set()),
        (find_field_secrets({"a": [{"api_key": "x"}], "b": "y", "token": {"c": "z"}}), {"x"}),
        (find_url_secrets("redis://host/0"), set()),
        (find_url_secrets("http://token@host?a=b&api-version=c"), {"token", "b"}),
        (find_url_secrets("http://host/?code=a%2Fb"), {"a/b"}),
    ],
)
def test_secrets_are_found(secrets: Iterable[Secret], expected: set[str]) -> None:
    assert {secret.value for secret in secrets} == expected


@pytest.mark.parametrize("password", ["plain", "p/q#r?s@t:u", "a%2Fb", "with space", "[x]"])
def test_the_login_in_a_url_is_secret(password: str) -> None:
    found = {secret.value for secret in find_url_secrets(f"redis://me:{password}@host:1/0")}
    assert {
        password,
        f"me:{password}",
        base64.b64encode(f"me:{password}".encode()).decode().rstrip("="),
    } <= found


def test_the_login_in_basic_authentication_is_secret() -> None:
    encoded = base64.b64encode(b"me:open sesame").decode()
    found = {secret.value for secret in find_header_secrets("authorization", f"Basic {encoded}")}
    assert {encoded, "me:open sesame", "open sesame"} <= found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sk-abc", True),
        ("a1" * 10, True),
        ("claude-opus", False),
        ("a" * 30, False),
        ("", False),
        ("http://a.example/v1/completions", False),
    ],
)
def test_key_like_texts_are_recognized(text: str, expected: bool) -> None:
    assert is_key_like(text) == expected


@pytest.mark.parametrize("key", ["canary-key", "canary.key", "canary/key", "canary+key=="])
@pytest.mark.parametrize(
    "template", ["{}", "model {}", "model: '{}'", "a={}&b", "({})", '{{"key": "{}"}}']
)
def test_keys_known_by_their_hash_are_masked(key: str, template: str) -> None:
    assert mask_api_keys(template.format(key), key.__eq__) == template.format("***")


@pytest.mark.parametrize(("length", "is_looked_up"), [(256, True), (257, False)])
def test_tokens_of_at_most_256_characters_are_looked_up(length: int, *, is_looked_up: bool) -> None:
    key = "k" * length
    assert mask_api_keys(key, key.__eq__) == ("***" if is_looked_up else key)


@pytest.mark.parametrize("template", ["{}", "model {} is", "model: '{}'"])
def test_keys_with_unusual_characters_are_masked(template: str) -> None:
    key = "can:ary,(key)%"
    assert mask_api_keys(template.format(key), key.__eq__) == template.format("***")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", "/"),
        ("", ""),
        ("/v1/messages/count_tokens", "/v1/messages/count_tokens"),
        ("/favicon.ico", "/favicon.ico"),
        ("/nope/k1", "/nope/***"),
        ("/nope/k1.json", "/nope/***"),
        ("/nope/x-k1", "/nope/***"),
        ("/nope/k12", "/nope/k12"),
        ("/nope/sk-abc", "/nope/***"),
        ("/nope/key=abc", "/nope/***"),
        ("/nope/12345678901234567", "/nope/***"),
        ("/a\nb/\u00e4/\x1b[31m", "/***/***/***"),
        ("//a//b", "//a//b"),
        ("/a" * 8, "/a" * 8),
        ("/a" * 9, "/a" * 8 + "/***"),
        ("http://k1@host/v1", "***//***/v1"),
    ],
)
def test_paths_are_masked(path: str, expected: str) -> None:
    assert mask_path(path, "k1".__eq__) == expected


_PRINTABLE = "".join(map(chr, range(32, 127)))
# A mask next to the rest of a text may look like a secret that consists of asterisks.
_SECRETS = (
    st.text(_PRINTABLE.replace("*", ""), min_size=8, max_size=60)
    .map(str.strip)
    .filter(lambda text: len(text) >= 8)
)


@given(st.text(_PRINTABLE), _SECRETS, st.text(_PRINTABLE))
@example("", "%25%25%25%25", "%2525")
@example("\\", "\\\\\\\\\\\\\\\\", '"')
@settings(deadline=None)
def test_no_complete_secret_remains(prefix: str, secret: str, suffix: str) -> None:
    text = f"{prefix} {secret} {suffix}"
    redacted = redact(text, secret)
    left_boundary = "(?<![A-Za-z0-9])" if secret[0].isalnum() else ""
    right_boundary = "(?![A-Za-z0-9])" if secret[-1].isalnum() else ""
    assert not re.search(left_boundary + re.escape(secret) + right_boundary, redacted)
    assert "***" in redacted


@given(st.text(), st.from_regex(r"[a-z0-9]{8,30}", fullmatch=True))
@settings(deadline=None)
def test_a_text_without_the_secret_is_unchanged(text: str, secret: str) -> None:
    if secret not in text:
        assert redact(text, secret) == text


@given(st.text(), st.from_regex(r"[a-z0-9]{1,7}", fullmatch=True))
@settings(deadline=None)
def test_words_that_contain_a_short_secret_are_unchanged(text: str, secret: str) -> None:
    """A short secret without the name of a credential is treated as a normal word."""
    if not re.search(
        r"key|token|secret|pass|pwd|auth|cookie|sig|bearer|basic|credential", text, re.IGNORECASE
    ):
        assert redact(f"{text} {secret}", secret) == f"{text} {secret}"


@pytest.mark.parametrize(
    ("secret", "part"),
    [
        (LONG, LONG),
        (LONG, LONG[:-1]),
        ("aaaaaaaaaaaaaaaaaaaa", "a"),
        ("\\" * 20, "\\"),
        ('"' * 20, '\\"'),
        ("%" * 20, "%25"),
        ("%25" * 8, "%25"),
        ("k", "key="),
        ("k", "key '"),
        ("k", "bearer "),
        ("k", "key    "),
        ("k", "'\"\\"),
    ],
)
def test_the_redaction_cost_is_linear(secret: str, part: str) -> None:
    redactor = Redactor([Secret(secret), Secret("another-secret-of-ours", "x-name")], ["a.example"])

    def prepare(size: int) -> Callable[[], object]:
        text = part * (size // len(part)) + "k"
        return lambda: redactor.redact(text)

    assert_linear_cpu(prepare, 20_000)


@pytest.mark.parametrize("part", ["a", "a.", "-", "/", "a b", "sk-"])
def test_the_cost_of_masking_tokens_and_paths_is_linear(part: str) -> None:
    def prepare(size: int) -> Callable[[], object]:
        text = part * (size // len(part))
        return lambda: (
            mask_api_keys(text, lambda _: False),
            mask_path(text, lambda _: False),
        )

    assert_linear_cpu(prepare, 20_000)


def test_the_shortened_text_never_ends_within_a_secret() -> None:
    for length in range(MAX_SEARCHED - len(LONG) - 1, MAX_SEARCHED + 2):
        assert "sk-" not in Redactor([Secret(LONG)]).redact_beginning(
            "x" * length + LONG + "y" * 1000
        )


@pytest.mark.parametrize(
    "name",
    [
        "accept",
        "Accept-Language",
        "anthropic-beta",
        "anthropic-version",
        "api-version",
        "content-type",
        "http-referer",
        "openai-beta",
        "referer",
        "user-agent",
        "X-Title",
    ],
)
def test_common_headers_are_not_secret(name: str) -> None:
    assert [*find_header_secrets(name, "value")] == []
    assert [*find_header_secrets(f"{name}-token", "value")] != []
