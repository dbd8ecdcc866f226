"""Requests to one upstream: at its addresses, with its keys and headers, within its limits.

Who wants to send waits for a slot, gets the next key in turn, and asks the key's breaker. A key that the upstream refuses
or limits is left alone for a while, and the next one is tried at once.
"""

import math
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypedDict

from anthropic_proxy.auth.caller import NOBODY, Client
from anthropic_proxy.errors import ApiError
from anthropic_proxy.observability.metrics import Metrics
from anthropic_proxy.observability.observation import Observation
from anthropic_proxy.routing.upstream import Endpoint
from anthropic_proxy.translate.upstream_errors import Source
from anthropic_proxy.upstream.circuit_breaker import Breaker, BreakerConfig, Permit
from anthropic_proxy.upstream.concurrency import BusyError, Slot, Slots
from anthropic_proxy.upstream.headers import has_credential, headers_for
from anthropic_proxy.upstream.http_client import OwnShortageError, Reply, Upstream, UpstreamError
from anthropic_proxy.upstream.loop_detection import HOPS_HEADER, PROXY_ID, hops_value
from anthropic_proxy.upstream.retry import Key, KeyRing, Repeats, cooling, is_outage
from anthropic_proxy.wire.retry_after import retry_after

_Send = Callable[[Mapping[str, str]], Awaitable[Reply]]

_BEST = ("closed", "half_open", "open")


class State(TypedDict):
    """How an upstream is: requests that it is answering, requests that wait for it, and the state of its breaker."""

    busy: int
    waiting: int
    breaker: str


class Call:
    """A reply and what it holds: a slot of the upstream, and the permit of its breaker. `aclose` gives them back."""

    def __init__(self, reply: Reply, slot: Slot, permit: Permit) -> None:
        self.status = reply.status
        self.headers = reply.headers
        self._reply = reply
        self._slot = slot
        self._permit = permit
        self._has_begun = False

    async def next_read(self, until: float = math.inf) -> bytes | None:
        """As `Reply.next_read`."""
        try:
            received = await self._reply.next_read(until)
        except UpstreamError as error:
            self._permit.failed(time.monotonic())
            if self._reply.observed is not None:
                self._reply.observed.failed(error.phase)
            raise
        if received is None:
            self._permit.succeeded()
        elif received and not self._has_begun:
            self._has_begun = True
            self._permit.answered()
        return received

    def bound(self) -> None:
        """As `Reply.bound`."""
        self._reply.bound()

    async def read(self) -> bytes:
        """The whole body. Raises UpstreamError."""
        self.bound()
        reads = []
        while (received := await self.next_read()) is not None:
            reads.append(received)
        return b"".join(reads)

    async def aclose(self) -> None:
        """Give everything back. May be called again."""
        self._slot.release()
        if self._has_begun:
            # Left before its end: by the client, at a stop sequence, or after an end that the body does not mark.
            self._permit.succeeded()
        else:
            self._permit.abandoned()
        await self._reply.aclose()


class _Shared:
    """What all who send to one endpoint share. reason: why it failed last."""

    def __init__(self, endpoint: Endpoint, breaker: BreakerConfig) -> None:
        limits = endpoint.limits
        self.slots = Slots(limits.concurrency, limits.queue, limits.queue_seconds)
        self.keys = KeyRing(endpoint.keys)
        self.breakers = [
            Breaker(random.random, breaker) for _ in dict.fromkeys(endpoint.keys or (None,))
        ]
        self.reason = ""
        self._statuses: dict[Key, int] = {}

    def take(self, name: str) -> tuple[Key, Permit]:
        """The next key that may be used, and the permit to use it. Raises ApiError."""
        now = time.monotonic()
        for _ in self.breakers:
            key = self.keys.next(now)
            if key is None:
                raise self._without_key(name, now)
            permit = self.breakers[key.number].begin(now)
            if permit is not None:
                return key, permit
        wait = min(breaker.retry_after(now) for breaker in self.breakers)
        raise _busy(
            529, f"The upstream {name} has failed several times in a row: {self.reason}", wait
        )

    def cool(self, key: Key, status: int, seconds: float) -> bool:
        """Leave a key alone that got this status; whether there is another one."""
        now = time.monotonic()
        self._statuses[key] = status
        self.keys.cooled(key, now, seconds)
        return self.keys.retry_after(now) == 0

    def _without_key(self, name: str, now: float) -> ApiError:
        statuses = {*self._statuses.values()}
        if 429 in statuses:
            text = f"The upstream {name} has set a limit to all of the proxy's keys for it"
            return _busy(429, text, self.keys.retry_after(now))
        told = ", ".join(map(str, sorted(statuses)))
        text = f"The upstream {name} refused all of the proxy's keys for it ({told})"
        error = ApiError(402 if statuses == {402} else 500, text, {"x-should-retry": "false"})
        error.upstream_status = max(statuses)
        return error


