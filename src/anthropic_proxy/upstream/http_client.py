"""HTTP client for upstreams, with limits on the time and the size of responses.

A request has three phases: connect, head (until the response headers) and body. Each phase
has a time limit, and the complete request may have one too. An UpstreamError contains the phase in
which it occurred. If this is not the body phase, the request may be sent to another upstream.
"""

import asyncio
import contextlib
import errno
import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Literal, Protocol

import aiohttp
import httpx

from anthropic_proxy.errors import ApiError, resource_exhausted_error
from anthropic_proxy.observability.resource_exhaustion import find_exhausted_resource
from anthropic_proxy.routing.upstream import Timeouts
from anthropic_proxy.upstream.complete_body import CompleteBody
from anthropic_proxy.upstream.interruption import ReadDeadline
from anthropic_proxy.upstream.transport import AiohttpTransport
from anthropic_proxy.wire.payloads import BodyFormat, detect_format

# Bytes of a response that is not streamed, after decompression. The largest real responses have a
# few MB: tool calls that write files.
MAX_BYTES = 64 * 1024 * 1024

_HEADERS = {"user-agent": "anthropic-proxy", "accept": "*/*", "accept-encoding": "identity"}
_JSON = {**_HEADERS, "content-type": "application/json"}

# Bytes that are read before other tasks can run: a read of data that has already arrived does not
# yield to the event loop.
_TURN_BYTES = 64 * 1024

# Seconds. After the last event of a stream, only a few bytes of the body are left. The connection
# can be reused when they have been read.
DRAIN_SECONDS = 0.25

# Seconds after which a read is repeated. When aiohttp closes the connection because of a malformed
# body, only the next read reports it.
_CHECK_SECONDS = 10

# Seconds. A server that has closed an idle connection resets it when it receives the next request,
# which takes one round trip. After a longer time, the server may have worked on the request.
_IDLE_CLOSE_SECONDS = 5

Phase = Literal["connect", "head", "body"]


class UpstreamError(ApiError):
    """The upstream, or the connection to it, failed."""

    def __init__(self, status: int, message: str, phase: Phase) -> None:
        super().__init__(status, message)
        # `connect`: the request was not sent. `head`: the headers of the response were not
        # received. `body`: the response had started.
        self.phase = phase


class LocalShortageError(UpstreamError):
    """The proxy has exhausted a resource that a connection needs. The upstream did not fail."""

    def __init__(self, name: str, resource: str) -> None:
        error = resource_exhausted_error(resource, f"connect to the upstream {name}")
        super().__init__(error.status, error.message, "connect")
        self.headers.update(error.headers)


class ResponseObserver(Protocol):
    """Interface of an object that receives the progress of a response body."""

    def body_started(self) -> None:
        """Handle the first bytes of the body."""

    def body_completed(self) -> None:
        """Handle the end of a complete body."""

    def body_failed(self, error: UpstreamError) -> None:
        """Handle a failure while the body is read."""

    def closed(self) -> None:
        """Handle the end of the response."""


