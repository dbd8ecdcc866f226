"""`anthropic-proxy env` prints variables for shells and agents."""

import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from anthropic_proxy.cli.env import format_variable
from anthropic_proxy.cli.main import cli
from anthropic_proxy.server import daemon
from tests.support.scripted_upstream import ScriptedUpstream, answers

_VALUES = ["plain", "with space", "it's", 'a "b" c', "$HOME `id` \\ %PATH%", "a\nb", "", "ä✓"]
_PROXY_VARIABLES = ("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_LIST = {"data": [{"id": "qwen3:4b", "max_input_tokens": 65536}]}


@pytest.fixture(autouse=True)
def user_without_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_API_KEY", "SHELL", *_PROXY_VARIABLES):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setattr(daemon, "default_pid_files", lambda _: (tmp_path / "proxy.pid",))


def _run_env(*arguments: str, **variables: str) -> Result:
    return CliRunner().invoke(cli, ["env", *arguments], env=variables)


@pytest.mark.parametrize("value", _VALUES)
def test_a_posix_shell_reads_each_value(value: str) -> None:
    script = f'{format_variable("sh", "NAME", value)}\nprintf %s "$NAME"'
    output = subprocess.run(["/bin/sh", "-c", script], capture_output=True, check=True)
    assert output.stdout.decode() == value


@pytest.mark.parametrize(
    ("shell", "value", "line"),
    [
        ("fish", "it's \\ $HOME", r"set -gx NAME 'it\'s \\ $HOME'"),
        ("powershell", "it's \\ $HOME", r"$env:NAME = 'it''s \ $HOME'"),
        ("powershell", "a\u2018b\u2019; c", "$env:NAME = 'a\u2018\u2018b\u2019\u2019; c'"),
    ],
)
def test_other_shells_quote_values(shell: str, value: str, line: str) -> None:
    assert format_variable(shell, "NAME", value) == line


@pytest.mark.parametrize(
    ("agent", "arguments", "lines"),
    [
        (
            "claude",
            (),
            [
                "export ANTHROPIC_BASE_URL='{url}'",
                "export ANTHROPIC_AUTH_TOKEN='any-value'",
                "export ANTHROPIC_MODEL='qwen3:4b'",
                "export ANTHROPIC_DEFAULT_OPUS_MODEL='qwen3:4b'",
                "export ANTHROPIC_DEFAULT_SONNET_MODEL='qwen3:4b'",
                "export ANTHROPIC_DEFAULT_HAIKU_MODEL='qwen3:4b'",
                "export ANTHROPIC_DEFAULT_FABLE_MODEL='qwen3:4b'",
                "export CLAUDE_CODE_MAX_CONTEXT_TOKENS='65536'",
            ],
        ),
        (
            "sdk",
            (),
            ["export ANTHROPIC_BASE_URL='{url}'", "export ANTHROPIC_API_KEY='any-value'"],
        ),
        (
            "litellm",
            ("--model", "other"),
            [
                "export ANTHROPIC_API_BASE='{url}'",
                "export ANTHROPIC_API_KEY='any-value'",
                "export AIDER_MODEL='anthropic/other'",
                "export LLM_MODEL='anthropic/other'",
            ],
        ),
        (
            "goose",
            ("--shell", "fish"),
            [
                "set -gx GOOSE_PROVIDER 'anthropic'",
                "set -gx GOOSE_MODEL 'qwen3:4b'",
                "set -gx ANTHROPIC_HOST '{url}'",
                "set -gx ANTHROPIC_API_KEY 'any-value'",
            ],
        ),
    ],
)
def test_each_agent_has_its_variables(
    agent: str, arguments: tuple[str, ...], lines: list[str]
) -> None:
    with ScriptedUpstream() as proxy:
        proxy.then(answers(_LIST))
        # `/v1` and slashes at the end do not belong to the base URL
        result = _run_env("--agent", agent, "--url", f"{proxy.url}/v1/", *arguments)
        assert result.stdout.splitlines() == [line.format(url=proxy.url) for line in lines]
        assert proxy.request().headers["authorization"] == "Bearer any-value"


def test_the_key_of_the_user_is_used() -> None:
    with ScriptedUpstream() as proxy:
        proxy.then(answers(_LIST))
        result = _run_env("--url", proxy.url, ANTHROPIC_AUTH_TOKEN="it's")
    assert "export ANTHROPIC_AUTH_TOKEN='it'\\''s'" in result.stdout


@pytest.mark.parametrize(
    ("shell", "prefix"),
    [("/usr/bin/fish", "set -gx"), ("/usr/bin/zsh", "export"), ("/opt/pwsh", "$env:")],
)
def test_the_shell_of_the_user_is_detected(shell: str, prefix: str) -> None:
    with ScriptedUpstream() as proxy:
        proxy.then(answers(_LIST))
        result = _run_env("--url", proxy.url, SHELL=shell)
    assert all(line.startswith(prefix) for line in result.stdout.splitlines())


_ERROR = {
    "type": "error",
    "error": {"type": "authentication_error", "message": "invalid x-api-key"},
}


@pytest.mark.parametrize(
    ("body", "status", "arguments", "error"),
    [
        (_ERROR, 401, (), "Error: invalid x-api-key: set ANTHROPIC_AUTH_TOKEN to a key\n"),
        (
            {"data": [{"id": "a"}, {"id": "b"}]},
            200,
            (),
            "Error: choose a model with --model: a, b\n",
        ),
        (
            {"data": []},
            200,
            (),
            "Error: the upstream has no models: install one, or name one with --model\n",
        ),
        (
            {"detail": "Not Found"},
            404,
            (),
            "Error: no list of models from {url}: status 404: name a model with --model\n",
        ),
        (
            {"detail": "Hello"},
            200,
            (),
            "Error: no list of models from {url}: not a list: name a model with --model\n",
        ),
        (
            {"data": [{"id": "a"}, {"object": "model"}, "c", {"id": "b"}]},
            200,
            (),
            "Error: choose a model with --model: a, b\n",
        ),
        # other servers than a proxy
        (
            {"detail": "x"},
            401,
            (),
            "Error: no list of models from {url}: status 401: set ANTHROPIC",
        ),
        ({"error": "x"}, 403, (), "Error: no list of models from {url}: status 403: set ANTHROPIC"),
        ([], 404, (), "Error: no list of models from {url}: status 404: name"),
        (b"<html>", 404, (), "Error: no list of models from {url}: "),
        ({"models": []}, 200, (), "Error: no list of models from {url}: not a list: name"),
        ([1], 200, (), "Error: no list of models from {url}: not a list: name"),
    ],
)
def test_failures_are_explained(
    body: object, status: int, arguments: tuple[str, ...], error: str
) -> None:
    with ScriptedUpstream() as proxy:
        proxy.then(answers(body, status))
        result = _run_env("--url", proxy.url, *arguments)
        expected = error.format(url=proxy.url)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(expected)


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "http://", "", "host:port"])
def test_an_invalid_address_is_refused(url: str) -> None:
    result = _run_env("--url", url, "--model", "m")
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"Invalid value for --url: got {url!r}, " in result.stderr


