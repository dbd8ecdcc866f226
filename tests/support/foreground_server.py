"""Replace `anthropic-proxy` in the commands of pages, whose readers have several terminals.

A server in the foreground continues in the background when its upstreams are probed, so that the
next command can use it. The next server in the foreground replaces it. Other commands run
unchanged.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

_COMMANDS = ("status", "stop", "demo", "keys")
_WITHOUT_SERVER = ("--daemon", "--help", "--version", "-V", "-h")
_START_SECONDS = 60
# The probe of an upstream that does not respond takes longer.
_PROBE_SECONDS = 5
_POLL_SECONDS = 0.02


def stop(directory: Path) -> None:
    """Stop the server in the foreground that an earlier command started, if any."""
    pid_file = directory / "foreground.pid"
    if not pid_file.exists():
        return
    pid = int(pid_file.read_text())
    pid_file.unlink()
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    while _is_running(pid):
        time.sleep(_POLL_SECONDS)


def main(directory: Path, arguments: list[str]) -> int:
    """Run `anthropic-proxy` with these arguments, and return its exit code."""
    command = [sys.executable, "-m", "anthropic_proxy", *arguments]
    if any(each in arguments for each in (*_COMMANDS, *_WITHOUT_SERVER)):
        return subprocess.run(command, check=False).returncode
    stop(directory)
    output = directory / "foreground.log"
    with output.open("wb") as stream:
        server = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _wait(server, output, "server started", _START_SECONDS)
    _wait(server, output, "upstream probed", _PROBE_SECONDS)
    sys.stdout.write(output.read_text())
    if server.returncode is not None:
        return server.returncode
    (directory / "foreground.pid").write_text(str(server.pid))
    server.returncode = 0  # the server outlives this process on purpose
    return 0


def _is_running(pid: int) -> bool:
    """Return False for a zombie too: in a container, nothing may wait for it."""
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)],  # noqa: S607 - the path differs between systems
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    return bool(state) and not state.startswith("Z")


def _wait(server: subprocess.Popen[bytes], output: Path, text: str, seconds: float) -> None:
    """Wait until the output has `text`, the server ends or the time is over."""
    end = time.monotonic() + seconds
    while text not in output.read_text() and server.poll() is None and time.monotonic() < end:
        time.sleep(_POLL_SECONDS)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
