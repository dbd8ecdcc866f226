"""Routing that is loaded from a configuration file or variables."""

from pathlib import Path
from typing import Any

import pytest

from anthropic_proxy.config.settings import Settings, load_settings
from anthropic_proxy.config.upstream_settings import Deprecation
from anthropic_proxy.config.upstreams import load_routing, read_text
from anthropic_proxy.errors import ConfigError
from anthropic_proxy.providers.profiles import find_profile_by_name
from anthropic_proxy.routing.router import Routing
from anthropic_proxy.routing.upstream import ConcurrencyLimits, Timeouts

FILE = """
upstreams:
  openai:
    url: https://api.openai.com
    key: ${OPENAI_KEY}
    api: responses
    timeouts: {connect: 5, total: 3600}
  local:
    url: http://localhost:8080/v1?a=b
    key_file: key
    provider: openai
    provider_settings: {max_tokens_field: max_tokens}
    headers: {X-Team: blue}
    query: {c: d}
    extra_body: {seed: 1}
    limits: {concurrency: 4, queue: 0}
    retries: 3
routes:
  - models: [small-*, tiny]
    targets: [local/tiny]
  - tier: haiku
    targets: [[{upstream: local, model: a, weight: 3}, openai/b], openai]
  - thinking: true
    images: false
    targets: [openai/thinker]
  - images: true
    targets: [local/eyes]
  - min_input_tokens: 1000
    targets: [openai/long]
aliases: {claude-local: local/qwen/qwen3}
"""


@pytest.fixture
def routing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Routing:
    (tmp_path / "key").write_text("sk-2\n")
    (tmp_path / "file.yaml").write_text(FILE)
    (tmp_path / ".env").write_text(
        f"CONFIG_FILE={tmp_path / 'file.yaml'}\nOPENAI_KEY=sk-1\nCOMPLETION_MODEL=rest\n"
    )
    return load_routing(load_settings(tmp_path / ".env"))


def test_upstreams_are_loaded(routing: Routing) -> None:
    openai, local = routing.upstreams
    assert (openai.name, openai.api, openai.keys, openai.profile.name) == (
        "openai",
        "responses",
        ("sk-1",),
        "openai",
    )
    assert openai.timeouts == Timeouts(connect=5, total=3600)
    assert (local.build_url("/x"), local.keys) == ("http://localhost:8080/v1/x?a=b&c=d", ("sk-2",))
    assert (local.profile.name, local.profile.max_tokens_field) == ("openai", "max_tokens")
    assert (local.headers, local.extra_body, local.retries) == ({"X-Team": "blue"}, {"seed": 1}, 3)
    assert local.limits == ConcurrencyLimits(concurrency=4, queue=0)
    assert {secret.value for secret in routing.secrets} == {"sk-1", "sk-2", "b", "d", "blue"}


IMAGE = {"type": "image", "source": {"type": "url", "url": "https://a.example"}}
THINKING: dict[str, Any] = {"thinking": {"type": "adaptive"}}


@pytest.mark.parametrize(
    ("model", "fields", "tokens", "groups"),
    [
        ("small-1", {}, 0, [["local/tiny"]]),
        ("tiny", THINKING, 9999, [["local/tiny"]]),
        ("claude-haiku-5", {}, 0, [["local/a", "openai/b"], ["openai/None"]]),
        ("m", THINKING, 0, [["openai/thinker"]]),
        (
            "m",
            {**THINKING, "messages": [{"role": "user", "content": [IMAGE]}]},
            0,
            [["local/eyes"]],
        ),
        (
            "m",
            {
                "messages": [
                    {"role": "user", "content": [{"type": "tool_result", "content": [IMAGE]}]}
                ]
            },
            0,
            [["local/eyes"]],
        ),
        ("m", {"messages": [{"role": "user", "content": "x"}]}, 1000, [["openai/long"]]),
        ("m", {}, 999, [["openai/rest"], ["local/rest"]]),
        ("claude-local", THINKING, 0, [["local/qwen/qwen3"]]),
        ("local/gemma", {}, 0, [["local/gemma"]]),
        ("elsewhere/gemma", {}, 0, [["openai/rest"], ["local/rest"]]),
    ],
)
def test_requests_are_routed(
    routing: Routing, model: str, fields: dict[str, Any], tokens: int, groups: list[list[str]]
) -> None:
    selected = routing.select_groups({"model": model, "messages": [], **fields}, lambda: tokens)
    names = []
    for group in selected:
        names.append([f"{target.upstream.name}/{target.model}" for target in group])
    assert names == groups