def test_an_http_proxy_of_the_user_gets_no_requests() -> None:
    variables = {"HTTPS_PROXY": "http://proxy.invalid", "NO_PROXY": "a.invalid"}
    with ScriptedUpstream() as proxy:
        proxy.then(answers(_LIST))
        result = _run_env("--url", proxy.url, "--agent", "sdk", **variables)
    assert "export NO_PROXY='a.invalid,127.0.0.1'\n" in result.stdout
    assert "export no_proxy='a.invalid,127.0.0.1'\n" in result.stdout
    # a proxy on another host may need it
    result = _run_env("--url", "http://proxy.invalid", "--agent", "sdk", **variables)
    assert "NO_PROXY" not in result.stdout


def test_a_failing_list_is_reported_if_the_model_is_known() -> None:
    with ScriptedUpstream() as proxy:
        proxy.then(answers(_ERROR, 500))
        result = _run_env("--url", proxy.url, "--model", "m")
    assert result.exit_code == 0
    assert result.stderr == "! invalid x-api-key\n"
    assert "export ANTHROPIC_MODEL='m'" in result.stdout


def test_a_proxy_must_run() -> None:
    result = _run_env("--model", "m")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no proxy is running: start one with `anthropic-proxy --daemon`" in result.stderr


def test_a_model_of_one_of_several_upstreams_gets_its_listed_name() -> None:
    with ScriptedUpstream() as proxy:
        proxy.then(answers({"data": [{"id": "local/m", "max_tokens": 9}, {"id": "other/n"}]}))
        result = _run_env("--url", proxy.url, "--model", "m")
    assert "export ANTHROPIC_MODEL='local/m'" in result.stdout
    assert "export CLAUDE_CODE_MAX_OUTPUT_TOKENS='9'" in result.stdout


@pytest.mark.parametrize("path", ["", "/prefix"])
def test_the_url_may_lack_its_scheme_and_have_a_path(path: str) -> None:
    with ScriptedUpstream() as proxy:
        proxy.then(answers(_LIST))
        result = _run_env("--url", proxy.url.removeprefix("http://") + path)
        assert proxy.request().path == f"{path}/v1/models?limit=1000"
        assert f"export ANTHROPIC_BASE_URL='{proxy.url}{path}'" in result.stdout


def test_the_key_is_not_sent_to_an_https_url_in_clear_text() -> None:
    with ScriptedUpstream() as proxy:
        proxy.then(answers(_LIST))
        url = proxy.url.replace("http://", "https://")
        result = _run_env("--url", url, "--model", "m", ANTHROPIC_AUTH_TOKEN="secret")
        assert f"! no list of models from {url}: " in result.stderr
        # The scripted server speaks no TLS, and has received no request.
        assert proxy.has_scripts
