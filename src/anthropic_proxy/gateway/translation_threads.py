"""Threads that translate large requests and responses, without a delay of other requests."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from anthropic_proxy.wire import collector

# Bytes. The translation of a whole response takes a few milliseconds for each megabyte, but up to a
# second for a hostile one.
LARGE_RESPONSE_BYTES = 64 * 1024

# Translation is pure Python, so more threads would only share the same interpreter. The second
# thread serves other requests while a hostile message blocks the first one.
_THREADS = 2

_Result = TypeVar("_Result")


class TranslationThreads:
    """The threads for translations. Call `close` after use.

    The event loop has threads of its own; they stay free to resolve host names.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, "translator")

    async def run(self, translate: Callable[[], _Result]) -> _Result:
        """Return the result of `translate`, which runs in a thread."""
        return await asyncio.get_running_loop().run_in_executor(
            self._pool, _run_without_collection, translate
        )

    async def run_if_large(self, response: bytes, translate: Callable[[], _Result]) -> _Result:
        """Return the result of `translate`, which runs in a thread if the response is large."""
        if len(response) < LARGE_RESPONSE_BYTES:
            return translate()
        return await self.run(translate)

    def close(self) -> None:
        """Start no more translations. Those that run end by themselves."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _run_without_collection(translate: Callable[[], _Result]) -> _Result:
    with collector.pause_garbage_collection():
        return translate()
