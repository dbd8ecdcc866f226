"""The server process: sockets, event loop, application and graceful shutdown.

On SIGTERM the server stops accepting connections, finishes open responses within DRAIN_TIMEOUT, and
closes the connections. With several WORKERS each worker does this; see `supervisor`.
"""

import asyncio
import contextlib
import gc
import os
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from anthropic_proxy.api.app import Application
from anthropic_proxy.config.settings import Settings
from anthropic_proxy.config.upstreams import load_routing
from anthropic_proxy.gateway.upstream_probe import Sharing
from anthropic_proxy.observability import multiprocess
from anthropic_proxy.observability.log_writer import LogWriter
from anthropic_proxy.observability.logs import Log, configure_logging
from anthropic_proxy.observability.resource_exhaustion import is_out_of_files
from anthropic_proxy.server.banner import has_banner, log_server_start, render_banner
from anthropic_proxy.server.configuration import load_routing_and_keys
from anthropic_proxy.server.early_signals import EarlyHangup
from anthropic_proxy.server.hypercorn_server import HypercornServer
from anthropic_proxy.server.reload import Reloader, WatchedFiles
from anthropic_proxy.server.shared_directory import create_shared_directory
from anthropic_proxy.server.sockets import (
    format_base_url,
    open_metrics_listener,
    open_tcp_listener,
    open_unix_listener,
)
from anthropic_proxy.server.supervisor import (
    READY,
    STOPPING_HINT,
    Command,
    Supervisor,
    SupervisorCallbacks,
)
from anthropic_proxy.server.tls import Certificates

SettingsLoader = Callable[[], Settings]
OnReady = Callable[[str], None]
OnProbed = Callable[[Sequence[str]], None]


def _ignore(_: object) -> None:
    """Do nothing."""


@dataclass(frozen=True)
class WorkerRole:
    """Role of this process among several workers."""

    # Number from 0. Worker 0 probes the upstreams, and logs events that concern all workers.
    number: int
    # Directory shared by the workers.
    directory: str

    @property
    def is_first(self) -> bool:
        return self.number == 0

    @property
    def probe_sharing(self) -> Sharing:
        """The sharing of probe results: the first worker probes, the others read the results."""
        return Sharing(Path(self.directory) / "probes.json", is_prober=self.is_first)


class ServerControl:
    """Events that stop or reload a running server, and its links to the process."""

    def __init__(
        self,
        log_writer: LogWriter | None = None,
        on_probed: OnProbed = _ignore,
        role: WorkerRole | None = None,
    ) -> None:
        """Create the control of one server.

        log_writer: writes the log of the server. on_probed: see `run_server`. role: None for a
        single process.
        """
        self.stop = asyncio.Event()
        self.reload = asyncio.Event()
        self.log_writer = log_writer
        self.on_probed = on_probed
        self.role = role

    @property
    def is_first(self) -> bool:
        """True if this process logs events that concern all processes."""
        return self.role is None or self.role.is_first


@dataclass(frozen=True)
class Listeners:
    """The listening sockets."""

    main: socket.socket
    # For probes and metrics only.
    ops: socket.socket | None = None


def run_server(
    settings: Settings,
    on_ready: OnReady,
    load_settings: SettingsLoader | None = None,
    on_probed: OnProbed = _ignore,
) -> None:
    """Serve until SIGTERM or SIGINT, then finish open responses.

    on_ready: called with the base URL when the server accepts connections.
    load_settings: loads the settings for a reload; without it they do not change.
    on_probed: called with a line for each upstream when all have been probed, and when a result
    changes. With several workers, the first worker calls it.

    Raises ListenError, ConfigError and WorkerError.
    """
    log_writer = configure_logging(
        debug=settings.debug or settings.verbose, log_format=settings.log_format, in_thread=True
    )
    control = ServerControl(log_writer, on_probed)
    try:
        # Report invalid certificates before the server listens.
        _load_certificates(settings)
        with open_listeners(settings) as listeners:
            if settings.workers == 1:
                _run_loop(
                    _serve_until_signal(settings, listeners, on_ready, control, load_settings)
                )
            else:
                _run_workers(settings, listeners, on_ready, control, load_settings)
    finally:
        _drain_log(log_writer)


