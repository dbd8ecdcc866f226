"""Variables: names, defaults, order of sources, and error messages without secrets."""

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from anthropic_proxy.config.download_policy import DownloadPolicy
from anthropic_proxy.config.settings import Settings, load_settings
from anthropic_proxy.config.upstream_config import UpstreamConfig
from anthropic_proxy.errors import ConfigError
from anthropic_proxy.providers.base_url import resolve_api_address
from anthropic_proxy.providers.profiles import PROFILE_NAMES
from anthropic_proxy.routing.upstream import ConcurrencyLimits, Timeouts

_URL = "https://upstream.example"
_PART = "must be a base URL or a complete URL that ends in /chat/completions, not a part of it"
_CREDENTIALS = "must not contain a user or password: set the key in UPSTREAM_API_KEY"
_FRAGMENT = "must not contain a fragment (#)"


@pytest.fixture
def env_file(tmp_path: Path) -> Path:
    return tmp_path / "settings.env"


def _set(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


_URLS = "an http:// or https:// URL, several with ; between them"


def _error_message(monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    _set(monkeypatch, {"UPSTREAM_BASE_URL": _URL} | variables)
    with pytest.raises(ConfigError) as error:
        load_settings(None)
    return str(error.value)


def _key(settings: Settings) -> str | None:
    return settings.upstream_api_key.get_secret_value() if settings.upstream_api_key else None


def test_only_the_upstream_url_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    """All other settings have the defaults that docs/settings.md shows."""
    monkeypatch.setenv("UPSTREAM_BASE_URL", _URL)
    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    assert load_settings(None).model_dump() == defaults | {"upstream_base_url": _URL}


@pytest.mark.parametrize(
    ("variable", "text", "field", "value"),
    [
        ("UPSTREAM_BASE_URL", "http://a.example", "upstream_base_url", "http://a.example"),
        ("ANTHROPIC_PROXY_BASE_URL", "http://a.example", "upstream_base_url", "http://a.example"),
        ("HOST", "127.0.0.1", "host", "127.0.0.1"),
        ("ANTHROPIC_PROXY_BIND", "::1", "host", "::1"),
        ("PORT", "0", "port", 0),
        ("PORT", "65535", "port", 65535),
        ("WORKERS", "4", "workers", 4),
        ("DRAIN_TIMEOUT", "0", "drain_timeout", 0),
        ("READY_REQUIRES", "config; upstream", "ready_requires", {"config", "upstream"}),
        ("TOOL_CALL_RECOVERY", "off", "tool_call_recovery", "off"),
        ("REASONING_MODEL", "vendor/thinker:free", "reasoning_model", "vendor/thinker:free"),
        ("COMPLETION_MODEL", "gpt-5", "completion_model", "gpt-5"),
        (
            "MODEL_ALIASES",
            "claude-a=v/m:free;claude-b = b=c ;",
            "model_aliases",
            {"claude-a": "v/m:free", "claude-b": "b=c"},
        ),
        ("MODEL_ALIASES", " ; ", "model_aliases", None),
        ("CLAUDE_MODEL_IDS", "true", "claude_model_ids", True),
        (
            "MODEL_MAP",
            "haiku=small;claude-*=big",
            "model_map",
            {"haiku": "small", "claude-*": "big"},
        ),
        ("CONFIG_FILE", "upstreams.yaml", "config_file", Path("upstreams.yaml")),
        ("DOWNLOADS", "off", "download_policy", DownloadPolicy("off")),
        (
            "DOWNLOAD_ALLOWED_HOSTS",
            "a.example, .b.example",
            "download_allowed_hosts",
            ("a.example", ".b.example"),
        ),
        (
            "DOWNLOAD_ALLOWED_HOSTS",
            "10.0.0.1",
            "download_policy",
            DownloadPolicy("public", ("10.0.0.1",)),
        ),
        ("DEBUG", "1", "debug", True),
        ("DEBUG", "true", "debug", True),
        ("DEBUG", "0", "debug", False),
        ("DEBUG", "FALSE", "debug", False),
        ("SESSION_AFFINITY", "false", "session_affinity", False),
        ("VERBOSE", "1", "verbose", True),
        ("VERBOSE", "tRuE", "verbose", True),
    ],
)
@pytest.mark.parametrize("source", ["environment", "file"])
def test_variables_are_read_from_the_environment_and_the_file(
    monkeypatch: pytest.MonkeyPatch,
    env_file: Path,
    source: str,
    variable: str,
    text: str,
    field: str,
    value: Any,
) -> None:
    others = {} if field in ("upstream_base_url", "config_file") else {"UPSTREAM_BASE_URL": _URL}
    variables = {**others, variable: text}
    if source == "environment":
        _set(monkeypatch, variables)
    env_file.write_text(
        "".join(f"{name}={line}\n" for name, line in variables.items()) if source == "file" else ""
    )
    assert getattr(load_settings(env_file), field) == value


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        ("UPSTREAM_API_KEY_PASSTHROUGH", "1", {"passthrough": True}),
        ("UPSTREAM_API", "responses", {"api": "responses"}),
        ("UPSTREAM_PROVIDER", "OpenAI", {"provider": "openai"}),
        ("UPSTREAM_DIALECT", "OpenAI", {"provider": "openai"}),
        (
            "UPSTREAM_PROVIDER_SETTINGS",
            "prefill=refused;sampling_top_k=no",
            {"provider_settings": {"prefill": "refused", "sampling_top_k": False}},
        ),
        ("UPSTREAM_FACTS", "prefill=refused", {"provider_settings": {"prefill": "refused"}}),
        ("UPSTREAM_FACTS", " ; ", {}),
        (
            "UPSTREAM_HEADERS",
            "X-Team=blue;X-Cost = 1",
            {"headers": {"X-Team": "blue", "X-Cost": "1"}},
        ),
        ("UPSTREAM_HEADERS", '{"X-A": "b;c=d"}', {"headers": {"X-A": "b;c=d"}}),
        ("UPSTREAM_EXTRA_BODY", '{"a": {"b": [1]}}', {"extra_body": {"a": {"b": [1]}}}),
        ("UPSTREAM_CONNECT_TIMEOUT", "1", {"timeouts": Timeouts(connect=1)}),
        ("UPSTREAM_FIRST_BYTE_TIMEOUT", "2", {"timeouts": Timeouts(first_byte=2)}),
        ("UPSTREAM_FIRST_TOKEN_TIMEOUT", "3", {"timeouts": Timeouts(first_token=3)}),
        ("UPSTREAM_IDLE_TIMEOUT", "1.5", {"timeouts": Timeouts(idle=1.5)}),
        ("UPSTREAM_TOTAL_TIMEOUT", "9", {"timeouts": Timeouts(total=9)}),
        ("UPSTREAM_CONCURRENCY", "1", {"limits": ConcurrencyLimits(concurrency=1)}),
        ("UPSTREAM_QUEUE", "0", {"limits": ConcurrencyLimits(queue=0)}),
        ("UPSTREAM_QUEUE_TIMEOUT", "0", {"limits": ConcurrencyLimits(queue_seconds=0)}),
        ("UPSTREAM_RETRIES", "10", {"retries": 10}),
    ],
)
@pytest.mark.parametrize("source", ["environment", "file"])
def test_upstream_variables_are_read_from_the_environment_and_the_file(
    monkeypatch: pytest.MonkeyPatch,
    env_file: Path,
    source: str,
    variable: str,
    text: str,
    expected: dict[str, Any],
) -> None:
    """Fields that are not set have the defaults of the configuration file schema."""
    variables = {"UPSTREAM_BASE_URL": _URL, variable: text}
    if source == "environment":
        _set(monkeypatch, variables)
    lines = "".join(f"{name}='{value}'\n" for name, value in variables.items())
    env_file.write_text(lines if source == "file" else "")
    (upstream,) = load_settings(env_file).upstreams
    defaults = {name: field.default for name, field in UpstreamConfig.model_fields.items()}
    values = {name: getattr(upstream, name) for name in defaults}
    assert values == defaults | {"url": _URL} | expected


