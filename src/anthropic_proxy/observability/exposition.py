"""The metrics as scrapers read them: rendered in a thread, one rendering at a time, and reused for a second.

Any client may request `/metrics`, so the number of scrapes must not decide what they cost.
"""

import asyncio
import gzip
import time
from collections.abc import Callable
from dataclasses import dataclass

from anthropic_proxy.observability.metrics import Metrics

_KEPT_SECONDS = 1.0
_GZIP_LEVEL = 5

_TEXT = "text/plain;version=0.0.4"
_OPEN_METRICS = "application/openmetrics-text;version=1.0.0"


@dataclass(frozen=True)
class Format:
    """A form of the exposition. There are four, whatever clients send."""

    media_type: str
    is_gzip: bool

    @classmethod
    def of(cls, accept: str, accept_encoding: str) -> "Format":
        """Return the format that a request's `Accept` and `Accept-Encoding` headers select."""
        wants_open_metrics = any(map(_is_open_metrics, accept.split(",")))
        return cls(_OPEN_METRICS if wants_open_metrics else _TEXT, "gzip" in accept_encoding)


@dataclass(frozen=True)
class Rendered:
    """A body and its response headers."""

    body: bytes
    headers: dict[str, str]


def _is_open_metrics(media_range: str) -> bool:
    """Whether a media range is OpenMetrics 1.x, or has no version."""
    media_type, *parameters = (part.strip() for part in media_range.split(";"))
    versions = [
        value
        for name, _, value in (each.partition("=") for each in parameters)
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
        self._one_at_a_time = asyncio.Lock()
        self._renderings: dict[Format, asyncio.Task[Rendered]] = {}
        self._expires: dict[Format, float] = {}

    async def rendered(self, form: Format) -> Rendered:
        """Return the metrics in a format; they may be a second old."""
        rendering = self._renderings.get(form)
        if rendering is None or self._is_over(form, rendering):
            rendering = self._renderings[form] = asyncio.create_task(self._render(form))
        # A scraper that leaves must not end the rendering that others wait for.
        return await asyncio.shield(rendering)

    def _is_over(self, form: Format, rendering: asyncio.Task[Rendered]) -> bool:
        if not rendering.done():
            return False
        has_failed = rendering.cancelled() or rendering.exception() is not None
        return has_failed or self._clock() >= self._expires[form]

    async def _render(self, form: Format) -> Rendered:
        async with self._one_at_a_time:
            self._refresh()
            rendered = await asyncio.to_thread(self._written, form)
        self._expires[form] = self._clock() + _KEPT_SECONDS
        return rendered

    def _written(self, form: Format) -> Rendered:
        text, content_type = self._metrics.exposition(form.media_type)
        if not form.is_gzip:
            return Rendered(text, {"content-type": content_type})
        return Rendered(
            gzip.compress(text, _GZIP_LEVEL),
            {"content-type": content_type, "content-encoding": "gzip"},
        )
