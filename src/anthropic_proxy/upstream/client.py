"""Send requests to one upstream, with its keys and headers, and within its limits.

A request needs three things: a lease (`ConcurrencyLimiter`), for which it may have to wait, the
least recently used key (`KeyRing`), and a permit of that key's circuit breaker. If the upstream
refuses or limits the key, the key cools down, and the request is sent again with the next key.
"""

import math
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypedDict

from anthropic_proxy.auth.caller import ANONYMOUS, Caller
from anthropic_proxy.errors import ApiError, build_retry_headers
from anthropic_proxy.observability.metrics import Metrics
from anthropic_proxy.observability.observation import Observation, UpstreamRequest
from anthropic_proxy.routing.upstream import Timeouts, Upstream
from anthropic_proxy.translate.retry_delay import find_retry_delay
from anthropic_proxy.translate.upstream_errors import to_api_error
from anthropic_proxy.translate.upstream_failure import UpstreamIdentity, parse_failure
from anthropic_proxy.upstream.circuit_breaker import (
    BreakerConfig,
    BreakerState,
    CircuitBreaker,
    Permit,
)
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
from anthropic_proxy.upstream.target_health import (
    CoolDowns,
    UnavailableError,
    is_about_account,
    model_cool_down_seconds,
)
from anthropic_proxy.wire.json_codec import loads_object

# States of circuit breakers, from the best to the worst.
_BEST_FIRST = ("closed", "half_open", "open")

# Statuses of errors that may concern the key: 400 for invalid keys and spent credit (Google,
# DashScope, Anthropic), 413 for the tokens of a minute (Groq), 500 for spent credit (MiniMax).
_KEY_STATUSES = frozenset({400, 401, 402, 403, 413, 429, 500})
# Limits on what is read of an error before another key is tried.
_ERROR_SECONDS = 1
_MAX_ERROR_BYTES = 64 * 1024

# Seconds without content after which a request with another target fails over, if the operator sets
# no limit.
_FIRST_TOKEN_SECONDS = 60

# Seconds. If there is no other upstream, a longer cool-down would only delay the recovery.
_ONLY_UPSTREAM_MAX_COOL_DOWN = 10


@dataclass(frozen=True)
class _Post:
    """A request that is sent with one or several keys."""

    url: str
    payload: bytes
    timeouts: Timeouts


class UpstreamSnapshot(TypedDict):
    """The state of an upstream at one time."""

    # Number of requests in progress.
    busy: int
    # Number of requests that wait for a lease.
    waiting: int
    # The best state among the circuit breakers of its keys.
    breaker: BreakerState


class _TraceObserver:
    """Records the end of a response in the observation of its request."""

    def __init__(self, upstream_request: UpstreamRequest) -> None:
        self._upstream_request = upstream_request

    def body_started(self) -> None:
        """Do nothing: the time of the first content is recorded elsewhere."""

    def body_completed(self) -> None:
        """Do nothing: `closed` records the end."""

    def body_failed(self, error: UpstreamError) -> None:
        self._upstream_request.fail(error.phase)

    def closed(self) -> None:
        self._upstream_request.end()


class _LeaseObserver:
    """Reports a response to the circuit breaker, and releases its lease when it is closed."""

    def __init__(self, lease: Lease, permit: Permit, state: "UpstreamState") -> None:
        self._state = state
        self._lease = lease
        self._permit = permit
        self._has_started = False

    def body_started(self) -> None:
        self._has_started = True
        self._permit.record_response_start()

    def body_completed(self) -> None:
        self._permit.record_success()

    def body_failed(self, error: UpstreamError) -> None:
        self._state.failure_reason = error.message
        self._permit.record_failure(time.monotonic())

    def closed(self) -> None:
        self._lease.release()
        if self._has_started:
            # The proxy closed the response early: the client disconnected, a stop sequence was
            # found, or the server does not close the connection after the last event.
            self._permit.record_success()
        else:
            self._permit.abandon()


