"""Probe the upstreams when the server starts: reachability, and validity of the keys.

A probe requests the list of models with each key of an upstream. The server does not wait for the
results. An unhealthy upstream is probed again until it is healthy. Requests of clients do not
depend on the results, but the responses of upstreams correct the results.
"""

import asyncio
import contextlib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, NoReturn

from anthropic_proxy.auth.caller import ANONYMOUS
from anthropic_proxy.errors import MISSING_PATH_STATUSES, ApiError
from anthropic_proxy.observability.console import UPSTREAM_PROBED
from anthropic_proxy.observability.logs import Log
from anthropic_proxy.observability.observation import Observation
from anthropic_proxy.providers.profiles import GENERIC
from anthropic_proxy.routing.upstream import Timeouts, Upstream
from anthropic_proxy.translate.model_list import to_model_infos
from anthropic_proxy.translate.upstream_errors import is_html_page, wants_tls
from anthropic_proxy.upstream.headers import build_headers
from anthropic_proxy.upstream.http_client import (
    LocalShortageError,
    UpstreamError,
    UpstreamHTTPClient,
)
from anthropic_proxy.wire.json_codec import JsonObject, dumps, loads, loads_received

# Differs from the header of other requests, so that operators of upstreams can recognize probes.
USER_AGENT = "anthropic-proxy (start-up probe)"

_TIMEOUTS = Timeouts(connect=5, first_byte=10, idle=10, total=20)
# Seconds after which unhealthy upstreams are probed again; doubled each time, up to the maximum.
_RETRY_SECONDS = 10.0
_MAX_RETRY_SECONDS = 300.0
# Seconds between two reads of the shared results, in a process that does not probe.
_READ_SECONDS = 1.0
# Texts that a reason may contain, and the advice that complements it; the first match is used.
# The advice is empty if the reason contains the remedy, or passes by itself.
_ADVICE_BY_TEXT = {
    "SSL_CERT_FILE": "",
    "HTTP_PROXY": "check HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY",
    "This server has run out of": "",
    "check that it is running": "check {url}",
    "the URL must begin with": "check {url}",
    "over TLS": "check {url}",
    "has no address": "check the host name in {url}",
}
# Paths that check a key, for servers whose list of models does not require a key.
_KEY_PATHS = {"openrouter": "/key"}
# Number of model names in the log.
_MAX_NAMES = 3
_MAX_NAME_LENGTH = 60
_SERVER_NAME = re.compile(r"[A-Za-z0-9 ./_()-]{1,40}")

KeyState = Literal[
    "accepted", "rejected", "missing", "not needed", "not set", "the client's", "not checked"
]
_KEY_TEXTS: Mapping[KeyState, str] = {
    "accepted": "key accepted",
    "rejected": "key rejected",
    "missing": "key missing",
    "not needed": "key not needed",
    "not set": "no key set",
    "the client's": "the client's key is sent",
    "not checked": "key not checked",
}
# States in which the operator must set or correct a key.
_BAD_KEY_STATES = ("rejected", "missing")
_KEY_REFUSED_STATUSES = (401, 403)
_WANTS_TLS = "its port requires TLS: the URL must begin with https://"
_NO_API = "it is not an OpenAI-compatible API"


@dataclass(frozen=True)
class ProbeResult:
    """The result of probing one upstream."""

    # Whether the upstream responded, or at least accepted a connection.
    is_reachable: bool
    # The reason why there is no list of models, without the name of the upstream.
    reason: str = ""
    key: KeyState = "not checked"
    # Numbers, from 1, of the rejected keys if the upstream has several keys.
    rejected: tuple[int, ...] = ()
    # The server software; empty if unknown.
    server: str = ""
    # Names of models; None without a list.
    models: tuple[str, ...] | None = None
    # Whether this is the result of a client's request, and not of a probe.
    is_request: bool = False

    @property
    def is_healthy(self) -> bool:
        """True if the operator has nothing to fix."""
        return self.is_reachable and self.key not in _BAD_KEY_STATES and not self.reason

    @property
    def summary(self) -> str:
        """One line for the log and for `/readyz`."""
        if not self.is_reachable:
            return self.reason
        key_text = _KEY_TEXTS[self.key]
        if self.key == "rejected" and self.rejected:
            key_text = f"key {', '.join(map(str, self.rejected))} rejected"
        parts = ["reachable", key_text, self.reason, self.server, self._models_text()]
        return ", ".join(filter(None, parts))

    def _models_text(self) -> str:
        if self.models is not None and not self.is_request:
            return "1 model" if len(self.models) == 1 else f"{len(self.models)} models"
        if self.reason:
            return ""
        if self.is_request:
            return "a request succeeded"
        return "" if self.key in _BAD_KEY_STATES else "no list of models"


