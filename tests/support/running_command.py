"""The command `anthropic-proxy` in separate processes, with a separate home directory."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.support.scripted_upstream import DEADLINE

_POLL_SECONDS = 0.01
# In the two forms of the log.
_LISTENING = re.compile(
    r'server started +address=(?P<console>\S+)|"address":"(?P<json>[^"]+)","version"'
)

REQUEST: dict[str, Any] = {
    "model": "m",
    "max_tokens": 5,
    "messages": [{"role": "user", "content": "hi"}],
}


def until(condition: Callable[[], Any], what: str, seconds: float = DEADLINE) -> Any:
    """The first true value of `condition`, which is asked again and again."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what}: did not happen"
        time.sleep(_POLL_SECONDS)
    return value


def refuses_connections(address: str) -> bool:
    """Whether nobody listens at a base URL."""
    url = urlsplit(address)
    try:
        socket.create_connection((url.hostname, url.port), timeout=DEADLINE).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        # It stopped to listen while this one waited to be accepted: the next one will tell.
        return False
    return False


@dataclass(frozen=True)
class Running:
    """A server in the foreground, and the file that its standard error goes to."""

    process: subprocess.Popen[bytes]
    log: Path
    address: str

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Signal it; its exit code and all that it logged, once it has ended."""
        self.process.send_signal(number)
        return self.process.wait(DEADLINE), self.log.read_text()


class Command:
    """`home` is its home and working directory; variables extend the test's environment."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.pid_file = home / "proxy.pid"

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        return subprocess.run(
            _command(arguments),
            cwd=self.home,
            env=self.environment(variables),
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )

    def popen(
        self, *arguments: str, stderr: Any = None, **variables: str
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            _command(arguments),
            cwd=self.home,
            env=self.environment(variables),
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )

    @contextlib.contextmanager
    def serving(self, *arguments: str, **variables: str) -> Iterator[Running]:
        """A server in the foreground, on a free port, that accepts connections."""
        log = self.home / "stderr.txt"
        with log.open("wb") as stderr:
            process = self.popen("-p", "0", *arguments, stderr=stderr, **variables)

        def address() -> str | None:
            assert process.poll() is None, log.read_text()
            found = _LISTENING.search(log.read_text())
            return found["console"] or found["json"] if found else None

        try:
            yield Running(process, log, until(address, "the server listens"))
        finally:
            process.kill()
            process.wait(DEADLINE)

    def environment(self, variables: dict[str, str]) -> dict[str, str]:
        # Scripted upstreams are not asked what they are.
        return {
            **os.environ,
            "HOME": str(self.home),
            "UPSTREAM_PROVIDER": "generic",
            "LOG_FORMAT": "console",
            **variables,
        }


def _command(arguments: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-m", "anthropic_proxy", *arguments]
