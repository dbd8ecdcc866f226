"""Read PDFs, each in a separate process.

The PDF library is slow and pure Python. In a thread it would delay all streams, and could not be
stopped. A process is killed when its client disconnects or when it exceeds its time limit. Its
memory is limited too, so that a hostile document affects only its own request. A process starts in
half a second and reads one document, so an idle server has no such process.
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

# Time limit for one document. The longest real documents need half of it.
MAX_SECONDS = 120

# More processes would slow down open streams.
_MAX_PROCESSES = 2
_MEMORY_BYTES = 768 * 1024 * 1024
_NICENESS = 10

# The variables that Python needs. Other variables, such as keys, are not passed to the process.
_ENVIRONMENT_NAMES = (
    "PATH",
    "HOME",
    "PYTHONPATH",
    "PYTHONHOME",
    "LANG",
    "SYSTEMROOT",
    "LD_LIBRARY_PATH",
)

# Only the last bytes of a process's standard error are logged.
_MAX_ERROR_BYTES = 4096

# Exit codes for signals, which Windows does not have.
# SIGKILL, which the system sends when memory is exhausted.
_KILLED = -9
# SIGXCPU, at the limit of CPU time.
_OUT_OF_TIME = -24

_TOO_SLOW = f"it takes more than {MAX_SECONDS} s to read; send fewer pages"
_TOO_LARGE = "it takes too much memory to read; send fewer pages"


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
    """Reads PDFs in a limited number of processes. `close` ends all of them."""

    def __init__(self, log: _Log, *, on_shortage: Callable[[str], None] = lambda _: None) -> None:
        """Create a reader.

        log: receives the failures of processes. on_shortage: called with the name of the exhausted
        resource when no process can be started.
        """
        self._log = log
        self._on_shortage = on_shortage
        self._semaphore = asyncio.Semaphore(_MAX_PROCESSES)
        self._caller_semaphores: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._processes: set[Process] = set()
        self._is_closed = False

    async def read(self, data: str, caller: str) -> list[str]:
        """Return the text of each page of a PDF. Waits while too many documents are being read.

        data: the PDF in base64. caller: only one document of each caller is read at a time, for
        fairness; empty if the caller is unknown. Raises ApiError: 400 for an invalid document, 500
        for a failure of this server, 529 if the server stops. A cancellation kills the process.
        """
        most = 1 if caller else _MAX_PROCESSES
        caller_semaphore = self._caller_semaphores.setdefault(caller, asyncio.Semaphore(most))
        async with caller_semaphore, self._semaphore:
            result = await self._run(data)
        return self._parse_result(result)

    def close(self) -> None:
        """Kill all processes. The waiting calls of `read` raise ApiError (529)."""
        self._is_closed = True
        for process in self._processes:
            _kill(process)

    async def _run(self, data: str) -> _Result:
        """Start a process that reads a PDF, and return its result. Raises ApiError."""
        self._raise_if_closed()
        process = await self._start()
        self._processes.add(process)
        try:
            # `close` may have been called while the process started.
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
            # In a separate session, so that Ctrl-C in a terminal does not end the process: the
            # server first finishes its open requests.
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
        """Return the pages that a process has read. Raises ApiError if it failed."""
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
    """Return the error for a process that exited without a result."""
    if result.code == _OUT_OF_TIME:
        return invalid_pdf_error(_TOO_SLOW)
    if result.code == _KILLED or _last_line(result.errors).startswith(b"MemoryError"):
        return invalid_pdf_error(_TOO_LARGE)
    return ApiError(500, "This server failed to read a PDF. Its log contains the reason.")


def _last_line(text: bytes) -> bytes:
    return text.rstrip().rpartition(b"\n")[2]


async def _communicate(process: Process, data: bytes) -> _Result:
    """Write `data` to a process, wait until it exits, and return its result.

    Unlike `Process.communicate`, this function keeps only the end of standard error, because the
    library writes very long logs for some documents.
    """
    assert process.stdin and process.stdout and process.stderr  # noqa: S101, PT018 - pipes
    async with asyncio.TaskGroup() as group:
        group.create_task(_write(process.stdin, data))
        output = group.create_task(process.stdout.read())
        errors = group.create_task(_read_tail(process.stderr))
    return _Result(output.result(), errors.result(), await process.wait())


async def _write(pipe: asyncio.StreamWriter, data: bytes) -> None:
    # A process that exits early does not read all of it. Its exit code shows the reason.
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
    """Read a PDF in base64 from standard input, and write its pages or its error as JSON."""
    # A service manager sends SIGTERM to all processes of a service. The server itself kills this
    # process when it is no longer needed.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # The library logs every defect of a document, with parts of its text.
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    _limit_resources()
    data = sys.stdin.buffer.read().decode()
    try:
        payload: dict[str, object] = {"pages": read_pages(data)}
    except ApiError as error:
        payload = {"problem": error.message}
    sys.stdout.buffer.write(dumps(payload))


def _limit_resources() -> None:
    """Limit the memory and the CPU time of this process. Does nothing on Windows.

    The server enforces the time limit itself; the CPU limit applies if the server has crashed.
    """
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