def test_several_upstreams_differ_only_in_their_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    urls = ["https://a.example", "https://b.example"]
    _set(monkeypatch, {"UPSTREAM_BASE_URL": ";".join(urls), "UPSTREAM_RETRIES": "3"})
    first, second = load_settings(None).upstreams
    assert [first.url, second.url] == urls
    assert second.model_copy(update={"url": first.url}) == first


@pytest.mark.parametrize(
    ("former", "name", "text"),
    [
        ("UPSTREAM_DIALECT", "UPSTREAM_PROVIDER", "vllm"),
        ("UPSTREAM_FACTS", "UPSTREAM_PROVIDER_SETTINGS", "prefill=refused"),
    ],
)
def test_former_names(
    monkeypatch: pytest.MonkeyPatch, env_file: Path, former: str, name: str, text: str
) -> None:
    monkeypatch.setenv("UPSTREAM_BASE_URL", _URL)
    monkeypatch.setenv(name, text)
    assert load_settings(None).deprecations == ()
    monkeypatch.setenv(former, text)
    assert list(map(str, load_settings(None).deprecations)) == [
        f"{former} is deprecated: use {name}"
    ]
    monkeypatch.delenv(former)
    env_file.write_text(f"{former}=canary=x")
    with pytest.raises(ConfigError) as error:
        load_settings(env_file)
    assert str(error.value) == (
        f"{former} and {name} have different values: {former} is the former name, use only {name}"
    )


