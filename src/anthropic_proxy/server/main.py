"""The server process: sockets, an event loop, the application, and an end in good order.

On SIGTERM no connection is accepted any more, open answers go on until they end or their time is over, and only then are
the connections closed. With several WORKERS each of them does that; see `workers`.
"""

import asyncio
import contextlib
import gc
import signal
import socket
import ssl
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from anthropic_proxy import __version__
from anthropic_proxy.api.app import Application
from anthropic_proxy.auth.api_keys import ClientKeys
from anthropic_proxy.config.api_keys import MIN_CHARACTERS, short_keys
from anthropic_proxy.config.keys_file import load_client_keys
from anthropic_proxy.config.settings import Settings
from anthropic_proxy.config.upstreams import load_routing
from anthropic_proxy.gateway.upstream_probe import Sharing
from anthropic_proxy.observability import multiprocess
from anthropic_proxy.observability.log_writer import LogWriter
from anthropic_proxy.observability.logs import Log, configure, is_json, is_terminal
from anthropic_proxy.observability.shortages import is_out_of_files
from anthropic_proxy.providers.profiles import Dialect
from anthropic_proxy.routing.router import Routing
from anthropic_proxy.routing.upstream import Endpoint
from anthropic_proxy.server.banner import banner, key_summary
from anthropic_proxy.server.early_signals import HeldHangup
from anthropic_proxy.server.hypercorn_server import Connections
from anthropic_proxy.server.reload import Files, Reloader
from anthropic_proxy.server.sockets import (
    address_of,
    is_loopback,
    listen,
    listen_for_metrics,
    listen_on_path,
)
from anthropic_proxy.server.supervisor import STOPPING_HINT, Order, Supervisor, Told
from anthropic_proxy.server.tls import Certificates
from anthropic_proxy.upstream.client import endpoint_client
from anthropic_proxy.upstream.detection import identify, may_be_asked
from anthropic_proxy.upstream.http_client import Upstream

Load = Callable[[], Settings]
OnProbed = Callable[[Sequence[str]], None]

_THIS_MACHINE = "for other machines set PROXY_API_KEYS or PROXY_API_KEYS_FILE, or open it without keys by HOST=0.0.0.0"
_NO_KEYS = (
    "clients need no key, and other machines can reach it: "
    "set PROXY_API_KEYS or PROXY_API_KEYS_FILE, or HOST=127.0.0.1"
)


def _ignore(_: object) -> None:
    """Do nothing."""


@dataclass(frozen=True)
class Worker:
    """One of several processes that serve."""

    # From 0. The first one probes the upstreams, and logs what concerns all of them.
    number: int
    # That the processes share.
    directory: str

    @property
    def is_first(self) -> bool:
        """Whether it does what one process does for all."""
        return self.number == 0

    @property
    def probe_sharing(self) -> Sharing:
        """How the outcomes of probes get from the first one to the others."""
        return Sharing(Path(self.directory) / "probes.json", is_prober=self.is_first)


class Control:
    """What connects a running server with its process, within its event loop.

    log_writer: what its log is written by. on_probed: as in `run`. worker: which of several this process is.
    """

    def __init__(
        self,
        log_writer: LogWriter | None = None,
        on_probed: OnProbed = _ignore,
        worker: Worker | None = None,
    ) -> None:
        self.stop = asyncio.Event()
        self.reload = asyncio.Event()
        self.log_writer = log_writer
        self.on_probed = on_probed
        self.worker = worker


def run(
    settings: Settings,
    on_ready: Callable[[str], None],
    load: Load | None = None,
    on_probed: OnProbed = _ignore,
) -> None:
    """Serve until SIGTERM or SIGINT, then let open answers end. Raises ListenError, ConfigError and WorkerError.

    `on_ready` is told the address (a base URL) once connections are accepted. load: reads the settings again; without it
    they stay as they are. on_probed: called with a line for each upstream when they have been probed, and when an outcome
    has changed; of several workers the first one calls it.
    """
    log_writer = configure(
        debug=settings.debug or settings.verbose, form=settings.log_format, in_thread=True
    )
    try:
        _run(settings, on_ready, load, log_writer, on_probed)
    finally:
        _drain(log_writer)


def _run(
    settings: Settings,
    on_ready: Callable[[str], None],
    load: Load | None,
    log_writer: LogWriter | None,
    on_probed: OnProbed,
) -> None:
    _certificates(settings)
    controlled = partial(Control, log_writer, on_probed)
    with listening(settings) as listeners:
        if settings.workers == 1:
            _run_loop(_until_signal(settings, listeners, on_ready, load, controlled))
            return
        address = address_of(listeners.main, tls=settings.tls_cert_file is not None)

        def ready() -> None:
            if _has_banner(settings):
                Log().banner(banner(settings, load_routing(settings), address))
            on_ready(address)

        told = Told(ready=ready, stopping=listeners.main.close, died=multiprocess.died)
        with tempfile.TemporaryDirectory(prefix="anthropic-proxy-") as directory:
            multiprocess.share(directory)

            limited = settings.sharing_limits(directory)

            def work(orders: socket.socket, number: int) -> None:
                worker = Worker(number, directory)
                try:
                    _work(limited, listeners, load, partial(controlled, worker=worker), orders)
                finally:
                    _drain(log_writer)

            Supervisor(settings.workers, work, told, settings.drain_timeout, Log()).run()