class UpstreamResponse:
    """A response whose headers have been received.

    Read the body with `read` or `read_available`, and call `aclose` after use.
    """

    def __init__(  # noqa: PLR0913 - the parts of a response, and its limits
        self,
        response: httpx.Response,
        name: str,
        timeouts: Timeouts,
        deadline: float,
        max_bytes: int,
        *,
        sent_at: float,
        drains: "dict[UpstreamResponse, asyncio.Task[None]]",
    ) -> None:
        """Read the body of `response`.

        name: name of the upstream, for errors. deadline: time by which the body must be complete,
        in seconds of the event loop's clock. max_bytes: maximum size after `limit_size`. sent_at:
        time at which the request was sent. drains: receives the task that `release` starts.
        """
        self.status = response.status_code
        # Names are in lower case. A dict, because the mapping of httpx searches all headers at each
        # access.
        self.headers: Mapping[str, str] = dict(response.headers.items())
        # They receive the progress of the body.
        self.observers: list[ResponseObserver] = []
        self._name = name
        self._timeouts = timeouts
        self._deadline = deadline
        self._max_bytes = max_bytes
        # The time by which the content must begin.
        self._first_token_deadline = sent_at + (timeouts.first_token or math.inf)
        # Number of bytes that the body may still have after `limit_size`.
        self._bytes_left = math.inf
        # The idle deadline of a read that has returned at `until` without data.
        self._idle_deadline: float | None = None
        # Bytes that were read since other tasks could last run.
        self._bytes_in_turn = 0
        self._has_started = False
        self._read_deadline = ReadDeadline()
        self._drains = drains
        self._loop = asyncio.get_running_loop()
        body: _ReadableBody = response.extensions.get("body") or _IteratedBody(response)
        # The httpx response is not kept, because it contains another copy of the headers.
        self._read, self._close = body.read, body.aclose

    async def read_available(self, until: float = math.inf) -> bytes | None:
        """Return the next bytes of the body, as the socket delivers them; None at the end.

        Return b"" if no bytes arrive before `until`, in seconds of the event loop's clock. The call
        can then be repeated. Raises UpstreamError.
        """
        now = self._loop.time()
        if self._bytes_in_turn >= _TURN_BYTES:
            self._bytes_in_turn = 0
            await asyncio.sleep(0)
        idle_deadline = self._idle_deadline
        if idle_deadline is None:
            idle_deadline = now + self._timeouts.idle
        deadline = min(idle_deadline, self._first_token_deadline, self._deadline)
        while now < deadline:
            try:
                data = await self._read_deadline.wait(
                    self._read(), min(until, now + _CHECK_SECONDS, deadline)
                )
            except TimeoutError:
                now = self._loop.time()
                if until <= now < deadline:
                    self._idle_deadline = idle_deadline
                    return b""
            except (httpx.HTTPError, aiohttp.ClientError, OSError, RuntimeError) as error:
                # aiohttp raises RuntimeError for a connection that it closed on a malformed body.
                failure = _to_upstream_error(error, self._name, "body")
                raise self._notify_failure(failure) from error
            else:
                return self._accept(data)
        limit = "idle"
        if now >= self._deadline:
            limit = "total"
        elif now >= self._first_token_deadline:
            limit = "first_token"
        raise self._notify_failure(_timeout_error(self._name, "body", self._timeouts, limit))

    def end_first_token_limit(self) -> None:
        """End the time limit of the first content, because the content has begun."""
        self._first_token_deadline = math.inf

    def limit_size(self) -> None:
        """Limit the rest of the body to the maximum size of a response that is not streamed."""
        self._bytes_left = self._max_bytes

    async def read(self, beginning: bytes = b"") -> bytes:
        """Return the complete body. Raises UpstreamError.

        The body is complete at the end of a JSON document, even if the connection stays open. An
        error and a web page are also complete after a short silence.

        beginning: bytes of the body that have been read.
        """
        self.limit_size()
        self.end_first_token_limit()
        is_error = self.status >= 300 or detect_format(beginning) is BodyFormat.MARKUP
        body = CompleteBody(self.read_available, beginning, is_error=is_error)
        try:
            await body.read()
        except UpstreamError:
            if not body.is_usable or self._bytes_left < 0:
                raise
            await self.aclose()
        return body.join()

    async def peek(
        self, seconds: float, max_bytes: int, is_complete: Callable[[bytes], bool]
    ) -> bytes:
        """Return the beginning of the body. Later reads return it again.

        The result ends if it is complete, or after `seconds` or `max_bytes`. A failure ends it too,
        and is raised by later reads.
        """
        until = self._loop.time() + seconds
        beginning = b""
        with contextlib.suppress(UpstreamError):
            while len(beginning) < max_bytes and not is_complete(beginning):
                data = await self.read_available(until)
                if not data:
                    break
                beginning += data
        if beginning:
            self._unread(beginning)
        return beginning

    def _unread(self, data: bytes) -> None:
        """Return `data` from the next read, before the rest of the body."""
        read_rest = self._read

        async def read_again() -> bytes:
            self._read = read_rest
            return data

        self._read = read_again

    async def release(self) -> None:
        """End a response whose message is complete, and reuse the connection if possible.

        The end of the body may follow late or never. A task waits for it, not the caller.
        """
        try:
            has_ended = await self._has_ended()
        except BaseException:
            await self.aclose()
            raise
        if has_ended:
            await self.aclose()
            return
        self._notify_closed()
        drain = asyncio.create_task(self._drain(self._loop.time() + DRAIN_SECONDS))
        self._drains[self] = drain
        drain.add_done_callback(lambda _: self._drains.pop(self, None))

    async def _has_ended(self) -> bool:
        """Return whether the end of the body has arrived. Drop the bytes before it."""
        now = self._loop.time()
        with contextlib.suppress(UpstreamError):
            # The first read returns all bytes that have arrived.
            await self.read_available(now)
            return await self.read_available(now) is None
        return True

    async def _drain(self, until: float) -> None:
        """Read to the end of the body, but not after `until`, and close the response."""
        try:
            with contextlib.suppress(UpstreamError):
                while await self.read_available(until) and self._loop.time() < until:
                    continue
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Release the connection, or close it if the body was not read to its end.

        May be called again.
        """
        # aiohttp raises the same exception object for every read of a closed body. Its traceback
        # would collect the frames, and so the responses, of all later reads.
        self._read = _read_after_close
        self._read_deadline.cancel()
        self._notify_closed()
        await self._close()

    def _notify_closed(self) -> None:
        """Notify the observers of the end of the response."""
        observers, self.observers = self.observers, []
        for observer in observers:
            observer.closed()

    def _accept(self, data: bytes) -> bytes | None:
        """Return the bytes of a read; None at the end.

        Raises UpstreamError if the body exceeds the maximum size.
        """
        self._idle_deadline = None
        self._bytes_in_turn += len(data)
        self._bytes_left -= len(data)
        if self._bytes_left < 0:
            text = f"sent a response of more than {self._max_bytes} bytes"
            raise self._notify_failure(_create_error(500, self._name, text, "body"))
        if not data:
            for observer in self.observers:
                observer.body_completed()
            return None
        if not self._has_started:
            self._has_started = True
            for observer in self.observers:
                observer.body_started()
        return data

    def _notify_failure(self, failure: UpstreamError) -> UpstreamError:
        """Notify the observers of a failure, and return it for a `raise` statement."""
        for observer in self.observers:
            observer.body_failed(failure)
        return failure


async def _read_after_close() -> bytes:
    return b""


class UpstreamHTTPClient:
    """Sends requests to upstreams, over a pool of connections."""

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport | None = None,
        *,
        max_bytes: int = MAX_BYTES,
        on_shortage: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Create a client.

        transport: replaces the network in tests. max_bytes: maximum size of a response that is not
        streamed, so that an upstream cannot exhaust the memory. on_shortage: called with the name
        of the exhausted resource when a connection cannot be made for that reason.
        """
        self.max_bytes = max_bytes
        self._on_shortage = on_shortage
        # Not `httpx.AsyncClient`, because all callers would share its cookies and credentials.
        self._transport = transport or AiohttpTransport()
        # The tasks that wait for the end of released responses.
        self._drains: dict[UpstreamResponse, asyncio.Task[None]] = {}

    @property
    def is_draining(self) -> bool:
        """True while a task waits for the end of a released response."""
        return bool(self._drains)

    async def post(  # noqa: PLR0913 - the parts of a request
        self,
        url: str,
        payload: bytes,
        headers: Mapping[str, str],
        timeouts: Timeouts,
        name: str,
        *,
        allow_resend: Callable[[], bool] = lambda: True,
    ) -> UpstreamResponse:
        """Post JSON, and return the response when its headers have been received.

        The caller closes the response. Raises UpstreamError.

        headers: names in lower case. name: name of the upstream, for errors. allow_resend: called
        if a reused connection was closed by the server; returns whether to send the request once
        more on another connection.
        """
        request = httpx.Request(
            "POST", _parse_url(url), headers={**_JSON, **headers}, content=payload
        )
        return await self._send_with_resend(request, timeouts, name, allow_resend)

    async def get(
        self, url: str, headers: Mapping[str, str], timeouts: Timeouts, name: str
    ) -> UpstreamResponse:
        """Send a GET request; see `post`. aiohttp itself resends it on a closed connection."""
        request = httpx.Request("GET", _parse_url(url), headers={**_HEADERS, **headers})
        return await self._send_with_resend(request, timeouts, name, allow_resend=lambda: False)

    async def aclose(self) -> None:
        drains = dict(self._drains)
        for response, drain in drains.items():
            drain.cancel()
            # A task that has not started does not close its response.
            await response.aclose()
        await asyncio.gather(*drains.values(), return_exceptions=True)
        await self._transport.aclose()

    async def _send_with_resend(
        self,
        request: httpx.Request,
        timeouts: Timeouts,
        name: str,
        allow_resend: Callable[[], bool],
    ) -> UpstreamResponse:
        deadline = math.inf
        if timeouts.total is not None:
            deadline = asyncio.get_running_loop().time() + timeouts.total
        attempt = _SendAttempt(timeouts, name, deadline, self._on_shortage)
        try:
            response = await attempt.send(self._transport, request)
        except UpstreamError as error:
            if not (attempt.was_idle(error.__cause__) and allow_resend()):
                raise
            attempt = _SendAttempt(timeouts, name, deadline, self._on_shortage)
            response = await attempt.send(self._transport, request)
        return UpstreamResponse(
            response,
            name,
            timeouts,
            deadline,
            self.max_bytes,
            sent_at=attempt.sent_at,
            drains=self._drains,
        )


