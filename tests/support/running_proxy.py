"""The proxy, really served: Hypercorn on a separate socket, in a thread of the test's process."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Any
from unittest import mock

from anthropic_proxy.config.settings import Settings
from anthropic_proxy.server import configuration
from anthropic_proxy.server import main as serve
from tests.support.scripted_upstream import DEADLINE


@contextlib.contextmanager
def running_proxy(
    upstream_url: str | None,
    *,
    identifies: bool = False,
    load: serve.SettingsLoader | None = None,
    **variables: Any,
) -> Iterator[str]:
    """Serve a proxy in front of `upstream_url` (None: the upstreams of CONFIG_FILE); its base URL.

    identifies: the proxy detects the kind of its upstreams at its start, which takes scripts of
    scripted ones. load: reads other settings, when files have changed. variables: settings by name.
    """
    places: dict[str, Any] = {"HOST": "127.0.0.1", "PORT": 0, "UPSTREAM_BASE_URL": upstream_url}
    settings = Settings(_env_file=None, **places | variables)
    ready: list[str] = []
    is_ready = threading.Event()
    loops: list[tuple[asyncio.AbstractEventLoop, serve.ServerControl]] = []

    def on_ready(address: str) -> None:
        ready.append(address)
        is_ready.set()

    async def main() -> None:
        control = serve.ServerControl()
        loops.append((asyncio.get_running_loop(), control))
        asks = (
            contextlib.nullcontext()
            if identifies
            else mock.patch.object(configuration, "should_detect", return_value=False)
        )
        with asks, serve.open_listeners(settings) as listeners:
            await serve.serve(settings, listeners, on_ready, control, load)

    def run() -> None:
        with asyncio.Runner(loop_factory=serve.loop_factory()) as runner:
            runner.run(main())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert is_ready.wait(DEADLINE), "the proxy did not start"
    try:
        yield ready[0]
    finally:
        loop, control = loops[0]
        loop.call_soon_threadsafe(control.stop.set)
        thread.join(DEADLINE)
        assert not thread.is_alive(), "the proxy did not stop"
