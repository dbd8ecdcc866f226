"""Messages to operators about a wrong setup, on the command line and through the server."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result

from anthropic_proxy.cli.main import cli
from anthropic_proxy.config.settings import Settings
from anthropic_proxy.config.upstreams import load_routing
from anthropic_proxy.server import daemon, port_owner
from anthropic_proxy.server.banner import render_banner
from anthropic_proxy.server.sockets import (
    AddressInUseError,
    open_metrics_listener,
    open_tcp_listener,
)
from tests.support.running_command import REQUEST, Command, refuses_connections, until
from tests.support.running_proxy import running_proxy
from tests.support.scripted_upstream import (
    DEADLINE,
    Pause,
    ScriptedUpstream,
    answers,
    completion,
    streams,
    text_chunks,
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


def _invoke(*arguments: str, **variables: str) -> Result:
    return CliRunner().invoke(cli, arguments, env={"LOG_FORMAT": "console"} | variables)


_URL = {"UPSTREAM_BASE_URL": "http://localhost:1"}


@pytest.mark.parametrize(
    ("files", "arguments", "variables", "told"),
    [
        ({}, [], {}, "in ./.env"),
        ({}, [], {"OPENAI_BASE_URL": "http://canary"}, "UPSTREAM_BASE_URL=$OPENAI_BASE_URL"),
        (
            {},
            [],
            {"OPENAI_API_KEY": "canary"},
            "UPSTREAM_BASE_URL=https://api.openai.com UPSTREAM_API_KEY=$OPENAI_API_KEY",
        ),
        ({".env": "OPENAI_API_KEY=canary"}, [], {}, "UPSTREAM_API_KEY=$OPENAI_API_KEY"),
        ({"a.yaml": "upstreams: {}"}, ["-c", "a.yaml"], {}, "a.yaml:1:1: upstreams"),
        ({"a.TOML": "x = 1"}, ["-c", "a.TOML"], {}, "a.TOML"),
        ({".env": "a b c\nUPSTREAM_APIKEY=canary"}, [], {}, "! .env line 1: expected NAME=value"),
        (
            {".env": "a b c\nUPSTREAM_APIKEY=canary"},
            [],
            {},
            "! .env line 2: UPSTREAM_APIKEY is not known; did you mean UPSTREAM_API_KEY?",
        ),
        (
            {},
            [],
            _URL | {"SSL_CERT_FILE": "/nope.pem"},
            '✗ invalid SSL_CERT_FILE: "/nope.pem" can\'t be read: No such file or directory',
        ),
        (
            {"x.pem": "no"},
            [],
            _URL | {"SSL_CERT_FILE": "x.pem"},
            '✗ invalid SSL_CERT_FILE: got "x.pem", expected a PEM file with certificates',
        ),
        (
            {".env": "SSL_CERT_FILE=/nope.pem"},
            [],
            _URL,
            '✗ invalid SSL_CERT_FILE: "/nope.pem" can\'t be read',
        ),
        (
            {},
            [],
            _URL | {"SSL_CERT_DIR": "/nope"},
            '✗ invalid SSL_CERT_DIR: got "/nope", expected a directory',
        ),
    ],
)
def test_a_wrong_start(
    here: Path, files: dict[str, str], arguments: list[str], variables: dict[str, str], told: str
) -> None:
    for name, text in files.items():
        (here / name).write_text(text)
    done = _invoke(*arguments, **variables)
    assert done.exit_code == 1
    assert told in done.stderr
    assert "canary" not in done.stderr
    assert "python-dotenv" not in done.stderr


@pytest.mark.parametrize(
    "variables", [{"LOG_FORMAT": "json"}, {"LOG_FORMAT": "auto"}, {"LOG_FORMAT": ""}]
)
@pytest.mark.parametrize("env_file", ["UPSTREAM_APIKEY=1\n", "LOG_FORMAT=json\nPORT=http\n", None])
def test_what_fails_in_json_is_json(
    here: Path, variables: dict[str, str], env_file: str | None
) -> None:
    """Without a terminal JSON is the form of the log."""
    if env_file is not None:
        (here / ".env").write_text(env_file)
    lines = [json.loads(line) for line in _invoke(**variables).stderr.splitlines()]
    assert lines[0]["event"] == (".env file read" if env_file else ".env file not found")
    assert (lines[-1]["event"], lines[-1]["level"]) == ("start failed", "error")
    assert "UPSTREAM_BASE_URL is required" in lines[-1]["reason"]


def test_a_server_with_a_configuration_file_by_its_option(
    command: Command, upstream: ScriptedUpstream
) -> None:
    (command.home / "a.yaml").write_text(
        f"upstreams: {{a: {{url: '{upstream.url}', provider: generic}}}}"
    )
    upstream.then(answers(completion()))
    with command.serving("-c", "a.yaml", LOG_FORMAT="json") as server:
        assert (
            httpx.post(f"{server.address}/v1/messages", json=REQUEST, trust_env=False).status_code
            == 200
        )
        _, log = server.end()
    assert all(json.loads(line) for line in log.splitlines())


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize("form", ["json", "console"])
def test_the_log_is_utf_8(
    command: Command, upstream: ScriptedUpstream, encoding: str, form: str
) -> None:
    upstream.then(answers(completion()))
    with command.serving(
        UPSTREAM_BASE_URL=upstream.url, LOG_FORMAT=form, PYTHONIOENCODING=encoding, PYTHONUTF8="0"
    ) as server:
        httpx.post(
            f"{server.address}/v1/messages", json=REQUEST | {"model": "modèle-模"}, trust_env=False
        )
        server.process.terminate()
        server.process.wait(DEADLINE)
        log = server.log.read_bytes().decode("utf-8")
    assert "modèle-模" in log


def test_an_env_file_names_the_http_proxy(command: Command, upstream: ScriptedUpstream) -> None:
    """Variables that libraries read count in the file as well."""
    (command.home / ".env").write_text("HTTP_PROXY=http://127.0.0.1:9\n")
    with command.serving(UPSTREAM_BASE_URL="http://192.0.2.1") as server:
        answer = httpx.post(
            f"{server.address}/v1/messages", json=REQUEST, trust_env=False, timeout=DEADLINE
        )
    assert "can't be reached: the HTTP proxy of HTTP_PROXY, HTTPS_PROXY or ALL_" in answer.text


# The server's answers.


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        (
            "POST",
            "/v1/chat/completions",
            404,
            "this server provides the Messages API: POST /v1/messages",
        ),
        (
            "POST",
            "/chat/completions",
            404,
            "this server provides the Messages API: POST /v1/messages",
        ),
        ("POST", "/v1/responses", 404, "this server provides the Messages API: POST /v1/messages"),
        ("POST", "/api/chat", 404, "this server provides the Messages API: POST /v1/messages"),
        ("POST", "/v1/messages/batches", 404, "this server has no Message Batches API"),
        ("GET", "/v1/v1/messages/batches/x/results", 404, "this server has no Message Batches API"),
        ("POST", "/v1/files", 404, "this server has no Files API"),
        ("POST", "/v1/complete", 404, "this server has no Text Completions API"),
        ("GET", "/v1/nothing", 404, "this server has no such path"),
        ("GET", "/api/hello", 200, "hello"),
        ("HEAD", "/api/hello", 200, ""),
        ("POST", "/v1/messages/", 400, "max_tokens"),
        ("POST", "/v1/messages/count_tokens/", 400, "Field required"),
        ("POST", "/v1/messages//", 404, "no such path"),
    ],
)
def test_paths(proxy: str, method: str, path: str, status: int, text: str) -> None:
    answer = httpx.request(
        method, proxy + path, json={} if method == "POST" else None, trust_env=False
    )
    assert (answer.status_code, text in answer.text) == (status, True)


def test_models_with_a_slash_at_the_end(proxy: str, upstream: ScriptedUpstream) -> None:
    upstream.then(answers({"data": [{"id": "a"}]}))
    assert (
        httpx.get(proxy + "/v1/models/", trust_env=False, timeout=DEADLINE).json()["data"][0]["id"]
        == "a"
    )


@pytest.mark.parametrize(
    ("headers", "hint"),
    [
        ({}, "the client sent no key: "),
        ({"x-api-key": "any"}, "an unknown key (x-api-key: …, 3 characters): "),
        (
            {"authorization": "Bearer sk-ant-oat01-canary0123456789"},
            "(authorization: sk-ant-oat01-…, 29 characters): ",
        ),
        ({"authorization": "Bearer canary0123456789"}, "(authorization: …, 16 characters): "),
    ],
)
def test_an_unknown_key_of_a_client(command: Command, headers: dict[str, str], hint: str) -> None:
    keys = {
        "PROXY_API_KEYS": "alice=canary-other-key",
        "HOST": "127.0.0.1",
        "UPSTREAM_BASE_URL": "http://127.0.0.1:9",
    }
    with command.serving(LOG_FORMAT="json", **keys) as server:
        answer = httpx.post(
            f"{server.address}/v1/messages", json=REQUEST, headers=headers, trust_env=False
        )
        _, log = server.end()
    (line,) = (
        line for line in map(json.loads, log.splitlines()) if line["event"] == "request finished"
    )
    assert (answer.status_code, line["level"]) == (401, "warning")
    assert (
        hint + "set ANTHROPIC_AUTH_TOKEN to a key of PROXY_API_KEYS or PROXY_API_KEYS_FILE"
        in line["hint"]
    )
    assert "canary" not in log


@pytest.mark.parametrize(
    ("script", "body", "level"),
    [
        (answers(completion()), {}, "info"),
        (None, {"max_tokens": "x"}, "info"),
        (answers({"error": {"message": "no"}}, 429), {}, "warning"),
        (answers({"error": {"message": "no"}}, 402), {}, "warning"),
        (answers({"error": {"message": "no"}}, 500), {}, "error"),
        (streams([text_chunks("a")[0]], done=False), {"stream": True}, "error"),
    ],
)
def test_levels(
    command: Command, upstream: ScriptedUpstream, script: Any, body: dict[str, Any], level: str
) -> None:
    if script is not None:
        upstream.then(script)
    with command.serving(LOG_FORMAT="json", UPSTREAM_BASE_URL=upstream.url) as server:
        httpx.post(
            f"{server.address}/v1/messages", json=REQUEST | body, trust_env=False, timeout=DEADLINE
        )
        _, log = server.end()
    (line,) = (
        line for line in map(json.loads, log.splitlines()) if line["event"] == "request finished"
    )
    assert line["level"] == level


@pytest.mark.parametrize(
    ("variables", "is_shown"),
    [
        ({}, True),
        ({"PROXY_API_KEYS": "a=k"}, False),
        ({"UPSTREAM_BASE_URL": "http://a.internal;http://b.internal"}, False),
    ],
)
def test_who_sees_the_address_of_an_upstream(*, variables: dict[str, str], is_shown: bool) -> None:
    places: dict[str, Any] = {"UPSTREAM_BASE_URL": "http://gpu.internal:8000"}
    settings = Settings(_env_file=None, **places | variables)
    first = load_routing(settings).upstreams[0]
    assert first.name == ("gpu.internal:8000" if is_shown else "private-1")
    assert first.has_public_address is is_shown


def test_the_log_has_the_address_that_clients_do_not_see(command: Command) -> None:
    """Of a name that can't be resolved; with keys clients are told another one."""
    variables = {
        "UPSTREAM_BASE_URL": "http://no-such-host.invalid",
        "PROXY_API_KEYS": "a=k",
        "HOST": "127.0.0.1",
    }
    with command.serving(LOG_FORMAT="json", **variables) as server:
        headers = {"x-api-key": "k"}
        answer = httpx.post(
            f"{server.address}/v1/messages",
            json=REQUEST,
            headers=headers,
            trust_env=False,
            timeout=DEADLINE,
        )
        _, log = server.end()
    lines = [
        line
        for line in map(json.loads, log.splitlines())
        if line.get("level") in ("warning", "error")
    ]
    assert "The upstream private-1 has no address" in answer.text
    urls = [
        line.get("url") or line.get("upstream_url")
        for line in lines
        if "has no address" in json.dumps(line)
    ]
    assert len(urls) >= 2
    assert set(urls) == {"http://no-such-host.invalid/v1"}


