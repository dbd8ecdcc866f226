"""The one door to upstreams: bytes out, status, headers and bytes back.

A request goes through three phases (connect, head, body), and a failure says in which it was: until the body nothing of
an answer has come, so the caller may ask elsewhere. Each phase has its own limit of time, and all together may have one.
"""

import asyncio
import errno
import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from operator import attrgetter
from typing import Literal, Protocol

import aiohttp
import httpx

from anthropic_proxy.errors import ApiError, shortage
from anthropic_proxy.observability.observation import UpstreamRequest
from anthropic_proxy.observability.shortages import shortage_of
from anthropic_proxy.routing.upstream import Timeouts
from anthropic_proxy.upstream.read_deadline import Alarm
from anthropic_proxy.upstream.transport import AiohttpTransport

# Bytes of an answer that is read whole, decompressed. The largest real ones are a few MB: calls that write files.
MAX_BYTES = 64 * 1024 * 1024

_HEADERS = {"user-agent": "anthropic-proxy", "accept": "*/*", "accept-encoding": "identity"}
_JSON = {**_HEADERS, "content-type": "application/json"}

# Bytes that are read before other tasks get their turn: an upstream that sends faster than it is read never makes one wait.
_TURN_BYTES = 64 * 1024

# A malformed body closes its connection without a word to who waits for more; who asks again is told.
_LOOK_SECONDS = 10

Phase = Literal["connect", "head", "body"]


class UpstreamError(ApiError):
    """The upstream, or the way to it, failed. phase: `connect`, the request was not sent; `head`, no byte of an answer has
    come; `body`, an answer has begun.
    """

    def __init__(self, status: int, message: str, phase: Phase) -> None:
        super().__init__(status, message)
        self.phase = phase


class OwnShortageError(UpstreamError):
    """This server has run out of something that a connection needs. The upstream has no part in it."""

    def __init__(self, name: str, resource: str) -> None:
        error = shortage(resource, f"connect to the upstream {name}")
        super().__init__(error.status, error.message, "connect")
        self.headers.update(error.headers)


class Reply:
    """An answer whose head has come: `status`, `headers` (lower-case names), and the body still to be read. `observed` is
    told of its end.
    """

    def __init__(
        self, response: httpx.Response, name: str, timeouts: Timeouts, ends: float, max_bytes: int
    ) -> None:
        """ends: time of the event loop at which the body has to be whole. max_bytes: of a bounded body."""
        self.status = response.status_code
        # A plain mapping: httpx's looks through all of its headers for each that is asked for.
        self.headers: Mapping[str, str] = dict(response.headers.items())
        self.observed: UpstreamRequest | None = None
        self._name = name
        self._timeouts = timeouts
        self._ends = ends
        self._max_bytes = max_bytes
        self._left = math.inf
        self._idle_until: float | None = None
        self._read_in_turn = 0
        self._alarm = Alarm()
        self._loop = asyncio.get_running_loop()
        body: _Body = response.extensions.get("body") or _Iterated(response)
        # Not the response: its headers would be kept twice for as long as a stream is open.
        self._read, self._close = body.read, body.aclose

    async def next_read(self, until: float = math.inf) -> bytes | None:
        """The next bytes of the body, as they come from the socket; None at its end; b"" when there are none and it is
        `until` (time of the event loop), after which the next bytes can be asked for again. Raises UpstreamError.
        """
        now = self._loop.time()
        if self._read_in_turn >= _TURN_BYTES:
            self._read_in_turn = 0
            await asyncio.sleep(0)
        last = min(
            now + self._timeouts.idle if self._idle_until is None else self._idle_until, self._ends
        )
        while now < last:
            try:
                received = await self._alarm.wait(
                    self._read(), min(until, now + _LOOK_SECONDS, last)
                )
            except TimeoutError:
                now = self._loop.time()
                if until <= now < last:
                    self._idle_until = last
                    return b""
            except (httpx.HTTPError, aiohttp.ClientError, OSError, RuntimeError) as error:
                # RuntimeError: what aiohttp says of a connection that it has closed on a malformed body.
                raise _told(error, self._name, "body") from error
            else:
                self._idle_until = None
                self._read_in_turn += len(received)
                self._left -= len(received)
                if self._left < 0:
                    raise _failed(
                        500,
                        self._name,
                        f"sent an answer of more than {self._max_bytes} bytes",
                        "body",
                    )
                return received or None
        raise _late(self._name, "body", self._timeouts, ended=now >= self._ends)

    def bound(self) -> None:
        """Let the rest of the body be as large as an answer that is kept may be, and no larger."""
        self._left = self._max_bytes

    async def read(self) -> bytes:
        """The whole body. Raises UpstreamError."""
        self.bound()
        reads = []
        while (received := await self.next_read()) is not None:
            reads.append(received)
        return b"".join(reads)

    async def aclose(self) -> None:
        """Give the connection back, or cut it when the body was not read to its end. May be called again."""
        # aiohttp raises one exception, the same for all, from a body that is closed: it would collect the frames, and so
        # the answers, of all who ever read on.
        self._read = _at_end
        self._alarm.stop()
        if self.observed is not None:
            self.observed.end()
        await self._close()


