"""The metrics as scrapers read them: rendered in a thread, one rendering at a time, and reused for a second.

Any client may request `/metrics`, so the number of scrapes must not decide what they cost.
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
    """A form of the exposition. There are four, whatever clients send."""

    media_type: str
    is_gzip: bool

    @classmethod
    def negotiate(cls, accept: str, accept_encoding: str) -> "ExpositionFormat":
        """Return the format that a request's `Accept` and `Accept-Encoding` headers select."""
        wants_open_metrics = any(map(_is_open_metrics, accept.split(",")))
        return cls(_OPEN_METRICS if wants_open_metrics else _TEXT, "gzip" in accept_encoding)


@dataclass(frozen=True)
class RenderedMetrics:
    """A body and its response headers."""

    body: bytes
    headers: dict[str, str]


def _is_open_metrics(media_range: str) -> bool:
    """Whether a media range is OpenMetrics 1.x, or has no version."""
    media_type, *parameters = (part.strip() for part in media_range.split(";"))
    versions = [
        value
        for name, _, value in (parameter.partition("=") for parameter in parameters)
        if name == "version"
    ]
    return media_type == "application/openmetrics-text" and all(
        version.startswith("1.") for version in versions
    )


class Exposition:
    """Renders metrics for any number of concurrent scrapers.

    refresh: called in the event loop before each rendering. clock: monotonic time in seconds.
    """

    def __init__(
        self,
        metrics: Metrics,
        refresh: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._metrics = metrics
        self._refresh = refresh
        self._clock = clock
        self._render_lock = asyncio.Lock()
        self._renderings: dict[ExpositionFormat, asyncio.Task[RenderedMetrics]] = {}
        self._expires: dict[ExpositionFormat, float] = {}

    async def render(self, exposition_format: ExpositionFormat) -> RenderedMetrics:
        """Return the metrics in a format; they may be a second old."""
        rendering = self._renderings.get(exposition_format)
        if rendering is None or self._is_expired(exposition_format, rendering):
            rendering = self._renderings[exposition_format] = asyncio.create_task(
                self._render_now(exposition_format)
            )
        # A scraper that leaves must not end the rendering that others wait for.
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
        return RenderedMetrics(
            gzip.compress(text, _GZIP_LEVEL),
            {"content-type": content_type, "content-encoding": "gzip"},
        )
