"""Client keys file: format, validation and concurrent changes."""

import stat
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from anthropic_proxy.auth.api_keys import ApiKey, KeyLimits, hash_key
from anthropic_proxy.config.key_settings import KeySettings
from anthropic_proxy.config.keys_file import (
    change_keys_file,
    format_keys_file,
    load_api_keys,
    parse_keys_file,
)
from anthropic_proxy.config.settings import load_settings
from anthropic_proxy.config.upstreams import read_text
from anthropic_proxy.errors import ConfigError

_HASH = hash_key("k")
_KEYS = (
    ApiKey("alice", _HASH),
    ApiKey("ci", hash_key("c"), ("claude-*", "gpt-5"), datetime(2027, 1, 1, tzinfo=UTC)),
)
_YAML = f"""
keys:
  - name: alice  # of the team
    sha256: {_HASH}
  - {{name: ci, sha256: {hash_key("c")}, models: [claude-*, gpt-5],
     expires: "2027-01-01T01:00:00+01:00"}}
"""


def _settings(**values: Any) -> KeySettings:
    return KeySettings(**{"_env_file": None, **values})


def test_a_written_file_can_be_parsed() -> None:
    text = format_keys_file(_KEYS).decode()
    assert (
        parse_keys_file(text, "keys.json")
        == parse_keys_file(text, "keys.yaml")
        == parse_keys_file(_YAML, "keys.yml")
        == _KEYS
    )
    assert parse_keys_file(format_keys_file(()).decode(), "keys.json") == ()


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("{", "keys.json", ""),
        ("[]", "keys.json", "the file"),
        ("{}", "keys.json", "keys: Field required"),
        ("a: b: c", "keys.yaml", "keys.yaml:1:5"),
        ("{}", "keys.toml", "must end in .json, .yaml or .yml"),
        (f'{{"keys": [{{"name": "a b", "sha256": "{_HASH}"}}]}}', "keys.json", "keys.0.name"),
        ('{"keys": [{"name": "a", "sha256": "canary"}]}', "keys.json", "keys.0.sha256"),
        *(
            (
                f'{{"keys": [{{"name": "a", "sha256": "{hash_key(secret)}"}}]}}',
                "keys.json",
                "keys.0.sha256: Value error, this is the hash of an empty key",
            )
            for secret in ("", "\n", "\r\n")
        ),
        (
            f'{{"keys": [{{"name": "a", "sha256": "{_HASH}", "model": []}}]}}',
            "keys.json",
            "keys.0.model: Extra inputs",
        ),
        (
            f'{{"keys": [{{"name": "a", "sha256": "{_HASH}", "models": []}}]}}',
            "keys.json",
            "keys.0.models",
        ),
        (
            f'{{"keys": [{{"name": "a", "sha256": "{_HASH}", "expires": "2027-01-01T00:00:00"}}]}}',
            "keys.json",
            "keys.0.expires",
        ),
        *(
            (
                f'{{"keys": [{{"name": "a", "sha256": "{_HASH}", "expires": "{time}"}}]}}',
                "keys.json",
                "keys.0.expires: Value error, the time is out of range in UTC",
            )
            for time in ("0001-01-01T00:00:00+02:00", "9999-12-31T23:00:00-02:00")
        ),
        (
            (
                f'{{"keys": [{{"name": "a", "sha256": "{_HASH}"}}, '
                f'{{"name": "b", "sha256": "{_HASH}"}}]}}'
            ),
            "keys.json",
            "'b' and 'a' have the same key",
        ),
    ],
)
def test_invalid_files_are_rejected(text: str, name: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_keys_file(text, name)
    assert str(error.value).startswith(f"PROXY_API_KEYS_FILE: {name}")
    assert message in str(error.value)
    assert "canary" not in str(error.value)


def test_keys_from_the_variable_and_the_file_are_combined(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(format_keys_file(_KEYS))
    assert load_api_keys(_settings(), read_text) is None
    keys = load_api_keys(_settings(PROXY_API_KEYS="bob=b", PROXY_API_KEYS_FILE=path), read_text)
    assert keys is not None
    now = datetime(2026, 1, 1, tzinfo=UTC)
    names = [keys.authenticate(secret, now).name for secret in "bkc"]
    assert names == ["bob", "alice", "ci"]
    with pytest.raises(ConfigError, match="the name 'alice' is given twice"):
        load_api_keys(_settings(PROXY_API_KEYS="alice=b", PROXY_API_KEYS_FILE=path), read_text)


def test_a_missing_or_unreadable_file_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"does not exist; `anthropic-proxy keys create NAME` creates it"
    ):
        load_api_keys(_settings(PROXY_API_KEYS_FILE=tmp_path / "keys.json"), read_text)
    with pytest.raises(ConfigError, match="can't be read"):
        load_api_keys(_settings(PROXY_API_KEYS_FILE=tmp_path), read_text)


def test_concurrent_changes_are_all_saved(tmp_path: Path) -> None:
    path = tmp_path / "below" / "keys.json"

    def add(number: int) -> None:
        change_keys_file(path, lambda keys: (*keys, ApiKey(f"k{number}", hash_key(str(number)))))

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {key.name for key in parse_keys_file(path.read_text(), path.name)} == {
        f"k{number}" for number in range(8)
    }
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert {each.name for each in path.parent.iterdir()} == {"keys.json", ".keys.json.lock"}


def test_a_failed_change_leaves_the_file_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(format_keys_file(_KEYS))
    with pytest.raises(ValueError, match="given twice"):
        change_keys_file(path, lambda keys: (*keys, ApiKey("alice", hash_key("x"))))
    assert path.read_bytes() == format_keys_file(_KEYS)
    with pytest.raises(ConfigError, match=r"change only \.json files"):
        change_keys_file(tmp_path / "keys.yaml", lambda keys: keys)


def test_limits_in_the_file_override_limits_in_variables(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(
        format_keys_file([ApiKey("a", "0" * 64, limits=KeyLimits(requests_per_minute=5))])
    )
    settings = {
        "PROXY_API_KEYS": "b=b",
        "PROXY_API_KEYS_FILE": path,
        "RATE_LIMIT_STORAGE_URL": "sqlite:///a.db",
    }
    keys = load_api_keys(
        _settings(**settings, KEY_REQUESTS_PER_MINUTE=9, KEY_TOKENS_PER_MONTH=100), read_text
    )
    assert keys is not None
    limits = {name: key.limits for name in "ab" if (key := keys.find(name))}
    assert limits == {"a": KeyLimits(5, None, 100), "b": KeyLimits(9, None, 100)}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"PROXY_API_KEYS": "b=b", "KEY_TOKENS_PER_MONTH": 100},
            r"requires RATE_LIMIT_STORAGE_URL, .* \(first key with this limit: b\)",
        ),
        ({"KEY_TOKENS_PER_MINUTE": 100}, "set PROXY_API_KEYS"),
    ],
)
def test_limits_without_their_required_setting_are_rejected(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_api_keys(_settings(**settings), read_text)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("RATE_LIMIT_STORAGE_URL", "mongodb://x", "memory://, sqlite:////path/limits.db"),
        ("CORS_ALLOWED_ORIGINS", "https://a.example/path", "is not an origin"),
        ("KEY_TOKENS_PER_MINUTE", "0", "expected 1 or more"),
    ],
)
def test_invalid_limit_and_origin_settings_are_rejected(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str
) -> None:
    monkeypatch.setenv("UPSTREAM_BASE_URL", "http://localhost:1")
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=message):
        load_settings(None)
