"""Command line: options, errors, and a foreground server in a separate process."""

import base64
import signal
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result

from anthropic_proxy import __version__
from anthropic_proxy.cli.main import cli
from tests.support.running_command import REQUEST, Command, refuses_connections, until
from tests.support.scripted_upstream import (
    DEADLINE,
    Pause,
    ScriptedUpstream,
    answers,
    completion,
    streams,
    text_chunks,
)

_URL = {"UPSTREAM_BASE_URL": "http://localhost:1"}
_CANARY = "sk-canary-0123456789"
_IMAGE = base64.b64encode(bytes(range(256)) * 40).decode()
# A request without a retry logs "upstream request failed" only at this level.
_SUMMARIES = {"request routed", "upstream request failed"}
_BODIES = {
    "request received",
    "upstream request sent",
    "upstream response received",
    "response sent",
    "upstream chunk received",
    "events sent",
}


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


@pytest.fixture
def work_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty directory, which is the working directory and the home of `_invoke`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def _invoke(*arguments: str, **variables: str) -> Result:
    """Run a command in this process that ends before a server starts, with console output."""
    return CliRunner().invoke(cli, arguments, env={"LOG_FORMAT": "console"} | variables)


def _post(address: str, **fields: Any) -> httpx.Response:
    return httpx.post(
        f"{address}/v1/messages", json=REQUEST | fields, timeout=DEADLINE, trust_env=False
    )


@pytest.mark.parametrize("option", ["-V", "--version"])
def test_version_is_printed(command: Command, option: str) -> None:
    result = command.run(option)
    assert (result.returncode, result.stdout, result.stderr) == (
        0,
        f"anthropic-proxy {__version__}\n",
        "",
    )


@pytest.mark.parametrize("option", ["-h", "--help"])
@pytest.mark.parametrize(
    ("subcommand", "options"),
    [
        (
            [],
            (
                "-c --config -d --debug -v --verbose -p --port --host --daemon --pid-file "
                "-V --version -h --help status stop"
            ),
        ),
        (["status"], "--pid-file -h --help"),
        (["stop"], "--pid-file -h --help"),
    ],
    ids=["main", "status", "stop"],
)
def test_help_lists_all_options(subcommand: list[str], options: str, option: str) -> None:
    result = _invoke(*subcommand, option)
    assert result.exit_code == 0
    assert set(options.split()) <= set(result.stdout.replace(",", " ").split())


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--config", "missing.env"], "'missing.env' does not exist"),
        (["-c", "."], "'.' is a directory"),
        (["--config"], "Option '--config' requires an argument"),
        (["--port", "x"], "Invalid value for '-p' / '--port': 'x'"),
        (["-p", "65536"], "65536 is not in the range 0<=x<=65535"),
        (["--pid-file", "."], "'.' is a directory"),
        (["--nonsense"], "No such option '--nonsense'"),
        (["nonsense"], "No such command 'nonsense'"),
        (["status", "nonsense"], "Got unexpected extra argument"),
        (["stop", "--daemon"], "No such option '--daemon'"),
    ],
    ids=" ".join,
)
def test_invalid_arguments_are_rejected(
    work_directory: Path, arguments: list[str], reason: str
) -> None:
    result = _invoke(*arguments)
    assert result.exit_code == 2
    assert reason in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("variables", "reasons"),
    [
        pytest.param(
            {}, ["UPSTREAM_BASE_URL is required", "UPSTREAM_BASE_URL=https://"], id="no-url"
        ),
        pytest.param({"UPSTREAM_BASE_URL": ""}, ["UPSTREAM_BASE_URL is required"], id="empty-url"),
        pytest.param(
            _URL | {"PORT": "http"}, ['invalid PORT: got "http", expected 0 to 65535'], id="port"
        ),
        pytest.param(
            _URL | {"DEBUG": "maybe"},
            ['invalid DEBUG: got "maybe", expected true or false'],
            id="debug",
        ),
        pytest.param(
            {"UPSTREAM_BASE_URL": "http://canary:canary@localhost"},
            ['invalid UPSTREAM_BASE_URL: got "http://***@'],
            id="password",
        ),
        pytest.param(
            {"UPSTREAM_BASE_URL": "http://localhost#canary"},
            ['invalid UPSTREAM_BASE_URL: got "http://localhost#***"'],
            id="fragment",
        ),
        pytest.param(
            {"UPSTREAM_BASE_URL": "x", "PORT": "y"},
            ['invalid UPSTREAM_BASE_URL: got "x"', 'invalid PORT: got "y"'],
            id="two",
        ),
    ],
)
@pytest.mark.parametrize("mode", [[], ["--daemon"]], ids=["foreground", "daemon"])
def test_invalid_settings_are_rejected(
    work_directory: Path, mode: list[str], variables: dict[str, str], reasons: list[str]
) -> None:
    pid_file = work_directory / "proxy.pid"
    result = _invoke(
        *mode, "--pid-file", str(pid_file), **{"UPSTREAM_API_KEY": _CANARY} | variables
    )
    assert result.exit_code == 1
    assert result.stdout == ""
    assert f"✗ {reasons[0]}" in result.stderr
    assert all(reason in result.stderr for reason in reasons)
    assert "canary" not in result.stderr
    assert not pid_file.exists()