async def _at_end() -> bytes:
    return b""


class Upstream:
    """A pool of connections. `transport` replaces the network in tests. max_bytes: of an answer that is read whole; more
    is a failure, so that no upstream can fill the memory. on_shortage: called with the name of what this server has run
    out of, when a connection can't be made.
    """

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport | None = None,
        *,
        max_bytes: int = MAX_BYTES,
        on_shortage: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.max_bytes = max_bytes
        self._on_shortage = on_shortage
        # Not a client of httpx: what it adds (cookies, redirects, logins) must not be between different clients of ours.
        self._transport = transport or AiohttpTransport()

    async def post(  # noqa: PLR0913 - a request is as much
        self,
        url: str,
        payload: bytes,
        headers: Mapping[str, str],
        timeouts: Timeouts,
        name: str,
        *,
        may_resend: Callable[[], bool] = lambda: True,
    ) -> Reply:
        """Post JSON; return when the head of the answer is there. headers: by lower-case names. name: as errors name the
        upstream. may_resend: called when a reused connection turns out to be closed; whether to send once more on
        another one. The caller closes the reply. Raises UpstreamError.
        """
        request = httpx.Request("POST", _parsed(url), headers={**_JSON, **headers}, content=payload)
        return await self._send(request, timeouts, name, may_resend)

    async def get(
        self, url: str, headers: Mapping[str, str], timeouts: Timeouts, name: str
    ) -> Reply:
        """As `post`, without a body. aiohttp itself sends it once more when its connection breaks."""
        request = httpx.Request("GET", _parsed(url), headers={**_HEADERS, **headers})
        return await self._send(request, timeouts, name, may_resend=lambda: False)

    async def aclose(self) -> None:
        await self._transport.aclose()

    async def _send(
        self, request: httpx.Request, timeouts: Timeouts, name: str, may_resend: Callable[[], bool]
    ) -> Reply:
        ends = asyncio.get_running_loop().time() + (
            math.inf if timeouts.total is None else timeouts.total
        )
        first = _Attempt(timeouts, name, ends, self._on_shortage)
        try:
            response = await first.send(self._transport, request)
        except UpstreamError as error:
            if not (first.reused and _was_idle(error.__cause__) and may_resend()):
                raise
            response = await _Attempt(timeouts, name, ends, self._on_shortage).send(
                self._transport, request
            )
        return Reply(response, name, timeouts, ends, self.max_bytes)


@lru_cache
def _parsed(url: str) -> httpx.URL:
    """The addresses of endpoints are few, and taking one apart costs as much as all else that httpx does."""
    return httpx.URL(url)