@dataclass(frozen=True)
class EndpointClient:
    """Sends to `endpoint` through `upstream`; `endpoint_client` makes one. client: the one for whom, whose key or headers
    may have to be passed on. observation: of the client's request, told of what is sent for it. repeats: how often that was
    sent again.
    """

    endpoint: Endpoint
    upstream: Upstream
    shared: _Shared
    metrics: Metrics
    client: Client = NOBODY
    observation: Observation | None = None
    repeats: Repeats = field(default_factory=Repeats)
    # The proxies that the request passed, this one included.
    hops: str = PROXY_ID

    def for_client(
        self, client: Client, observation: Observation, repeats: Repeats
    ) -> "EndpointClient":
        """The same, for the one who asks."""
        passes_on = self.endpoint.key_passthrough or self.endpoint.api == "messages"
        return replace(
            self,
            client=client if passes_on else NOBODY,
            observation=observation,
            repeats=repeats,
            hops=hops_value(client.headers),
        )

    @property
    def source(self) -> Source:
        """The upstream as errors name it, and what no text may repeat."""
        client_key = self.client.key if self.endpoint.key_passthrough else None
        url = self.endpoint.base if self.endpoint.is_open else ""
        has_key = bool(self.endpoint.keys) or has_credential(self.endpoint.headers)
        return Source(
            self.endpoint.name, self.endpoint.redactor, client_key, has_key=has_key, url=url
        )

    @property
    def is_left_alone(self) -> bool:
        """Whether it has failed so often that nothing is sent to it for now."""
        now = time.monotonic()
        return not any(each.allows(now) for each in self.shared.breakers)

    async def post(self, url: str, payload: bytes) -> Call:
        """Post a request for an answer, as JSON, to an address of the endpoint. The caller closes the call. Raises
        ApiError.
        """

        def send(headers: Mapping[str, str]) -> Awaitable[Reply]:
            return self._post(url, payload, headers)

        slot = await self._slot()
        try:
            for others in reversed(range(len(self.shared.breakers))):
                key, permit = self.shared.take(self.endpoint.name)
                reply = await self._counted(key, permit, send)
                if not (self._has_better_key(key, reply) and others):
                    break
                permit.succeeded()
                await reply.aclose()
            return Call(reply, slot, permit)
        except BaseException:
            slot.release()
            raise

    async def ask(self, url: str, payload: bytes) -> Reply:
        """Post a question beside the answers, as JSON: it needs no slot, and its failure says nothing of the upstream."""
        return await self._traced(
            self._any_key(), lambda headers: self._post(url, payload, headers)
        )

    async def _post(self, url: str, payload: bytes, headers: Mapping[str, str]) -> Reply:
        endpoint = self.endpoint
        return await self.upstream.post(
            url, payload, headers, endpoint.timeouts, endpoint.name, may_resend=self._may_resend
        )

    def _may_resend(self) -> bool:
        """Whether a request whose reused connection was closed may be sent once more; if so, it counts as sent."""
        if not self.repeats.take(self.endpoint.name, self.endpoint.retries):
            return False
        self.metrics.asked_again(self.endpoint.name)
        if self.observation is not None:
            self.observation.retries += 1
        return True

    async def get(self, url: str) -> Reply:
        """As `ask`, without a body."""
        endpoint = self.endpoint
        return await self._traced(
            self._any_key(),
            lambda headers: self.upstream.get(url, headers, endpoint.timeouts, endpoint.name),
            "GET",
        )

    async def look(self, path: str) -> tuple[int, bytes] | None:
        """Status and body at a path of the server itself, asked for nobody; None when there is no answer."""
        asking = replace(self, endpoint=replace(self.endpoint, key_passthrough=False))
        try:
            reply = await asking.get(self.endpoint.root_url(path))
            try:
                return reply.status, await reply.read()
            finally:
                await reply.aclose()
        except ApiError:
            return None

    async def _slot(self) -> Slot:
        began = time.monotonic()
        waits = self.shared.slots.is_full
        try:
            slot = await self.shared.slots.acquire()
        except BusyError as error:
            text = (
                f"The upstream {self.endpoint.name} has as many requests as this server may give it"
            )
            raise _busy(529, text, error.retry_after) from error
        if waits:
            self.metrics.queued(self.endpoint.name, time.monotonic() - began)
        return slot

    def state(self) -> State:
        """How busy the upstream is, and the breaker of the key that is best off."""
        now = time.monotonic()
        breaker = min((each.state(now) for each in self.shared.breakers), key=_BEST.index)
        return {
            "busy": self.shared.slots.busy,
            "waiting": self.shared.slots.waiting,
            "breaker": breaker,
        }

    async def _counted(self, key: Key, permit: Permit, send: _Send) -> Reply:
        began = time.monotonic()
        try:
            reply = await self._traced(key.value, send)
        except OwnShortageError:
            permit.abandoned()
            raise
        except UpstreamError as error:
            self.metrics.upstream_failed(self.endpoint.name, error.phase)
            self._failed(permit, error.message)
            raise
        except BaseException:
            permit.abandoned()
            raise
        self.metrics.upstream_answered(self.endpoint.name, reply.status, time.monotonic() - began)
        if is_outage(reply.status):
            self._failed(permit, f"it answered {reply.status}")
        return reply

    async def _traced(self, key: str | None, send: _Send, method: str = "POST") -> Reply:
        """Send with all headers, and tell the observation of it."""
        headers = headers_for(self.endpoint, key, self.client) | {HOPS_HEADER: self.hops}
        if self.observation is None:
            return await send(headers)
        asked = self.observation.asks(self.endpoint, method)
        try:
            reply = await send(headers | asked.trace.headers())
        except UpstreamError as error:
            asked.failed(error.phase)
            raise
        except BaseException:
            asked.end()
            raise
        asked.status = reply.status
        reply.observed = asked
        return reply

    def _failed(self, permit: Permit, reason: str) -> None:
        self.shared.reason = reason
        permit.failed(time.monotonic())

    def _has_better_key(self, key: Key, reply: Reply) -> bool:
        """Whether the upstream refused or limited this key, and there is another one."""
        if len(self.shared.breakers) < 2:
            return False
        seconds = cooling(reply.status, retry_after(reply.headers))
        return seconds is not None and self.shared.cool(key, reply.status, seconds)

    def _any_key(self) -> str | None:
        key = self.shared.keys.next(time.monotonic())
        return key.value if key else next(iter(self.endpoint.keys), None)


def endpoint_client(
    endpoint: Endpoint, upstream: Upstream, metrics: Metrics | None = None, *, alone: bool = True
) -> EndpointClient:
    """The client of an endpoint. `alone`: there is no other upstream to go to, so it is not left alone for long."""
    shared = _Shared(endpoint, BreakerConfig(longest=10) if alone else BreakerConfig())
    return EndpointClient(endpoint, upstream, shared, metrics or Metrics())


def _busy(status: int, text: str, seconds: float) -> ApiError:
    wait = max(math.ceil(seconds), 1)
    error = ApiError(status, f"{text}. Try again in {wait} s", {"retry-after": str(wait)})
    error.upstream_status = status
    return error