@pytest.mark.parametrize(
    ("former", "text"), [("UPSTREAM_DIALECT", "nonsense"), ("UPSTREAM_FACTS", "bogus=1")]
)
def test_errors_name_the_variable_that_is_set(
    monkeypatch: pytest.MonkeyPatch, former: str, text: str
) -> None:
    monkeypatch.setenv("UPSTREAM_BASE_URL", _URL)
    monkeypatch.setenv(former, text)
    with pytest.raises(ConfigError, match=f"^invalid {former}: "):
        load_settings(None)


def test_provider_names_are_case_insensitive(monkeypatch: pytest.MonkeyPatch) -> None:
    _set(
        monkeypatch,
        {"UPSTREAM_BASE_URL": _URL, "UPSTREAM_DIALECT": "vllm", "UPSTREAM_PROVIDER": "VLLM"},
    )
    assert len(load_settings(None).deprecations) == 1


@pytest.mark.parametrize(
    ("variables", "key"),
    [
        pytest.param({"UPSTREAM_API_KEY": "sk-1"}, "sk-1", id="name"),
        pytest.param({"OPENROUTER_API_KEY": "sk-2"}, "sk-2", id="alias"),
        pytest.param({"UPSTREAM_API_KEY": "sk-1", "OPENROUTER_API_KEY": "sk-2"}, "sk-1", id="both"),
        pytest.param({"UPSTREAM_API_KEY": ""}, None, id="empty"),
        pytest.param(
            {"UPSTREAM_API_KEY": "", "OPENROUTER_API_KEY": "sk-2"}, "sk-2", id="empty-and-alias"
        ),
    ],
)
def test_the_upstream_key_is_read_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], key: str | None
) -> None:
    _set(monkeypatch, {"UPSTREAM_BASE_URL": _URL} | variables)
    settings = load_settings(None)
    assert _key(settings) == key
    assert "sk-" not in f"{settings!r} {settings} {settings.model_dump()}"


def test_an_empty_variable_counts_as_not_set(
    monkeypatch: pytest.MonkeyPatch, env_file: Path
) -> None:
    _set(
        monkeypatch,
        {"UPSTREAM_BASE_URL": _URL, "HOST": "", "PORT": "", "DEBUG": "", "COMPLETION_MODEL": ""},
    )
    env_file.write_text("PORT=8080\nREASONING_MODEL=\n")
    settings = load_settings(env_file)
    assert (settings.host, settings.port, settings.debug) == (None, 8080, False)
    assert (settings.completion_model, settings.reasoning_model) == (None, None)