class _Attempt:
    """One way of a request to the head of its answer; the transport's trace says how far it is."""

    def __init__(
        self, timeouts: Timeouts, name: str, ends: float, on_shortage: Callable[[str], None]
    ) -> None:
        self.reused = False
        self._on_shortage = on_shortage
        self._timeouts = timeouts
        self._name = name
        self._ends = ends
        self._phase: Phase = "connect"
        self._limit: asyncio.Timeout | None = None

    async def send(
        self, transport: httpx.AsyncBaseTransport, request: httpx.Request
    ) -> httpx.Response:
        request.extensions["trace"] = self._trace
        try:
            async with asyncio.timeout_at(self._at(self._timeouts.connect)) as self._limit:
                return await transport.handle_async_request(request)
        except TimeoutError as error:
            late = _late(self._name, self._phase, self._timeouts, ended=self._is_over())
            raise _explained(late, error, request.url, transport) from error
        except (httpx.HTTPError, aiohttp.ClientError, OSError) as error:
            raise _explained(self._error_for(error), error, request.url, transport) from error
        finally:
            self._limit = None

    def _error_for(self, error: Exception) -> UpstreamError:
        resource = shortage_of(error) if self._phase == "connect" else None
        if resource is None:
            return _told(error, self._name, self._phase)
        self._on_shortage(resource)
        return OwnShortageError(self._name, resource)

    def _trace(self, event: str) -> None:
        self.reused = self.reused or event == "reused"
        self._phase = "head"
        # A body may still be on its way out when its answer has come.
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(self._at(self._timeouts.first_byte))

    def _at(self, seconds: float) -> float:
        return min(asyncio.get_running_loop().time() + seconds, self._ends)

    def _is_over(self) -> bool:
        return asyncio.get_running_loop().time() >= self._ends


class _Body(Protocol):
    """The body of a response: AiohttpTransport's."""

    async def read(self) -> bytes: ...

    async def aclose(self) -> None: ...


class _Iterated:
    """The body of a response of any transport, without the promise of AiohttpTransport's."""

    def __init__(self, response: httpx.Response) -> None:
        self._chunks = response.aiter_bytes()
        self.aclose = response.aclose

    async def read(self) -> bytes:
        return await anext(self._chunks, b"")


_UNREACHABLE = "refuses connections or can't be reached: is it running?"
# The beginning of a TLS alert (RFC 8446, 5.1), as aiohttp quotes what is no status line.
_TLS_ALERT = repr(b"\x15\x03")[:-1]
_ENDED_HANDSHAKE = "closed the connection before TLS began: if its port takes no TLS, the address has to begin with http://"
# What OpenSSL says of a reply that is no TLS, such as an HTTP response.
_PLAIN_REPLY = "WRONG_VERSION_NUMBER"
_PROXY = "the HTTP proxy that the environment names (HTTP_PROXY, HTTPS_PROXY or ALL_PROXY)"
_BROKEN = "broke the connection before the answer was complete"

_LATE: Mapping[str, tuple[Callable[[Timeouts], float | None], str]] = {
    "connect": (attrgetter("connect"), "did not accept a connection"),
    "head": (attrgetter("first_byte"), "did not begin to answer"),
    "body": (attrgetter("idle"), "sent nothing more of its answer"),
    "total": (attrgetter("total"), "did not complete its answer"),
}

# First match wins. Those of httpx are for other transports than ours.
_FAILURES: tuple[tuple[type[BaseException], int, str], ...] = (
    (aiohttp.ClientConnectorDNSError, 500, "has no address (its name can't be resolved)"),
    (
        aiohttp.ClientConnectorCertificateError,
        500,
        "has a TLS certificate that can't be trusted: SSL_CERT_FILE can name a PEM file with its authority",
    ),
    (aiohttp.ClientConnectorSSLError, 500, "can't be reached over TLS"),
    (
        aiohttp.ClientProxyConnectionError,
        500,
        f"can't be reached: {_PROXY} refuses connections; NO_PROXY can exempt it",
    ),
    (aiohttp.ClientConnectorError, 500, _UNREACHABLE),
    (aiohttp.ClientHttpProxyError, 500, f"can't be reached: {_PROXY} refuses it"),
    (aiohttp.ClientResponseError, 500, "sent something that is no HTTP answer"),
    (httpx.ConnectTimeout, 504, "did not accept a connection in time"),
    (httpx.TimeoutException, 504, "did not answer in time"),
    (httpx.ConnectError, 500, _UNREACHABLE),
)
_BEFORE_SENDING = (httpx.ConnectError, httpx.ConnectTimeout)


