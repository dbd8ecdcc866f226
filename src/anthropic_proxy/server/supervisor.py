"""Supervise several worker processes that serve on one listening socket.

The first process, the supervisor, opens the listening socket and forks the workers. It replaces
workers that exit, forwards its signals as commands, and waits for all workers at the end.

The supervisor sends commands through one socket for each worker. When the supervisor exits, the
socket closes and the worker stops. Commands are used instead of signals, because a terminal or
service manager may send a signal to all processes, and the worker would receive it twice.
"""

import math
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import NoReturn

from anthropic_proxy.observability.logs import Log
from anthropic_proxy.server.early_signals import EarlyHangup

# Seconds until a worker that exited is replaced. The delay doubles while workers exit soon after
# their start.
_RESTART_DELAY = 0.5
_MAX_RESTART_DELAY = 30.0
# Seconds after which the start of a worker counts as successful.
_STABLE_SECONDS = 10.0
# Seconds after the drain timeout until a worker is killed.
_KILL_SECONDS = 15.0

_SIGNALS: tuple[signal.Signals, ...] = ()
if sys.platform != "win32":
    _SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)

WorkerMain = Callable[[socket.socket, int], None]

STOPPING_HINT = "open responses are finished first; a second signal cancels them"


class Command(IntEnum):
    """Commands for a worker. The value is the byte on the command socket."""

    # Finish open responses, then exit.
    DRAIN = ord("d")
    # Cancel open responses, and exit.
    CANCEL = ord("c")
    RELOAD = ord("r")


# A worker writes this byte to its command socket when it accepts connections.
READY = b"."


class _State(Enum):
    """States of the supervisor."""

    # Workers run, and are replaced when they exit.
    RUNNING = "running"
    # Workers finish open responses, then exit.
    DRAINING = "draining"
    # Workers cancel open responses and exit.
    CANCELLING = "cancelling"


class WorkerError(Exception):
    """Workers can't be started. The text contains the reason."""


@dataclass
class _Worker:
    number: int
    pid: int
    command_socket: socket.socket
    started_at: float = field(default_factory=time.monotonic)
    is_ready: bool = False

    def send(self, command: Command) -> None:
        try:
            self.command_socket.sendall(bytes([command]))
        except OSError:
            return  # the worker has exited, and SIGCHLD follows


@dataclass(frozen=True)
class SupervisorCallbacks:
    """Callbacks of the supervisor."""

    # Called when all workers accept connections.
    on_ready: Callable[[], None]
    # Called for each stop signal, before the workers receive the command. Must not fail if it is
    # called again.
    on_stop: Callable[[], None]
    # Called with PID and CPU seconds of a worker that has exited.
    on_worker_exit: Callable[[int, float], None] = lambda _, __: None


