"""Reload of a changed configuration in a running server."""

import asyncio
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path, PurePath
from unittest import mock

import httpx
import pytest

from anthropic_proxy.config.settings import Settings, load_settings
from anthropic_proxy.server import configuration
from anthropic_proxy.server.reload import Reloader, WatchedFiles
from tests.support.running_command import REQUEST, Command, Running, until
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
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


@pytest.fixture
def second_upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as running:
        yield running


def _request_text(server: Running) -> str:
    response = httpx.post(
        f"{server.address}/v1/messages", json=REQUEST, timeout=DEADLINE, trust_env=False
    )
    return str(response.json()["content"][0]["text"])


def _wait_for_log(server: Running, text: str) -> None:
    until(lambda: text in server.log.read_text(), f"{text!r} is logged")


def _write_env_file(command: Command, upstream: ScriptedUpstream, *lines: str) -> None:
    text = "\n".join(
        [f"UPSTREAM_BASE_URL={upstream.url}", "UPSTREAM_API_KEY=key-of-the-first-upstream", *lines]
    )
    (command.home / ".env").write_text(text)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_signal_reloads_the_configuration(
    command: Command, upstream: ScriptedUpstream, second_upstream: ScriptedUpstream, workers: str
) -> None:
    """Open streams continue, and new requests use the new upstream."""
    pause = Pause()
    first, *rest = text_chunks("Hel", "lo")
    upstream.then(streams([first, pause, *rest]))
    second_upstream.then(*[answers(completion("from the other"))] * 8)
    _write_env_file(command, upstream)
    stream = REQUEST | {"stream": True}
    with (
        command.serving(WORKERS=workers, RELOAD_INTERVAL="0") as server,
        httpx.stream(
            "POST", f"{server.address}/v1/messages", json=stream, timeout=DEADLINE, trust_env=False
        ) as response,
    ):
        received = response.iter_text()
        next(received)
        _write_env_file(command, second_upstream, "PORT=1")
        server.process.send_signal(signal.SIGHUP)
        until(
            lambda: server.log.read_text().count("config reloaded") == int(workers),
            "all have reloaded",
        )
        assert [_request_text(server) for _ in range(4)] == ["from the other"] * 4
        pause.go.set()
        assert "event: message_stop" in "".join(received)
        log = server.log.read_text()
    assert "restart-only settings changed" not in log  # the flag -p overrides PORT


_EXPONENTIAL_ALIASES = "a0: &a0 lol\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)


@pytest.mark.parametrize(
    "invalid_text",
    ["upstreams: {a: {ur", _EXPONENTIAL_ALIASES],
    ids=["truncated", "nested-aliases"],
)
def test_changed_files_are_reloaded(
    command: Command,
    upstream: ScriptedUpstream,
    second_upstream: ScriptedUpstream,
    invalid_text: str,
) -> None:
    """The file is a symbolic link whose target changes, as in a mounted ConfigMap."""
    versions = [command.home / "one", command.home / "two", command.home / "three"]
    texts = [
        f"upstreams: {{a: {{url: '{upstream.url}', key_file: key, provider: generic}}}}",
        invalid_text,
        "",
    ]
    texts[2] = texts[0].replace(upstream.url, second_upstream.url)
    for directory, text in zip(versions, texts, strict=True):
        directory.mkdir()
        (directory / "upstreams.yaml").write_text(text)
        (directory / "key").write_text("canary-key")
    data = command.home / "data"
    upstream.then(answers(completion("one")), answers(completion("one again")))
    second_upstream.then(answers(completion("three")), answers(completion("three again")))

    def switch(directory: Path) -> None:
        (command.home / "new").symlink_to(directory)
        (command.home / "new").rename(data)

    switch(versions[0])
    config = str(data / "upstreams.yaml")
    with command.serving(CONFIG_FILE=config, RELOAD_INTERVAL="0.02", HOST="127.0.0.1") as server:
        assert _request_text(server) == "one"
        switch(versions[1])
        _wait_for_log(server, "config reload failed")
        assert _request_text(server) == "one again"
        ready = httpx.get(f"{server.address}/readyz", trust_env=False)
        assert (ready.status_code, "[-]config failed" in ready.text) == (200, True)
        switch(versions[2])
        _wait_for_log(server, "config reloaded")
        assert _request_text(server) == "three"
        (versions[2] / "key").write_text("canary-renewed")
        until(
            lambda: server.log.read_text().count("config reloaded") == 2,
            "the key is reloaded",
        )
        assert _request_text(server) == "three again"
        assert "[+]config ok" in httpx.get(f"{server.address}/readyz", trust_env=False).text
        log = server.log.read_text()
    assert [received.headers["authorization"] for received in second_upstream.requests] == [
        "Bearer canary-key",
        "Bearer canary-renewed",
    ]
    assert "canary" not in log