@pytest.mark.parametrize(
    ("variables", "address", "lines"),
    [
        (
            {},
            "http://127.0.0.1:1",
            ["http://127.0.0.1:1 (this machine only)", "need no key", "=any claude --model MODEL"],
        ),
        (
            {"PROXY_API_KEYS": "a=k"},
            "http://0.0.0.0:1",
            ["http://localhost:1 ANTHROPIC_AUTH_TOKEN=YOUR-KEY", "need a key"],
        ),
        (
            {"MODEL_MAP": "*=x", "HOST": "::"},
            "http://[::]:1",
            ["http://localhost:1 ANTHROPIC_AUTH_TOKEN=any claude"],
        ),
        ({"UPSTREAM_API_KEY": "canary1;canary2"}, "unix:/x", ["unix:/x", "key 2 keys"]),
        ({"UPSTREAM_API_KEY_PASSTHROUGH": True}, "unix:/x", ["key the client's"]),
    ],
)
def test_the_banner(variables: dict[str, Any], address: str, lines: list[str]) -> None:
    settings = Settings(_env_file=None, **{"UPSTREAM_BASE_URL": "http://a:1"} | variables)
    text = render_banner(settings, load_routing(settings), address)
    assert [line for line in lines if line not in text] == []
    assert "http://a:1/v1, key" in text
    assert ("Claude Code" in text) is address.startswith("http")
    assert "canary" not in text


