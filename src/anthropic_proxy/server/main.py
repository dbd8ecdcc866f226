"""The server process: sockets, an event loop, the application and an orderly shutdown.

On SIGTERM the server accepts no more connections, finishes open responses within DRAIN_TIMEOUT, and then closes the
connections. With several WORKERS each worker does so; see `supervisor`.
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
from anthropic_proxy.server.sockets import (
    format_base_url,
    open_metrics_listener,
    open_tcp_listener,
    open_unix_listener,
)
from anthropic_proxy.server.supervisor import (
    STOPPING_HINT,
    Command,
    Supervisor,
    SupervisorCallbacks,
)
from anthropic_proxy.server.tls import Certificates

SettingsLoader = Callable[[], Settings]
OnProbed = Callable[[Sequence[str]], None]


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


class ServerControl:
    """Events that stop or reload a running server, and the writer of its log. Use it within the event loop.


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


def run_server(
    settings: Settings,
    on_ready: Callable[[str], None],
    load_settings: SettingsLoader | None = None,
    on_probed: OnProbed = _ignore,
) -> None:
    """Serve until SIGTERM or SIGINT, then finish open responses. Raises ListenError, ConfigError and WorkerError.

    on_ready: called with the address (a base URL) once connections are accepted. load_settings: reads the settings again;
    without it they don't change. on_probed: called with a line for each upstream when all have been probed, and when a
    result has changed; of several workers the first one calls it.
    """
    log_writer = configure_logging(
        debug=settings.debug or settings.verbose, log_format=settings.log_format, in_thread=True
    )
    try:
        _run_processes(settings, on_ready, load_settings, log_writer, on_probed)
    finally:
        _drain_log(log_writer)


def _run_processes(
    settings: Settings,
    on_ready: Callable[[str], None],
    load_settings: SettingsLoader | None,
    log_writer: LogWriter | None,
    on_probed: OnProbed,
) -> None:
    _load_certificates(settings)
    controlled = partial(ServerControl, log_writer, on_probed)
    with open_listeners(settings) as listeners:
        if settings.workers == 1:
            _run_loop(_serve_until_signal(settings, listeners, on_ready, load_settings, controlled))
            return
        address = format_base_url(listeners.main, tls=settings.tls_cert_file is not None)

        def announce_ready() -> None:
            if has_banner(settings):
                Log().print_banner(render_banner(settings, load_routing(settings), address))
            on_ready(address)

        callbacks = SupervisorCallbacks(
            on_ready=announce_ready,
            on_stop=listeners.main.close,
            on_worker_exit=multiprocess.retire_process,
        )
        with tempfile.TemporaryDirectory(prefix="anthropic-proxy-") as directory:
            multiprocess.share_metrics(directory)

            limited = settings.sharing_limits(directory)

            def worker_main(orders: socket.socket, number: int) -> None:
                worker = Worker(number, directory)
                try:
                    _run_worker(
                        limited,
                        listeners,
                        load_settings,
                        partial(controlled, worker=worker),
                        orders,
                    )
                finally:
                    _drain_log(log_writer)

            Supervisor(
                settings.workers, worker_main, callbacks, settings.drain_timeout, Log()
            ).run()


@dataclass(frozen=True)
class Listeners:
    """The listening sockets."""

    main: socket.socket
    # For probes and metrics only.
    ops: socket.socket | None = None


@contextlib.contextmanager
def open_listeners(settings: Settings) -> Iterator[Listeners]:
    """The sockets of the settings. Raises ListenError."""
    ops = (
        None
        if settings.metrics_port is None
        else _open_metrics_listener(settings.listen_host, settings.metrics_port)
    )
    if settings.unix_socket is None:
        yield Listeners(open_tcp_listener(settings.listen_host, settings.port), ops)
        return
    path = settings.unix_socket.expanduser()
    listener = open_unix_listener(path)
    try:
        yield Listeners(listener, ops)
    finally:
        path.unlink(missing_ok=True)


def _open_metrics_listener(host: str, port: int) -> socket.socket:
    listener, is_shared = open_metrics_listener(host, port)
    if is_shared:
        hint = "another server on the port is draining; until it has ended, each server gets some of the scrapes and probes"
        Log().warning("metrics port shared", port=port, hint=hint)
    return listener