@pytest.mark.parametrize(
    ("existing", "arguments", "used"),
    [
        pytest.param([], [], None, id="none"),
        pytest.param([".env", ".anthropic-proxy.env"], [], ".env", id="working-directory"),
        pytest.param([".anthropic-proxy.env"], [], ".anthropic-proxy.env", id="home"),
        pytest.param([".env", "x.env"], ["-c", "x.env"], "x.env", id="short-option"),
        pytest.param([".env", "x.env"], ["--config", "x.env"], "x.env", id="long-option"),
    ],
)
def test_the_env_file_in_use_is_printed(
    work_directory: Path, existing: list[str], arguments: list[str], used: str | None
) -> None:
    for name in existing:
        (work_directory / name).write_text(f"PORT={name}\n")
    first, *reasons = _invoke(*arguments).stderr.splitlines()
    assert first.endswith(
        f"{used}" if used else "No .env file found, using environment variables only"
    )
    expected = f'invalid PORT: got "{used}", expected 0 to 65535'
    assert [line for line in reasons if "PORT" in line] == ([expected] if used else [])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_foreground_server_ends_on_a_signal(
    command: Command, upstream: ScriptedUpstream, number: signal.Signals
) -> None:
    (command.home / ".env").write_text(
        f"UPSTREAM_BASE_URL=http://localhost:1\nUPSTREAM_API_KEY={_CANARY}\nHOST=192.0.2.1\n"
    )
    upstream.then(answers(completion("Hello there")))
    with (
        command.serving("--host", "127.0.0.1", UPSTREAM_BASE_URL=upstream.url, PORT="1") as server,
        httpx.Client() as client,
    ):
        # The open connection must not delay the end of the server.
        response = client.post(f"{server.address}/v1/messages", json=REQUEST, timeout=DEADLINE)
        assert response.json()["content"] == [{"type": "text", "text": "Hello there"}]
        code, log = server.end(number)
    assert code == 0
    assert server.address.startswith("http://127.0.0.1:")
    assert upstream.request().headers["authorization"] == f"Bearer {_CANARY}"
    lines = [line for line in log.splitlines()[2:] if "upstream probed" not in line]
    assert [line.split("] ")[-1].split("  ")[0] for line in lines] == [
        "server started",
        "upstream configured",
        "m",
        "server stopping",
    ]
    assert log.startswith("📄 Loaded config from: .env\n✓ Starting proxy in foreground mode\n")
    assert "key=set" in log
    assert "canary" not in log


def test_an_open_stream_is_completed_before_the_end(
    command: Command, upstream: ScriptedUpstream
) -> None:
    pause = Pause()
    first, *rest = text_chunks("Hel", "lo")
    upstream.then(streams([first, pause, *rest]))
    with (
        command.serving("--host", "127.0.0.1", UPSTREAM_BASE_URL=upstream.url) as server,
        httpx.stream(
            "POST",
            f"{server.address}/v1/messages",
            json=REQUEST | {"stream": True},
            trust_env=False,
        ) as response,
    ):
        lines = response.iter_lines()
        before = next(line for line in lines if "text_delta" in line)
        server.process.terminate()
        until(lambda: refuses_connections(server.address), "the server handles the signal")
        assert server.process.poll() is None
        pause.go.set()
        after = list(lines)
        assert server.process.wait(DEADLINE) == 0
    assert '"text":"Hel"' in before
    assert [line for line in after if line.startswith("event: ")][-1] == "event: message_stop"
    assert any('"text":"lo"' in line for line in after)