@pytest.mark.parametrize(
    ("file", "environment", "flags", "host"),
    [
        pytest.param("HOST=file", {}, {}, "file", id="file-over-default"),
        pytest.param(
            "HOST=file", {"HOST": "environment"}, {}, "environment", id="environment-over-file"
        ),
        pytest.param(
            "HOST=file", {"ANTHROPIC_PROXY_BIND": "alias"}, {}, "alias", id="alias-over-file"
        ),
        pytest.param(
            "HOST=file", {"HOST": "environment"}, {"HOST": "flag"}, "flag", id="flag-over-both"
        ),
        pytest.param(
            "HOST=file",
            {"ANTHROPIC_PROXY_BIND": "alias"},
            {"HOST": "flag"},
            "flag",
            id="flag-over-alias",
        ),
        pytest.param(
            "HOST=file", {"HOST": "environment"}, {"HOST": None}, "environment", id="flag-not-given"
        ),
        pytest.param(
            "HOST=file",
            {"HOST": "name", "ANTHROPIC_PROXY_BIND": "alias"},
            {},
            "name",
            id="name-over-alias",
        ),
    ],
)
def test_flags_override_the_environment_and_the_environment_overrides_the_file(
    monkeypatch: pytest.MonkeyPatch,
    env_file: Path,
    file: str,
    environment: dict[str, str],
    flags: dict[str, Any],
    host: str,
) -> None:
    env_file.write_text(f"UPSTREAM_BASE_URL={_URL}\n{file}\n")
    _set(monkeypatch, environment)
    assert load_settings(env_file, flags).host == host


def test_comments_quotes_and_export_are_accepted_in_a_file(env_file: Path) -> None:
    lines = (
        "\ufeff# comment",
        "",
        f"export UPSTREAM_BASE_URL='{_URL}' # ours",
        'UPSTREAM_API_KEY="sk-a b#c"',
        "OF_OTHERS=x",
    )
    env_file.write_text("\n".join(lines), encoding="utf-8")
    settings = load_settings(env_file)
    assert (settings.upstream_base_url, _key(settings)) == (_URL, "sk-a b#c")


def test_a_file_that_is_not_utf_8_is_rejected(env_file: Path) -> None:
    env_file.write_bytes(b"\xff\x80")
    with pytest.raises(ConfigError, match=rf"^{re.escape(str(env_file))} can't be read: "):
        load_settings(env_file)