@lru_cache
def _parse_url(url: str) -> httpx.URL:
    """Parse a URL. Cached, because it takes as long as the rest of httpx for a request."""
    return httpx.URL(url)


class _SendAttempt:
    """Sends a request once, and waits for the headers of its response.

    The trace events of the transport show the current phase of the request.
    """

    def __init__(
        self, timeouts: Timeouts, name: str, deadline: float, on_shortage: Callable[[str], None]
    ) -> None:
        # Whether the connection has already served another request.
        self.is_reused = False
        # The time at which the last part of the request was sent.
        self.sent_at = asyncio.get_running_loop().time()
        self._on_shortage = on_shortage
        self._timeouts = timeouts
        self._name = name
        self._deadline = deadline
        self._phase: Phase = "connect"
        self._timeout: asyncio.Timeout | None = None

    async def send(
        self, transport: httpx.AsyncBaseTransport, request: httpx.Request
    ) -> httpx.Response:
        request.extensions["trace"] = self._trace
        connect_deadline = self._deadline_after(self._timeouts.connect)
        try:
            async with asyncio.timeout_at(connect_deadline) as self._timeout:
                return await transport.handle_async_request(request)
        except TimeoutError as error:
            limit = self._find_expired_limit()
            failure = _timeout_error(self._name, self._phase, self._timeouts, limit)
            raise _add_explanation(failure, error, request.url, transport) from error
        except (httpx.HTTPError, aiohttp.ClientError, OSError) as error:
            failure = self._to_upstream_error(error)
            raise _add_explanation(failure, error, request.url, transport) from error
        finally:
            self._timeout = None

    def was_idle(self, error: BaseException | None) -> bool:
        """Return whether the server had closed the connection before it received the request."""
        seconds = asyncio.get_running_loop().time() - self.sent_at
        is_disconnect = self.is_reused and _is_idle_disconnect(error)
        return is_disconnect and seconds <= _IDLE_CLOSE_SECONDS

    def _to_upstream_error(self, error: Exception) -> UpstreamError:
        if self._phase == "connect":
            resource = find_exhausted_resource(error)
            if resource is not None:
                self._on_shortage(resource)
                return LocalShortageError(self._name, resource)
        return _to_upstream_error(error, self._name, self._phase)

    def _trace(self, event: str) -> None:
        self.is_reused = self.is_reused or event == "reused"
        self._phase = "head"
        self.sent_at = asyncio.get_running_loop().time()
        # A response may arrive before the body of its request has been sent.
        if self._timeout is not None and not self._timeout.expired():
            self._timeout.reschedule(self._deadline_after(self._head_seconds))

    @property
    def _head_seconds(self) -> float:
        """The seconds from the request to the headers of its response."""
        return min(self._timeouts.first_byte, self._timeouts.first_token or math.inf)

    def _find_expired_limit(self) -> str:
        """Return the name of the time limit that has expired."""
        if asyncio.get_running_loop().time() >= self._deadline:
            return "total"
        if self._phase == "connect":
            return "connect"
        return "first_byte" if self._head_seconds == self._timeouts.first_byte else "first_token"

    def _deadline_after(self, seconds: float) -> float:
        return min(asyncio.get_running_loop().time() + seconds, self._deadline)