# Ports, files of the background server.


def test_a_port_of_another_anthropic_proxy(command: Command, upstream: ScriptedUpstream) -> None:
    with command.serving("--host", "127.0.0.1", UPSTREAM_BASE_URL=upstream.url) as server:
        port = server.address.rpartition(":")[2]
        done = command.run("--host", "127.0.0.1", "-p", port, UPSTREAM_BASE_URL=upstream.url)
        pid = server.process.pid
    assert done.returncode == 1
    reason = (
        f"PID {pid} is an anthropic-proxy: stop it with `kill {pid}`, "
        "or choose another port with --port or PORT"
    )
    assert (
        done.stderr.splitlines()[-1]
        == f"✗ can't listen on 127.0.0.1:{port}: Address already in use; {reason}"
    )


def test_a_port_of_nobody_that_can_be_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(port_owner, "_PROC", tmp_path)
    assert port_owner.describe_port_conflict("127.0.0.1", 1).startswith(
        "another program listens on this port: stop it, or choose another port"
    )


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
@pytest.mark.parametrize(
    ("used", "wanted", "is_owner"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.2", "127.0.0.1", False),
        ("127.0.0.1", "0.0.0.0", True),  # noqa: S104
        ("0.0.0.0", "127.0.0.1", True),  # noqa: S104
        ("127.0.0.1", "::", True),
        ("::", "127.0.0.1", True),
        ("::1", "127.0.0.1", False),
        ("127.0.0.1", "::1", False),
        ("::1", "::1", True),
        ("127.0.0.1", "::ffff:127.0.0.1", True),
        ("0.0.0.0", "::1", False),  # noqa: S104
    ],
)
def test_the_owner_of_an_address(used: str, wanted: str, *, is_owner: bool) -> None:
    """A program on another address of the same port is not in the way."""
    family = socket.AF_INET6 if ":" in used else socket.AF_INET
    with socket.create_server((used, 0), family=family, dualstack_ipv6=used == "::") as server:
        owner = port_owner.find_port_owner(wanted, server.getsockname()[1])
    assert (owner is not None and owner.pid == os.getpid()) is is_owner


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_no_owner_is_named_where_several_match() -> None:
    script = (
        "import socket, sys; s = socket.create_server(('127.0.0.2', int(sys.argv[1])));"
        "print(flush=True); input()"
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        command = [sys.executable, "-c", script, str(port)]
        # Its parent is not this process, which would count as the one that started it.
        with subprocess.Popen(
            ["/bin/sh", "-c", '"$@"; true', "sh", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as other:
            assert other.stdout is not None
            other.stdout.readline()
            assert port_owner.find_port_owner("127.0.0.1", port) is not None
            assert port_owner.find_port_owner("::", port) is None
            other.communicate(b"\n", DEADLINE)


def test_the_metrics_port_of_a_server_that_drains(
    command: Command, upstream: ScriptedUpstream
) -> None:
    """Its successor starts at once; one beside a server that is not draining does not."""
    pause = Pause()
    upstream.then(streams([text_chunks("a")[0], pause, *text_chunks("b")]))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    variables = {"UPSTREAM_BASE_URL": upstream.url, "METRICS_PORT": str(port), "HOST": "127.0.0.1"}
    with (
        command.serving(**variables) as server,
        httpx.stream(
            "POST",
            f"{server.address}/v1/messages",
            json=REQUEST | {"stream": True},
            trust_env=False,
        ) as answer,
    ):
        text = answer.iter_text()
        next(text)
        with pytest.raises(AddressInUseError, match="is an anthropic-proxy"):
            open_metrics_listener("127.0.0.1", port)
        server.process.send_signal(signal.SIGTERM)
        until(lambda: refuses_connections(server.address), "it drains")
        listener, is_shared = open_metrics_listener("127.0.0.1", port)
        listener.close()
        assert is_shared
        pause.go.set()
        assert "message_stop" in "".join(text)
        assert server.process.wait(DEADLINE) == 0
    listener, is_shared = open_metrics_listener("127.0.0.1", port)
    listener.close()
    assert not is_shared


def test_the_metrics_port_of_something_else() -> None:
    """An anthropic-proxy that does not drain, on its own port; and a program without HTTP."""
    with open_tcp_listener("127.0.0.1", 0) as other, pytest.raises(AddressInUseError):
        open_metrics_listener("127.0.0.1", other.getsockname()[1])
    with running_proxy("http://127.0.0.1:9") as proxy, pytest.raises(AddressInUseError):
        open_metrics_listener("127.0.0.1", int(proxy.rpartition(":")[2]))


@pytest.mark.parametrize("has_runtime", [True, False])
def test_places_of_the_background_server(
    *, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_runtime: bool
) -> None:
    monkeypatch.setattr(daemon, "_SHARED_DIRECTORY", tmp_path / "tmp")
    monkeypatch.setattr(daemon, "_OLD_PID_FILE", tmp_path / "tmp" / "anthropic-proxy.pid")
    (tmp_path / "tmp").mkdir()
    (tmp_path / "run").mkdir()
    environment = (
        {"XDG_RUNTIME_DIR": str(tmp_path / "run")}
        if has_runtime
        else {"XDG_RUNTIME_DIR": "relative"}
    )
    of_user = tmp_path / "tmp" / f"anthropic-proxy-{os.getuid()}.pid"
    first = tmp_path / "run" / "anthropic-proxy.pid" if has_runtime else of_user
    assert daemon.default_pid_files(environment)[0] == daemon.find_pid_file(environment) == first
    # The place of all users, where servers of before have theirs.
    old = daemon.PidFile.acquire(tmp_path / "tmp" / "anthropic-proxy.pid")
    old.write(1234)
    assert daemon.find_pid_file(environment) == old.path
    assert daemon.read_status(old.path).running == 1234
    old.release()
    assert daemon.find_pid_file(environment) == first


def test_places_of_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    place = daemon.choose_log_file({})
    assert place == tmp_path / ".local/state/anthropic-proxy/anthropic-proxy.log"
    assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700
    assert (
        daemon.choose_log_file({"XDG_STATE_HOME": str(tmp_path / "s")})
        == tmp_path / "s/anthropic-proxy/anthropic-proxy.log"
    )
    (tmp_path / "file").touch()
    unusable = daemon.choose_log_file({"XDG_STATE_HOME": str(tmp_path / "file")})
    assert unusable.name == f"anthropic-proxy-{os.getuid()}.log"


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"pid": 1, "upstreams": 1}', '{"pid": 7}', "x" * 100_000]
)
def test_details_that_are_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.pid"
    (tmp_path / "a.pid.json").write_text(text)
    assert daemon.ServerDetails.read(path, 7) is None
    details = daemon.ServerDetails(7, "http://a", ("http://b",), "l", 1.0)
    details.write(path)
    assert daemon.ServerDetails.read(path, 7) == details
    assert daemon.ServerDetails.read(path, 8) is None
