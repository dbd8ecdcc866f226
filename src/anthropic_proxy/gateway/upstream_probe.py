"""Probe the upstreams when the server starts: can each be reached, and does it accept its keys?

A probe requests the list of models with each key of an upstream. The server does not wait for the
results. An upstream whose result is not healthy is probed again until it is. Clients' requests do
not depend on the results, but their responses correct them.
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

# Not the usual one: operators of upstreams can distinguish probes from requests of clients.
USER_AGENT = "anthropic-proxy (start-up probe)"

_TIMEOUTS = Timeouts(connect=5, first_byte=10, idle=10, total=20)
# Seconds after which upstreams that are not healthy are probed again; doubled up to the maximum.
_RETRY_SECONDS = 10.0
_MAX_RETRY_SECONDS = 300.0
# Seconds after which a process that does not probe reads the results of the one that does.
_READ_SECONDS = 1.0
# Settings that reasons name, and the advice on them.
_ADVICE_BY_SETTING = {
    "SSL_CERT_FILE": "set SSL_CERT_FILE",
    "HTTP_PROXY": "check HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY",
}
# Paths that check a key, on servers whose list of models needs none.
_KEY_PATHS = {"openrouter": "/key"}
# Names of models in the log.
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
# The operator has to set a key.
_BAD_KEY_STATES = ("rejected", "missing")
_KEY_REFUSED_STATUSES = (401, 403)
_WANTS_TLS = "its port takes TLS only: the address has to begin with https://"
_NO_API = "that is no OpenAI-compatible API"


@dataclass(frozen=True)
class ProbeResult:
    """The result of probing one upstream."""

    # Whether it responded, or at least accepted a connection.
    is_reachable: bool
    # Why it returned no list of models, without the name of the upstream.
    reason: str = ""
    key: KeyState = "not checked"
    # Numbers, from 1, of the rejected keys of an upstream with several keys.
    rejected: tuple[int, ...] = ()
    # The kind of server, if it is known.
    server: str = ""
    # Names of models; None without a list.
    models: tuple[str, ...] | None = None
    # Whether a client's request had this result, not a probe.
    is_request: bool = False

    @property
    def is_healthy(self) -> bool:
        """Return whether the operator has nothing to do."""
        return self.is_reachable and self.key not in _BAD_KEY_STATES and not self.reason

    @property
    def summary(self) -> str:
        """Return one line for the log and for `/readyz`."""
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
    """Where several processes serve, one of them probes for all."""

    # Written by the process that probes, and read by the others.
    file: Path
    # Whether this process is the one that probes.
    is_prober: bool


class UpstreamProber:
    """Probes the upstreams and holds the results.

    It is a sink of observations as well: the responses to clients' requests correct the results.
    """

    def __init__(
        self,
        log: Log,
        upstreams: Callable[[], Sequence[Upstream]],
        sharing: Sharing | None = None,
    ) -> None:
        """Create a prober.

        upstreams: returns the upstreams of the current configuration. sharing: None in a server of
        one process.
        """
        self._log = log
        self._upstreams = upstreams
        self._sharing = sharing
        # The results that another process has shared.
        self._shared: Mapping[str, ProbeResult] = {}
        self._results: dict[str, tuple[Upstream, ProbeResult]] = {}
        # Names of upstreams to which a request succeeded.
        self._has_served: set[str] = set()
        # To be set when the configuration has changed.
        self.upstreams_changed = asyncio.Event()
        # Whether the upstreams are those of CONFIG_FILE.
        self.has_config_file = False
        # Called with a line for each upstream: when all were probed, and when a result changes.
        self.on_change: Callable[[Sequence[str]], None] = lambda _: None

    def results(self) -> Mapping[str, ProbeResult]:
        """Return the results so far, by the names of the upstreams."""
        return {name: result for name, (_, result) in self._results.items()}

    async def run(self) -> None:
        """Probe the upstreams, or read the results of the process that does. Never returns."""
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
        """Probe all upstreams once, and again those that are not healthy or have changed."""
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

        An unreachable upstream may start at any time, so its pause does not grow.
        """
        if not all(result.is_reachable for result in self.results().values()):
            return _RETRY_SECONDS
        return min(pause * 2, _MAX_RETRY_SECONDS)

    def _adopt(self, shared: Mapping[str, ProbeResult]) -> None:
        """Replace the results that have changed in the process that probes."""
        upstreams = {upstream.name: upstream for upstream in self._upstreams()}
        for name in upstreams.keys() & shared.keys():
            if shared[name] != self._shared.get(name) or name not in self._results:
                self._results[name] = (upstreams[name], shared[name])
        self._shared = shared

    def _publish(self) -> None:
        """Share the results with the other processes, and with `on_change`."""
        if self._sharing is not None:
            if not self._sharing.is_prober:
                return
            write_results(self._sharing.file, self.results())
        lines = []
        for upstream, result in self._results.values():
            lines.append(self._log.redact(self._describe_result(upstream, result)))
        self.on_change(lines)

    def request_started(self, observation: Observation) -> None:
        """Do nothing: the upstream has not responded yet."""

    def request_finished(self, observation: Observation) -> None:
        """Replace the results that the responses to this request contradict."""
        for request in observation.upstream_requests:
            if request.method == "POST" and request.status is not None:
                self._correct(request.upstream, request.status, request.error_type)

    def _correct(self, upstream: Upstream, status: int, error_type: str | None) -> None:
        """Replace the result of an upstream by that of a request, if it differs."""
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
            reason = f"refused a request with {status}"
            result = ProbeResult(is_reachable=True, key=key, reason=reason, is_request=True)
            self._replace(upstream, result)

    def _shows_bad_key(self, upstream: Upstream, status: int) -> bool:
        """Return whether a status means that the proxy's key does not work.

        A refused key of the caller, or one of several keys, does not show that. Where requests
        succeed, 403 refuses a part of the request, such as a model of another account.
        """
        if upstream.key_passthrough or len(upstream.keys) > 1:
            return False
        return status == 401 or (status == 403 and upstream.name not in self._has_served)

    async def _probe_due(self, http_client: UpstreamHTTPClient) -> bool:
        """Probe the upstreams that are due; return whether none of them is due any more."""
        upstreams = self._upstreams()
        current = [upstream.name for upstream in upstreams if self._is_current(upstream)]
        self._results = {name: self._results[name] for name in current}
        self._has_served &= self._results.keys()
        due = [upstream for upstream in upstreams if self._is_due(upstream.name)]
        await asyncio.gather(*[self._probe(upstream, http_client) for upstream in due])
        return not any(self._is_due(upstream.name) for upstream in upstreams)

    def _is_due(self, name: str) -> bool:
        """Return whether an upstream has no result, or an unhealthy one of a probe.

        Only requests correct the result of a request: a list of models may be readable with a key
        that is rejected elsewhere.
        """
        if name not in self._results:
            return True
        _, result = self._results[name]
        return not (result.is_healthy or result.is_request)

    def _is_current(self, upstream: Upstream) -> bool:
        """Return whether there is a result of this configuration of the upstream."""
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
        except Exception as error:  # noqa: BLE001 - a bug here must not end the server
            self._log.error("internal error", exc_info=error)
            result = ProbeResult(is_reachable=True, reason="could not be probed")
        _, previous = self._results.get(upstream.name, (upstream, None))
        if previous is not None and previous.is_request:
            # A request was finished in the meantime.
            return
        self._results[upstream.name] = (upstream, result)
        if previous is None or previous.summary != result.summary:
            self._report(upstream, result, round(time.perf_counter() - started_at, 3))

    def _report(
        self, upstream: Upstream, result: ProbeResult, seconds: float | None = None
    ) -> None:
        """Log a result. seconds: the duration of the probe; None for the result of a request."""
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
    """Replace a file of results at once, so that a reader finds it complete.

    The results are for display only, so a full disk is no error.
    """
    new = path.with_suffix(".new")
    with contextlib.suppress(OSError):
        new.write_bytes(dumps({name: asdict(result) for name, result in results.items()}))
        new.replace(path)


