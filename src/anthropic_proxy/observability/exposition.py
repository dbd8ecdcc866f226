"""Render the metrics for scrapers: in a thread, one rendering at a time, cached for a second.

`/metrics` needs no API key, so the cost must not grow with the number of requests.
"""

import asyncio
import gzip
import time
from collections.abc import Callable
from dataclasses import dataclass

from anthropic_proxy.observability.metrics import Metrics

_CACHE_SECONDS = 1.0
_GZIP_LEVEL = 5

_TEXT = "text/plain;version=0.0.4"
_OPEN_METRICS = "application/openmetrics-text;version=1.0.0"


@dataclass(frozen=True)
class ExpositionFormat:
    """Media type and compression of the exposition. Only four combinations exist."""

    media_type: str
    is_gzip: bool

    @classmethod
    def negotiate(cls, accept: str, accept_encoding: str) -> "ExpositionFormat":
        """Return the format that a request's `Accept` and `Accept-Encoding` headers select."""
        accepts_open_metrics = any(map(_is_open_metrics, accept.split(",")))
        media_type = _OPEN_METRICS if accepts_open_metrics else _TEXT
        return cls(media_type, "gzip" in accept_encoding)


@dataclass(frozen=True)
class RenderedMetrics:
    """Response body and headers."""

    body: bytes
    headers: dict[str, str]


def _is_open_metrics(media_range: str) -> bool:
    """Return whether a media range is OpenMetrics, version 1.x or without a version."""
    media_type, *parameters = (part.strip() for part in media_range.split(";"))
    if media_type != "application/openmetrics-text":
        return False
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "version" and not value.startswith("1."):
            return False
    return True


class Exposition:
    """Render metrics for any number of concurrent scrapers."""

    def __init__(
        self,
        metrics: Metrics,
        refresh: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Create the exposition. refresh: called in the event loop before each rendering."""
        self._metrics = metrics
        self._refresh = refresh
        self._clock = clock
        self._render_lock = asyncio.Lock()
        self._renderings: dict[ExpositionFormat, asyncio.Task[RenderedMetrics]] = {}
        self._expires: dict[ExpositionFormat, float] = {}

    async def render(self, exposition_format: ExpositionFormat) -> RenderedMetrics:
        """Return the metrics in a format. They may be one second old."""
        rendering = self._renderings.get(exposition_format)
        if rendering is None or self._is_expired(exposition_format, rendering):
            rendering = asyncio.create_task(self._render_now(exposition_format))
            self._renderings[exposition_format] = rendering
        # A scraper that disconnects must not cancel the rendering for others.
        return await asyncio.shield(rendering)

    def _is_expired(
        self, exposition_format: ExpositionFormat, rendering: asyncio.Task[RenderedMetrics]
    ) -> bool:
        if not rendering.done():
            return False
        has_failed = rendering.cancelled() or rendering.exception() is not None
        return has_failed or self._clock() >= self._expires[exposition_format]

    async def _render_now(self, exposition_format: ExpositionFormat) -> RenderedMetrics:
        async with self._render_lock:
            self._refresh()
            rendered_metrics = await asyncio.to_thread(self._encode, exposition_format)
        self._expires[exposition_format] = self._clock() + _CACHE_SECONDS
        return rendered_metrics

    def _encode(self, exposition_format: ExpositionFormat) -> RenderedMetrics:
        text, content_type = self._metrics.render(exposition_format.media_type)
        if not exposition_format.is_gzip:
            return RenderedMetrics(text, {"content-type": content_type})
        headers = {"content-type": content_type, "content-encoding": "gzip"}
        return RenderedMetrics(gzip.compress(text, _GZIP_LEVEL), headers)