@pytest.mark.parametrize(
    "variables", [{}, *({"UPSTREAM_BASE_URL": each} for each in ("", " ", " ; "))]
)
def test_a_missing_url_is_rejected_with_examples(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    _set(monkeypatch, variables)
    with pytest.raises(ConfigError) as error:
        load_settings(None)
    first, *examples = str(error.value).splitlines()
    assert first.startswith("UPSTREAM_BASE_URL is required")
    urls = [example.split("UPSTREAM_BASE_URL=")[1] for example in examples]
    assert len(urls) >= 2
    assert all(resolve_api_address(url).base_url.endswith("/v1") for url in urls)


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("PORT", "http", "0 to 65535"),
        ("PORT", "65536", "0 to 65535"),
        ("PORT", "-1", "0 to 65535"),
        (
            "DOWNLOAD_ALLOWED_HOSTS",
            "a.example,https://b.example/",
            (
                "host names or IP addresses, separated by commas: "
                "'https://b.example/' is not a host name: remove the scheme, port and path"
            ),
        ),
        ("TOOL_CALL_RECOVERY", "maybe", "auto or off"),
        ("DEBUG", "maybe", "true or false"),
        ("SESSION_AFFINITY", "sometimes", "true or false"),
        ("VERBOSE", "2", "true or false"),
        ("CLAUDE_MODEL_IDS", "claude", "true or false"),
        ("UPSTREAM_RETRIES", "11", "0 to 10"),
        ("UPSTREAM_CONCURRENCY", "0", "1 or more"),
        ("UPSTREAM_TOTAL_TIMEOUT", "0", "seconds above 0"),
        ("UPSTREAM_FIRST_TOKEN_TIMEOUT", "0", "seconds above 0"),
        ("UPSTREAM_QUEUE_TIMEOUT", "-1", "seconds, 0 or more"),
        ("UPSTREAM_IDLE_TIMEOUT", "inf", "seconds above 0"),
        ("UPSTREAM_API", "response", "chat_completions, responses or messages"),
        (
            "UPSTREAM_PROVIDER",
            "openroute",
            (
                "the name of a provider: must be a known provider; did you mean openrouter? "
                f"(known: {', '.join(PROFILE_NAMES)})"
            ),
        ),
        (
            "UPSTREAM_PROVIDER_SETTINGS",
            "prefill=x",
            (
                "name=value, several with ; or new lines between them: "
                "prefill: Input should be 'continued', 'refused', 'continue_final_message', "
                "'prefix' or 'partial'"
            ),
        ),
        ("UPSTREAM_BASE_URL", "localhost:1", f"{_URLS}: must start with http:// or https://"),
        ("ANTHROPIC_PROXY_BASE_URL", "a", f"{_URLS}: must start with http:// or https://"),
    ],
)
def test_an_invalid_value_is_rejected(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, expected: str
) -> None:
    unset = {"UPSTREAM_BASE_URL": ""} if variable == "ANTHROPIC_PROXY_BASE_URL" else {}
    name = "UPSTREAM_BASE_URL" if unset else variable
    assert (
        _error_message(monkeypatch, **unset, **{variable: value})
        == f'invalid {name}: got "{value}", expected {expected}'
    )


def test_quotes_in_a_rejected_value_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    message = _error_message(monkeypatch, PORT="it's\t1")
    assert message == 'invalid PORT: got "it\'s\\t1", expected 0 to 65535'


def test_all_invalid_settings_are_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = _error_message(
        monkeypatch,
        UPSTREAM_BASE_URL="x",
        PORT="y",
        DEBUG="z",
        UPSTREAM_API_KEY="sk-canary",
        UPSTREAM_QUEUE="q",
    ).splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "invalid UPSTREAM_BASE_URL",
        "invalid UPSTREAM_QUEUE",
        "invalid PORT",
        "invalid DEBUG",
    ]
    assert "sk-canary" not in "".join(lines)


@pytest.mark.parametrize(
    ("url", "shown", "reason"),
    [
        ("ftp://a.example", "ftp://a.example", "must start with http:// or https://"),
        ("https:///v1", "https:///v1", "must contain a valid host name"),
        ("http://a.example:65536", "http://a.example:65536", "must have a port from 0 to 65535"),
        ("http://[::1", "http://[::1", "Invalid IPv6 URL"),
        ("http://a.example/chat", "http://a.example/chat", _PART),
        ("http://a.example/v1/completions", "http://a.example/v1/completions", _PART),
        ("http://a.example/#canary", "http://a.example/#***", _FRAGMENT),
        ("http://a.example/chat?key=canary", "http://a.example/chat?***", _PART),
        ("http://user:canary@a.example", "http://***@a.example", _CREDENTIALS),
        ("http://canary@a.example/v1", "http://***@a.example/v1", _CREDENTIALS),
        ("http://:canary@a.example/?canary#canary", "http://***@a.example/?***", _FRAGMENT),
    ],
)
def test_invalid_urls_are_rejected(
    monkeypatch: pytest.MonkeyPatch, url: str, shown: str, reason: str
) -> None:
    expected = f'invalid UPSTREAM_BASE_URL: got "{shown}", expected {_URLS}: {reason}'
    assert _error_message(monkeypatch, UPSTREAM_BASE_URL=url) == expected