def _told(error: Exception, name: str, phase: Phase) -> UpstreamError:
    """What the client library raised, as the client is told of it."""
    status, text = next(
        ((status, text) for kind, status, text in _FAILURES if isinstance(error, kind)),
        (500, _BROKEN),
    )
    if (
        phase == "connect"
        and isinstance(error, httpx.HTTPError)
        and not isinstance(error, _BEFORE_SENDING)
    ):
        phase = "head"
    return _failed(status, name, text, phase)


def _explained(
    failed: UpstreamError, cause: Exception, url: httpx.URL, transport: httpx.AsyncBaseTransport
) -> UpstreamError:
    """Add to a failure what may be behind it: an HTTP proxy on the way, or TLS on one side alone."""
    is_proxied = isinstance(transport, AiohttpTransport) and transport.uses_proxy(url)
    if isinstance(failed, OwnShortageError) or _PROXY in failed.message:
        return failed
    if is_proxied:
        # The proxy's name is the only one that is resolved here.
        is_unknown = isinstance(cause, aiohttp.ClientConnectorDNSError)
        addition = f": that is {_PROXY}" if is_unknown else f" (through {_PROXY})"
    elif failed.phase == "head" and url.scheme == "http" and _may_be_tls(cause):
        addition = "; if its port takes TLS, the address has to begin with https://"
    elif isinstance(cause, aiohttp.ClientConnectorSSLError) and _PLAIN_REPLY in str(cause):
        addition = ": it speaks no TLS there, so the address has to begin with http://"
    elif url.scheme == "https" and _ended_handshake(cause):
        text = failed.message.replace(_UNREACHABLE, _ENDED_HANDSHAKE)
        return UpstreamError(failed.status, text, failed.phase)
    else:
        return failed
    return UpstreamError(failed.status, failed.message + addition, failed.phase)


def _ended_handshake(cause: Exception) -> bool:
    """Return whether a connection was accepted and closed before TLS began, as servers without TLS do."""
    return isinstance(cause, aiohttp.ClientConnectorError) and isinstance(
        cause.os_error, ConnectionResetError
    )


def _may_be_tls(cause: Exception) -> bool:
    """Return whether a server may have expected TLS: it closed or reset the connection without a byte, or sent an alert."""
    if isinstance(cause, aiohttp.ServerDisconnectedError):
        return isinstance(cause.message, str)  # else it is what has come of a head
    if isinstance(cause, aiohttp.ClientResponseError):
        return _TLS_ALERT in cause.message
    return isinstance(cause, OSError) and cause.errno == errno.ECONNRESET


def _was_idle(error: BaseException | None) -> bool:
    """Whether a server closed a connection before any byte of an answer. It may do so, with one that was idle, just when it
    is used again: that is not about the request (RFC 9112, 9.5).
    """
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return isinstance(error.message, str)  # else it is what has come of a head
    return isinstance(error, aiohttp.ClientOSError | ConnectionError)


def _failed(status: int, name: str, text: str, phase: Phase) -> UpstreamError:
    return UpstreamError(status, f"The upstream {name} {text}", phase)


def _late(name: str, phase: Phase, timeouts: Timeouts, *, ended: bool) -> UpstreamError:
    """ended: the time for the whole answer is over, not just the phase's."""
    seconds, text = _LATE["total" if ended else phase]
    return _failed(504, name, f"{text} within {seconds(timeouts):g} s", phase)
