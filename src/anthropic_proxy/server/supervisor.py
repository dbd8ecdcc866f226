"""Several processes that serve on one socket, and the one that started them.

The first process listens, forks the others, and does nothing else: it starts another one for each that dies, hands on what
it is signalled, and waits for all in the end. Orders go through a socket of each worker, for which the end of the stream
tells that the first process is gone; signals would reach workers twice where a terminal or a service manager sends them
to all processes.
"""

import os
import selectors
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import NoReturn

from anthropic_proxy.observability.logs import Log
from anthropic_proxy.server.early_signals import EarlyHangup

# Seconds after which a worker that died is replaced. They double while workers die as soon as they have begun.
_RESTART_DELAY = 0.5
_MAX_RESTART_DELAY = 30.0
# Seconds that a worker serves before it counts as one that had begun well.
_STABLE_SECONDS = 10.0
# Seconds beyond the drain until a worker is killed.
_KILL_SECONDS = 15.0

_SIGNALS = (
    (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
    if sys.platform != "win32"
    else ()
)

WorkerMain = Callable[[socket.socket, int], None]

STOPPING_HINT = "open answers are finished first; a second signal ends them"


class Command(Enum):
    """Commands for a worker; the value is the byte on its command socket."""

    STOP = b"s"
    END = b"e"
    RELOAD = b"r"


class WorkerError(Exception):
    """Workers can't be started; the text says why."""


@dataclass
class _Worker:
    number: int
    pid: int
    command_socket: socket.socket
    started_at: float = field(default_factory=time.monotonic)
    is_ready: bool = False

    def send(self, command: Command) -> None:
        try:
            self.command_socket.sendall(command.value)
        except OSError:
            return  # it is gone, which is noticed elsewhere


@dataclass(frozen=True)
class SupervisorCallbacks:
    """Functions that the supervisor calls."""

    # Called when all workers serve.
    on_ready: Callable[[], None]
    # Called when the server stops accepting connections.
    on_stop: Callable[[], None]
    # Called with the PID and the CPU seconds of a worker that has exited.
    on_worker_exit: Callable[[int, float], None] = lambda _, __: None


class Supervisor:
    """Start the workers and restart those that exit. Call `run` once."""

    def __init__(
        self,
        count: int,
        worker_main: WorkerMain,
        callbacks: SupervisorCallbacks,
        drain_seconds: float,
        log: Log,
    ) -> None:
        """Supervise `count` workers.

        worker_main: runs one worker. It receives a socket, to which it writes a byte when it serves and from which it
        reads commands, and its number, from 0; a replacement has the number of the worker that it replaces.
        drain_seconds: time limit for workers to stop.
        """
        self._count = count
        self._worker_main = worker_main
        self._drain_seconds = drain_seconds
        self._log = log
        self._callbacks = callbacks
        self._workers: dict[int, _Worker] = {}
        self._start_times: dict[int, float] = dict.fromkeys(range(count), 0.0)
        self._restart_delay = _RESTART_DELAY
        self._was_ready = False
        self._failed = False
        self._kill_at: float | None = None
        self._hangup = EarlyHangup()
        self._selector = selectors.DefaultSelector()
        self._signal_reader, self._signal_writer = socket.socketpair()

    def run(self) -> None:
        """Returns when SIGTERM or SIGINT has ended all workers. Raises WorkerError when one ended before all served."""
        if sys.platform == "win32":
            raise WorkerError("WORKERS: several processes need fork, which Windows has not")
        self._listen_for_signals()
        self._selector.register(self._signal_reader, selectors.EVENT_READ)
        while self._workers or self._kill_at is None:
            self._start_due()
            for key, _ in self._selector.select(self._seconds_until_due()):
                if key.fileobj is self._signal_reader:
                    self._handle_signals(self._signal_reader.recv(256))
                else:
                    self._read_worker(key.data)
            self._kill_overdue()
        if self._failed:
            raise WorkerError("a worker ended before it served: what it said stands above")

    def _listen_for_signals(self) -> None:
        for each_socket in (self._signal_reader, self._signal_writer):
            each_socket.setblocking(False)  # noqa: FBT003 - the standard library's own form
        signal.set_wakeup_fd(self._signal_writer.fileno())
        for number in _SIGNALS:
            signal.signal(number, lambda *_: None)
        if self._hangup.was_received:
            self._signal_writer.send(bytes([signal.SIGHUP]))

    def _start_due(self) -> None:
        now = time.monotonic()
        for number in [number for number, at in self._start_times.items() if at <= now]:
            del self._start_times[number]
            self._start(number)

    def _start(self, number: int) -> None:
        supervisor_socket, worker_socket = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            supervisor_socket.close()
            self._run_worker(worker_socket, number)
        worker_socket.close()
        supervisor_socket.setblocking(False)  # noqa: FBT003 - the standard library's own form
        worker = self._workers[pid] = _Worker(number, pid, supervisor_socket)
        self._selector.register(supervisor_socket, selectors.EVENT_READ, worker)

    def _run_worker(self, command_socket: socket.socket, number: int) -> NoReturn:
        """In the new process: nothing of the first one's is kept but the listener."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for inherited_socket in _SIGNALS:
                signal.signal(inherited_socket, signal.SIG_DFL)
            # A terminal sends these to all processes, and the first process hands them on.
            for inherited_socket in (signal.SIGINT, signal.SIGHUP):
                signal.signal(inherited_socket, signal.SIG_IGN)
            self._selector.close()
            for end in (
                self._signal_reader,
                self._signal_writer,
                *(worker.command_socket for worker in self._workers.values()),
            ):
                end.close()
            self._worker_main(command_socket, number)
            code = 0
        except BaseException:  # noqa: BLE001 - whatever it is: the first process must not be gone on with
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)

    def _seconds_until_due(self) -> float | None:
        """Return the seconds until a worker must be started or killed; None when neither is due."""
        times = [*self._start_times.values(), *([] if self._kill_at is None else [self._kill_at])]
        return max(min(times) - time.monotonic(), 0) if times else None

    def _handle_signals(self, numbers: bytes) -> None:
        for number in numbers:
            if number == signal.SIGCHLD:
                self._reap()
            elif number == signal.SIGHUP and not self._hangup.is_end_of_terminal():
                self._send_command(Command.RELOAD)
            else:
                self._stop()

    def _stop(self) -> None:
        """Drain on the first signal; cancel open responses on the second."""
        is_first = self._kill_at is None
        if is_first and not self._failed:
            self._log.info("server stopping", hint=STOPPING_HINT)
        seconds = self._drain_seconds if is_first else 0
        self._kill_at = time.monotonic() + seconds + _KILL_SECONDS
        self._start_times.clear()
        self._callbacks.on_stop()
        self._send_command(Command.STOP if is_first else Command.END)

    def _send_command(self, command: Command) -> None:
        for worker in self._workers.values():
            worker.send(command)

    def _read_worker(self, worker: _Worker) -> None:
        """Read from a worker: a byte means that it serves, the end of the stream that it has exited."""
        if worker.pid not in self._workers:
            return  # it exited at the same time as another worker, and is reaped by now
        try:
            data = worker.command_socket.recv(64)
        except OSError:
            data = b""
        if not data:
            self._selector.unregister(worker.command_socket)
        worker.is_ready = worker.is_ready or bool(data)
        all_ready = len(self._workers) == self._count and all(
            other.is_ready for other in self._workers.values()
        )
        if all_ready and not self._was_ready:
            self._was_ready = True
            self._callbacks.on_ready()

    def _reap(self) -> None:
        while self._workers:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
            if pid == 0:
                return
            worker = self._workers.pop(pid, None)
            if worker is not None:
                self._handle_worker_exit(
                    worker, os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime
                )

    def _handle_worker_exit(self, worker: _Worker, code: int, cpu_seconds: float) -> None:
        if worker.command_socket in self._selector.get_map():
            self._selector.unregister(worker.command_socket)
        worker.command_socket.close()
        self._callbacks.on_worker_exit(worker.pid, cpu_seconds)
        if self._kill_at is not None:
            return
        if not self._was_ready:
            self._failed = True
            self._stop()
            return
        self._restart_delay = (
            _RESTART_DELAY
            if time.monotonic() - worker.started_at > _STABLE_SECONDS
            else min(self._restart_delay * 2, _MAX_RESTART_DELAY)
        )
        self._start_times[worker.number] = time.monotonic() + self._restart_delay
        self._log.error(
            "worker exited",
            pid=worker.pid,
            code=code,
            seconds=self._restart_delay,
        )

    def _kill_overdue(self) -> None:
        if self._kill_at is not None and time.monotonic() >= self._kill_at:
            for pid in self._workers:
                os.kill(pid, signal.SIGKILL)
            self._kill_at = time.monotonic() + _KILL_SECONDS
