"""Send requests to one upstream: to its URLs, with its keys and headers, within its limits.

A request waits for a lease, gets the next key in turn, and needs the permit of the key's circuit breaker. A key that the
upstream refuses or limits is not used for a while, and the next one is tried at once.
"""

import math
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypedDict

from anthropic_proxy.auth.caller import ANONYMOUS, Caller
from anthropic_proxy.errors import ApiError
from anthropic_proxy.observability.metrics import Metrics
from anthropic_proxy.observability.observation import Observation, UpstreamRequest
from anthropic_proxy.routing.upstream import Upstream
from anthropic_proxy.translate.upstream_errors import UpstreamIdentity
from anthropic_proxy.upstream.circuit_breaker import BreakerConfig, CircuitBreaker, Permit
from anthropic_proxy.upstream.concurrency import BusyError, ConcurrencyLimiter, Lease
from anthropic_proxy.upstream.headers import build_headers, has_credential
from anthropic_proxy.upstream.http_client import (
    LocalShortageError,
    UpstreamError,
    UpstreamHTTPClient,
    UpstreamResponse,
)
from anthropic_proxy.upstream.loop_detection import HOPS_HEADER, PROXY_ID, hops_value
from anthropic_proxy.upstream.retry import (
    KeyRing,
    UpstreamKey,
    cool_down_seconds,
    is_outage,
)
from anthropic_proxy.upstream.retry_plan import RetryPlan
from anthropic_proxy.wire.retry_after import parse_retry_after

_Send = Callable[[Mapping[str, str]], Awaitable[UpstreamResponse]]

_BEST_FIRST = ("closed", "half_open", "open")


class UpstreamSnapshot(TypedDict):
    """A snapshot of an upstream: requests in progress, requests that wait, and the state of its circuit breaker."""

    busy: int
    waiting: int
    breaker: str


class _TraceObserver:
    """Records the end of a response in the observation of its request."""

    def __init__(self, upstream_request: UpstreamRequest) -> None:
        self._upstream_request = upstream_request

    def body_started(self) -> None:
        """Do nothing: the observation knows the time of the first content."""

    def body_completed(self) -> None:
        """Do nothing: the response ends when it is closed."""

    def body_failed(self, error: UpstreamError) -> None:
        self._upstream_request.fail(error.phase)

    def closed(self) -> None:
        self._upstream_request.end()


class _LeaseObserver:
    """Reports to the circuit breaker, and releases the lease of the upstream when a response is closed."""

    def __init__(self, lease: Lease, permit: Permit) -> None:
        self._lease = lease
        self._permit = permit
        self._has_started = False

    def body_started(self) -> None:
        self._has_started = True
        self._permit.record_response_start()

    def body_completed(self) -> None:
        self._permit.record_success()

    def body_failed(self, _error: UpstreamError) -> None:
        self._permit.record_failure(time.monotonic())

    def closed(self) -> None:
        self._lease.release()
        if self._has_started:
            # The client left, a stop sequence was found, or the body does not mark its end.
            self._permit.record_success()
        else:
            self._permit.abandon()


class UpstreamState:
    """The state of one upstream that all its clients share. failure_reason: of its last failure."""

    def __init__(self, upstream: Upstream, breaker: BreakerConfig) -> None:
        limits = upstream.limits
        self.limiter = ConcurrencyLimiter(limits.concurrency, limits.queue, limits.queue_seconds)
        self.key_ring = KeyRing(upstream.keys)
        self.breakers = [
            CircuitBreaker(random.random, breaker) for _ in dict.fromkeys(upstream.keys or (None,))
        ]
        self.failure_reason = ""
        self._statuses: dict[UpstreamKey, int] = {}

    def acquire_key(self, name: str) -> tuple[UpstreamKey, Permit]:
        """Return the next usable key, and a permit to use it. Raises ApiError."""
        now = time.monotonic()
        for _ in self.breakers:
            key = self.key_ring.next(now)
            if key is None:
                raise self._no_key_error(name, now)
            permit = self.breakers[key.number].try_acquire(now)
            if permit is not None:
                return key, permit
        wait = min(breaker.retry_after(now) for breaker in self.breakers)
        raise _busy_error(
            529,
            f"The upstream {name} has failed several times in a row: {self.failure_reason}",
            wait,
        )

    def cool_key(self, key: UpstreamKey, status: int, seconds: float) -> bool:
        """Stop using a key that got this status for a while; return whether there is another one."""
        now = time.monotonic()
        self._statuses[key] = status
        self.key_ring.cool_down(key, now, seconds)
        return self.key_ring.retry_after(now) == 0

    def _no_key_error(self, name: str, now: float) -> ApiError:
        statuses = {*self._statuses.values()}
        if 429 in statuses:
            text = f"The upstream {name} has set a limit to all of the proxy's keys for it"
            return _busy_error(429, text, self.key_ring.retry_after(now))
        status_list = ", ".join(map(str, sorted(statuses)))
        text = f"The upstream {name} refused all of the proxy's keys for it ({status_list})"
        error = ApiError(402 if statuses == {402} else 500, text, {"x-should-retry": "false"})
        error.upstream_status = max(statuses)
        return error


