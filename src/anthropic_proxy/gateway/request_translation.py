"""Translate checked requests, with their files and PDFs. Large requests are translated in threads.

A translation takes microseconds for each block and tool. A request with many blocks or tools, or
with large documents, is translated in a thread, so that it does not delay other requests. Separate
processes read PDFs (`gateway.pdf_process`), and the pages are cached for the next turns.
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

# The caller of all token counts in the PDF queue: only one of their documents is read at a time.
_COUNTING_CALLER = "count_tokens"

# Number of messages, blocks and JSON objects in tools. Their translation takes about 20 ms.
_MANY_PARTS = 4000


class RequestTranslator:
    """Translates checked requests to Chat Completions requests.

    `aclose` ends its processes and connections.
    """

    def __init__(
        self,
        signer: Signer,
        downloads: FileDownloader,
        reader: PdfReader,
        threads: TranslationThreads,
    ) -> None:
        """Create a translator. threads: used for large requests; the caller closes them."""
        self.threads = threads
        self._signer = signer
        self._downloads = downloads
        self._pdf_cache = PdfPageCache()
        self._pdf_reader = reader

    async def translate(
        self, request: JsonObject, route: Route, caller: str = ""
    ) -> TranslatedRequest:
        """Return the upstream's request, with the files that it cannot download. Raises ApiError.

        caller: the caller's API key, which determines the place of its PDFs in the queue; empty if
        there is none.
        """
        request = await self._downloads.inline_files(request, route.profile)
        return await self._translate(request, route, caller)

    async def translate_for_counting(self, request: JsonObject, route: Route) -> TranslatedRequest:
        """Return the upstream's request without downloading files.

        Raises ApiError, also for a document that would have to be downloaded.
        """
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
        """Translate a request with the cached pages of its PDFs.

        If pages are missing, read those PDFs, and translate the request again.
        """
        pages_by_document: dict[str, list[str]] = {}
        missing: dict[str, None] = {}

        def get_pages_or_record_missing(data: str) -> list[str]:
            """Return the pages of a PDF. Record a missing PDF, and return an empty page for it."""
            pages = pages_by_document.get(data) or self._pdf_cache.get(data)
            if pages is None:
                missing[data] = None
                return [""]
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
    """Return the approximate number of messages, blocks and JSON objects in tools."""
    count = len(request["messages"]) + count_blocks(request)
    tools = request.get("tools")
    if tools:
        count += dumps(tools).count(b"{")
    return count
