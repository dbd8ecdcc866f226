"""Run the proxy in its own process, configured by environment variables.

It runs in a new directory with an empty `.env`, so that variables of the user's shell and `.env`
files have no effect. Its port is selected before it starts. If another program takes the port in
the meantime, the start is repeated.
"""

import errno
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from anthropic_proxy.demo.embedded import Server, is_healthy
from anthropic_proxy.demo.guard import ChildError, ProgressCallback, run_child

PROXY_START_SECONDS = 30.0
TRIES = 3
PORT_TAKEN = os.strerror(errno.EADDRINUSE).lower()


@contextmanager
def run_proxy(upstream: str, progress: ProgressCallback | None = None) -> Iterator[Server]:
    """Run a proxy in front of the server at `upstream` until the block ends.

    progress: called with the seconds waited so far. Raises ChildError if the proxy exits or is not
    ready in time.
    """
    for tries_left in reversed(range(TRIES)):
        with ExitStack() as stack:
            try:
                server = _start(stack, upstream, progress)
            except ChildError as error:
                if tries_left and PORT_TAKEN in str(error).lower():
                    continue
                raise
            yield server
            return


def _start(stack: ExitStack, upstream: str, progress: ProgressCallback | None) -> Server:
    directory = Path(
        stack.enter_context(tempfile.TemporaryDirectory(prefix="anthropic-proxy-demo-"))
    )
    (directory / ".env").touch()
    port = str(_find_free_port())
    command = ["anthropic_proxy", "--host", "127.0.0.1", "--port", port]
    child = stack.enter_context(
        run_child("the proxy", command, directory, {"UPSTREAM_BASE_URL": upstream})
    )
    base_url = f"http://127.0.0.1:{port}"
    child.wait_for(lambda: is_healthy(base_url) or None, PROXY_START_SECONDS, progress)
    return Server(base_url, child)


def _find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
