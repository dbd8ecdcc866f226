"""Threads in which large requests and responses are translated, so that other requests go on meanwhile."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from anthropic_proxy.wire import collector

# Bytes. A whole response takes a few milliseconds for each megabyte, but a hostile one up to a second.
LARGE_RESPONSE_BYTES = 64 * 1024

# Translation is pure Python, so more threads would only share the same interpreter. With a second one a hostile message
# does not hold up all others.
_THREADS = 2

_Result = TypeVar("_Result")


class TranslationThreads:
    """The only threads for translations: the event loop's own stay free, as they resolve host names. `close` after use."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, "translator")

    async def run(self, translate: Callable[[], _Result]) -> _Result:
        """Return `translate()`, which runs in a thread."""
        return await asyncio.get_running_loop().run_in_executor(
            self._pool, _run_without_collection, translate
        )

    async def run_if_large(self, response: bytes, translate: Callable[[], _Result]) -> _Result:
        """Return `translate()`, which translates a whole response and runs in a thread when that is large."""
        if len(response) < LARGE_RESPONSE_BYTES:
            return translate()
        return await self.run(translate)

    def close(self) -> None:
        """Start nothing more. What is running ends by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _run_without_collection(translate: Callable[[], _Result]) -> _Result:
    with collector.pause_garbage_collection():
        return translate()