def test_targets_have_weights(routing: Routing) -> None:
    first, _ = routing.select_groups({"model": "haiku", "messages": []}, lambda: 0)
    assert [target.weight for target in first] == [3, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            None, r"CONFIG_FILE: .*file.yaml can't be read: No such file or directory", id="missing"
        ),
        pytest.param(
            b"\xff", r"CONFIG_FILE: .*file.yaml can't be read: it is not UTF-8", id="no-text"
        ),
        pytest.param(
            b"upstreams:\n  a: {url: ftp://x}\n", r"file.yaml:2:\d+: upstreams.a.url: ", id="wrong"
        ),
    ],
)
def test_unreadable_and_invalid_files_are_rejected(
    tmp_path: Path, text: bytes | None, message: str
) -> None:
    if text is not None:
        (tmp_path / "file.yaml").write_bytes(text)
    (tmp_path / ".env").write_text(f"CONFIG_FILE={tmp_path / 'file.yaml'}\n")
    with pytest.raises(ConfigError, match=message):
        load_routing(load_settings(tmp_path / ".env"))


def test_a_file_and_a_url_exclude_each_other(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("CONFIG_FILE=a.yaml\nUPSTREAM_BASE_URL=http://localhost\n")
    with pytest.raises(ConfigError, match="exclude each other"):
        load_settings(tmp_path / ".env")


def test_detected_profiles_replace_guessed_profiles(tmp_path: Path) -> None:
    """Provider settings also apply to a detected profile."""
    file = """
upstreams:
  a: {url: "http://localhost:1", provider_settings: {sampling_top_k: false}}
  b: {url: "http://localhost:2", provider: llamacpp}
  c: {url: "http://localhost:3"}
  d: {url: "https://api.groq.com"}
"""
    (tmp_path / "file.yaml").write_text(file)
    (tmp_path / ".env").write_text(f"CONFIG_FILE={tmp_path / 'file.yaml'}\n")
    settings = load_settings(tmp_path / ".env")
    assert [each.is_profile_guessed for each in load_routing(settings).upstreams] == [
        True,
        False,
        True,
        False,
    ]
    detected = dict.fromkeys("abd", find_profile_by_name("vllm"))
    profiles = [each.profile for each in load_routing(settings, detected).upstreams]
    assert [each.name for each in profiles] == ["vllm", "llamacpp", "generic", "groq"]
    assert [each.sampling_top_k for each in profiles] == [False, True, True, False]


def test_former_names_are_deprecated(tmp_path: Path) -> None:
    """Each name is reported once, regardless of the number of upstreams."""
    file = tmp_path / "file.yaml"
    file.write_text(
        "upstreams:\n"
        "  a: {url: 'http://localhost:1', dialect: vllm}\n"
        "  b: {url: 'http://localhost:2', dialect: vllm, facts: {prefill: refused}}\n"
    )
    (tmp_path / ".env").write_text(f"CONFIG_FILE={file}\nUPSTREAM_DIALECT=vllm\n")
    deprecations: list[Deprecation] = []
    routing = load_routing(load_settings(tmp_path / ".env"), warn=deprecations.append)
    assert [each.profile.name for each in routing.upstreams] == ["vllm", "vllm"]
    assert list(map(str, deprecations)) == [
        "UPSTREAM_DIALECT is deprecated: use UPSTREAM_PROVIDER",
        f"{file}: dialect is deprecated: use provider",
        f"{file}: facts is deprecated: use provider_settings",
    ]


@pytest.mark.parametrize("in_file", [True, False])
def test_client_keys_and_passthrough_exclude_each_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, in_file: bool
) -> None:
    path = tmp_path / "upstreams.yaml"
    path.write_text(
        "upstreams: {claude: {url: 'https://api.anthropic.com', api: messages, passthrough: true}}"
    )
    variables = {"UPSTREAM_BASE_URL": "http://a", "UPSTREAM_API_KEY_PASSTHROUGH": "true"}
    if in_file:
        variables = {"CONFIG_FILE": str(path)}
    for name, value in {"PROXY_API_KEYS": "k", **variables}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(
        ConfigError,
        match="PROXY_API_KEYS and PROXY_API_KEYS_FILE exclude UPSTREAM_API_KEY_PASSTHROUGH",
    ):
        load_routing(load_settings(None))