@dataclass(frozen=True)
class Sharing:
    """How processes of one server share the results: one process probes for all of them."""

    # The file of results. The process that probes writes it, and the others read it.
    file: Path
    # Whether this process probes.
    is_prober: bool


class UpstreamProber:
    """Probes the upstreams and holds the results.

    It is also an observation sink: the responses to clients' requests correct the results.
    """

    def __init__(
        self,
        log: Log,
        upstreams: Callable[[], Sequence[Upstream]],
        sharing: Sharing | None = None,
    ) -> None:
        """Create a prober.

        upstreams: returns the upstreams of the current configuration. sharing: None if the server
        has a single process.
        """
        self._log = log
        self._upstreams = upstreams
        self._sharing = sharing
        # The last results that were read from the shared file.
        self._shared: Mapping[str, ProbeResult] = {}
        self._results: dict[str, tuple[Upstream, ProbeResult]] = {}
        # Names of the upstreams that have served a request.
        self._has_served: set[str] = set()
        # The owner of the prober sets it after a reload of the configuration.
        self.upstreams_changed = asyncio.Event()
        # Whether CONFIG_FILE contains the upstreams.
        self.has_config_file = False
        # Called with one line for each upstream, after all were probed and after each change.
        self.on_change: Callable[[Sequence[str]], None] = lambda _: None

    def results(self) -> Mapping[str, ProbeResult]:
        """Return the current results, by the names of the upstreams."""
        return {name: result for name, (_, result) in self._results.items()}

    async def run(self) -> None:
        """Probe the upstreams, or read the results of the process that probes. Never returns."""
        sharing = self._sharing
        if sharing is None or sharing.is_prober:
            await self._probe_repeatedly()
        else:
            await self._follow(sharing.file)

    async def _follow(self, file: Path) -> NoReturn:
        while True:
            self._adopt(read_results(file))
            await asyncio.sleep(_READ_SECONDS)

    async def _probe_repeatedly(self) -> NoReturn:
        """Probe all upstreams, and then repeatedly those that are unhealthy or have changed."""
        http_client = UpstreamHTTPClient()
        pause = _RETRY_SECONDS
        try:
            while True:
                self.upstreams_changed.clear()
                is_done = await self._probe_due(http_client)
                self._publish()
                try:
                    async with asyncio.timeout(None if is_done else pause):
                        await self.upstreams_changed.wait()
                        pause = _RETRY_SECONDS
                except TimeoutError:
                    pause = self._next_pause(pause)
        finally:
            await http_client.aclose()

    def _next_pause(self, pause: float) -> float:
        """Return the seconds until the next probe.

        The pause does not increase while an upstream is unreachable, as it may start at any time.
        """
        if not all(result.is_reachable for result in self.results().values()):
            return _RETRY_SECONDS
        return min(pause * 2, _MAX_RETRY_SECONDS)

    def _adopt(self, shared: Mapping[str, ProbeResult]) -> None:
        """Replace the results that have changed in the shared file."""
        upstreams = {upstream.name: upstream for upstream in self._upstreams()}
        for name in upstreams.keys() & shared.keys():
            if shared[name] != self._shared.get(name) or name not in self._results:
                self._results[name] = (upstreams[name], shared[name])
        self._shared = shared

    def _publish(self) -> None:
        """Write the results for the other processes, and call `on_change`."""
        if self._sharing is not None:
            if not self._sharing.is_prober:
                return
            write_results(self._sharing.file, self.results())
        lines = []
        for upstream, result in self._results.values():
            lines.append(self._log.redact(self._describe_result(upstream, result)))
        self.on_change(lines)

    def request_started(self, observation: Observation) -> None:
        """Do nothing, because no upstream has responded yet."""

    def request_finished(self, observation: Observation) -> None:
        """Replace the results that are inconsistent with the responses to this request."""
        for request in observation.upstream_requests:
            if request.method == "POST" and request.status is not None:
                self._correct(request.upstream, request.status, request.error_type)

    def _correct(self, upstream: Upstream, status: int, error_type: str | None) -> None:
        """Replace the result of an upstream if the status of a request contradicts it."""
        if not self._is_current(upstream):
            return
        _, result = self._results[upstream.name]
        if result.rejected:
            return
        first_key = upstream.keys[0] if upstream.keys else None
        if status < 300 and error_type is None:
            self._has_served.add(upstream.name)
            if not result.is_healthy:
                key = _key_state(upstream, first_key, 200)
                if key == "not set":
                    key = "not needed"
                self._replace(upstream, ProbeResult(is_reachable=True, key=key, is_request=True))
        elif self._shows_bad_key(upstream, status) and result.is_healthy:
            key = _key_state(upstream, first_key, status)
            reason = f"rejected a request with status {status}"
            result = ProbeResult(is_reachable=True, key=key, reason=reason, is_request=True)
            self._replace(upstream, result)

    def _shows_bad_key(self, upstream: Upstream, status: int) -> bool:
        """Return whether a status means that the proxy's key is not valid.

        This is unknown if the request used the caller's key or one of several keys. If other
        requests succeed, 403 refers to a part of the request, such as a model of another account.
        """
        if upstream.key_passthrough or len(upstream.keys) > 1:
            return False
        return status == 401 or (status == 403 and upstream.name not in self._has_served)

    async def _probe_due(self, http_client: UpstreamHTTPClient) -> bool:
        """Probe the upstreams that need it. Return whether none of them needs another probe."""
        upstreams = self._upstreams()
        current = [upstream.name for upstream in upstreams if self._is_current(upstream)]
        self._results = {name: self._results[name] for name in current}
        self._has_served &= self._results.keys()
        due = [upstream for upstream in upstreams if self._needs_probe(upstream.name)]
        await asyncio.gather(*[self._probe(upstream, http_client) for upstream in due])
        return not any(self._needs_probe(upstream.name) for upstream in upstreams)

    def _needs_probe(self, name: str) -> bool:
        """Return whether an upstream has no result, or an unhealthy result of a probe.

        Only another request corrects the result of a request: some upstreams return the list of
        models for a key with which they reject other requests.
        """
        if name not in self._results:
            return True
        _, result = self._results[name]
        return not (result.is_healthy or result.is_request)

    def _is_current(self, upstream: Upstream) -> bool:
        """Return whether there is a result for the upstream with its current configuration."""
        entry = self._results.get(upstream.name)
        return entry is not None and entry[0] == upstream

    def _replace(self, upstream: Upstream, result: ProbeResult) -> None:
        self._results[upstream.name] = (upstream, result)
        self._report(upstream, result)
        self._publish()

    async def _probe(self, upstream: Upstream, http_client: UpstreamHTTPClient) -> None:
        started_at = time.perf_counter()
        try:
            result = await probe_upstream(upstream, http_client)
        except Exception as error:  # noqa: BLE001 - a bug here must not stop the server
            self._log.error("internal error", exc_info=error)
            result = ProbeResult(is_reachable=True, reason="could not be probed")
        _, previous = self._results.get(upstream.name, (upstream, None))
        if previous is not None and previous.is_request:
            # A client's request has set the result during the probe.
            return
        self._results[upstream.name] = (upstream, result)
        if previous is None or previous.summary != result.summary:
            self._report(upstream, result, round(time.perf_counter() - started_at, 3))

    def _report(
        self, upstream: Upstream, result: ProbeResult, seconds: float | None = None
    ) -> None:
        """Log a result. seconds: duration of the probe; None for the result of a request."""
        values: dict[str, object] = {
            "result": result.summary,
            "name": upstream.name,
            "url": upstream.base_url,
            "reachable": result.is_reachable,
            "key": result.key,
            "server": result.server,
            "models": None,
            "first_models": "",
            "seconds": seconds,
            "hint": self._hint(upstream, result),
        }
        if result.models is not None:
            values["models"] = len(result.models)
            values["first_models"] = ", ".join(result.models[:_MAX_NAMES])
        write = self._log.info if result.is_healthy else self._log.warning
        if self._sharing is not None and not self._sharing.is_prober:
            write = self._log.debug
        fields = {name: value for name, value in values.items() if value not in (None, "")}
        write(UPSTREAM_PROBED, **fields)

    def _describe_result(self, upstream: Upstream, result: ProbeResult) -> str:
        """Return a result and its hint for the operator."""
        text = f"{upstream.base_url}: {result.summary}"
        hint = self._hint(upstream, result)
        return f"{text}; {hint}" if hint else text

    def _hint(self, upstream: Upstream, result: ProbeResult) -> str:
        return _hint(upstream, result, is_from_file=self.has_config_file)