class _ReadableBody(Protocol):
    """Interface of the body that AiohttpTransport creates."""

    async def read(self) -> bytes: ...

    async def aclose(self) -> None: ...


class _IteratedBody:
    """A body from another transport, for tests. A cancelled read may lose bytes."""

    def __init__(self, response: httpx.Response) -> None:
        self._chunks = response.aiter_bytes()
        self.aclose = response.aclose

    async def read(self) -> bytes:
        return await anext(self._chunks, b"")


_UNREACHABLE = "refuses connections or can't be reached; check that it is running"
# The beginning of a TLS alert (RFC 8446, 5.1), as aiohttp quotes an invalid status line.
_TLS_ALERT = repr(b"\x15\x03")[:-1]
_ENDED_HANDSHAKE = (
    "closed the connection before TLS began: if its port does not use TLS, the URL must begin with "
    "http://"
)
# OpenSSL's error for bytes that are not TLS, such as an HTTP response.
_PLAIN_REPLY = "WRONG_VERSION_NUMBER"
_PROXY = "the HTTP proxy of HTTP_PROXY, HTTPS_PROXY or ALL_PROXY"
_TRUST_HINT = "set SSL_CERT_FILE to a PEM file with its certificate authority"
_BROKEN = "closed the connection before the response was complete"

