"""A proxy for one agent: a child process on a free loopback port, or the daemon of the user."""

import contextlib
import http.client
import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from anthropic_proxy.cli.launch.discovery import FoundUpstream
from anthropic_proxy.demo.guard import ChildError, ChildProcess, run_child
from anthropic_proxy.server import daemon
from anthropic_proxy.wire.json_codec import JsonObject, dumps, loads, loads_object

# The start takes about a second, and the detection of the server software up to two.
_START_SECONDS = 60.0
# Longer than the time that the proxy waits for the lists of its upstreams.
_LIST_SECONDS = 20.0
# Logs of earlier sessions that are kept.
_KEPT_LOGS = 10


class ListError(Exception):
    """The proxy returned no list of models. The text is the reason."""

    def __init__(self, reason: str, status: int = 0) -> None:
        """Create the error. status: HTTP status; 0 without a response."""
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class LocalProxy:
    """A running proxy."""

    # Without `/v1`.
    base_url: str
    # The key that clients send.
    token: str
    log: str
    # The PID of a daemon; None for a child process.
    pid: int | None = None

    def fetch_models(self) -> list[dict[str, Any]]:
        """Return the entries of `GET /v1/models`. Raises ListError."""
        no_list = f"no list of models from {self.base_url}"
        try:
            status, content = self._get("/v1/models?limit=1000")
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ListError(f"{no_list}: {error}") from error
        body = loads_object(content) or {}
        if status != http.HTTPStatus.OK:
            raise ListError(_read_message(body) or f"{no_list}: status {status}", status)
        entries = body.get("data")
        if not isinstance(entries, list):
            raise ListError(f"{no_list}: not a list", status)
        return [entry for entry in entries if isinstance(entry, dict) and "id" in entry]

    def _get(self, path: str) -> tuple[int, bytes]:
        """Return the status and body of a response. Raises OSError, HTTPException, ValueError."""
        address = urlsplit(self.base_url)
        connect: type[http.client.HTTPConnection] = http.client.HTTPConnection
        if address.scheme == "https":
            connect = http.client.HTTPSConnection
        headers = {"authorization": f"Bearer {self.token}", "anthropic-version": "2023-06-01"}
        with contextlib.closing(connect(address.netloc, timeout=_LIST_SECONDS)) as connection:
            connection.request("GET", address.path + path, headers=headers)
            response = connection.getresponse()
            return response.status, response.read()


@dataclass(frozen=True)
class ProxyStart:
    """How to start a proxy."""

    environment: Mapping[str, str]
    # The `.env` file; None for the default one.
    env_file: Path | None = None
    # The key that clients send. If it is empty, the proxy accepts only a new random key, so that
    # other users of the machine cannot use the upstream.
    token: str = ""


def configure_upstreams(
    upstreams: Sequence[FoundUpstream], environment: Mapping[str, str], directory: Path
) -> ProxyStart:
    """Return the start of a proxy with these upstreams and default settings.

    Writes an empty `.env` file and a configuration file to `directory`. The latter contains the
    names of variables with the keys, not the keys. Settings of another upstream do not count,
    because its key must not be sent to these ones.
    """
    variables = {name: value for name, value in environment.items() if not _selects_upstream(name)}
    entries: dict[str, dict[str, str]] = {}
    for number, upstream in enumerate(upstreams, 1):
        entries[upstream.name] = {"url": upstream.url}
        if upstream.key_variable:
            variables[f"AGENT_KEY_{number}"] = environment[upstream.key_variable]
            entries[upstream.name]["key"] = f"${{AGENT_KEY_{number}}}"
    path = directory / "upstreams.yaml"
    # JSON is YAML.
    path.write_bytes(dumps({"upstreams": entries}))
    env_file = directory / ".env"
    env_file.touch()
    return ProxyStart({**variables, "CONFIG_FILE": str(path)}, env_file)