def write_results(path: Path, results: Mapping[str, ProbeResult]) -> None:
    """Replace the file of results atomically, so that other processes never read a part of it.

    Errors, such as a full disk, are ignored, because the results are only displayed.
    """
    new = path.with_suffix(".new")
    with contextlib.suppress(OSError):
        new.write_bytes(dumps({name: asdict(result) for name, result in results.items()}))
        new.replace(path)


def read_results(path: Path) -> dict[str, ProbeResult]:
    """Return the results that `write_results` wrote; empty if there is no file yet."""
    try:
        written = loads(path.read_bytes())
    except OSError:
        return {}
    return {name: _parse_result(values) for name, values in written.items()}


def _parse_result(values: JsonObject) -> ProbeResult:
    """Convert the JSON object of a result. Its arrays become tuples."""
    values["rejected"] = tuple(values["rejected"])
    if values["models"] is not None:
        values["models"] = tuple(values["models"])
    return ProbeResult(**values)


async def probe_upstream(upstream: Upstream, http_client: UpstreamHTTPClient) -> ProbeResult:
    """Request the models of an upstream with each of its keys. Never raises ApiError."""
    keys: tuple[str | None, ...] = upstream.keys or (None,)
    if upstream.key_passthrough:
        keys = (None,)
    results = await asyncio.gather(*[_probe_key(upstream, key, http_client) for key in keys])
    has_accepted_key = any(result.key == "accepted" for result in results)
    if has_accepted_key and not await _checks_keys(upstream, http_client):
        results = [_without_key_claim(result) for result in results]
    best = next((result for result in results if result.is_healthy), results[0])
    rejected = [number for number, result in enumerate(results, 1) if result.key == "rejected"]
    if not rejected or len(keys) == 1:
        return best
    return replace(best, key="rejected", rejected=tuple(rejected))


