"""Read PDFs in processes of their own, one for each document.

Reading is slow and pure Python, so a thread would stall all streams, and could not be stopped. A
process is killed when its client disconnects or its time is over, and its memory is limited, so
that hostile documents harm only their own request. It starts in half a second. The pages are cached
for the next turns, and an idle server has no such process.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from typing import NamedTuple, Protocol
from weakref import WeakValueDictionary

from anthropic_proxy.errors import ApiError, resource_exhausted_error, server_stopping_error
from anthropic_proxy.observability.resource_exhaustion import find_exhausted_resource
from anthropic_proxy.translate.request.pdf import invalid_pdf_error, read_pages
from anthropic_proxy.wire.json_codec import dumps, loads_object

# For one document. The longest real documents take half of it.
MAX_SECONDS = 120

# More would slow down open streams.
_MAX_PROCESSES = 2
_MEMORY_BYTES = 768 * 1024 * 1024
_NICENESS = 10

# The variables that Python needs. The reader gets no keys.
_ENVIRONMENT_NAMES = (
    "PATH",
    "HOME",
    "PYTHONPATH",
    "PYTHONHOME",
    "LANG",
    "SYSTEMROOT",
    "LD_LIBRARY_PATH",
)

# Of the end of a process's standard error, which is logged.
_MAX_ERROR_BYTES = 4096

# Exit codes. Windows has no such signals.
# SIGKILL, which the system sends when memory is short.
_KILLED = -9
# SIGXCPU, at the limit of CPU time.
_OUT_OF_TIME = -24

_TOO_SLOW = f"it takes more than {MAX_SECONDS} s to read; send the pages that matter"
_TOO_LARGE = "it takes too much memory to read; send the pages that matter"


class _Log(Protocol):
    def error(self, event: str, **values: object) -> None: ...


class _Result(NamedTuple):
    """The result of a process."""

    # All of its standard output.
    output: bytes
    # The end of its standard error.
    errors: bytes
    # Its exit code; negative for a signal.
    code: int


class PdfReader:
    """Reads PDFs, few at a time. `close` ends all reading."""

    def __init__(self, log: _Log, *, on_shortage: Callable[[str], None] = lambda _: None) -> None:
        """log: gets the failures of processes. on_shortage: called with the name of the exhausted
        resource when no process can be started.
        """
        self._log = log
        self._on_shortage = on_shortage
        self._semaphore = asyncio.Semaphore(_MAX_PROCESSES)
        self._caller_semaphores: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._processes: set[Process] = set()
        self._is_closed = False

    async def read(self, data: str, caller: str) -> list[str]:
        """Return the text of each page of a PDF in base64, after the documents that wait already.

        caller: one document of each is read at a time, for fairness; empty when it is not known.
        Raises ApiError: 400 for an invalid document, 500 for a failure of this server, 529 when it
        stops. A cancellation ends the process.
        """
        most = 1 if caller else _MAX_PROCESSES
        caller_semaphore = self._caller_semaphores.setdefault(caller, asyncio.Semaphore(most))
        async with caller_semaphore, self._semaphore:
            result = await self._run(data)
        return self._parse_result(result)

    def close(self) -> None:
        """End all reading. Waiting requests fail with an ApiError (529)."""
        self._is_closed = True
        for process in self._processes:
            _kill(process)

    async def _run(self, data: str) -> _Result:
        """Return the result of a process that reads a PDF. Raises ApiError."""
        self._raise_if_closed()
        process = await self._start()
        self._processes.add(process)
        try:
            # `close` may have been called during the start of the process.
            self._raise_if_closed()
            async with asyncio.timeout(MAX_SECONDS):
                return await _communicate(process, data.encode())
        except TimeoutError:
            raise invalid_pdf_error(_TOO_SLOW) from None
        finally:
            _kill(process)
            await process.wait()
            self._processes.discard(process)

    def _raise_if_closed(self) -> None:
        if self._is_closed:
            raise server_stopping_error()

    async def _start(self) -> Process:
        environment = {name: os.environ[name] for name in _ENVIRONMENT_NAMES if name in os.environ}
        try:
            # In a session of its own, so that Ctrl-C in a terminal does not end it: the server
            # finishes its open requests.
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", __name__),
                stdin=PIPE,
                stdout=PIPE,
                stderr=PIPE,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            resource = find_exhausted_resource(error)
            if resource is None:
                raise
            self._on_shortage(resource)
            raise resource_exhausted_error(resource, "read a PDF") from error

    def _parse_result(self, result: _Result) -> list[str]:
        """Return the pages that a process read. Raises ApiError when there are none."""
        payload = loads_object(result.output) or {}
        if "pages" in payload:
            return list(map(str, payload["pages"]))
        if "problem" in payload:
            raise ApiError(400, str(payload["problem"]))
        self._raise_if_closed()
        self._log.error(
            "PDF reader failed",
            exit_code=result.code,
            stderr=result.errors.decode("utf-8", "replace"),
        )
        raise _to_exit_error(result)


def _to_exit_error(result: _Result) -> ApiError:
    """Return the error for a process that ended without a result."""
    if result.code == _OUT_OF_TIME:
        return invalid_pdf_error(_TOO_SLOW)
    if result.code == _KILLED or _last_line(result.errors).startswith(b"MemoryError"):
        return invalid_pdf_error(_TOO_LARGE)
    return ApiError(500, "This server failed to read a PDF. Its log has the reason")


def _last_line(text: bytes) -> bytes:
    return text.rstrip().rpartition(b"\n")[2]


async def _communicate(process: Process, data: bytes) -> _Result:
    """Write `data` to a process, and return its result at its end.

    Unlike `Process.communicate` it keeps only the end of standard error: some documents make the
    library log very much.
    """
    assert process.stdin and process.stdout and process.stderr  # noqa: S101, PT018 - pipes
    async with asyncio.TaskGroup() as group:
        group.create_task(_write(process.stdin, data))
        output = group.create_task(process.stdout.read())
        errors = group.create_task(_read_tail(process.stderr))
    return _Result(output.result(), errors.result(), await process.wait())


async def _write(pipe: asyncio.StreamWriter, data: bytes) -> None:
    # A process that ends early does not read it. Its exit code has the reason.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        pipe.write(data)
        await pipe.drain()
    pipe.close()


async def _read_tail(pipe: asyncio.StreamReader) -> bytes:
    tail = b""
    while chunk := await pipe.read(_MAX_ERROR_BYTES):
        tail = (tail + chunk)[-_MAX_ERROR_BYTES:]
    return tail


def _kill(process: Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()


def main() -> None:
    """Read one PDF in base64 from standard input, and write its pages or its error as JSON."""
    # A service manager sends SIGTERM to all processes of a service. The server ends this process
    # when it is no longer needed.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # The library logs every flaw of a document, with parts of its text.
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    _limit_resources()
    data = sys.stdin.buffer.read().decode()
    try:
        payload: dict[str, object] = {"pages": read_pages(data)}
    except ApiError as error:
        payload = {"problem": error.message}
    sys.stdout.buffer.write(dumps(payload))


def _limit_resources() -> None:
    """Limit the memory of this process, and its time in case the server dies. Not on Windows."""
    if sys.platform == "win32":
        return
    import resource  # Windows has none

    os.nice(_NICENESS)
    # Not all systems support this limit.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_SECONDS, MAX_SECONDS))


if __name__ == "__main__":
    main()
