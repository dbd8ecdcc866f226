"""Client API keys: parsing, authentication and allowed models."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from anthropic_proxy.auth.api_keys import (
    UNRESTRICTED_KEY,
    ApiKey,
    ApiKeyRegistry,
    RequestDeniedError,
    hash_key,
)
from anthropic_proxy.config.api_keys import parse_api_keys, short_keys

# Output of `openssl rand -base64 32`.
_BASE64 = "q7Tb0hYyH5mZC2l0uV9bXnQp4wR1sEoKaJ3dGf6i8Mk="
_NOW = datetime(2026, 11, 23, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("alice=k1;bob = k2", {"alice": "k1", "bob": "k2"}),
        ("k1\nk2;", {"key-1": "k1", "key-2": "k2"}),
        ("k1;bob=k2", {"key-1": "k1", "bob": "k2"}),
        ("ab12CD34ef56GH78ij90Kg==", {"key-1": "ab12CD34ef56GH78ij90Kg=="}),
        (f"{_BASE64};bob=k2", {"key-1": _BASE64, "bob": "k2"}),
        ("alice=c2VjcmV0==", {"alice": "c2VjcmV0=="}),
        ('{"alice": "k=1"}', {"alice": "k=1"}),
        ('"k1"', {"key-1": "k1"}),
        ('"alice=k1;bob=k2"', {"alice": "k1", "bob": "k2"}),
        ("alice='k1';bob=\"k2\"", {"alice": "k1", "bob": "k2"}),
        ("alice=Bearer k1;Bearer k2", {"alice": "k1", "key-2": "k2"}),
    ],
)
def test_key_lists_are_parsed(text: str, expected: dict[str, str]) -> None:
    assert parse_api_keys(text) == tuple(
        ApiKey(name, hash_key(key)) for name, key in expected.items()
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ; ",
        "{}",
        "a=canary;a=other",
        "a=canary;b=canary",
        "=canary",
        "canary key=x",
        "a=canäry",
        '{"a": 1}',
        "{canary",
    ],
)
def test_invalid_key_lists_are_rejected_without_showing_keys(text: str) -> None:
    with pytest.raises(ValueError, match=r".") as error:
        parse_api_keys(text)
    assert "can" not in str(error.value).replace("can be", "")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("alice=", "alice has an empty key"),
        ("alice= ", "alice has an empty key"),
        ("alice==", "alice has an empty key"),
        ("alice= ;bob=x", "alice has an empty key"),
        ("bob=x\nalice=\n", "alice has an empty key"),
        ("developmentteam=", "developmentteam has an empty key"),
        ("The-Production-Deployment-Team=", "The-Production-Deployment-Team has an empty key"),
        ('{"alice": ""}', "alice has an empty key"),
        ('{"alice": " "}', "alice has an empty key"),
        ("sk-canary=", "*** has an empty key"),
        ("c2VjcmV0==", "*** has an empty key"),
        ("a canary=", "*** has an empty key"),
        ("=", "*** has an empty key"),
    ],
)
def test_empty_keys_are_rejected(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(reason)}"):
        parse_api_keys(text)


@pytest.mark.parametrize(
    "text",
    [
        "alice=$CANARY",
        "$CANARY",
        "bob=x;alice= $canary1 ",
        "alice=${CANARY}",
        "alice=$(cat canary)",
        '{"alice": "$CANARY"}',
    ],
)
def test_unexpanded_variables_are_rejected(text: str) -> None:
    with pytest.raises(ValueError, match=r"^a key is the name of a variable:") as error:
        parse_api_keys(text)
    assert "canary" not in str(error.value).lower()


@pytest.mark.parametrize("key", ["$2b$10$abc", "$a-b!c", "a$bc", "$", "$1234567"])
def test_keys_with_a_dollar_sign_are_accepted(key: str) -> None:
    assert parse_api_keys(f"alice={key}") == (ApiKey("alice", hash_key(key)),)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("alice=1234567;bob=12345678", ["alice"]),
        ("k1;12345678", ["key-1"]),
        ('{"alice": "12345678", "bob": " 1 "}', ["bob"]),
        (_BASE64, []),
    ],
)
def test_short_keys_are_found(text: str, names: list[str]) -> None:
    assert short_keys(text) == names


@pytest.mark.parametrize(
    ("secret", "reason", "message"),
    [
        ("", "no_key", "x-api-key header is required"),
        ("other", "unknown_key", "invalid x-api-key"),
        (hash_key("good"), "unknown_key", "invalid x-api-key"),
        ("GOOD", "unknown_key", "invalid x-api-key"),
        ("caf\u00e9", "unknown_key", "invalid x-api-key"),
        ("old", "expired_key", "invalid x-api-key: it has expired"),
    ],
)
def test_invalid_and_expired_keys_are_rejected(secret: str, reason: str, message: str) -> None:
    keys = ApiKeyRegistry(
        [ApiKey("good", hash_key("good")), ApiKey("old", hash_key("old"), expires=_NOW)]
    )
    with pytest.raises(RequestDeniedError) as caught:
        keys.authenticate(secret, _NOW)
    error = caught.value
    assert (error.status, error.type, error.reason, error.message) == (
        401,
        "authentication_error",
        reason,
        message,
    )


def test_a_valid_key_is_authenticated() -> None:
    key = ApiKey("good", hash_key("good"), expires=_NOW)
    assert ApiKeyRegistry([key]).authenticate("good", _NOW - timedelta(seconds=1)) is key


@pytest.mark.parametrize(
    ("models", "model", "allowed"),
    [
        ((), "anything", True),
        (("claude-*",), "claude-opus-4-6", True),
        (("claude-*",), "gpt-5", False),
        (("claude-*",), "vendor/claude-opus", False),
        (("gpt-5", "claude-*"), "gpt-5", True),
        (("gpt-5",), "gpt-5-mini", False),
        (("gpt-5",), "GPT-5", False),
        (("claude-opus-4-6[1m]",), "claude-opus-4-6[1m]", True),
    ],
)
def test_models_are_restricted_by_the_key(
    models: tuple[str, ...], model: str, *, allowed: bool
) -> None:
    key = ApiKey("a", "", models)
    assert key.allows_model([model]) is allowed
    if allowed:
        key.check_model("requested", ["other", model])
        return
    with pytest.raises(RequestDeniedError, match="does not allow the model 'requested'") as error:
        key.check_model("requested", [model])
    assert (error.value.status, error.value.type, error.value.reason) == (
        403,
        "permission_error",
        "model",
    )


def test_an_unrestricted_key_allows_every_model() -> None:
    UNRESTRICTED_KEY.check_model("any", [])