async def _probe_key(
    upstream: Upstream, key: str | None, http_client: UpstreamHTTPClient
) -> ProbeResult:
    try:
        status, headers, body = await _get(upstream, "/models", key, http_client)
        result = _to_result(upstream, key, status, headers, body)
        path = _KEY_PATHS.get(upstream.profile.name)
        if path is None or result.models is None:
            return result
        if key is None:
            return replace(result, key=_key_state(upstream, key, 401))
        status, _, _ = await _get(upstream, path, key, http_client)
        return replace(result, key=_key_state(upstream, key, status))
    except ApiError as error:
        return _to_failed_result(upstream, error)


def _to_failed_result(upstream: Upstream, error: ApiError) -> ProbeResult:
    is_unreachable = isinstance(error, UpstreamError) and error.phase == "connect"
    if isinstance(error, LocalShortageError):
        is_unreachable = False
    reason = error.message.removeprefix(f"The upstream {upstream.name} ")
    return ProbeResult(is_reachable=not is_unreachable, reason=reason)


async def _checks_keys(upstream: Upstream, http_client: UpstreamHTTPClient) -> bool:
    """Return whether the upstream refuses a request without a key.

    If it does not, a successful request does not show that the key is valid.
    """
    path = _KEY_PATHS.get(upstream.profile.name, "/models")
    try:
        status, _, _ = await _get(upstream, path, None, http_client)
    except ApiError:
        return False
    return status in _KEY_REFUSED_STATUSES