class Supervisor:
    """Start the workers and replace those that exit. Call `run` once."""

    def __init__(
        self,
        count: int,
        worker_main: WorkerMain,
        callbacks: SupervisorCallbacks,
        drain_seconds: float,
        log: Log,
    ) -> None:
        """Supervise `count` workers.

        worker_main: runs one worker. Its arguments are a socket, to which it writes READY and from
        which it reads commands, and a number from 0. A replacement has the number of the worker
        that it replaces.
        drain_seconds: time limit for workers to stop.
        """
        self._count = count
        self._worker_main = worker_main
        self._drain_seconds = drain_seconds
        self._log = log
        self._callbacks = callbacks
        self._state = _State.RUNNING
        # By PID.
        self._workers: dict[int, _Worker] = {}
        # Planned start times of stopped workers, by number.
        self._start_times: dict[int, float] = dict.fromkeys(range(count), 0.0)
        self._restart_delay = _RESTART_DELAY
        # Whether all workers have been ready at the same time.
        self._was_ready = False
        # Whether a worker exited before all workers were ready.
        self._has_failed = False
        self._kill_at = math.inf
        self._hangup = EarlyHangup()
        self._selector = selectors.DefaultSelector()
        self._signal_reader, self._signal_writer = socket.socketpair()

    def run(self) -> None:
        """Supervise until SIGTERM or SIGINT has ended all workers.

        Raises WorkerError if a worker exits before all workers are ready.
        """
        if sys.platform == "win32":
            raise WorkerError("WORKERS: more than one worker is not supported on Windows")
        self._listen_for_signals()
        self._selector.register(self._signal_reader, selectors.EVENT_READ)
        while self._workers or self._state is _State.RUNNING:
            self._start_due()
            ready_keys = [key for key, _ in self._selector.select(self._seconds_until_due())]
            for key in ready_keys:
                if key.fileobj is not self._signal_reader:
                    self._read_worker(key.data)
            # Handle signals last, because this closes the sockets of workers that have exited.
            if any(key.fileobj is self._signal_reader for key in ready_keys):
                self._handle_signals(self._signal_reader.recv(256))
            self._kill_overdue()
        if self._has_failed:
            raise WorkerError("a worker exited during startup: see its output above")

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
        for number, start_time in list(self._start_times.items()):
            if start_time <= now:
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
        """Run a worker in the new process, then exit."""
        code = 1
        try:
            self._release_inherited()
            self._worker_main(command_socket, number)
            code = 0
        except BaseException:  # noqa: BLE001 - must not continue as a supervisor
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)

    def _release_inherited(self) -> None:
        """Release everything inherited from the supervisor, except the listening socket."""
        signal.set_wakeup_fd(-1)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        # A terminal sends these signals to all processes, and the supervisor forwards them.
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        self._selector.close()
        self._signal_reader.close()
        self._signal_writer.close()
        for worker in self._workers.values():
            worker.command_socket.close()

    def _seconds_until_due(self) -> float | None:
        """Return the seconds until a worker must be started or killed; None if none must be."""
        next_time = min([*self._start_times.values(), self._kill_at])
        if next_time == math.inf:
            return None
        return max(next_time - time.monotonic(), 0)

    def _handle_signals(self, numbers: bytes) -> None:
        for number in numbers:
            if number == signal.SIGCHLD:
                self._reap()
            elif number == signal.SIGHUP and not self._hangup.is_end_of_terminal():
                self._send_command(Command.RELOAD)
            else:
                self._stop()

    def _stop(self) -> None:
        """Drain on the first signal; cancel open responses on the second signal."""
        if self._state is _State.RUNNING:
            if not self._has_failed:
                self._log.info("server stopping", hint=STOPPING_HINT)
            self._state = _State.DRAINING
            command, seconds = Command.DRAIN, self._drain_seconds
        else:
            self._state = _State.CANCELLING
            command, seconds = Command.CANCEL, 0.0
        self._kill_at = min(self._kill_at, time.monotonic() + seconds + _KILL_SECONDS)
        self._start_times.clear()
        self._callbacks.on_stop()
        self._send_command(command)

    def _send_command(self, command: Command) -> None:
        for worker in self._workers.values():
            worker.send(command)

    def _read_worker(self, worker: _Worker) -> None:
        """Read READY, or the end of the stream, from the socket of a worker."""
        try:
            data = worker.command_socket.recv(64)
        except OSError:
            data = b""
        if not data:
            # The worker exits, and SIGCHLD follows.
            self._selector.unregister(worker.command_socket)
            return
        worker.is_ready = True
        ready_workers = [each for each in self._workers.values() if each.is_ready]
        if len(ready_workers) == self._count and not self._was_ready:
            self._was_ready = True
            self._callbacks.on_ready()

    def _reap(self) -> None:
        while self._workers:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
            if pid == 0:
                return
            worker = self._workers.pop(pid, None)
            if worker is not None:
                self._close_command_socket(worker)
                self._callbacks.on_worker_exit(pid, usage.ru_utime + usage.ru_stime)
                self._handle_worker_exit(worker, os.waitstatus_to_exitcode(status))

    def _close_command_socket(self, worker: _Worker) -> None:
        if worker.command_socket in self._selector.get_map():
            self._selector.unregister(worker.command_socket)
        worker.command_socket.close()

    def _handle_worker_exit(self, worker: _Worker, code: int) -> None:
        if self._state is not _State.RUNNING:
            return
        if not self._was_ready:
            self._has_failed = True
            self._stop()
            return
        if time.monotonic() - worker.started_at > _STABLE_SECONDS:
            self._restart_delay = _RESTART_DELAY
        else:
            self._restart_delay = min(self._restart_delay * 2, _MAX_RESTART_DELAY)
        self._start_times[worker.number] = time.monotonic() + self._restart_delay
        self._log.error("worker exited", pid=worker.pid, code=code, seconds=self._restart_delay)

    def _kill_overdue(self) -> None:
        if time.monotonic() >= self._kill_at:
            for pid in self._workers:
                os.kill(pid, signal.SIGKILL)
            self._kill_at = time.monotonic() + _KILL_SECONDS
