"""The server process: a listening socket, Hypercorn, an event loop. The only Hypercorn import."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable

import hypercorn.asyncio
from hypercorn.config import Config

from anthropic_proxy import __version__
from anthropic_proxy.config import Settings
from anthropic_proxy.dialects import Dialect
from anthropic_proxy.endpoint_client import endpoint_client
from anthropic_proxy.endpoints import Endpoint
from anthropic_proxy.identify import identify, may_be_asked
from anthropic_proxy.observe.logs import Log, configure
from anthropic_proxy.routing import Routing
from anthropic_proxy.server.app import create_app
from anthropic_proxy.topology import configured
from anthropic_proxy.upstream import Upstream

# Seconds that an idle connection is kept: longer than clients keep theirs (five to sixty), so that none is closed just when
# it is used again.
_KEEPALIVE_SECONDS = 75

# Seconds that open answers may go on after SIGTERM.
_DRAIN_SECONDS = 300


class ListenError(Exception):
    """The address can't be listened on; the text says why."""


def run(settings: Settings, on_ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT, then let open answers end. Raises ListenError.

    `on_ready` is told the address (a base URL) once connections are accepted.
    """
    configure(debug=settings.debug or settings.verbose)
    listener = listen(settings.host, settings.port)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_until_signal(settings, listener, on_ready))


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket on `host` (a name or an IPv4 or IPv6 address) and `port` (0: any free one)."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.create_server((str(address[0]), int(address[1])), family=family, backlog=1024)
    except (OSError, UnicodeError) as error:
        raise ListenError(f"can't listen on {host}:{port}: {_reason(error)}") from error
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _reason(error: OSError | UnicodeError) -> str:
    if isinstance(error, UnicodeError):
        return "that is no host name"
    if isinstance(error, socket.gaierror) or not error.errno:
        return error.strerror or str(error)
    return os.strerror(error.errno)


def address_of(listener: socket.socket) -> str:
    """The base URL for `listener`."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def serve(settings: Settings, listener: socket.socket, on_ready: Callable[[str], None], stop: asyncio.Event) -> None:
    """Serve on `listener` until `stop` is set, then let open answers end. `on_ready` as in `run`."""
    known = configured(settings, await _found(configured(settings)))
    log = Log(secrets=known.keys)
    address = address_of(listener)

    async def until_stopped() -> None:
        log.info("listening", address=address, version=__version__)
        for endpoint in known.endpoints:
            log.info("upstream", **_summary(endpoint))
        on_ready(address)
        await stop.wait()
        log.info("stopping", hint="open answers are finished first; a second signal ends them")

    await hypercorn.asyncio.serve(create_app(settings, known), _config(listener), shutdown_trigger=until_stopped)


async def _found(known: Routing) -> dict[str, Dialect]:
    """What the servers say of themselves that nothing else tells of."""
    asked = [endpoint for endpoint in known.endpoints if may_be_asked(endpoint)]
    upstream = Upstream()
    try:
        answers = await asyncio.gather(*(identify(endpoint_client(each, upstream).look) for each in asked))
    finally:
        await upstream.aclose()
    return {endpoint.name: answer for endpoint, answer in zip(asked, answers, strict=True) if answer}


def _summary(endpoint: Endpoint) -> dict[str, str]:
    keys = "the client's" if endpoint.key_passthrough else str(len(endpoint.keys)) if endpoint.keys else "not set"
    return {"name": endpoint.name, "url": endpoint.base, "api": endpoint.api, "dialect": endpoint.dialect.name, "key": keys}


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it can be installed."""
    if sys.platform == "win32" or sys.implementation.name != "cpython":
        return None
    import uvloop  # not installed on the others

    return uvloop.new_event_loop


async def _until_signal(settings: Settings, listener: socket.socket, on_ready: Callable[[str], None]) -> None:
    stop = asyncio.Event()
    serving = asyncio.ensure_future(serve(settings, listener, on_ready, stop))

    def on_signal() -> None:
        """The first one lets open answers end, the second one doesn't."""
        if stop.is_set():
            serving.cancel()
        stop.set()

    # Windows has no such handlers; Ctrl-C ends the process there.
    for number in () if sys.platform == "win32" else (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    with contextlib.suppress(asyncio.CancelledError):
        await serving


def _config(listener: socket.socket) -> Config:
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.graceful_timeout = _DRAIN_SECONDS
    config.keep_alive_timeout = _KEEPALIVE_SECONDS
    # On HTTP/2 the default of 1000 requests closes the connection together with its other streams.
    config.keep_alive_max_requests = 2**31
    config.include_server_header = False
    config.loglevel = "WARNING"
    return config