def test_an_endless_file_is_rejected() -> None:
    with pytest.raises(OSError, match="it is too large, expected at most 16777216 bytes"):
        read_text(Path("/dev/zero"))


CLIENT_KEYS = {"PROXY_API_KEYS": "alice=sk-0123456789"}


@pytest.fixture
def _no_http_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("url", "variables"),
    [
        ("http://127.0.0.1:3000", {}),
        ("http://127.0.0.1:3000/v1/chat/completions", {}),
        ("https://127.0.0.1:3000/v1", {}),
        ("http://0.0.0.0:3000", {}),
        ("https://api.openai.com;http://127.0.0.1:3000", {}),
        ("http://127.0.0.1:4000", {"PORT": 4000}),
        ("http://127.0.0.1", {"PORT": 80}),
        ("https://127.0.0.1", {"PORT": 443}),
        ("http://127.0.0.1:3000", CLIENT_KEYS),
        ("http://127.3.4.5:3000", CLIENT_KEYS),
        ("http://127.0.0.1:3000", {"HOST": "::"}),
        ("http://localhost:3000", {"HOST": "localhost"}),
        ("http://[::1]:3000", {"HOST": "::1"}),
        ("http://[::]:3000", {"HOST": "::1"}),
        ("http://10.1.2.3:3000", {"HOST": "10.1.2.3"}),
    ],
)
@pytest.mark.usefixtures("_no_http_proxy")
def test_an_upstream_at_the_proxy_address_is_rejected(url: str, variables: dict[str, Any]) -> None:
    settings = Settings(_env_file=None, UPSTREAM_BASE_URL=url, **variables)
    with pytest.raises(ConfigError, match=r"UPSTREAM_BASE_URL: .* of this proxy itself"):
        load_routing(settings)


@pytest.mark.parametrize(
    ("url", "variables"),
    [
        ("http://127.0.0.1:3001", {}),
        # Another server may listen on ::1.
        ("http://localhost:3000", {}),
        ("http://[::1]:3000", {}),
        ("http://[::1]:3000", CLIENT_KEYS),
        ("http://127.0.0.2:3000", {}),
        ("http://10.1.2.3:3000", CLIENT_KEYS),
        ("http://127.0.0.1:3000", {"HOST": "10.1.2.3"}),
        ("http://127.0.0.1:3000", {"UNIX_SOCKET": "/tmp/socket"}),  # noqa: S108 - not opened
        ("http://example.com:3000", {}),
    ],
)
@pytest.mark.usefixtures("_no_http_proxy")
def test_other_addresses_are_accepted(url: str, variables: dict[str, Any]) -> None:
    load_routing(Settings(_env_file=None, UPSTREAM_BASE_URL=url, **variables))


def test_the_proxy_address_is_accepted_behind_an_http_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    load_routing(Settings(_env_file=None, UPSTREAM_BASE_URL="http://127.0.0.1:3000"))


@pytest.mark.usefixtures("_no_http_proxy")
def test_a_configuration_file_with_the_proxy_address_is_rejected(tmp_path: Path) -> None:
    file = tmp_path / "file.yaml"
    file.write_text("upstreams: {own: {url: 'http://127.0.0.1:3000'}}")
    with pytest.raises(ConfigError, match=r"CONFIG_FILE: http://127\.0\.0\.1:3000 is the address"):
        load_routing(Settings(_env_file=None, CONFIG_FILE=str(file)))
