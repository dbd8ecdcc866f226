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
from anthropic_proxy.server.early_signals import HeldHangup

# Seconds after which a worker that died is replaced. They double while workers die as soon as they have begun.
_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
# Seconds that a worker serves before it counts as one that had begun well.
_SETTLED = 10.0
# Seconds beyond the drain until a worker is killed.
_PATIENCE = 15.0

_SIGNALS = (
    (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
    if sys.platform != "win32"
    else ()
)

Work = Callable[[socket.socket, int], None]

STOPPING_HINT = "open answers are finished first; a second signal ends them"


class Order(Enum):
    """What a worker is told."""

    STOP = b"s"
    END = b"e"
    RELOAD = b"r"


class WorkerError(Exception):
    """Workers can't be started; the text says why."""


@dataclass
class _Worker:
    number: int
    pid: int
    orders: socket.socket
    started: float = field(default_factory=time.monotonic)
    is_ready: bool = False

    def give(self, order: Order) -> None:
        try:
            self.orders.sendall(order.value)
        except OSError:
            return  # it is gone, which is noticed elsewhere


@dataclass(frozen=True)
class Told:
    """Who is told of what. ready: all workers serve. stopping: nothing more is accepted. died: the worker with a PID has
    ended, and had taken so many seconds of CPU time.
    """

    ready: Callable[[], None]
    stopping: Callable[[], None]
    died: Callable[[int, float], None] = lambda _, __: None


class Supervisor:
    """The first process. `run` once."""

    def __init__(self, count: int, work: Work, told: Told, drain_seconds: float, log: Log) -> None:
        """count: of the workers. work: what each does: it gets a socket, on which it writes a byte when it serves, and
        reads orders, and its number, from 0; a worker that replaces another one has the number of that one.
        drain_seconds: that workers may take to end when they are told to.
        """
        self._count = count
        self._work = work
        self._drain_seconds = drain_seconds
        self._log = log
        self._told = told
        self._workers: dict[int, _Worker] = {}
        self._due: dict[int, float] = dict.fromkeys(range(count), 0.0)
        self._pause = _PAUSE
        self._was_ready = False
        self._failed = False
        self._kill_at: float | None = None
        self._held = HeldHangup()
        self._selector = selectors.DefaultSelector()
        self._signals, self._wakeup = socket.socketpair()

    def run(self) -> None:
        """Returns when SIGTERM or SIGINT has ended all workers. Raises WorkerError when one ended before all served."""
        if sys.platform == "win32":
            raise WorkerError("WORKERS: several processes need fork, which Windows has not")
        self._listen_for_signals()
        self._selector.register(self._signals, selectors.EVENT_READ)
        while self._workers or self._kill_at is None:
            self._start_due()
            for key, _ in self._selector.select(self._wait()):
                if key.fileobj is self._signals:
                    self._signalled(self._signals.recv(256))
                else:
                    self._heard(key.data)
            self._kill_late()
        if self._failed:
            raise WorkerError("a worker ended before it served: what it said stands above")

    def _listen_for_signals(self) -> None:
        for end in (self._signals, self._wakeup):
            end.setblocking(False)  # noqa: FBT003 - the standard library's own form
        signal.set_wakeup_fd(self._wakeup.fileno())
        for number in _SIGNALS:
            signal.signal(number, lambda *_: None)
        if self._held.came:
            self._wakeup.send(bytes([signal.SIGHUP]))

    def _start_due(self) -> None:
        now = time.monotonic()
        for number in [number for number, at in self._due.items() if at <= now]:
            del self._due[number]
            self._start(number)

    def _start(self, number: int) -> None:
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            ours.close()
            self._be_worker(theirs, number)
        theirs.close()
        ours.setblocking(False)  # noqa: FBT003 - the standard library's own form
        worker = self._workers[pid] = _Worker(number, pid, ours)
        self._selector.register(ours, selectors.EVENT_READ, worker)

    def _be_worker(self, orders: socket.socket, number: int) -> NoReturn:
        """In the new process: nothing of the first one's is kept but the listener."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for each in _SIGNALS:
                signal.signal(each, signal.SIG_DFL)
            # A terminal sends these to all processes, and the first process hands them on.
            for each in (signal.SIGINT, signal.SIGHUP):
                signal.signal(each, signal.SIG_IGN)
            self._selector.close()
            for end in (
                self._signals,
                self._wakeup,
                *(worker.orders for worker in self._workers.values()),
            ):
                end.close()
            self._work(orders, number)
            code = 0
        except BaseException:  # noqa: BLE001 - whatever it is: the first process must not be gone on with
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)

    def _wait(self) -> float | None:
        """Seconds until there is something to do unasked."""
        times = [*self._due.values(), *([] if self._kill_at is None else [self._kill_at])]
        return max(min(times) - time.monotonic(), 0) if times else None

    def _signalled(self, numbers: bytes) -> None:
        for number in numbers:
            if number == signal.SIGCHLD:
                self._reap()
            elif number == signal.SIGHUP and not self._held.means_end():
                self._order(Order.RELOAD)
            else:
                self._stop()

    def _stop(self) -> None:
        """The first signal lets open answers end, the second one doesn't."""
        is_first = self._kill_at is None
        if is_first and not self._failed:
            self._log.info("stopping", hint=STOPPING_HINT)
        seconds = self._drain_seconds if is_first else 0
        self._kill_at = time.monotonic() + seconds + _PATIENCE
        self._due.clear()
        self._told.stopping()
        self._order(Order.STOP if is_first else Order.END)

    def _order(self, order: Order) -> None:
        for worker in self._workers.values():
            worker.give(order)

    def _heard(self, worker: _Worker) -> None:
        """A worker serves, or is about to be reaped."""
        if worker.pid not in self._workers:
            return  # its end was told at the same time as that of another one, and it is reaped by now
        try:
            said = worker.orders.recv(64)
        except OSError:
            said = b""
        if not said:
            self._selector.unregister(worker.orders)
        worker.is_ready = worker.is_ready or bool(said)
        all_ready = len(self._workers) == self._count and all(
            each.is_ready for each in self._workers.values()
        )
        if all_ready and not self._was_ready:
            self._was_ready = True
            self._told.ready()

    def _reap(self) -> None:
        while self._workers:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
            if pid == 0:
                return
            worker = self._workers.pop(pid, None)
            if worker is not None:
                self._died(
                    worker, os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime
                )

    def _died(self, worker: _Worker, code: int, cpu_seconds: float) -> None:
        if worker.orders in self._selector.get_map():
            self._selector.unregister(worker.orders)
        worker.orders.close()
        self._told.died(worker.pid, cpu_seconds)
        if self._kill_at is not None:
            return
        if not self._was_ready:
            self._failed = True
            self._stop()
            return
        self._pause = (
            _PAUSE
            if time.monotonic() - worker.started > _SETTLED
            else min(self._pause * 2, _LONGEST_PAUSE)
        )
        self._due[worker.number] = time.monotonic() + self._pause
        self._log.error(
            "worker died, another one is started", pid=worker.pid, code=code, seconds=self._pause
        )

    def _kill_late(self) -> None:
        if self._kill_at is not None and time.monotonic() >= self._kill_at:
            for pid in self._workers:
                os.kill(pid, signal.SIGKILL)
            self._kill_at = time.monotonic() + _PATIENCE