def test_errors_of_the_settings_class_contain_no_secrets() -> None:
    with pytest.raises(ValidationError) as error:
        Settings(_env_file=None, UPSTREAM_BASE_URL="http://user:canary@a.example")
    assert "canary" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("sk-abc\n", ("sk-abc",)),
        (" a ; b;", ("a", "b")),
        (" ", ()),
        ("sk abc", ("sk abc",)),
        # `docker run --env-file` keeps quotes.
        ('"sk-abc"', ("sk-abc",)),
        ("'sk-abc'\n", ("sk-abc",)),
        ("`sk-abc`", ("sk-abc",)),
        ('" sk-abc "', ("sk-abc",)),
        ('"a;b"', ("a", "b")),
        ('"a"; "b"', ("a", "b")),
        ("\"'a'\"", ("a",)),
        # The key was copied with its header.
        ("Bearer sk-abc", ("sk-abc",)),
        ("bearer  sk-abc", ("sk-abc",)),
        ('"Bearer sk-abc"', ("sk-abc",)),
        ('Bearer "sk-abc"', ("sk-abc",)),
        ("Authorization: Bearer sk-abc", ("sk-abc",)),
        ("Bearer a;Bearer b", ("a", "b")),
        # These are parts of keys.
        ("bearer-abc", ("bearer-abc",)),
        ("sk-'abc", ("sk-'abc",)),
        ("'abc", ("'abc",)),
        ("'", ("'",)),
        ('"', ('"',)),
    ],
)
def test_upstream_keys_are_split_and_stripped(
    monkeypatch: pytest.MonkeyPatch, text: str, keys: tuple[str, ...]
) -> None:
    monkeypatch.setenv("UPSTREAM_BASE_URL", "http://localhost")
    monkeypatch.setenv("UPSTREAM_API_KEY", text)
    assert load_settings(None).upstreams[0].keys == keys


@pytest.mark.parametrize("quote", ["'", '"'])
@pytest.mark.parametrize(
    ("variable", "text", "field", "value"),
    [
        ("PORT", "4000", "port", 4000),
        ("DEBUG", "true", "debug", True),
        ("COMPLETION_MODEL", "qwen3", "completion_model", "qwen3"),
        ("MODEL_MAP", "haiku=a;claude-*=b", "model_map", {"haiku": "a", "claude-*": "b"}),
        ("CONFIG_FILE", "x.yaml", "config_file", Path("x.yaml")),
        ("PROXY_API_KEYS", "a=0123456789", "proxy_api_keys", SecretStr("a=0123456789")),
        ("RATE_LIMIT_STORAGE_URL", "memory://", "limit_storage", "memory://"),
    ],
)
def test_quotes_around_values_are_removed(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str, field: str, value: Any, quote: str
) -> None:
    """`docker run --env-file` keeps quotes, which shells and `.env` files remove."""
    others = {} if variable == "CONFIG_FILE" else {"UPSTREAM_BASE_URL": f"{quote}{_URL}{quote}"}
    _set(monkeypatch, {**others, variable: f"{quote}{text}{quote}"})
    settings = load_settings(None)
    assert getattr(settings, field) == value
    assert [upstream.url for upstream in settings.upstreams] == ([_URL] if others else [])