def _run_workers(
    settings: Settings,
    listeners: Listeners,
    on_ready: OnReady,
    control: ServerControl,
    load_settings: SettingsLoader | None,
) -> None:
    """Serve in several processes. Each has a copy of `control` with its role."""
    address = format_base_url(listeners.main, tls=settings.tls_cert_file is not None)

    def announce_ready() -> None:
        if has_banner(settings):
            Log().print_banner(render_banner(settings, load_routing(settings), address))
        on_ready(address)

    with create_shared_directory() as directory:
        multiprocess.share_metrics(directory)
        worker_settings = settings.sharing_limits(directory)

        def run_worker(command_socket: socket.socket, number: int) -> None:
            control.role = WorkerRole(number, directory)
            _run_worker(worker_settings, listeners, control, command_socket, load_settings)

        callbacks = SupervisorCallbacks(
            on_ready=announce_ready,
            on_stop=listeners.main.close,
            on_worker_exit=multiprocess.retire_process,
        )
        Supervisor(settings.workers, run_worker, callbacks, settings.drain_timeout, Log()).run()


@contextlib.contextmanager
def open_listeners(settings: Settings) -> Iterator[Listeners]:
    """Open the listening sockets until the block ends. Raises ListenError."""
    ops = None
    if settings.metrics_port is not None:
        ops = _open_metrics_listener(settings.listen_host, settings.metrics_port)
    if settings.unix_socket is None:
        yield Listeners(open_tcp_listener(settings.listen_host, settings.port), ops)
        return
    path = settings.unix_socket.expanduser()
    listener = open_unix_listener(path)
    created = path.stat()
    try:
        yield Listeners(listener, ops)
    finally:
        # During the drain, another server may have bound its own socket to the path, perhaps with
        # the same inode number.
        with contextlib.suppress(FileNotFoundError):
            current = path.stat()
            if os.path.samestat(current, created) and current.st_ctime_ns == created.st_ctime_ns:
                path.unlink()


def _open_metrics_listener(host: str, port: int) -> socket.socket:
    listener, is_shared = open_metrics_listener(host, port)
    if is_shared:
        hint = (
            "another server on this port is draining; "
            "until it exits, each server receives some of the scrapes and probes"
        )
        Log().warning("metrics port shared", port=port, hint=hint)
    return listener


async def serve(
    settings: Settings,
    listeners: Listeners,
    on_ready: OnReady,
    control: ServerControl,
    load_settings: SettingsLoader | None = None,
) -> None:
    """Serve on `listeners` until `control.stop` is set, then finish open responses.

    Probes and metrics are served until the last response has ended. Then all listeners are closed.
    For the other arguments see `run_server`. Raises ConfigError.
    """
    asyncio.get_running_loop().set_exception_handler(_handle_loop_error)
    certificates = _load_certificates(settings)
    files = WatchedFiles()
    application = await _create_application(settings, files, control)
    log = application.log
    reloader = Reloader(
        load_settings or (lambda: settings), partial(_reload, application), log, certificates
    )
    reloader.reload_requested = control.reload
    server = HypercornServer(settings)
    await application.start()
    if listeners.ops is not None:
        await _accept_metrics(server, listeners.ops, application, is_first=control.is_first)
    tls = certificates.context if certificates else None
    await server.accept(listeners.main, application.asgi, tls)
    # Existing objects live as long as the server, so the garbage collector can skip them.
    gc.freeze()
    log_server_start(log, settings, application.routing, listeners.main, is_first=control.is_first)
    on_ready(format_base_url(listeners.main, tls=tls is not None))
    async with _run_in_background(application.watch(), application.watch_states()):
        async with _run_in_background(
            reloader.run(settings, files, application.record_reload), application.prober.run()
        ):
            await control.stop.wait()
        # With several workers the supervisor logs this event.
        log_stopping = log.info if control.role is None else log.debug
        log_stopping("server stopping", hint=STOPPING_HINT)
        server.stop_accepting(listeners.main)
        server.drain()
        await application.drain(settings.drain_timeout)
    await server.close()
    await application.aclose()


async def _create_application(
    settings: Settings, files: WatchedFiles, control: ServerControl
) -> Application:
    routing, keys = await load_routing_and_keys(settings, files)
    probe_sharing = control.role.probe_sharing if control.role else None
    application = Application(settings, routing, keys, probe_sharing)
    application.prober.on_change = control.on_probed
    if control.log_writer is not None:
        control.log_writer.count_drops(application.metrics.count_dropped_log_lines)
    return application


async def _accept_metrics(
    server: HypercornServer, listener: socket.socket, application: Application, *, is_first: bool
) -> None:
    await server.accept(listener, application.ops)
    log_opened = application.log.info if is_first else application.log.debug
    log_opened("metrics listener opened", address=f"{format_base_url(listener)}/metrics")