async def serve(
    settings: Settings,
    listeners: Listeners,
    on_ready: Callable[[str], None],
    control: ServerControl,
    load_settings: SettingsLoader | None = None,
) -> None:
    """Serve on `listeners`, which are closed in the end, until `control.stop` is set; then let open answers end. Probes and
    metrics are answered until the last of them has ended. For other arguments see `run_server`. Raises ConfigError.
    """
    asyncio.get_running_loop().set_exception_handler(_handle_loop_error)
    certificates = _load_certificates(settings)
    files = WatchedFiles()
    routing, keys = await load_routing_and_keys(settings, files)
    worker = control.worker
    application = Application(settings, routing, keys, worker.probe_sharing if worker else None)
    application.prober.on_change = control.on_probed
    is_first = worker is None or worker.is_first
    if control.log_writer is not None:
        control.log_writer.count_drops(application.metrics.count_dropped_log_lines)
    reloader = Reloader(
        load_settings or (lambda: settings),
        partial(_apply_settings, application),
        application.log,
        certificates,
    )
    reloader.reload_requested = control.reload
    server = HypercornServer(settings)
    await application.start()
    if listeners.ops is not None:
        await server.accept(listeners.ops, application.ops)
        write = application.log.info if is_first else application.log.debug
        write("metrics listener opened", address=f"{format_base_url(listeners.ops)}/metrics")
    await server.accept(
        listeners.main, application.asgi, certificates.context if certificates else None
    )
    # What is there by now stays: the garbage collector need not look through it, again and again.
    gc.freeze()
    log_server_start(
        application.log, settings, application.routing, listeners.main, is_first=is_first
    )
    on_ready(format_base_url(listeners.main, tls=certificates is not None))
    async with _run_in_background(application.watch(), application.watch_states()):
        async with _run_in_background(
            reloader.run(settings, files, application.record_reload), application.prober.run()
        ):
            await control.stop.wait()
        # The first process of several says it once for all.
        write = application.log.info if worker is None else application.log.debug
        write("server stopping", hint=STOPPING_HINT)
        server.stop_accepting(listeners.main)
        server.drain()
        await application.drain(settings.drain_timeout)
    await server.close()
    await application.aclose()


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it can be installed."""
    if sys.platform == "win32" or sys.implementation.name != "cpython":
        return None
    import uvloop  # not installed on the others

    return uvloop.new_event_loop


def _drain_log(log_writer: LogWriter | None) -> None:
    if log_writer is not None:
        log_writer.drain()


def _run_loop(main: Any) -> None:
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(main)


def _load_certificates(settings: Settings) -> Certificates | None:
    """None without TLS. Raises ConfigError."""
    return Certificates(settings) if settings.tls_cert_file else None


async def _apply_settings(
    application: Application, settings: Settings, files: WatchedFiles
) -> None:
    application.reload(settings, *await load_routing_and_keys(settings, files))


@contextlib.asynccontextmanager
async def _run_in_background(*coroutines: Any) -> Any:
    """Run coroutines until the block ends. A failure in one of them ends the server."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(coroutine) for coroutine in coroutines]
        yield
        for task in tasks:
            task.cancel()


async def _serve_until_signal(
    settings: Settings,
    listeners: Listeners,
    on_ready: Callable[[str], None],
    load_settings: SettingsLoader | None,
    controlled: Callable[[], ServerControl],
) -> None:
    """controlled: makes the control, which needs the event loop."""
    control, hangup = controlled(), EarlyHangup()
    server_task = asyncio.ensure_future(
        serve(settings, listeners, on_ready, control, load_settings)
    )

    def on_signal() -> None:
        """Drain on the first signal; cancel open responses on the second."""
        if control.stop.is_set():
            server_task.cancel()
        control.stop.set()

    def on_hangup() -> None:
        if hangup.is_end_of_terminal():
            on_signal()
        else:
            control.reload.set()

    # Windows has no such handlers; Ctrl-C ends the process there.
    if sys.platform != "win32":
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_signal)
        loop.add_signal_handler(signal.SIGHUP, on_hangup)
    if hangup.was_received:
        on_hangup()
    with contextlib.suppress(asyncio.CancelledError):
        await server_task


def _run_worker(
    settings: Settings,
    listeners: Listeners,
    load_settings: SettingsLoader | None,
    controlled: Callable[[], ServerControl],
    command_socket: socket.socket,
) -> None:
    """Serve in a worker: read commands from `command_socket`, and write a byte to it when ready."""
    _run_loop(
        _serve_until_commanded(settings, listeners, load_settings, controlled, command_socket)
    )


async def _serve_until_commanded(
    settings: Settings,
    listeners: Listeners,
    load_settings: SettingsLoader | None,
    controlled: Callable[[], ServerControl],
    command_socket: socket.socket,
) -> None:
    loop, control = asyncio.get_running_loop(), controlled()
    server_task: asyncio.Task[None] | None = None
    actions: dict[Command, Callable[[], object]] = {
        Command.STOP: control.stop.set,
        Command.RELOAD: control.reload.set,
        Command.END: lambda: server_task and server_task.cancel(),
    }
    transport, _ = await loop.create_unix_connection(
        lambda: _CommandChannel(actions), sock=command_socket
    )
    server_task = asyncio.create_task(
        serve(settings, listeners, lambda _: transport.write(b"."), control, load_settings)
    )
    # A terminal or a service manager signals all processes, and the supervisor sends the command as well.
    loop.add_signal_handler(signal.SIGTERM, control.stop.set)
    with contextlib.suppress(asyncio.CancelledError):
        await server_task


class _CommandChannel(asyncio.Protocol):
    """Run the commands that the supervisor sends. A transport reads them: when the supervisor dies before it has read what
    the worker wrote, the socket is in error, and event loops don't call readers of such sockets.
    """

    def __init__(self, actions: Mapping[Command, Callable[[], object]]) -> None:
        self._actions = actions

    def data_received(self, data: bytes) -> None:
        for command in data:
            self._actions[Command(bytes([command]))]()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - however it was lost
        """Stop, because the supervisor has exited."""
        self._actions[Command.STOP]()


def _handle_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Failed handshakes are the client's. That no file descriptor is left is logged elsewhere, once; here it would be each
    second. Everything else is told.
    """
    error = context.get("exception")
    is_expected = isinstance(error, ssl.SSLError | ConnectionError) or (
        isinstance(error, OSError) and is_out_of_files(error)
    )
    if not is_expected:
        loop.default_exception_handler(context)