class UpstreamState:
    """The state of one upstream, which all `UpstreamClient` objects for it share."""

    def __init__(self, upstream: Upstream, breaker: BreakerConfig) -> None:
        limits = upstream.limits
        self.limiter = ConcurrencyLimiter(limits.concurrency, limits.queue, limits.queue_seconds)
        self.key_ring = KeyRing(upstream.keys)
        # One circuit breaker per key; the number of the key is the index.
        self.breakers = [CircuitBreaker(random.random, breaker) for _ in range(len(self.key_ring))]
        # The cool-downs of its models. A reload that changes the upstream ends them.
        self.cool_downs = CoolDowns()
        # Reason of the last failure.
        self.failure_reason = ""
        # The status that caused the last cool-down of each key.
        self._statuses: dict[UpstreamKey, int] = {}

    def acquire_key(self, name: str) -> tuple[UpstreamKey, Permit]:
        """Return the next usable key, and a permit of its circuit breaker. Raises ApiError.

        name: name of the upstream, for the error.
        """
        now = time.monotonic()
        for _ in self.breakers:
            key = self.key_ring.next(now)
            if key is None:
                raise self._no_key_error(name, now)
            permit = self.breakers[key.number].try_acquire(now)
            if permit is not None:
                return key, permit
        text = f"The upstream {name} has failed several times in a row: {self.failure_reason}"
        raise _retry_later_error(
            529, text, min(breaker.retry_after(now) for breaker in self.breakers)
        )

    def cool_key(self, key: UpstreamKey, status: int, seconds: float) -> None:
        """Do not use a key for some seconds. status: of the response that refused or limited it."""
        self._statuses[key] = status
        self.key_ring.cool_down(key, time.monotonic(), seconds)

    def has_usable_key(self) -> bool:
        return self.key_ring.retry_after(time.monotonic()) == 0

    def _no_key_error(self, name: str, now: float) -> ApiError:
        statuses = set(self._statuses.values())
        if 429 in statuses:
            text = f"The upstream {name} has rate limited all of the proxy's keys for it"
            return _retry_later_error(429, text, self.key_ring.retry_after(now))
        status_list = ", ".join(str(status) for status in sorted(statuses))
        text = f"The upstream {name} rejected all of the proxy's keys for it (status {status_list})"
        status = 402 if statuses == {402} else 500
        return UnavailableError(status, text, {"x-should-retry": "false"}, max(statuses))


