"""PDFs, read in processes of their own: for each document one that is started, reads, and ends.

Reading is slow and pure Python, so a thread would take the interpreter away from all streams, and could not be stopped. A
process is killed when its client leaves or its time is over, and its memory has a limit, so that hostile documents harm
only their own request. It starts in half a second; what was read is kept for the next turns, and idle servers have none.
"""

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from weakref import WeakValueDictionary

from anthropic_proxy.errors import ApiError
from anthropic_proxy.translate.pdf import invalid_pdf, read_pages
from anthropic_proxy.wire.codec import dumps, loads_object

# For one document. The longest real ones take half of it.
MAX_SECONDS = 120

# More would take the processor away from the streams that are open meanwhile.
_AT_ONCE = 2
_MEMORY_BYTES = 768 * 1024 * 1024
_NICENESS = 10

# What Python needs of the environment. The keys in it are none of the reader's business.
_VARIABLES = ("PATH", "HOME", "PYTHONPATH", "PYTHONHOME", "LANG", "SYSTEMROOT", "LD_LIBRARY_PATH")

_TOO_SLOW = f"it takes more than {MAX_SECONDS} s to read; send the pages that matter"


class PdfReader:
    """Reads PDFs, few at a time. `close` ends all reading."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._processes: set[Process] = set()
        self._closed = False

    async def read(self, data: str, caller: str) -> list[str]:
        """Return the text of each page of a PDF in base64, after those that came before it.

        caller: has one document read at a time, so that others have their turn; empty when it is not known. Raises ApiError
        (400). Cancelled, it reads no further.
        """
        turns = self._turns.setdefault(caller, asyncio.Semaphore(1 if caller else _AT_ONCE))
        async with turns, self._slots:
            return _pages(*await self._run(data))

    def close(self) -> None:
        """End all reading; those who wait for it get an ApiError."""
        self._closed = True
        for process in self._processes:
            _kill(process)

    async def _run(self, data: str) -> tuple[bytes, int | None]:
        """Return what a reading process wrote, and its exit code; None when its time was over."""
        if self._closed:
            return b"", None
        process = await _start()
        self._processes.add(process)
        try:
            if self._closed:
                # While it was started.
                return b"", None
            async with asyncio.timeout(MAX_SECONDS):
                written, _ = await process.communicate(data.encode())
        except TimeoutError:
            return b"", None
        else:
            return written, process.returncode
        finally:
            _kill(process)
            await process.wait()
            self._processes.discard(process)


async def _start() -> Process:
    environment = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
    # In a session of its own: Ctrl-C in a terminal lets the server finish its open requests, and so their documents.
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", __name__),
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
        env=environment,
        start_new_session=True,
    )


def _kill(process: Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()


def _pages(written: bytes, code: int | None) -> list[str]:
    """Return the pages that a process read. Raises ApiError when it read none, or died."""
    told = loads_object(written) or {}
    if "pages" in told:
        return list(map(str, told["pages"]))
    if "problem" in told:
        raise ApiError(400, str(told["problem"]))
    raise invalid_pdf(_TOO_SLOW if code is None else "it can't be read (out of memory?)")


def main() -> None:
    """Read one PDF: base64 on standard input, and its pages, or what is wrong with it, as JSON on standard output."""
    # A service manager sends it to all processes of a service. The server ends this one when it is no longer needed.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _limit_resources()
    data = sys.stdin.buffer.read().decode()
    try:
        told: dict[str, object] = {"pages": read_pages(data)}
    except ApiError as error:
        told = {"problem": error.message}
    sys.stdout.buffer.write(dumps(told))


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
