"""PDFs, read in processes of their own: for each document one that is started, reads, and ends.

Reading is slow and pure Python, so a thread would take the interpreter away from all streams, and could not be stopped. A
process is killed when its client leaves or its time is over, and its memory has a limit, so that hostile documents harm
only their own request. It starts in half a second; what was read is kept for the next turns, and idle servers have none.
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

# For one document. The longest real ones take half of it.
MAX_SECONDS = 120

# More would take the processor away from the streams that are open meanwhile.
_MAX_PROCESSES = 2
_MEMORY_BYTES = 768 * 1024 * 1024
_NICENESS = 10

# What Python needs of the environment. The keys in it are none of the reader's business.
_ENVIRONMENT_NAMES = (
    "PATH",
    "HOME",
    "PYTHONPATH",
    "PYTHONHOME",
    "LANG",
    "SYSTEMROOT",
    "LD_LIBRARY_PATH",
)

# What is kept of a process's standard error.
_MAX_ERROR_BYTES = 4096

# Exit codes of processes that were ended by SIGKILL, as the system does where memory is short, and by SIGXCPU, at the limit
# of CPU time. Windows has no such signals.
_KILLED = -9
_OUT_OF_TIME = -24

_TOO_SLOW = f"it takes more than {MAX_SECONDS} s to read; send the pages that matter"
_TOO_LARGE = "it takes too much memory to read; send the pages that matter"


class _Log(Protocol):
    def error(self, event: str, **values: object) -> None: ...


class _Result(NamedTuple):
    """What came of a process.

    Attributes:
        output: all of its standard output.
        errors: the end of its standard error.
        code: its exit code; negative for a signal.
    """

    output: bytes
    errors: bytes
    code: int


class PdfReader:
    """Reads PDFs, few at a time. `close` ends all reading."""

    def __init__(self, log: _Log, *, on_shortage: Callable[[str], None] = lambda _: None) -> None:
        """log: gets the failures of processes. on_shortage: called with the name of what this server has run out of,
        when no process can be started.
        """
        self._log = log
        self._on_shortage = on_shortage
        self._semaphore = asyncio.Semaphore(_MAX_PROCESSES)
        self._caller_semaphores: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._processes: set[Process] = set()
        self._is_closed = False

    async def read(self, data: str, caller: str) -> list[str]:
        """Return the text of each page of a PDF in base64, after those that came before it.

        caller: has one document read at a time, so that others have their turn; empty when it is not known. Raises
        ApiError: 400 when the document is at fault, 500 when this server is, 529 when it stops. Cancelled, it reads no
        further.
        """
        caller_semaphore = self._caller_semaphores.setdefault(
            caller, asyncio.Semaphore(1 if caller else _MAX_PROCESSES)
        )
        async with caller_semaphore, self._semaphore:
            result = await self._run(data)
        return self._parse_result(result)

    def close(self) -> None:
        """End all reading; what waits for it fails with an ApiError (529)."""
        self._is_closed = True
        for process in self._processes:
            _kill(process)

    async def _run(self, data: str) -> _Result:
        """Return what came of a process that was given a PDF. Raises ApiError."""
        self._raise_if_closed()
        process = await self._start()
        self._processes.add(process)
        try:
            # It may have been closed while the process was started.
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
            # In a session of its own: Ctrl-C in a terminal lets the server finish its open requests with their documents.
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
        """Return the pages that a process read. Raises ApiError when it read none, or died."""
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
    """Write `data` to a process and wait for its end.

    As `Process.communicate`, but of standard error only the end is kept, however much a document makes the library log.
    """
    assert process.stdin and process.stdout and process.stderr  # noqa: S101, PT018 - it was started with pipes
    async with asyncio.TaskGroup() as group:
        group.create_task(_write(process.stdin, data))
        output = group.create_task(process.stdout.read())
        errors = group.create_task(_read_tail(process.stderr))
    return _Result(output.result(), errors.result(), await process.wait())


async def _write(pipe: asyncio.StreamWriter, data: bytes) -> None:
    # A process that dies early does not read it; its exit code says more.
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
    """Read one PDF: base64 on standard input, and its pages, or what is wrong with it, as JSON on standard output."""
    # A service manager sends it to all processes of a service. The server ends this one when it is no longer needed.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # The library logs every flaw of a document, in the document's own words.
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    _limit_resources()
    data = sys.stdin.buffer.read().decode()
    try:
        payload: dict[str, object] = {"pages": read_pages(data)}
    except ApiError as error:
        payload = {"problem": error.message}
    sys.stdout.buffer.write(dumps(payload))


def _limit_resources() -> None:
    """Bound this process: memory, and its time as well, should the server die before it. Not on Windows."""
    if sys.platform == "win32":
        return
    import resource  # there is none on Windows

    os.nice(_NICENESS)
    # Not all systems bound memory in this way.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_SECONDS, MAX_SECONDS))


if __name__ == "__main__":
    main()
