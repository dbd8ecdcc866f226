"""A checked request on its way to the translation: its files fetched, and its PDFs read, which holds up no other request.

The translation takes microseconds for each block and tool. A request with many of them, or with documents of megabytes, is
translated in a thread, so that other requests go on meanwhile. PDFs are read in processes first (see pdf_process), and
what was read is kept for the next turns.
"""

from collections.abc import Callable
from functools import partial

from anthropic_proxy.gateway.downloads import FileDownloader
from anthropic_proxy.gateway.pdf_cache import PdfPageCache
from anthropic_proxy.gateway.pdf_process import PdfReader
from anthropic_proxy.gateway.translation_threads import TranslationThreads
from anthropic_proxy.routing.router import Route
from anthropic_proxy.translate.reasoning.signatures import Signer
from anthropic_proxy.translate.request.chat_request import TranslatedRequest, to_chat_request
from anthropic_proxy.translate.request.media_sources import count_blocks, has_pdfs
from anthropic_proxy.wire.json_codec import JsonObject, dumps

# Token counts share one place in the PDF queue, under this caller name.
_COUNTING_CALLER = "count_tokens"

# Blocks, messages and objects of tools. So many take some 20 ms to translate.
_MANY_PARTS = 4000


class RequestPreparer:
    """Makes Chat Completions requests of checked requests. `aclose` ends its processes and connections.

    threads: those that translate large requests; the caller closes them.
    """

    def __init__(
        self,
        signer: Signer,
        downloads: FileDownloader,
        reader: PdfReader,
        threads: TranslationThreads,
    ) -> None:
        self.threads = threads
        self._signer = signer
        self._downloads = downloads
        self._pdf_cache = PdfPageCache()
        self._pdf_reader = reader

    async def prepare(
        self, request: JsonObject, route: Route, caller: str = ""
    ) -> TranslatedRequest:
        """Return the request to send upstream, with the files that the upstream can't fetch. Raises ApiError.

        caller: name of the place that its PDFs take in the queue.
        """
        return await self._translate(
            await self._downloads.inline_files(request, route.profile), route, caller
        )

    async def prepare_for_counting(self, request: JsonObject, route: Route) -> TranslatedRequest:
        """Return the request to count, without fetching files. Raises ApiError, also for documents that must be fetched."""
        return await self._translate(request, route, _COUNTING_CALLER)

    async def aclose(self) -> None:
        self._pdf_reader.close()
        await self._downloads.aclose()

    async def _translate(self, request: JsonObject, route: Route, caller: str) -> TranslatedRequest:
        translate = partial(to_chat_request, request, route, self._signer)
        if has_pdfs(request):
            return await self._translate_with_pdfs(translate, caller)
        if _count_parts(request) > _MANY_PARTS:
            return await self.threads.run(translate)
        return translate()

    async def _translate_with_pdfs(
        self, translate: Callable[..., TranslatedRequest], caller: str
    ) -> TranslatedRequest:
        pages_by_document: dict[str, list[str]] = {}
        missing: dict[str, None] = {}

        def get_pages_or_record_missing(data: str) -> list[str]:
            """Return the pages of a PDF; one empty page as a placeholder, and record it, when it must be read first."""
            pages = pages_by_document.get(data) or self._pdf_cache.get(data)
            if pages is None:
                missing[data] = None
            else:
                pages_by_document[data] = pages
            return pages or [""]

        result = await self.threads.run(partial(translate, get_pages_or_record_missing))
        if not missing:
            return result
        for data in missing:
            pages_by_document[data] = await self._pdf_reader.read(data, caller)
            self._pdf_cache.put(data, pages_by_document[data])
        return await self.threads.run(partial(translate, pages_by_document.__getitem__))


def _count_parts(request: JsonObject) -> int:
    """Return about how many parts a checked request has: messages, blocks, and the objects that its tools consist of."""
    tools = request.get("tools")
    objects = dumps(tools).count(b"{") if tools else 0
    return len(request["messages"]) + count_blocks(request) + objects