def test_the_server_is_not_ready_after_a_failed_reload_if_required(
    command: Command, upstream: ScriptedUpstream
) -> None:
    _write_env_file(command, upstream)
    with command.serving(READY_REQUIRES="config;upstream", RELOAD_INTERVAL="0") as server:
        assert httpx.get(f"{server.address}/readyz", trust_env=False).status_code == 200
        (command.home / ".env").write_text("UPSTREAM_BASE_URL=ftp://nothing")
        server.process.send_signal(signal.SIGHUP)
        _wait_for_log(server, "config reload failed")
        assert httpx.get(f"{server.address}/readyz", trust_env=False).status_code == 503
        assert httpx.get(f"{server.address}/livez", trust_env=False).status_code == 200


def test_settings_that_need_a_restart_are_logged(
    command: Command, upstream: ScriptedUpstream
) -> None:
    _write_env_file(command, upstream)
    with command.serving(RELOAD_INTERVAL="0") as server:
        _write_env_file(command, upstream, "HOST=127.0.0.9", "WORKERS=2")
        server.process.send_signal(signal.SIGHUP)
        _wait_for_log(server, "config reloaded")
        assert "restart-only settings changed" in server.log.read_text()
        assert "HOST, WORKERS" in server.log.read_text()


def test_a_configuration_is_parsed_in_a_thread(tmp_path: Path) -> None:
    """The thread ends only if the event loop continues during the parsing."""
    parsing, resume = threading.Event(), threading.Event()
    file = tmp_path / "upstreams.yaml"
    file.write_text("upstreams: {a: {url: 'http://127.0.0.1:1', provider: generic}}")
    settings = load_settings(None, {"CONFIG_FILE": str(file)})
    results: list[str | None] = []

    def read() -> Settings:
        parsing.set()
        assert resume.wait(DEADLINE)
        return settings

    async def main() -> None:
        done = asyncio.Event()

        def on_end(error: str | None) -> None:
            results.append(error)
            done.set()

        reloader = Reloader(read, mock.AsyncMock(), mock.Mock())
        reloader.reload_requested.set()
        running = asyncio.create_task(reloader.run(settings, WatchedFiles(), on_end))
        assert await asyncio.to_thread(parsing.wait, DEADLINE)
        resume.set()
        await asyncio.wait_for(done.wait(), DEADLINE)
        running.cancel()

    asyncio.run(main())
    assert results == [None]


def test_files_are_parsed_in_a_thread(tmp_path: Path) -> None:
    file = tmp_path / "upstreams.yaml"
    file.write_text("upstreams: {a: {url: 'http://127.0.0.1:1', provider: generic, key_file: key}}")
    (tmp_path / "key").write_text("secret")
    (tmp_path / "keys.json").write_text('{"keys": []}')
    settings = load_settings(
        None, {"CONFIG_FILE": str(file), "PROXY_API_KEYS_FILE": str(tmp_path / "keys.json")}
    )
    threads: dict[str, int] = {}

    class RecordingFiles(WatchedFiles):
        def read(self, path: PurePath) -> str:
            threads[path.name] = threading.get_ident()
            return super().read(path)

    routing, _ = asyncio.run(configuration.load_routing_and_keys(settings, RecordingFiles()))
    assert [upstream.name for upstream in routing.upstreams] == ["a"]
    assert set(threads) == {"upstreams.yaml", "key", "keys.json"}
    assert threading.get_ident() not in threads.values()


def test_changed_files_are_detected(tmp_path: Path) -> None:
    existing, missing, later = tmp_path / "here", tmp_path / "missing", tmp_path / "later"
    existing.write_text("text")
    files = WatchedFiles()
    assert files.read(existing) == "text"
    files.watch([missing, later, None])
    assert files.paths == [existing, missing, later]
    assert not files.has_changed()
    later.write_text("")
    assert files.has_changed()
    files.watch([later])
    assert not files.has_changed()
    shutil.copy2(existing, tmp_path / "copy")
    (tmp_path / "copy").rename(existing)
    assert files.has_changed(), "the same times and size, but another file"