def read_results(path: Path) -> dict[str, ProbeResult]:
    """Return the results that `write_results` wrote; none if there is no file yet."""
    try:
        written = loads(path.read_bytes())
    except OSError:
        return {}
    return {name: _parse_result(values) for name, values in written.items()}


def _parse_result(values: JsonObject) -> ProbeResult:
    """Return a result. JSON has arrays for its tuples."""
    values["rejected"] = tuple(values["rejected"])
    if values["models"] is not None:
        values["models"] = tuple(values["models"])
    return ProbeResult(**values)


async def probe_upstream(upstream: Upstream, http_client: UpstreamHTTPClient) -> ProbeResult:
    """Request the models of an upstream with each of its keys. Raises no ApiError."""
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

    Only then an accepted key is a valid one.
    """
    path = _KEY_PATHS.get(upstream.profile.name, "/models")
    try:
        status, _, _ = await _get(upstream, path, None, http_client)
    except ApiError:
        return False
    return status in _KEY_REFUSED_STATUSES


def _without_key_claim(result: ProbeResult) -> ProbeResult:
    """Return the result for a list of models that needs no key, and so does not check it."""
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
        reason = "answered 200 without a list of models"
        if is_web_page:
            reason = f"answered a web page: {_NO_API}"
        return replace(result, reason=reason, key="not checked")
    if status in MISSING_PATH_STATUSES and is_web_page:
        return replace(result, reason=f"answered {status} with a web page: {_NO_API}")
    if status in _KEY_REFUSED_STATUSES or status in MISSING_PATH_STATUSES:
        return result
    if status == 400 and wants_tls(body):
        return replace(result, reason=_WANTS_TLS)
    return replace(result, reason=f"answered {status} to a request for its models")


def _key_state(upstream: Upstream, key: str | None, status: int) -> KeyState:
    """Return what a status shows of the key that was sent, or of its absence."""
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
    """Return the kind of server that is configured or was detected, else its `server` header."""
    if upstream.profile is not GENERIC and upstream.profile.name != GENERIC.name:
        return upstream.profile.name
    name = headers.get("server", "")
    if not _SERVER_NAME.fullmatch(name) or upstream.redactor.redact(name) != name:
        return ""
    return f"server {name}"


def _hint(upstream: Upstream, result: ProbeResult, *, is_from_file: bool) -> str:
    """Return what the operator may do. is_from_file: whether CONFIG_FILE has the upstream."""
    url, key = "UPSTREAM_BASE_URL", "UPSTREAM_API_KEY"
    if is_from_file:
        url = f"url of {upstream.name} in CONFIG_FILE"
        key = f"the key of {upstream.name} in CONFIG_FILE"
    if not result.is_reachable:
        advice = _find_advice(result.reason) or f"check that it runs, and {url}"
        return f"{advice}; it is probed again every {_RETRY_SECONDS:g} s"
    if result.key in _BAD_KEY_STATES:
        return f"set {key}"
    if not result.reason:
        return ""
    return _find_advice(result.reason) or f"check {url}"


def _find_advice(reason: str) -> str | None:
    """Return the advice on the setting that a reason names, if it names one."""
    for setting, advice in _ADVICE_BY_SETTING.items():
        if setting in reason:
            return advice
    return None