@dataclass(frozen=True)
class UpstreamClient:
    """Sends requests to `upstream`. `create_upstream_client` creates one."""

    upstream: Upstream
    http_client: UpstreamHTTPClient
    state: UpstreamState
    metrics: Metrics
    # The caller, if its key or headers are forwarded.
    caller: Caller = ANONYMOUS
    # The observation of the caller's request, which records the upstream requests.
    observation: Observation | None = None
    # Counts the upstream requests. None for the proxy's own queries, which are not retried.
    retry_plan: RetryPlan | None = None
    # The value of HOPS_HEADER: the ids of the proxies that the request has passed, this proxy
    # included.
    hops: str = PROXY_ID

    def for_request(
        self, caller: Caller, observation: Observation, retry_plan: RetryPlan | None
    ) -> "UpstreamClient":
        """Return a client for one request of a caller."""
        forwards_headers = self.upstream.key_passthrough or self.upstream.api == "messages"
        return replace(
            self,
            caller=caller if forwards_headers else ANONYMOUS,
            observation=observation,
            retry_plan=retry_plan,
            hops=hops_value(caller.headers),
        )

    @property
    def identity(self) -> UpstreamIdentity:
        """The upstream's name for errors, and the secrets that must not appear in them."""
        upstream = self.upstream
        caller_api_key = self.caller.api_key if upstream.key_passthrough else None
        url = upstream.base_url if upstream.has_public_address else ""
        has_key = bool(upstream.keys) or has_credential(upstream.headers)
        return UpstreamIdentity(
            upstream.name, upstream.redactor, caller_api_key, has_key=has_key, base_url=url
        )

    @property
    def is_circuit_open(self) -> bool:
        """True if the circuit breakers of all keys reject requests at this time."""
        now = time.monotonic()
        return not any(breaker.allows(now) for breaker in self.state.breakers)

    def seconds_until_usable(self, model: str) -> float:
        """Return the seconds until a model may be used; 0 if it neither cools down nor its keys."""
        now = time.monotonic()
        state = self.state
        return max(state.cool_downs.seconds_left(model, now), state.key_ring.retry_after(now))

    def record_success(self, model: str) -> None:
        """Record that a request for a model has got a usable response."""
        self.state.cool_downs.end(model)
        for breaker in self.state.breakers:
            breaker.record_usable_response()

    def record_refusal(self, model: str, error: ApiError) -> None:
        """Cool down a model if the upstream limited or refused it.

        Limits of a caller's own key do not concern other callers, and several keys of the proxy
        cool down separately.
        """
        has_other_keys = len(self.state.key_ring) > 1
        if is_about_account(error) and (self.upstream.key_passthrough or has_other_keys):
            return
        seconds = model_cool_down_seconds(error)
        if seconds is not None:
            self.state.cool_downs.start(model, time.monotonic(), seconds)

    def record_server_error(self, error: ApiError) -> None:
        """Record that a response showed a failure of the server, whose cause is unknown.

        Call this only if the request has another target.
        """
        self.state.failure_reason = "its responses were not usable"
        if error.upstream_status is not None:
            self.state.failure_reason = f"it returned status {error.upstream_status}"
        for breaker in self.state.breakers:
            breaker.record_server_error(time.monotonic())

    def snapshot(self) -> UpstreamSnapshot:
        now = time.monotonic()
        states = [breaker.state(now) for breaker in self.state.breakers]
        limiter = self.state.limiter
        return {
            "busy": limiter.busy,
            "waiting": limiter.waiting,
            "breaker": min(states, key=_BEST_FIRST.index),
        }

    async def post(self, url: str, payload: bytes, *, is_stream: bool = False) -> UpstreamResponse:
        """Post a request as JSON to a URL of the upstream, within the upstream's limits.

        The caller closes the response. Raises ApiError.

        is_stream: whether the request is for a stream, whose first content has a time limit.
        """
        lease = await self._acquire_lease()
        try:
            post = _Post(url, payload, self._choose_timeouts(is_stream=is_stream))
            response, permit = await self._post_with_keys(post)
        except BaseException:
            lease.release()
            raise
        response.observers.append(_LeaseObserver(lease, permit, self.state))
        return response

    async def query(self, url: str, payload: bytes) -> UpstreamResponse:
        """Post a query as JSON. The caller closes the response. Raises ApiError.

        A query does not run a model. So it needs no lease, and its failure does not count as a
        failure of the upstream.
        """
        timeouts = self._choose_timeouts(is_stream=False)
        return await self._send_with_headers(self._any_key(), url, payload, timeouts)

    async def get(self, url: str) -> UpstreamResponse:
        """Send a query with the method GET. See `query`."""
        timeouts = self._choose_timeouts(is_stream=False)
        return await self._send_with_headers(self._any_key(), url, None, timeouts)

    async def probe(self, path: str) -> tuple[int, bytes] | None:
        """Return the status and body at a path of the server; None if there was no response.

        The request contains no key of a caller.
        """
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
        name = self.upstream.name
        try:
            lease = await self.state.limiter.acquire()
        except BusyError as error:
            text = f"The upstream {name} is at its concurrency limit"
            raise _retry_later_error(529, text, error.retry_after) from error
        if has_to_wait:
            self.metrics.observe_queue_time(name, time.monotonic() - started_at)
        return lease

    def _choose_timeouts(self, *, is_stream: bool) -> Timeouts:
        """Return the time limits of a request. Only the first content of a stream has one."""
        timeouts = self.upstream.timeouts
        seconds = timeouts.first_token
        if seconds is None and self.retry_plan is not None and self.retry_plan.has_other_target:
            seconds = _FIRST_TOKEN_SECONDS
        if not is_stream:
            seconds = None
        if seconds == timeouts.first_token:
            return timeouts
        return timeouts.model_copy(update={"first_token": seconds})

    async def _post_with_keys(self, post: _Post) -> tuple[UpstreamResponse, Permit]:
        """Post with the next key, and with other keys if the upstream refuses or limits it."""
        unused_keys = len(self.state.key_ring)
        key, permit = self.state.acquire_key(self.upstream.name)
        while True:
            response = await self._post_with_permit(key, permit, post)
            unused_keys -= 1
            if not await self._cool_refused_key(key, response):
                return response, permit
            has_another_key = unused_keys > 0 and self.state.has_usable_key()
            if not has_another_key or not self._allows_request():
                return response, permit
            try:
                key, next_permit = self.state.acquire_key(self.upstream.name)
            except ApiError:
                # The circuit breakers of the other keys are open. The response to this key is more
                # informative than that error.
                return response, permit
            permit.record_success()
            permit = next_permit
            try:
                await response.aclose()
            except BaseException:
                permit.abandon()
                raise

    async def _post_with_permit(
        self, key: UpstreamKey, permit: Permit, post: _Post
    ) -> UpstreamResponse:
        """Post with a key, and report the result to the metrics and to the circuit breaker."""
        name = self.upstream.name
        started_at = time.monotonic()
        try:
            if self.retry_plan is not None:
                self.retry_plan.record_request()
            response = await self._send_with_headers(
                key.value, post.url, post.payload, post.timeouts
            )
        except LocalShortageError:
            permit.abandon()
            raise
        except UpstreamError as error:
            self.metrics.count_upstream_failure(name, error.phase)
            self._record_failure(permit, error.message)
            raise
        except BaseException:
            permit.abandon()
            raise
        self.metrics.count_upstream_response(name, response.status, time.monotonic() - started_at)
        if is_outage(response.status):
            self._record_failure(permit, f"it returned status {response.status}")
        elif response.status == 500 and self.state.breakers[key.number].counts_server_errors:
            # `record_server_error` decides when the body has been read.
            permit.abandon()
        return response

    async def _send_with_headers(
        self, key: str | None, url: str, payload: bytes | None, timeouts: Timeouts
    ) -> UpstreamResponse:
        """Send a request with all headers, and record it in the observation.

        payload: the body of a POST; None for a GET.
        """
        headers = build_headers(self.upstream, key, self.caller)
        headers[HOPS_HEADER] = self.hops
        if self.observation is None:
            return await self._transmit(url, payload, headers, timeouts)
        method = "GET" if payload is None else "POST"
        upstream_request = self.observation.start_upstream_request(self.upstream, method)
        try:
            headers |= upstream_request.trace.headers()
            response = await self._transmit(url, payload, headers, timeouts)
        except UpstreamError as error:
            upstream_request.fail(error.phase)
            raise
        except BaseException:
            upstream_request.end()
            raise
        upstream_request.status = response.status
        response.observers.append(_TraceObserver(upstream_request))
        return response

    async def _transmit(
        self,
        url: str,
        payload: bytes | None,
        headers: Mapping[str, str],
        timeouts: Timeouts,
    ) -> UpstreamResponse:
        name = self.upstream.name
        if payload is None:
            return await self.http_client.get(url, headers, timeouts, name)
        return await self.http_client.post(
            url, payload, headers, timeouts, name, allow_resend=self._try_resend
        )

    def _try_resend(self) -> bool:
        """Return whether to resend a request whose reused connection was closed, and count it."""
        if self.retry_plan is None or not self.retry_plan.try_record_resend(self.upstream):
            return False
        self.metrics.count_retry(self.upstream.name)
        if self.observation is not None:
            self.observation.retries += 1
        return True

    def _allows_request(self) -> bool:
        return self.retry_plan is None or self.retry_plan.allows_request()

    def _record_failure(self, permit: Permit, reason: str) -> None:
        self.state.failure_reason = reason
        permit.record_failure(time.monotonic())

    async def _cool_refused_key(self, key: UpstreamKey, response: UpstreamResponse) -> bool:
        """Cool down a key if the upstream refused or limited it. Return whether it did.

        The words of the error show this, because servers use the same statuses for refused content
        and for other problems of the request. A single key never cools down.
        """
        status = response.status
        if len(self.state.key_ring) < 2 or status not in _KEY_STATUSES:
            return False
        body = await response.peek(_ERROR_SECONDS, _MAX_ERROR_BYTES, _is_json_document)
        error = to_api_error(parse_failure(status, response.headers, body, self.identity))
        if not error.concerns_key:
            return False
        if error.status in (402, 429):
            status = error.status
        seconds = cool_down_seconds(status, find_retry_delay(error.failure))
        self.state.cool_key(key, status, seconds)
        return True

    def _any_key(self) -> str | None:
        """Return the next usable key. If all keys cool down, return the first one."""
        key = self.state.key_ring.next(time.monotonic())
        if key is not None:
            return key.value
        return self.upstream.keys[0]


def create_upstream_client(
    upstream: Upstream,
    http_client: UpstreamHTTPClient,
    metrics: Metrics | None = None,
    *,
    is_only: bool = True,
) -> UpstreamClient:
    """Create the client of an upstream. is_only: whether no other upstream is configured."""
    breaker = BreakerConfig(counts_server_errors=True)
    if is_only:
        breaker = BreakerConfig(max_cool_down=_ONLY_UPSTREAM_MAX_COOL_DOWN)
    state = UpstreamState(upstream, breaker)
    return UpstreamClient(upstream, http_client, state, metrics or Metrics())


def _is_json_document(body: bytes) -> bool:
    return body.rstrip().endswith(b"}") and loads_object(body) is not None


def _retry_later_error(status: int, text: str, seconds: float) -> ApiError:
    wait_seconds = max(math.ceil(seconds), 1)
    text = f"{text}. Retry in {wait_seconds} s."
    return UnavailableError(status, text, build_retry_headers(wait_seconds), status)