@dataclass(frozen=True)
class Listeners:
    """The sockets that are listened on. ops: for probes and metrics alone."""

    main: socket.socket
    ops: socket.socket | None = None


@contextlib.contextmanager
def listening(settings: Settings) -> Iterator[Listeners]:
    """The sockets of the settings. Raises ListenError."""
    ops = (
        None
        if settings.metrics_port is None
        else _metrics_listener(settings.listen_host, settings.metrics_port)
    )
    if settings.unix_socket is None:
        yield Listeners(listen(settings.listen_host, settings.port), ops)
        return
    path = settings.unix_socket.expanduser()
    listener = listen_on_path(path)
    try:
        yield Listeners(listener, ops)
    finally:
        path.unlink(missing_ok=True)


def _metrics_listener(host: str, port: int) -> socket.socket:
    listener, is_shared = listen_for_metrics(host, port)
    if is_shared:
        hint = "until it has ended, each of the two gets some of the scrapes and probes"
        Log().warning("metrics port shared with a server that is draining", port=port, hint=hint)
    return listener


async def serve(
    settings: Settings,
    listeners: Listeners,
    on_ready: Callable[[str], None],
    control: Control,
    load: Load | None = None,
) -> None:
    """Serve on `listeners`, which are closed in the end, until `control.stop` is set; then let open answers end. Probes and
    metrics are answered until the last of them has ended. The other arguments as in `run`. Raises ConfigError.
    """
    asyncio.get_running_loop().set_exception_handler(_unforeseen)
    certificates = _certificates(settings)
    files = Files()
    known, keys = await _read_upstreams_and_keys(settings, files)
    worker = control.worker
    application = Application(settings, known, keys, worker.probe_sharing if worker else None)
    application.prober.on_change = control.on_probed
    is_first = worker is None or worker.is_first
    if control.log_writer is not None:
        control.log_writer.count_drops(application.metrics.log_lines_dropped)
    reloader = Reloader(
        load or (lambda: settings), partial(_apply, application), application.log, certificates
    )
    reloader.wanted = control.reload
    connections = Connections(settings)
    await application.start()
    if listeners.ops is not None:
        await connections.accept(listeners.ops, application.ops)
        write = application.log.info if is_first else application.log.debug
        write("metrics", address=f"{address_of(listeners.ops)}/metrics")
    await connections.accept(
        listeners.main, application.asgi, certificates.context if certificates else None
    )
    # What is there by now stays: the garbage collector need not look through it, again and again.
    gc.freeze()
    _report_start(application, settings, listeners, is_first=is_first)
    on_ready(address_of(listeners.main, tls=certificates is not None))
    async with _background(application.watch(), application.keep_states()):
        async with _background(
            reloader.run(settings, files, application.reloaded), application.prober.run()
        ):
            await control.stop.wait()
        # The first process of several says it once for all.
        write = application.log.info if worker is None else application.log.debug
        write("stopping", hint=STOPPING_HINT)
        connections.refuse(listeners.main)
        connections.drain()
        await application.drain(settings.drain_timeout)
    await connections.close()
    await application.aclose()


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it can be installed."""
    if sys.platform == "win32" or sys.implementation.name != "cpython":
        return None
    import uvloop  # not installed on the others

    return uvloop.new_event_loop


def _drain(log_writer: LogWriter | None) -> None:
    if log_writer is not None:
        log_writer.drain()


def _run_loop(main: Any) -> None:
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(main)


def _report_start(
    application: Application, settings: Settings, listeners: Listeners, *, is_first: bool
) -> None:
    """Log where the server listens and what its upstreams are; on a terminal a banner says it once for all processes.

    is_first: whether this is the process that does so for all.
    """
    address = address_of(listeners.main, tls=settings.tls_cert_file is not None)
    log = application.log
    has_banner = _has_banner(settings)
    write = log.debug if has_banner or not is_first else log.info
    write("listening", address=address, version=__version__)
    for endpoint in application.known.endpoints:
        write("upstream", **_summary(endpoint))
    if has_banner and settings.workers == 1:
        log.banner(banner(settings, application.known, address))
    if is_first:
        _report_short_keys(settings, log)
    if settings.is_protected or not is_first:
        return
    if not is_loopback(listeners.main):
        log.warning("server open to other hosts without keys", hint=_NO_KEYS)
    elif settings.host is None and settings.unix_socket is None:
        write("server open to this host only", hint=_THIS_MACHINE)


def _report_short_keys(settings: Settings, log: Log) -> None:
    keys = settings.proxy_api_keys
    names = short_keys(keys.get_secret_value()) if keys else []
    if names:
        hint = f"keys of fewer than {MIN_CHARACTERS} characters are easy to guess: use `openssl rand -hex 32`"
        log.warning("short client keys found", names=", ".join(names), hint=hint)


def _has_banner(settings: Settings) -> bool:
    return is_terminal() and not is_json(settings.log_format)


def _certificates(settings: Settings) -> Certificates | None:
    """None without TLS. Raises ConfigError."""
    return Certificates(settings) if settings.tls_cert_file else None


async def _read_upstreams_and_keys(
    settings: Settings, files: Files
) -> tuple[Routing, ClientKeys | None]:
    """Read the files that the settings name, and ask the upstreams what else must be known of them. Raises ConfigError.

    Files are parsed in a thread, as a large one takes seconds. Open streams go on meanwhile.
    """
    keys = await asyncio.to_thread(load_client_keys, settings, files.read)
    known = await asyncio.to_thread(load_routing, settings, read=files.read)
    found = await _found(known)
    if found:
        known = await asyncio.to_thread(load_routing, settings, found, files.read)
    return known, keys


async def _apply(application: Application, settings: Settings, files: Files) -> None:
    application.reload(settings, *await _read_upstreams_and_keys(settings, files))


async def _found(known: Routing) -> dict[str, Dialect]:
    asked = [endpoint for endpoint in known.endpoints if may_be_asked(endpoint)]
    upstream = Upstream()
    try:
        answers = await asyncio.gather(
            *(identify(endpoint_client(each, upstream).look) for each in asked)
        )
    finally:
        await upstream.aclose()
    return {
        endpoint.name: answer for endpoint, answer in zip(asked, answers, strict=True) if answer
    }


def _summary(endpoint: Endpoint) -> dict[str, str]:
    return {
        "name": endpoint.name,
        "url": endpoint.base,
        "api": endpoint.api,
        "dialect": endpoint.dialect.name,
        "key": key_summary(endpoint),
    }


@contextlib.asynccontextmanager
async def _background(*work: Any) -> Any:
    """Work that goes on meanwhile. What fails in it ends the server, as nothing else would tell of it."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(each) for each in work]
        yield
        for task in tasks:
            task.cancel()