def _without_key_claim(result: ProbeResult) -> ProbeResult:
    """Return the result for an upstream whose list of models requires no key."""
    if result.key != "accepted":
        return result
    return replace(result, key="not checked")


async def _get(
    upstream: Upstream, path: str, key: str | None, http_client: UpstreamHTTPClient
) -> tuple[int, Mapping[str, str], bytes]:
    headers = build_headers(replace(upstream, key_passthrough=False), key, ANONYMOUS)
    headers = {"user-agent": USER_AGENT, **headers}
    response = await http_client.get(upstream.build_url(path), headers, _TIMEOUTS, upstream.name)
    try:
        return response.status, response.headers, await response.read()
    finally:
        await response.aclose()


def _to_result(
    upstream: Upstream, key: str | None, status: int, headers: Mapping[str, str], body: bytes
) -> ProbeResult:
    """Return the result for a response to a request for the list of models."""
    result = ProbeResult(
        is_reachable=True,
        key=_key_state(upstream, key, status),
        server=_server_name(upstream, headers),
    )
    is_web_page = is_html_page(headers) or body.lstrip().startswith(b"<")
    if status == 200:
        models = _parse_model_names(body)
        if models is not None:
            return replace(result, models=models)
        reason = "returned status 200 without a list of models"
        if is_web_page:
            reason = f"returned a web page: {_NO_API}"
        return replace(result, reason=reason, key="not checked")
    if status in MISSING_PATH_STATUSES and is_web_page:
        return replace(result, reason=f"returned status {status} with a web page: {_NO_API}")
    if status in _KEY_REFUSED_STATUSES or status in MISSING_PATH_STATUSES:
        return result
    if status == 400 and wants_tls(body):
        return replace(result, reason=_WANTS_TLS)
    return replace(result, reason=f"returned status {status} for its list of models")


def _key_state(upstream: Upstream, key: str | None, status: int) -> KeyState:
    """Return the state of the key that a response status shows. key: the key that was sent."""
    is_refused = status in _KEY_REFUSED_STATUSES
    if status != 200 and not is_refused:
        return "not checked"
    if key:
        return "rejected" if is_refused else "accepted"
    if upstream.key_passthrough:
        return "the client's"
    return "missing" if is_refused else "not set"


def _parse_model_names(body: bytes) -> tuple[str, ...] | None:
    try:
        models = to_model_infos(loads_received(body))
    except ValueError:
        return None
    if models is None:
        return None
    return tuple(str(model["id"])[:_MAX_NAME_LENGTH] for model in models)


def _server_name(upstream: Upstream, headers: Mapping[str, str]) -> str:
    """Return the profile that was configured or detected, otherwise the `server` header."""
    if upstream.profile is not GENERIC and upstream.profile.name != GENERIC.name:
        return upstream.profile.name
    name = headers.get("server", "")
    if not _SERVER_NAME.fullmatch(name) or upstream.redactor.redact(name) != name:
        return ""
    return f"server {name}"


def _hint(upstream: Upstream, result: ProbeResult, *, is_from_file: bool) -> str:
    """Return the advice for the operator.

    is_from_file: whether CONFIG_FILE contains the upstream.
    """
    url, key = "UPSTREAM_BASE_URL", "UPSTREAM_API_KEY"
    if is_from_file:
        url = f"url of {upstream.name} in CONFIG_FILE"
        key = f"the key of {upstream.name} in CONFIG_FILE"
    if not result.is_reachable:
        advice = _find_advice(result.reason, "check that it is running, and check {url}")
        again = f"the proxy probes it every {_RETRY_SECONDS:g} s"
        return "; ".join(filter(None, (advice.format(url=url), again)))
    if result.key in _BAD_KEY_STATES:
        return f"set {key}" if result.key == "missing" else f"check {key}"
    if not result.reason:
        return ""
    return _find_advice(result.reason, "check {url}").format(url=url)


def _find_advice(reason: str, default: str) -> str:
    """Return the advice that complements a reason, with the placeholder `{url}`."""
    for text, advice in _ADVICE_BY_TEXT.items():
        if text in reason:
            return advice
    return default
