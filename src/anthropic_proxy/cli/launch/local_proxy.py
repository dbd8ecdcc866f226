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
from anthropic_proxy.config.network_variables import exempt_from_proxies
from anthropic_proxy.demo.guard import ChildError, ChildProcess, run_child
from anthropic_proxy.server import daemon
from anthropic_proxy.wire.json_codec import JsonObject, dumps, loads, loads_object

# The start takes about a second, and the detection of the server software up to two.
_START_SECONDS = 60.0
# Longer than the time that the proxy waits for the lists of its upstreams.
_LIST_SECONDS = 20.0
# Logs of earlier sessions that are kept.
_KEPT_LOGS = 10

# Settings of a server for others. The proxy of an agent listens on a loopback port without TLS, and
# several of them run at the same time.
_SERVER_VARIABLES = frozenset(
    {
        "METRICS_PORT",
        "TLS_CERT_FILE",
        "TLS_CLIENT_CA_FILE",
        "TLS_KEY_FILE",
        "TLS_KEY_PASSWORD",
        "UNIX_SOCKET",
        "WORKERS",
    }
)
# They name models of the configured upstream. OPENROUTER_API_KEY is its default key.
_CONFIGURATION_VARIABLES = frozenset(
    {
        "ANTHROPIC_PROXY_BASE_URL",
        "COMPLETION_MODEL",
        "CONFIG_FILE",
        "MODEL_ALIASES",
        "MODEL_MAP",
        "OPENROUTER_API_KEY",
        "REASONING_MODEL",
    }
)
LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")


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
    variables = {}
    for name, value in environment.items():
        if not _configures_upstream(name) and name.upper() not in _SERVER_VARIABLES:
            variables[name] = value
    variables |= exempt_from_proxies(environment, *LOOPBACK_HOSTS)
    entries: dict[str, dict[str, str]] = {}
    for number, upstream in enumerate(upstreams, 1):
        entries[upstream.name] = {"url": upstream.url}
        if upstream.key_variable:
            variables[f"AGENT_KEY_{number}"] = environment[upstream.key_variable]
            entries[upstream.name]["key"] = f"${{AGENT_KEY_{number}}}"
    path = directory / "upstreams.yaml"
    # JSON is YAML.
    path.write_bytes(dumps({"upstreams": entries}))
    return ProxyStart({**variables, "CONFIG_FILE": str(path)}, _create_env_file(directory))


def reuse_configuration(
    environment: Mapping[str, str],
    from_file: Mapping[str, str],
    directory: Path,
    env_file: Path | None,
    token: str,
) -> ProxyStart:
    """Return the start of a proxy with the upstreams and settings of another server.

    from_file: the variables of `env_file`. If the file has settings of a server for others, its
    variables are passed in the environment, next to an empty file in `directory`: an empty variable
    would not replace one of the file.
    """
    if any(name.upper() in _SERVER_VARIABLES for name in from_file):
        environment = {**from_file, **environment}
        env_file = _create_env_file(directory)
    variables = {}
    for name, value in environment.items():
        if name.upper() not in _SERVER_VARIABLES:
            variables[name] = value
    return ProxyStart(variables, env_file, token)


def _create_env_file(directory: Path) -> Path:
    """Create an empty `.env` file, so that the proxy reads no other one."""
    path = directory / ".env"
    path.touch()
    return path


def _configures_upstream(name: str) -> bool:
    """Return whether a variable configures an upstream or its models."""
    # Names of settings are case-insensitive.
    upper = name.upper()
    return upper.startswith("UPSTREAM_") or upper in _CONFIGURATION_VARIABLES


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