async def _until_signal(
    settings: Settings,
    listeners: Listeners,
    on_ready: Callable[[str], None],
    load: Load | None,
    controlled: Callable[[], Control],
) -> None:
    """controlled: makes the control, which needs the event loop."""
    control, held = controlled(), HeldHangup()
    serving = asyncio.ensure_future(serve(settings, listeners, on_ready, control, load))

    def on_signal() -> None:
        """The first one lets open answers end, the second one doesn't."""
        if control.stop.is_set():
            serving.cancel()
        control.stop.set()

    def on_hangup() -> None:
        if held.means_end():
            on_signal()
        else:
            control.reload.set()

    # Windows has no such handlers; Ctrl-C ends the process there.
    if sys.platform != "win32":
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_signal)
        loop.add_signal_handler(signal.SIGHUP, on_hangup)
    if held.came:
        on_hangup()
    with contextlib.suppress(asyncio.CancelledError):
        await serving


def _work(
    settings: Settings,
    listeners: Listeners,
    load: Load | None,
    controlled: Callable[[], Control],
    orders: socket.socket,
) -> None:
    """One of several processes: serve as `orders` say, on which it says itself that it serves."""
    _run_loop(_until_ordered(settings, listeners, load, controlled, orders))


async def _until_ordered(
    settings: Settings,
    listeners: Listeners,
    load: Load | None,
    controlled: Callable[[], Control],
    orders: socket.socket,
) -> None:
    loop, control = asyncio.get_running_loop(), controlled()
    serving: asyncio.Task[None] | None = None
    does: dict[Order, Callable[[], object]] = {
        Order.STOP: control.stop.set,
        Order.RELOAD: control.reload.set,
        Order.END: lambda: serving and serving.cancel(),
    }
    told, _ = await loop.create_unix_connection(lambda: _Orders(does), sock=orders)
    serving = asyncio.create_task(
        serve(settings, listeners, lambda _: told.write(b"."), control, load)
    )
    # Of a process group or a service all processes get the signal, and the one that gives orders gives this one as well.
    loop.add_signal_handler(signal.SIGTERM, control.stop.set)
    with contextlib.suppress(asyncio.CancelledError):
        await serving


class _Orders(asyncio.Protocol):
    """What the process that gives orders says. A transport reads it: when that process dies before it has read what it was
    told, the socket is in error, for which event loops don't call readers of sockets.
    """

    def __init__(self, does: Mapping[Order, Callable[[], object]]) -> None:
        self._does = does

    def data_received(self, data: bytes) -> None:
        for order in data:
            self._does[Order(bytes([order]))]()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - however it was lost
        """Without the process that gives orders there is nobody to serve for."""
        self._does[Order.STOP]()


def _unforeseen(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Failed handshakes are the client's. That no file descriptor is left is logged elsewhere, once; here it would be each
    second. Everything else is told.
    """
    error = context.get("exception")
    is_known = isinstance(error, ssl.SSLError | ConnectionError) or (
        isinstance(error, OSError) and is_out_of_files(error)
    )
    if not is_known:
        loop.default_exception_handler(context)