def test_client_keys_are_reloaded(command: Command, upstream: ScriptedUpstream) -> None:
    """A key is revoked without a restart, and an invalid file revokes none."""
    path = command.home / "keys.json"
    alice = command.run("keys", "create", "alice", PROXY_API_KEYS_FILE=str(path)).stdout.strip()
    _write_env_file(command, upstream, f"PROXY_API_KEYS_FILE={path}")

    def status(server: Running) -> int:
        return httpx.get(
            f"{server.address}/v1/none", headers={"x-api-key": alice}, trust_env=False
        ).status_code

    with command.serving(RELOAD_INTERVAL="0.05", HOST="::") as server:
        assert status(server) == 404
        valid = path.read_bytes()
        path.write_text("{")
        _wait_for_log(server, "config reload failed")
        assert status(server) == 404
        path.write_bytes(valid)
        assert command.run("keys", "revoke", "alice").returncode == 0
        until(lambda: status(server) == 401, "the key is revoked")
        assert "server exposed without keys" not in server.log.read_text()


def test_a_server_exposed_without_keys_is_logged(
    command: Command, upstream: ScriptedUpstream
) -> None:
    _write_env_file(command, upstream)
    with command.serving(HOST="::") as server:
        _wait_for_log(server, "server exposed without keys")
    with command.serving(HOST="127.0.0.1") as server:
        _, log = server.end()
        assert "server exposed without keys" not in log


def test_without_keys_the_server_listens_on_this_host(
    command: Command, upstream: ScriptedUpstream
) -> None:
    """This includes the metrics port. With keys, a restart opens the server to other hosts."""
    _write_env_file(command, upstream)
    with command.serving(RELOAD_INTERVAL="0", METRICS_PORT="0") as server:
        assert server.address.startswith("http://127.0.0.1:")
        assert "http://127.0.0.1:" in next(
            line for line in server.log.read_text().splitlines() if "/metrics" in line
        )
        _wait_for_log(server, "server restricted to this host")
        _write_env_file(command, upstream, "PROXY_API_KEYS=a-key-that-is-long-enough")
        server.process.send_signal(signal.SIGHUP)
        _wait_for_log(server, "restart-only settings changed")
        assert "HOST (127.0.0.1 without keys, else 0.0.0.0)" in server.log.read_text()
    with command.serving() as server:
        assert server.address.startswith("http://0.0.0.0:")
        assert "server restricted to this host" not in server.end()[1]


def test_the_last_key_does_not_go_where_all_addresses_are_served(
    command: Command, upstream: ScriptedUpstream
) -> None:
    key = "PROXY_API_KEYS=a-key-that-is-long-enough"
    _write_env_file(command, upstream, key)
    with command.serving(RELOAD_INTERVAL="0") as server:
        address = server.address.replace("0.0.0.0", "127.0.0.1")  # noqa: S104 - as it is logged
        _write_env_file(command, upstream)
        server.process.send_signal(signal.SIGHUP)
        _wait_for_log(server, "has listened on all addresses since it started")
        assert httpx.get(f"{address}/v1/models", trust_env=False).status_code == 401
        _write_env_file(command, upstream, "HOST=0.0.0.0")
        server.process.send_signal(signal.SIGHUP)
        _wait_for_log(server, "config reloaded")
    _write_env_file(command, upstream)
    with command.serving(RELOAD_INTERVAL="0") as server:
        _write_env_file(command, upstream, key)
        server.process.send_signal(signal.SIGHUP)
        until(lambda: server.log.read_text().count("config reloaded") == 1, "it has a key")
        _write_env_file(command, upstream)
        server.process.send_signal(signal.SIGHUP)
        until(
            lambda: server.log.read_text().count("config reloaded") == 2,
            "it has none, as at its start",
        )


def test_short_keys_are_reported(command: Command, upstream: ScriptedUpstream) -> None:
    _write_env_file(command, upstream)
    with command.serving(PROXY_API_KEYS="alice=canary1;bob=0123456789") as server:
        _wait_for_log(server, "short client keys found")
        _, log = server.end()
        assert "names=alice" in log
        assert "canary1" not in log