def test_several_urls_may_be_in_quotes(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ('"http://a;http://b"', "'http://a'; \"http://b\""):
        monkeypatch.setenv("UPSTREAM_BASE_URL", text)
        assert [each.url for each in load_settings(None).upstreams] == ["http://a", "http://b"]


@pytest.mark.parametrize("variable", ["SIGNATURE_SECRET", "TLS_KEY_PASSWORD"])
def test_quotes_around_passwords_are_kept(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    _set(monkeypatch, {"UPSTREAM_BASE_URL": _URL, variable: '"secret"'})
    assert getattr(load_settings(None), variable.lower()) == SecretStr('"secret"')


@pytest.mark.parametrize("key", ["sk-caf\u00e9", "sk-\x01abc", "sk-a\nb"])
def test_a_key_that_is_not_a_valid_header_value_is_rejected(
    monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("UPSTREAM_BASE_URL", "http://localhost")
    monkeypatch.setenv("UPSTREAM_API_KEY", key)
    with pytest.raises(ConfigError) as error:
        load_settings(None)
    assert "invalid UPSTREAM_API_KEY: expected a key" in str(error.value)
    assert key not in str(error.value)


@pytest.mark.parametrize(
    ("url", "hidden"),
    [
        ("http://user:pa/canary@host/v1", "canary"),
        ("http://user:p@canary@host", "canary"),
        ("user:canary@host", "canary"),
        ("https:/user:canary@host", "canary"),
        ("sk-or-v1-canary-0123456789", "canary"),
        ("canary/key", "canary"),
        ("canary.key", "canary"),
        ("canary:key", "canary"),
        ("sk-canary://key", "canary"),
        ("http://a.example; canary/key", "canary"),
        ("http://user:canary\N{DOUBLE OBLIQUE HYPHEN}\N{CARE OF}@host", "canary"),
        ("http://user:[canary]@host", "canary"),
        ("http://user:canary/x@host", "canary"),
    ],
)
def test_possible_secrets_in_a_url_are_not_shown(
    monkeypatch: pytest.MonkeyPatch, url: str, hidden: str
) -> None:
    monkeypatch.setenv("UPSTREAM_BASE_URL", url)
    with pytest.raises(ConfigError) as error:
        load_settings(None)
    assert hidden not in str(error.value)


@pytest.mark.parametrize(
    "url", ["http://exa mple", "http://@", f"http://{'a' * 64}.example", "http://a..b"]
)
def test_invalid_host_names_are_rejected(url: str) -> None:
    with pytest.raises(ValueError, match=r"must contain a valid host name|user or password|spaces"):
        resolve_api_address(url)


def test_aliases_may_be_separated_by_line_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, {"UPSTREAM_BASE_URL": _URL, "MODEL_ALIASES": "\nclaude-b=b\r\nclaude-a=a\n"})
    assert list((load_settings(None).model_aliases or {}).items()) == [
        ("claude-b", "b"),
        ("claude-a", "a"),
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("claude-a", "expected name=value, got 'claude-a'"),
        ("claude-a=a;=b", "expected name=value, got '=b'"),
        ("claude-a= ", "expected name=value, got 'claude-a='"),
        ("claude-a=a;claude-a=b", "duplicate name 'claude-a'"),
        (
            "claude-a=a,claude-b=b",
            "expected ; between pairs instead of a comma, got 'claude-a=a,claude-b=b'",
        ),
    ],
)
def test_invalid_aliases_are_rejected(
    monkeypatch: pytest.MonkeyPatch, text: str, reason: str
) -> None:
    _set(monkeypatch, {"UPSTREAM_BASE_URL": _URL, "MODEL_ALIASES": text})
    expected = (
        f'invalid MODEL_ALIASES: got "{text}", expected alias=upstream-model, '
        f"several with ; or new lines between them: {reason}"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(expected)}$"):
        load_settings(None)


@pytest.mark.parametrize(
    "text",
    [
        "Content-Length=5",
        "X-Key canary",
        "X=canary;X=canary",
        "X-Key=can\u00e4ry",
        "X Key=canary",
        '{"X": 1}',
        "{canary",
    ],
)
def test_invalid_headers_are_rejected_without_their_values(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    message = _error_message(monkeypatch, UPSTREAM_HEADERS=text)
    assert message.startswith("invalid UPSTREAM_HEADERS: expected name=value")
    assert not re.search("can.ry", message)


def test_an_extra_body_that_is_not_an_object_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "canary" not in _error_message(monkeypatch, UPSTREAM_EXTRA_BODY='["canary"]')


@pytest.mark.parametrize("text", ['{"stream": true}', '{"model": "m", "stream": false}'])
def test_an_extra_body_with_request_fields_is_rejected(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    assert "which every request sets" in _error_message(monkeypatch, UPSTREAM_EXTRA_BODY=text)


def test_invalid_client_keys_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    message = _error_message(monkeypatch, PROXY_API_KEYS="a=canary;a=canary2")
    expected = (
        "name=key or key, several with ; or new lines between them: the name 'a' is given twice"
    )
    assert message == f"invalid PROXY_API_KEYS: expected {expected}"


@pytest.mark.parametrize(
    "host",
    [None, "127.0.0.1", "192.0.2.1", "0.0.0.0", "::"],  # noqa: S104 - given explicitly
)
@pytest.mark.parametrize(
    ("variables", "is_protected"),
    [
        ({}, False),
        ({"UPSTREAM_API_KEY_PASSTHROUGH": "true"}, False),
        ({"TLS_CERT_FILE": "a", "TLS_KEY_FILE": "b"}, False),
        ({"TLS_CERT_FILE": "a", "TLS_KEY_FILE": "b", "TLS_CLIENT_CA_FILE": "c"}, True),
        ({"PROXY_API_KEYS": "a-key-that-is-long-enough"}, True),
        ({"PROXY_API_KEYS_FILE": "keys.json"}, True),
        ({"UNIX_SOCKET": "/tmp/s"}, False),  # noqa: S108 - never opened
    ],
)
def test_the_listen_host_depends_on_client_authentication(
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    host: str | None,
    *,
    is_protected: bool,
) -> None:
    """Without HOST, the proxy listens on all addresses only if it requires keys or certificates."""
    _set(monkeypatch, {"UPSTREAM_BASE_URL": _URL} | variables | ({"HOST": host} if host else {}))
    open_to_all = "0.0.0.0"  # noqa: S104 - with keys or certificates
    assert load_settings(None).listen_host == (
        host or (open_to_all if is_protected else "127.0.0.1")
    )


def test_a_metrics_port_equal_to_the_port_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    message = _error_message(
        monkeypatch, UPSTREAM_BASE_URL="http://up", PORT="3045", METRICS_PORT="3045"
    )
    assert message.startswith("METRICS_PORT equals PORT (3045)")
    cases: list[tuple[str, dict[str, Any]]] = [("0", {}), ("3045", {"UNIX_SOCKET": "proxy.sock"})]
    for port, settings in cases:
        Settings(
            _env_file=None, UPSTREAM_BASE_URL="http://up", METRICS_PORT=port, PORT=port, **settings
        )


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("localhost", "localhost"),
        (" 127.0.0.1 ", "127.0.0.1"),
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("[::]", "::"),
        ("fe80::1%eth0", "fe80::1%eth0"),
    ],
)
def test_listen_hosts_are_normalized(text: str, host: str) -> None:
    assert Settings(_env_file=None, UPSTREAM_BASE_URL="http://up", HOST=text).listen_host == host


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("http://127.0.0.1", "remove the scheme"),
        ("http://[::1]:3000/", "remove the scheme"),
        ("127.0.0.1/", "remove the scheme"),
        ("127.0.0.1:3000", "remove the port, which PORT or --port sets"),
        ("localhost:3000", "remove the port"),
        ("[::1]:3000", "remove the port"),
        ("[127.0.0.1]", "invalid IPv6 address"),
        ("[]", "invalid IPv6 address"),
        (":::1", "invalid IPv6 address"),
        ("*", "0.0.0.0 or ::"),
        (" ", "expected a name"),
        ("a b", "expected a name"),
    ],
)
def test_invalid_listen_hosts_are_rejected(
    monkeypatch: pytest.MonkeyPatch, text: str, reason: str
) -> None:
    message = _error_message(monkeypatch, UPSTREAM_BASE_URL="http://up", HOST=text)
    assert message.startswith(f'invalid HOST: got "{text}", expected a host name or IP address: ')
    assert reason in message


def test_a_proxy_login_without_a_scheme_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    message = _error_message(monkeypatch, HTTP_PROXY="user:canary@proxy.example:3128")
    assert message == "invalid HTTP_PROXY: it has a login but no scheme, expected http:// before it"