# The text for the client, by the time limit.
_TIMEOUT_TEXTS = {
    "connect": "did not accept a connection",
    "first_byte": "did not begin its response",
    "first_token": "sent no content",
    "idle": "sent no more data of its response",
    "total": "did not complete its response",
}

# Error class, status and text for the client. The first match is used. AiohttpTransport raises the
# errors of aiohttp, other transports those of httpx. No status is 529, because Claude Code does not
# show the text of a 529.
_FAILURES: tuple[tuple[type[BaseException], int, str], ...] = (
    (aiohttp.ClientConnectorDNSError, 500, "has no address (its name can't be resolved)"),
    (
        aiohttp.ClientConnectorCertificateError,
        500,
        f"has a TLS certificate that can't be trusted; {_TRUST_HINT}",
    ),
    (aiohttp.ClientConnectorSSLError, 500, "can't be reached over TLS"),
    (
        aiohttp.ClientProxyConnectionError,
        500,
        f"can't be reached: {_PROXY} refuses connections; NO_PROXY can exempt it",
    ),
    (aiohttp.ClientConnectorError, 500, _UNREACHABLE),
    (aiohttp.ClientHttpProxyError, 500, f"can't be reached: {_PROXY} refuses it"),
    (aiohttp.ClientResponseError, 500, "sent an invalid HTTP response"),
    (httpx.ConnectTimeout, 504, "did not accept a connection in time"),
    (httpx.TimeoutException, 504, "did not respond in time"),
    (httpx.ConnectError, 500, _UNREACHABLE),
)
# The errors of httpx that are raised before a request is sent.
_BEFORE_SENDING = (httpx.ConnectError, httpx.ConnectTimeout)