@dataclass(frozen=True)
class UpstreamClient:
    """Sends requests to `upstream`. `create_upstream_client` creates one."""

    upstream: Upstream
    http_client: UpstreamHTTPClient
    state: UpstreamState
    metrics: Metrics
    # The caller whose key or headers may have to be forwarded.
    caller: Caller = ANONYMOUS
    # The observation of the caller's request, which records the upstream requests.
    observation: Observation | None = None
    # Counts the upstream requests. None for the proxy's own queries, which are not sent again.
    retry_plan: RetryPlan | None = None
    # The proxies that the request passed, this one included.
    hops: str = PROXY_ID

    def for_request(
        self, caller: Caller, observation: Observation, retry_plan: RetryPlan | None
    ) -> "UpstreamClient":
        """Return a client for one request of a caller."""
        needs_caller = self.upstream.key_passthrough or self.upstream.api == "messages"
        return replace(
            self,
            caller=caller if needs_caller else ANONYMOUS,
            observation=observation,
            retry_plan=retry_plan,
            hops=hops_value(caller.headers),
        )

    @property
    def identity(self) -> UpstreamIdentity:
        """The upstream as errors name it, and the secrets that no text may repeat."""
        caller_api_key = self.caller.api_key if self.upstream.key_passthrough else None
        url = self.upstream.base_url if self.upstream.has_public_address else ""
        has_key = bool(self.upstream.keys) or has_credential(self.upstream.headers)
        return UpstreamIdentity(
            self.upstream.name,
            self.upstream.redactor,
            caller_api_key,
            has_key=has_key,
            base_url=url,
        )

    @property
    def is_circuit_open(self) -> bool:
        """Whether no key's circuit breaker allows a request now."""
        now = time.monotonic()
        return not any(each.allows(now) for each in self.state.breakers)

    async def post(self, url: str, payload: bytes) -> UpstreamResponse:
        """Post a request as JSON to a URL of the upstream. The caller closes the response. Raises ApiError."""

        def send(headers: Mapping[str, str]) -> Awaitable[UpstreamResponse]:
            return self._post(url, payload, headers)

        lease = await self._acquire_lease()
        try:
            response, permit = await self._send_with_keys(send)
        except BaseException:
            lease.release()
            raise
        response.observers.append(_LeaseObserver(lease, permit))
        return response

    async def _send_with_keys(self, send: _Send) -> tuple[UpstreamResponse, Permit]:
        """Send with the next key, and with another one where the upstream refuses or limits it."""
        unused_keys = len(self.state.breakers)
        while True:
            key, permit = self.state.acquire_key(self.upstream.name)
            response = await self._send_measured(key, permit, send)
            unused_keys -= 1
            has_another_key = self._cool_refused_key(key, response) and unused_keys > 0
            if not has_another_key or not self._allows_request:
                return response, permit
            permit.record_success()
            await response.aclose()

    async def query(self, url: str, payload: bytes) -> UpstreamResponse:
        """Post a query as JSON. It needs no lease, and its failure does not count against the upstream."""
        return await self._send_traced(
            self._any_key(), lambda headers: self._post(url, payload, headers)
        )

    async def _post(self, url: str, payload: bytes, headers: Mapping[str, str]) -> UpstreamResponse:
        upstream = self.upstream
        return await self.http_client.post(
            url, payload, headers, upstream.timeouts, upstream.name, allow_resend=self._allow_resend
        )

    @property
    def _allows_request(self) -> bool:
        return self.retry_plan is None or self.retry_plan.allows_request

    def _allow_resend(self) -> bool:
        """Return whether a request whose reused connection was closed may be sent again; if so, it counts as sent."""
        if self.retry_plan is None or not self.retry_plan.try_resend(self.upstream):
            return False
        self.metrics.count_retry(self.upstream.name)
        if self.observation is not None:
            self.observation.retries += 1
        return True

    async def get(self, url: str) -> UpstreamResponse:
        """Send a query as `query` does, without a body."""
        upstream = self.upstream
        return await self._send_traced(
            self._any_key(),
            lambda headers: self.http_client.get(url, headers, upstream.timeouts, upstream.name),
            "GET",
        )

    async def probe(self, path: str) -> tuple[int, bytes] | None:
        """Return status and body at a path of the server itself, without a caller's key; None without a response."""
        client = replace(self, upstream=replace(self.upstream, key_passthrough=False))
        try:
            response = await client.get(self.upstream.build_root_url(path))
            try:
                return response.status, await response.read()
            finally:
                await response.aclose()
        except ApiError:
            return None

    async def _acquire_lease(self) -> Lease:
        started_at = time.monotonic()
        has_to_wait = self.state.limiter.is_full
        try:
            lease = await self.state.limiter.acquire()
        except BusyError as error:
            text = (
                f"The upstream {self.upstream.name} has as many requests as this server may give it"
            )
            raise _busy_error(529, text, error.retry_after) from error
        if has_to_wait:
            self.metrics.observe_queue_time(self.upstream.name, time.monotonic() - started_at)
        return lease

    def snapshot(self) -> UpstreamSnapshot:
        """Return how busy the upstream is, with the state of its best circuit breaker."""
        now = time.monotonic()
        breaker = min((each.state(now) for each in self.state.breakers), key=_BEST_FIRST.index)
        return {
            "busy": self.state.limiter.busy,
            "waiting": self.state.limiter.waiting,
            "breaker": breaker,
        }

    async def _send_measured(
        self, key: UpstreamKey, permit: Permit, send: _Send
    ) -> UpstreamResponse:
        started_at = time.monotonic()
        try:
            if self.retry_plan is not None:
                self.retry_plan.record_request()
            response = await self._send_traced(key.value, send)
        except LocalShortageError:
            permit.abandon()
            raise
        except UpstreamError as error:
            self.metrics.count_upstream_failure(self.upstream.name, error.phase)
            self._record_failure(permit, error.message)
            raise
        except BaseException:
            permit.abandon()
            raise
        self.metrics.count_upstream_response(
            self.upstream.name, response.status, time.monotonic() - started_at
        )
        if is_outage(response.status):
            self._record_failure(permit, f"it answered {response.status}")
        return response

    async def _send_traced(
        self, key: str | None, send: _Send, method: str = "POST"
    ) -> UpstreamResponse:
        """Send with all headers, and record the request in the observation."""
        headers = build_headers(self.upstream, key, self.caller) | {HOPS_HEADER: self.hops}
        if self.observation is None:
            return await send(headers)
        upstream_request = self.observation.start_upstream_request(self.upstream, method)
        try:
            response = await send(headers | upstream_request.trace.headers())
        except UpstreamError as error:
            upstream_request.fail(error.phase)
            raise
        except BaseException:
            upstream_request.end()
            raise
        upstream_request.status = response.status
        response.observers.append(_TraceObserver(upstream_request))
        return response

    def _record_failure(self, permit: Permit, reason: str) -> None:
        self.state.failure_reason = reason
        permit.record_failure(time.monotonic())

    def _cool_refused_key(self, key: UpstreamKey, response: UpstreamResponse) -> bool:
        """Stop using a key that the upstream refused or limited; return whether it did and there is another one."""
        if len(self.state.breakers) < 2:
            return False
        seconds = cool_down_seconds(response.status, parse_retry_after(response.headers))
        return seconds is not None and self.state.cool_key(key, response.status, seconds)

    def _any_key(self) -> str | None:
        key = self.state.key_ring.next(time.monotonic())
        return key.value if key else next(iter(self.upstream.keys), None)


def create_upstream_client(
    upstream: Upstream,
    http_client: UpstreamHTTPClient,
    metrics: Metrics | None = None,
    *,
    is_only: bool = True,
) -> UpstreamClient:
    """Create the client of an upstream. is_only: there is no other upstream, so its circuit breakers close again soon."""
    state = UpstreamState(upstream, BreakerConfig(max_cool_down=10) if is_only else BreakerConfig())
    return UpstreamClient(upstream, http_client, state, metrics or Metrics())


def _busy_error(status: int, text: str, seconds: float) -> ApiError:
    wait_seconds = max(math.ceil(seconds), 1)
    error = ApiError(
        status, f"{text}. Try again in {wait_seconds} s", {"retry-after": str(wait_seconds)}
    )
    error.upstream_status = status
    return error