async def _reload(application: Application, settings: Settings, files: WatchedFiles) -> None:
    application.reload(settings, *await load_routing_and_keys(settings, files))


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return the loop factory of uvloop; None on platforms that uvloop does not support."""
    if sys.platform == "win32" or sys.implementation.name != "cpython":
        return None
    import uvloop  # not installed on other platforms

    return uvloop.new_event_loop


def _drain_log(log_writer: LogWriter | None) -> None:
    if log_writer is not None:
        log_writer.drain()


def _run_loop(main: Any) -> None:
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(main)


def _load_certificates(settings: Settings) -> Certificates | None:
    """Return the certificates; None without TLS. Raises ConfigError."""
    return Certificates(settings) if settings.tls_cert_file else None


@contextlib.asynccontextmanager
async def _run_in_background(*coroutines: Any) -> Any:
    """Run coroutines until the block ends. An exception in one of them ends the server."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(coroutine) for coroutine in coroutines]
        yield
        for task in tasks:
            task.cancel()


async def _serve_until_signal(
    settings: Settings,
    listeners: Listeners,
    on_ready: OnReady,
    control: ServerControl,
    load_settings: SettingsLoader | None,
) -> None:
    """Serve in a single process, and handle its signals."""
    hangup = EarlyHangup()
    server_task = asyncio.ensure_future(
        serve(settings, listeners, on_ready, control, load_settings)
    )

    def on_stop_signal() -> None:
        """Drain on the first signal; cancel open responses on the second signal."""
        if control.stop.is_set():
            server_task.cancel()
        control.stop.set()

    def on_hangup() -> None:
        if hangup.is_end_of_terminal():
            on_stop_signal()
        else:
            control.reload.set()

    # Windows does not support these handlers; Ctrl-C ends the process.
    if sys.platform != "win32":
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_stop_signal)
        loop.add_signal_handler(signal.SIGHUP, on_hangup)
    if hangup.was_received:
        on_hangup()
    with contextlib.suppress(asyncio.CancelledError):
        await server_task


def _run_worker(
    settings: Settings,
    listeners: Listeners,
    control: ServerControl,
    command_socket: socket.socket,
    load_settings: SettingsLoader | None,
) -> None:
    """Serve in a worker. command_socket: connection to the supervisor."""
    try:
        _run_loop(
            _serve_until_commanded(settings, listeners, control, command_socket, load_settings)
        )
    finally:
        _drain_log(control.log_writer)


async def _serve_until_commanded(
    settings: Settings,
    listeners: Listeners,
    control: ServerControl,
    command_socket: socket.socket,
    load_settings: SettingsLoader | None,
) -> None:
    """Serve in a worker, and execute the commands of the supervisor."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - every coroutine runs in a task
    channel = _CommandChannel(control, cancel_server=task.cancel)
    # A terminal or service manager may send SIGTERM to all processes, in addition to STOP from the
    # supervisor.
    loop.add_signal_handler(signal.SIGTERM, control.stop.set)
    with contextlib.suppress(asyncio.CancelledError):
        await loop.create_unix_connection(lambda: channel, sock=command_socket)
        await serve(settings, listeners, channel.report_ready, control, load_settings)


class _CommandChannel(asyncio.Protocol):
    """Connection of a worker to the supervisor: receive commands, and report readiness.

    It is a protocol, because event loops do not call `add_reader` callbacks for a socket with an
    error. This error occurs if the supervisor dies before it has read the data from the worker.
    """

    _transport: asyncio.WriteTransport

    def __init__(self, control: ServerControl, cancel_server: Callable[[], object]) -> None:
        self._actions = {
            Command.DRAIN: control.stop.set,
            Command.RELOAD: control.reload.set,
            Command.CANCEL: cancel_server,
        }

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)

    def report_ready(self, _address: str) -> None:
        """Report to the supervisor that connections are accepted."""
        self._transport.write(READY)

    def data_received(self, data: bytes) -> None:
        for value in data:
            self._run(Command(value))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the reason does not matter
        """Stop, because the supervisor has exited."""
        self._run(Command.DRAIN)

    def _run(self, command: Command) -> None:
        self._actions[command]()


def _handle_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log an error of the event loop, except expected errors.

    Failed TLS handshakes are caused by clients. A lack of file descriptors is logged elsewhere;
    here it would be logged each second.
    """
    error = context.get("exception")
    if isinstance(error, ssl.SSLError | ConnectionError):
        return
    if isinstance(error, OSError) and is_out_of_files(error):
        return
    loop.default_exception_handler(context)