def test_an_address_in_use_is_reported(command: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        result = command.run("--host", "127.0.0.1", "--port", port, **_URL)
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith(f"✗ can't listen on 127.0.0.1:{port}: Address already in use")
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "variables", "events"),
    [
        pytest.param([], {}, set(), id="quiet"),
        pytest.param(["--debug"], {"DEBUG": "0", "VERBOSE": "false"}, _SUMMARIES, id="debug"),
        pytest.param([], {"VERBOSE": "True"}, _SUMMARIES | _BODIES, id="verbose"),
    ],
)
def test_log_events_depend_on_the_level(
    command: Command,
    upstream: ScriptedUpstream,
    arguments: list[str],
    variables: dict[str, str],
    events: set[str],
) -> None:
    """Send a request with an image, a streamed one, and one whose error repeats the key."""
    image = {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": _IMAGE},
    }
    message = {
        "role": "user",
        "content": [{"type": "text", "text": f"the question {_CANARY}"}, image],
    }
    refusal = {
        "error": {"message": f"Incorrect API key provided: {_CANARY}", "code": "invalid_api_key"}
    }
    upstream.then(
        answers(completion("the reply")), streams(text_chunks("the stream")), answers(refusal, 401)
    )
    settings = {"UPSTREAM_BASE_URL": upstream.url, "UPSTREAM_API_KEY": _CANARY} | variables
    with command.serving("--host", "127.0.0.1", *arguments, **settings) as server:
        responses = [
            _post(server.address, messages=[message]),
            _post(server.address, stream=True),
            _post(server.address),
        ]
        code, log = server.end()
    assert code == 0
    assert [response.status_code for response in responses] == [200, 200, 500]
    assert _IMAGE in upstream.request().raw.decode()
    assert _CANARY not in log + "".join(response.text for response in responses)
    assert _IMAGE[:200] not in log
    assert {
        line.split("] ")[1].partition("  ")[0] for line in log.splitlines() if "[debug" in line
    } == events
    for text in (
        "the question",
        "the reply",
        "the stream",
        f"{_IMAGE[:24]}...[{len(_IMAGE)} base64 characters]",
    ):
        assert (text in log) is (events > _SUMMARIES)
    assert "refused the proxy's UPSTREAM_API_KEY (401): Incorrect API key provided: ***" in log


def test_a_second_signal_ends_open_streams(command: Command, upstream: ScriptedUpstream) -> None:
    pause = Pause()
    upstream.then(streams([text_chunks("one")[0], pause], done=False))
    with command.serving(UPSTREAM_BASE_URL=upstream.url) as server:
        body = {
            "model": "m",
            "max_tokens": 1,
            "stream": True,
            "messages": [{"role": "user", "content": "Hi"}],
        }
        with httpx.stream(
            "POST", f"{server.address}/v1/messages", json=body, trust_env=False, timeout=20
        ) as response:
            texts = response.iter_text()
            assert "message_start" in next(texts)
            server.process.send_signal(signal.SIGINT)
            until(lambda: "stopping" in server.log.read_text(), "the first signal is handled")
            server.process.send_signal(signal.SIGINT)
            assert server.process.wait(20) == 0, server.log.read_text()
        pause.go.set()


def test_server_options_are_rejected_for_subcommands(work_directory: Path) -> None:
    result = _invoke("-p", "1", "status")
    assert result.exit_code == 2
    assert "--port: option of the server, not of the command 'status'" in result.stderr


def test_probable_mistakes_are_reported(command: Command) -> None:
    variables = {"UPSTREAM_API_KEY": "sk-'canary", "UPSTREAM_HEADER": "x=y"}
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        result = command.run("--host", "127.0.0.1", "--port", port, **_URL, **variables)
    assert "! UPSTREAM_API_KEY: the key contains quotes: remove them" in result.stderr
    assert (
        "! environment: UPSTREAM_HEADER is not known; did you mean UPSTREAM_HEADERS?"
        in result.stderr
    )
    assert "canary" not in result.stderr


@pytest.mark.parametrize(
    ("shell", "words", "expected"),
    [("bash", "anthropic-proxy cla", "claude"), ("zsh", "anthropic-proxy sto", "stop")],
)
def test_a_shell_completes_commands(shell: str, words: str, expected: str) -> None:
    """See docs/command-line.md. The variables are those of the scripts of click."""

    def run(instruction: str) -> str:
        variables = {"_ANTHROPIC_PROXY_COMPLETE": f"{shell}_{instruction}"}
        variables |= {"COMP_WORDS": words, "COMP_CWORD": "1"}
        return CliRunner().invoke(cli, env=variables, prog_name="anthropic-proxy").output

    assert "_ANTHROPIC_PROXY_COMPLETE=" in run("source")
    assert expected in run("complete")
    assert "demo" not in run("complete")
