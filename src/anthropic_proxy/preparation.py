"""A checked request on its way to the translation: its files fetched, and the work done where it holds up nobody.

The translation takes microseconds for each block and tool. A request with many of them is translated in a thread, so that
other requests go on meanwhile. Reading a PDF is slow and pure Python: it also runs in a thread, few at a time, with what
was read before kept for the next turn. The threads are its own: one that reads on after its client has left still counts,
and those that look up host names stay free.
"""

import asyncio
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from anthropic_proxy.downloads import Downloads
from anthropic_proxy.routing import Route
from anthropic_proxy.translate.pdf import PdfPages
from anthropic_proxy.translate.request import Translated, to_openai
from anthropic_proxy.translate.request.sources import count_blocks, has_pdfs
from anthropic_proxy.translate.signatures import Signer
from anthropic_proxy.wire import collector
from anthropic_proxy.wire.codec import JsonObject, dumps

# More would take the interpreter away from the streams that are open meanwhile.
_READING = 2

# Blocks, messages and objects of tools. So many take some 20 ms to translate.
_MANY_PARTS = 4000


class Preparation:
    """Makes Chat Completions requests of checked requests. `aclose` ends its threads and connections."""

    def __init__(self, signer: Signer, downloads: Downloads) -> None:
        self._signer = signer
        self._downloads = downloads
        self._pdf_pages = PdfPages(self._clock)
        self._closed = False
        self._readers = ThreadPoolExecutor(_READING, "reader")
        self._translator = ThreadPoolExecutor(1, "translator")

    async def to_answer(self, request: JsonObject, route: Route) -> Translated:
        """The request as the upstream is asked it, with the files that it can't fetch. Raises ApiError."""
        return await self._translated(await self._downloads.inlined(request, route.dialect), route)

    async def to_count(self, request: JsonObject, route: Route) -> Translated:
        """The request as its tokens are counted: nothing is fetched. Raises ApiError, also for documents to be fetched."""
        return await self._translated(request, route)

    async def aclose(self) -> None:
        self._closed = True
        self._readers.shutdown(wait=False, cancel_futures=True)
        self._translator.shutdown(wait=False, cancel_futures=True)
        await self._downloads.aclose()

    def _clock(self) -> float:
        """Time is over for who still reads at the end: the process waits for its threads."""
        return math.inf if self._closed else time.monotonic()

    async def _translated(self, request: JsonObject, route: Route) -> Translated:
        translate = partial(to_openai, request, route, self._signer, self._pdf_pages)
        if has_pdfs(request):
            return await asyncio.get_running_loop().run_in_executor(self._readers, translate)
        if _parts(request) > _MANY_PARTS:
            return await asyncio.get_running_loop().run_in_executor(self._translator, _without_collection, translate)
        return translate()


def _without_collection(translate: Callable[[], Translated]) -> Translated:
    with collector.held_back():
        return translate()


def _parts(request: JsonObject) -> int:
    """Return about how many parts a checked request has: messages, blocks, and the objects that its tools consist of."""
    tools = request.get("tools")
    objects = dumps(tools).count(b"{") if tools else 0
    return len(request["messages"]) + count_blocks(request) + objects
