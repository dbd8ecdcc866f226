"""One request, several routes: the first that answers, without the client noticing those that did not.

Nothing of an answer has reached the client while this runs, so whatever failed can be asked again, here or elsewhere. With
a single route an error is handed on at once, as clients retry by themselves; only a connection that could not be had, or
broke before anything of an answer came, is tried once more. `resilience.Repeats` bounds how often a request is sent to the
same upstream; connections that are resent on count there, too.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from anthropic_proxy.errors import ApiError
from anthropic_proxy.gateway.request_context import Progress
from anthropic_proxy.observability.logs import Log
from anthropic_proxy.observability.metrics import Metrics
from anthropic_proxy.routing.router import Route
from anthropic_proxy.upstream.http_client import OwnShortageError, UpstreamError
from anthropic_proxy.upstream.retry import Repeats, Retry, RetryBudget, fails_over, is_passing
from anthropic_proxy.wire.retry_after import retry_after

_Answer = TypeVar("_Answer")

# What is tried once more on the only route: a restarting server is back after that long.
_RECONNECT = Retry(base=0.5, longest=0.5)


class Attempts:
    """Tries routes. `retry` says how long to wait before the same route is tried again."""

    def __init__(self, log: Log, metrics: Metrics, retry: Retry | None = None) -> None:
        self._log = log
        self._metrics = metrics
        self._retry = retry or Retry()
        self._budget = RetryBudget(time.monotonic)

    async def first_answer(
        self,
        routes: Sequence[Route],
        answer: Callable[[Route], Awaitable[_Answer]],
        progress: Progress,
    ) -> _Answer:
        """The answer of the first route that gives one. Raises ApiError: what is wrong with the request itself, else what
        the first route said, which is the one that was meant.
        """
        observation = progress.observation
        self._budget.requested()
        errors: list[ApiError] = []
        for route in routes:
            try:
                return await self._by_one(route, answer, alone=len(routes) == 1, progress=progress)
            except ApiError as error:
                if not _fails_over(error):
                    raise
                errors.append(error)
                if len(errors) < len(routes):
                    observation.failovers += 1
                    self._metrics.failed_over(route.endpoint.name)
                what = "failed over" if len(errors) < len(routes) else "given up"
                self._told(route, error, observation.request_id, what, is_only=len(routes) == 1)
        raise errors[0]

    async def _by_one(
        self,
        route: Route,
        answer: Callable[[Route], Awaitable[_Answer]],
        *,
        alone: bool,
        progress: Progress,
    ) -> _Answer:
        observation = progress.observation
        attempt = 0
        while True:
            try:
                return await answer(route)
            except ApiError as error:
                observation.attempt_failed(error)
                delay = self._delay(error, attempt, route, progress.repeats, alone=alone)
                if delay is None:
                    raise
                observation.retries += 1
                self._metrics.asked_again(route.endpoint.name)
                self._told(route, error, observation.request_id, "sent again")
                attempt += 1
                await asyncio.sleep(delay)

    def _delay(
        self, error: ApiError, attempt: int, route: Route, repeats: Repeats, *, alone: bool
    ) -> float | None:
        """Seconds until the same route is asked again; None when it is not. attempt: repetitions that were made."""
        if _is_about_the_request(error):
            return None
        retries = route.endpoint.retries
        reconnects = alone and _broke_before_an_answer(error)
        is_retry = attempt < retries and is_passing(_status(error))
        if not (reconnects or is_retry):
            return None
        retry = self._retry if attempt < retries else _RECONNECT
        delay = retry.delay(attempt, retry_after(error.headers), random.random)
        if delay is None or not repeats.take(route.endpoint.name, retries):
            return None
        return delay if self._budget.take() else None

    def _told(
        self, route: Route, error: ApiError, request_id: str, what: str, *, is_only: bool = False
    ) -> None:
        # Where nothing else was tried, the line of the request says the same.
        write = self._log.debug if what == "given up" and is_only else self._log.warning
        values: dict[str, object] = {
            "action": what,
            "request_id": request_id,
            "upstream": route.endpoint.name,
            "url": route.endpoint.base,
            "reason": error.message,
        }
        # Not the status that the client gets: where the upstream sent none, that is the proxy's own.
        if error.upstream_status is not None:
            values["status"] = error.upstream_status
        write("upstream request failed", **values)


def _fails_over(error: ApiError) -> bool:
    """Whether another upstream may do better. A refusal that is our own is about the request."""
    if _is_about_the_request(error):
        return False
    return fails_over(error.upstream_status) if error.upstream_status else error.status >= 500


def _is_about_the_request(error: ApiError) -> bool:
    """Some servers answer 500 to a prompt that is too long, or to an image that they don't take."""
    return error.status in (400, 413) and (error.upstream_status or 0) >= 500


def _status(error: ApiError) -> int:
    return error.upstream_status or error.status


def _broke_before_an_answer(error: ApiError) -> bool:
    """A connection that was refused or reset. One that timed out has taken its time already, and what this server has run
    out of will not be there in half a second.
    """
    if not isinstance(error, UpstreamError) or isinstance(error, OwnShortageError):
        return False
    return error.phase != "body" and error.status != 504