def _selects_upstream(name: str) -> bool:
    """Return whether a variable configures an upstream. OPENROUTER_API_KEY is its default key."""
    return name.startswith("UPSTREAM_") or name in {
        "ANTHROPIC_PROXY_BASE_URL",
        "CONFIG_FILE",
        "OPENROUTER_API_KEY",
    }


@contextmanager
def run_local_proxy(start: ProxyStart) -> Iterator[LocalProxy]:
    """Run a proxy on a free port of 127.0.0.1 until the block ends.

    Raises ChildError if the proxy exits, for example because of an invalid setting.
    """
    environment = {**start.environment, "LOG_FORMAT": "json"}
    token = start.token
    if not token:
        token = secrets.token_urlsafe(24)
        environment["PROXY_API_KEYS"] = f"agent={token}"
    command = ["anthropic_proxy", "--host", "127.0.0.1", "--port", "0"]
    if start.env_file is not None:
        command += ["--config", str(start.env_file)]
    log = _choose_log()
    with run_child("the proxy", command, Path.cwd(), environment, log) as child:
        try:
            address = child.wait_for(lambda: _find_address(child), _START_SECONDS)
        except ChildError as error:
            reason = _find_failure(child)
            raise ChildError(f"the proxy did not start: {reason}" if reason else error) from error
        yield LocalProxy(address, token, str(log))


def find_daemon(token: str) -> LocalProxy | None:
    """Return the daemon of this user; None if none is running or its address is unknown."""
    if not hasattr(os, "getuid"):
        return None
    pid_file = daemon.find_pid_file(os.environ)
    try:
        pid = daemon.read_status(pid_file).running
    except daemon.DaemonError:
        return None
    details = daemon.ServerDetails.read(pid_file, pid) if pid is not None else None
    if details is None or not details.address.startswith("http://"):
        return None
    return LocalProxy(_to_loopback(details.address), token, details.log, pid)


def read_events(log: Path, *names: str) -> Iterator[dict[str, Any]]:
    """Return the events with these names from the log of a proxy in JSON."""
    for record in _read_records(log.read_text(encoding="utf-8", errors="replace")):
        if record.get("event") in names:
            yield record


def read_probe_results(log: Path) -> list[str]:
    """Return the last result of probing each upstream, from the log of a proxy in JSON."""
    results: dict[str, str] = {}
    for event in read_events(log, "upstream probed"):
        results[str(event.get("url"))] = f"{event.get('url')}: {event.get('result')}"
    return list(results.values())


def _read_message(body: JsonObject) -> str:
    """Return the message of an error in the form of the API; empty for other bodies."""
    error = body.get("error")
    return str(error.get("message", "")) if isinstance(error, dict) else ""


def _to_loopback(address: str) -> str:
    """Return the address for clients on this machine of a server that listens on all addresses."""
    return address.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")


def _find_address(child: ChildProcess) -> str | None:
    for record in _read_records(child.read_output()):
        if record.get("event") == "server started":
            return str(record["address"])
    return None


def _find_failure(child: ChildProcess) -> str | None:
    for record in _read_records(child.read_output()):
        if record.get("event") == "start failed":
            return str(record["reason"])
    return None


def _read_records(text: str) -> Iterator[dict[str, Any]]:
    """Return the complete lines of a log that are JSON objects."""
    for line in text.splitlines():
        try:
            record = loads(line)
        except ValueError:
            continue  # a line that is not complete yet, or output of a library
        if isinstance(record, dict):
            yield record


def _choose_log() -> Path:
    """Return a new file for a log, and delete the oldest ones."""
    directory = Path(tempfile.gettempdir())
    if hasattr(os, "getuid"):
        directory = daemon.choose_log_file(os.environ).parent
    logs = sorted(directory.glob("claude-*.log"), key=_modified)
    for old_log in logs[: 1 - _KEPT_LOGS]:
        with contextlib.suppress(OSError):  # another session has deleted it, or still writes it
            old_log.unlink()
    descriptor, path = tempfile.mkstemp(prefix="claude-", suffix=".log", dir=directory)
    os.close(descriptor)
    return Path(path)


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # another session has deleted it
        return 0