def _to_upstream_error(error: Exception, name: str, phase: Phase) -> UpstreamError:
    """Return the error for an exception of the HTTP library."""
    was_sent = isinstance(error, httpx.HTTPError) and not isinstance(error, _BEFORE_SENDING)
    if phase == "connect" and was_sent:
        # Only AiohttpTransport reports that a request was sent.
        phase = "head"
    for kind, status, text in _FAILURES:
        if isinstance(error, kind):
            return _create_error(status, name, text, phase)
    return _create_error(500, name, _BROKEN, phase)


def _add_explanation(
    failure: UpstreamError, cause: Exception, url: httpx.URL, transport: httpx.AsyncBaseTransport
) -> UpstreamError:
    """Add a probable cause: an HTTP proxy, or TLS that only one side uses."""
    if isinstance(failure, LocalShortageError) or _PROXY in failure.message:
        return failure
    text = failure.message
    if isinstance(transport, AiohttpTransport) and transport.uses_proxy(url):
        if isinstance(cause, aiohttp.ClientConnectorDNSError):
            # The proxy resolves only the name of the HTTP proxy, not the name of the upstream.
            text += f": this is {_PROXY}"
        else:
            text += f" (through {_PROXY})"
    elif failure.phase == "head" and url.scheme == "http" and _may_be_tls(cause):
        text += "; if its port uses TLS, the URL must begin with https://"
    elif isinstance(cause, aiohttp.ClientConnectorSSLError) and _PLAIN_REPLY in str(cause):
        text += ": its port does not use TLS, so the URL must begin with http://"
    elif url.scheme == "https" and _ended_handshake(cause):
        text = text.replace(_UNREACHABLE, _ENDED_HANDSHAKE)
    else:
        return failure
    return UpstreamError(failure.status, text, failure.phase)


def _ended_handshake(cause: Exception) -> bool:
    """Return whether a server reset the connection before TLS began, as servers without TLS do."""
    if not isinstance(cause, aiohttp.ClientConnectorError):
        return False
    return isinstance(cause.os_error, ConnectionResetError)


def _may_be_tls(cause: Exception) -> bool:
    """Return whether a server may have expected TLS.

    Such a server closes or resets the connection without sending a byte, or sends a TLS alert.
    """
    if isinstance(cause, aiohttp.ServerDisconnectedError):
        return _is_without_head(cause)
    if isinstance(cause, aiohttp.ClientResponseError):
        return _TLS_ALERT in cause.message
    return isinstance(cause, OSError) and cause.errno == errno.ECONNRESET


def _is_idle_disconnect(error: BaseException | None) -> bool:
    """Return whether a server closed a connection before it sent any byte of a response.

    A server may close an idle connection at the moment when the client uses it again. The request
    did not cause such a failure (RFC 9112, 9.5).
    """
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return _is_without_head(error)
    return isinstance(error, aiohttp.ClientOSError | ConnectionError)


def _is_without_head(error: aiohttp.ServerDisconnectedError) -> bool:
    """Return whether no byte of the headers was received.

    aiohttp sets `message` to the received headers if there are any, otherwise to a text.
    """
    return isinstance(error.message, str)


def _create_error(status: int, name: str, text: str, phase: Phase) -> UpstreamError:
    return UpstreamError(status, f"The upstream {name} {text}", phase)


def _timeout_error(name: str, phase: Phase, timeouts: Timeouts, limit: str) -> UpstreamError:
    """Create the error for a timeout. limit: the name of the expired limit in `timeouts`."""
    seconds: float = getattr(timeouts, limit)
    return _create_error(504, name, f"{_TIMEOUT_TEXTS[limit]} within {seconds:g} s", phase)
