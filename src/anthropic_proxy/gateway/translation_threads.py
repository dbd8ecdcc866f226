"""Translate large requests and responses in threads, so that they do not delay other requests."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from anthropic_proxy.wire import collector

# Bytes. The translation of a complete response takes a few milliseconds for each megabyte, but up
# to a second for a hostile response.
LARGE_RESPONSE_BYTES = 64 * 1024

# Translation is pure Python, so more threads would not be faster (global interpreter lock). The
# second thread serves other requests while a hostile message occupies the first thread.
_THREADS = 2

_Result = TypeVar("_Result")


class TranslationThreads:
    """The threads for translations. Call `close` after use.

    The default threads of the event loop are not used, because they resolve host names.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, "translator")

    async def run(self, translate: Callable[[], _Result]) -> _Result:
        """Run `translate` in a thread, and return its result."""
        return await asyncio.get_running_loop().run_in_executor(
            self._pool, _run_without_collection, translate
        )

    async def run_if_large(self, response: bytes, translate: Callable[[], _Result]) -> _Result:
        """Run `translate`, in a thread if the response is large, and return its result."""
        if len(response) < LARGE_RESPONSE_BYTES:
            return translate()
        return await self.run(translate)

    def close(self) -> None:
        """Cancel the translations that have not started. The others finish."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _run_without_collection(translate: Callable[[], _Result]) -> _Result:
    with collector.pause_garbage_collection():
        return translate()
