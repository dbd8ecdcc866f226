"""What the operator wants to know at the start: whether each upstream can be reached, and takes the key.

Each upstream is asked for its list of models, with each of its keys. Nothing waits for that: the server listens already,
and an upstream whose outcome is not good is probed again until it is. Clients' requests do not depend on the outcome,
but replace it where they show something else.
"""

import asyncio
import contextlib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

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

# Sent in place of the usual one, so that operators of upstreams can tell probes from requests of clients.
USER_AGENT = "anthropic-proxy (start-up probe)"

_TIMEOUTS = Timeouts(connect=5, first_byte=10, idle=10, total=20)
# Seconds after which upstreams whose outcome is not good are probed again: they double up to the second number.
_RETRY_SECONDS = 10.0
_LONGEST_PAUSE_SECONDS = 300.0
# Seconds after which a process that does not probe looks for the outcomes of the one that does.
_LOOK_SECONDS = 1.0
# Where a key is checked on servers whose list of models needs none.
_KEY_PATHS = {"openrouter": "/key"}
_MAX_NAMES = 3
_MAX_NAME_LENGTH = 60

KeyState = Literal[
    "accepted", "rejected", "missing", "not needed", "not set", "the client's", "not checked"
]
_KEY_TEXTS: Mapping[KeyState, str] = {
    "missing": "key missing",
    "not set": "no key set",
    "the client's": "the client's key is sent",
}
_WANTS_TLS = "its port takes TLS only: the address has to begin with https://"
_NO_API = "that is no OpenAI-compatible API"


@dataclass(frozen=True)
class ProbeResult:
    """The result of probing one upstream."""

    # Whether it answered, or at least accepted a connection.
    is_reachable: bool
    # Why it gave no list of models: without the name of the upstream.
    reason: str = ""
    key: KeyState = "not checked"
    # Numbers, from 1, of the keys that were rejected, where there are several.
    rejected: tuple[int, ...] = ()
    # The kind of server, where it is known.
    server: str = ""
    # Names; None where it has no list.
    models: tuple[str, ...] | None = None
    # Whether the outcome is that of a client's request, not of a probe.
    is_request: bool = False

    @property
    def is_healthy(self) -> bool:
        """Whether there is nothing that the operator has to do."""
        return self.is_reachable and self.key not in ("rejected", "missing") and not self.reason

    @property
    def summary(self) -> str:
        """One line, for the log and for `/readyz`."""
        if not self.is_reachable:
            return self.reason
        parts = ["reachable", self._key_text(), self.reason, self.server, self._models_text()]
        return ", ".join(filter(None, parts))

    def _key_text(self) -> str:
        if self.key == "rejected":
            return self._rejected_text()
        return _KEY_TEXTS.get(self.key, f"key {self.key}")

    def _rejected_text(self) -> str:
        if not self.rejected:
            return "key rejected"
        return f"key {', '.join(map(str, self.rejected))} rejected"

    def _models_text(self) -> str:
        if self.is_request:
            return "" if self.reason else "a request succeeded"
        if self.models is None:
            return "" if self.reason or self.key in ("rejected", "missing") else "no list of models"
        return f"{len(self.models)} model{'' if len(self.models) == 1 else 's'}"


@dataclass(frozen=True)
class Sharing:
    """Several processes serve, and one of them probes for all."""

    # Written by the process that probes, and read by the others.
    file: Path
    # Whether this process is the one that probes.
    is_prober: bool


class UpstreamProber:
    """Probe upstreams and keep the results.

    Set `upstreams_changed` when the configuration has changed. `on_change` is called with a line for each upstream when
    all have been probed, and whenever a result has changed since. Requests of clients are evidence as well:
    `request_started` and `request_finished` make this a sink of observations.
    """

    def __init__(
        self,
        log: Log,
        upstreams: Callable[[], Sequence[Upstream]],
        sharing: Sharing | None = None,
    ) -> None:
        """upstreams: returns the upstreams of the current configuration. sharing: None in a server of one process."""
        self._sharing = sharing
        self._shared: Mapping[str, ProbeResult] = {}
        self.on_change: Callable[[Sequence[str]], None] = lambda _: None
        self._log = log
        self._upstreams = upstreams
        self._results: dict[str, tuple[Upstream, ProbeResult]] = {}
        # Names of upstreams to which a request succeeded.
        self._has_served: set[str] = set()
        self.upstreams_changed = asyncio.Event()
        # Whether the upstreams are those of CONFIG_FILE.
        self.has_config_file = False

    def results(self) -> Mapping[str, ProbeResult]:
        """Return the results so far, by the names of the upstreams."""
        return {name: probe for name, (_, probe) in self._results.items()}

    async def run(self) -> None:
        """Probe all upstreams once, and those whose outcome is not good again and again. Runs until it is cancelled.

        In a process that leaves the probes to another one, adopt the outcomes of that one.
        """
        if self._sharing is not None and not self._sharing.is_prober:
            while True:
                self._adopt(read_outcomes(self._sharing.file))
                await asyncio.sleep(_LOOK_SECONDS)
        http_client = UpstreamHTTPClient()
        pause = _RETRY_SECONDS
        try:
            while True:
                self.upstreams_changed.clear()
                are_all_healthy = await self._probe_due(http_client)
                self._publish()
                try:
                    async with asyncio.timeout(None if are_all_healthy else pause):
                        await self.upstreams_changed.wait()
                        pause = _RETRY_SECONDS
                except TimeoutError:
                    pause = self._next_pause(pause)
        finally:
            await http_client.aclose()

    def _next_pause(self, pause: float) -> float:
        """Return the seconds until the next probe. An upstream that is down may come up at any time, so it is not made
        to wait longer.
        """
        if not all(probe.is_reachable for _, probe in self._results.values()):
            return _RETRY_SECONDS
        return min(pause * 2, _LONGEST_PAUSE_SECONDS)

    def _adopt(self, shared: Mapping[str, ProbeResult]) -> None:
        """Replace the outcomes that the process that probes has replaced."""
        upstreams = {each.name: each for each in self._upstreams()}
        for name in upstreams.keys() & shared.keys():
            if shared[name] != self._shared.get(name) or name not in self._results:
                self._results[name] = (upstreams[name], shared[name])
        self._shared = shared

    def _publish(self) -> None:
        """Give the outcomes to those who show them: other processes, and the `status` command."""
        if self._sharing is not None:
            if not self._sharing.is_prober:
                return
            write_outcomes(self._sharing.file, self.results())
        self.on_change(
            [
                self._log.redact(self._describe_result(upstream, result))
                for upstream, result in self._results.values()
            ]
        )

    def request_started(self, observation: Observation) -> None:
        """Do nothing: what the upstream responds is known when the request is finished."""

    def request_finished(self, observation: Observation) -> None:
        """Replace the outcomes that the responses to this request contradict."""
        for request in observation.upstream_requests:
            if request.method == "POST" and request.status is not None:
                self._learn(request.upstream, request.status, request.error_type)

    def _learn(self, upstream: Upstream, status: int, error_type: str | None) -> None:
        if not self._is_current(upstream):
            return
        _, before = self._results[upstream.name]
        if before.rejected:
            return
        if status < 300 and error_type is None:
            self._has_served.add(upstream.name)
            if not before.is_healthy:
                key = _key_state(upstream, upstream.keys[0] if upstream.keys else None, 200)
                key = "not needed" if key == "not set" else key
                self._replace(upstream, ProbeResult(is_reachable=True, key=key, is_request=True))
        elif self._shows_bad_key(upstream, status) and before.is_healthy:
            key = _key_state(upstream, upstream.keys[0] if upstream.keys else None, status)
            reason = f"refused a request with {status}"
            result = ProbeResult(is_reachable=True, key=key, reason=reason, is_request=True)
            self._replace(upstream, result)

    def _shows_bad_key(self, upstream: Upstream, status: int) -> bool:
        """Return whether a status means that the proxy's key is of no use.

        The caller's own key is the caller's concern, and one of several keys may still be accepted.
        Where requests succeed, 403 concerns what was requested, such as a model of another account.
        """
        if upstream.key_passthrough or len(upstream.keys) > 1:
            return False
        return status == 401 or (status == 403 and upstream.name not in self._has_served)

    def _replace(self, upstream: Upstream, result: ProbeResult) -> None:
        self._results[upstream.name] = (upstream, result)
        self._report(upstream, result)
        self._publish()

    async def _probe_due(self, http_client: UpstreamHTTPClient) -> bool:
        """Probe the upstreams that are new, or whose outcome is not healthy; return whether all outcomes are.

        An outcome of a request is left to requests: a list of models may be readable with a key that is rejected elsewhere.
        """
        upstreams = self._upstreams()
        self._results = {
            each.name: self._results[each.name] for each in upstreams if self._is_current(each)
        }
        self._has_served &= self._results.keys()
        due = [each for each in upstreams if self._is_due(each.name)]
        await asyncio.gather(*(self._probe(each, http_client) for each in due))
        return not any(self._is_due(each.name) for each in upstreams)

    def _is_due(self, name: str) -> bool:
        if name not in self._results:
            return True
        _, result = self._results[name]
        return not (result.is_healthy or result.is_request)

    def _hint(self, upstream: Upstream, result: ProbeResult) -> str:
        return _hint(upstream, result, is_from_file=self.has_config_file)

    def _describe_result(self, upstream: Upstream, result: ProbeResult) -> str:
        """Return the outcome for a person."""
        hint = self._hint(upstream, result)
        return f"{upstream.base_url}: {result.summary}{f'; {hint}' if hint else ''}"

    def _is_current(self, upstream: Upstream) -> bool:
        entry = self._results.get(upstream.name)
        return entry is not None and entry[0] == upstream

    async def _probe(self, upstream: Upstream, http_client: UpstreamHTTPClient) -> None:
        started_at = time.perf_counter()
        try:
            result = await probe_upstream(upstream, http_client)
        except Exception as error:  # noqa: BLE001 - a flaw here must not end a server whose requests do not depend on it
            self._log.error("internal error", exc_info=error)
            result = ProbeResult(is_reachable=True, reason="could not be probed")
        previous = self._results.get(upstream.name)
        if previous is not None and previous[1].is_request:
            return  # a request was finished meanwhile
        self._results[upstream.name] = (upstream, result)
        if previous is None or previous[1].summary != result.summary:
            self._report(upstream, result, round(time.perf_counter() - started_at, 3))

    def _report(
        self, upstream: Upstream, result: ProbeResult, seconds: float | None = None
    ) -> None:
        values = {
            "result": result.summary,
            "name": upstream.name,
            "url": upstream.base_url,
            "reachable": result.is_reachable,
            "key": result.key,
            "server": result.server,
            "models": None if result.models is None else len(result.models),
            "first_models": ", ".join(result.models[:_MAX_NAMES]) if result.models else "",
            "seconds": seconds,
            "hint": self._hint(upstream, result),
        }
        write = self._log.info if result.is_healthy else self._log.warning
        if self._sharing is not None and not self._sharing.is_prober:
            write = self._log.debug
        write(
            UPSTREAM_PROBED,
            **{name: value for name, value in values.items() if value not in (None, "")},
        )


def write_outcomes(path: Path, outcomes: Mapping[str, ProbeResult]) -> None:
    """Write outcomes to a file, which a reader finds whole. They are shown only, so a full disk is no error."""
    new = path.with_suffix(".new")
    with contextlib.suppress(OSError):
        new.write_bytes(dumps({name: asdict(each) for name, each in outcomes.items()}))
        new.replace(path)


def read_outcomes(path: Path) -> dict[str, ProbeResult]:
    """Return the outcomes that `write_outcomes` wrote; none where there is no file yet."""
    try:
        written = loads(path.read_bytes())
    except OSError:
        return {}
    return {name: _probe_from(values) for name, values in written.items()}


def _probe_from(values: JsonObject) -> ProbeResult:
    models = values["models"]
    return ProbeResult(
        **{
            **values,
            "rejected": tuple(values["rejected"]),
            "models": None if models is None else tuple(models),
        }
    )


async def probe_upstream(upstream: Upstream, http_client: UpstreamHTTPClient) -> ProbeResult:
    """Ask an upstream for its models with each of its keys. Raises no ApiError."""
    keys: tuple[str | None, ...] = (None,) if upstream.key_passthrough else upstream.keys or (None,)
    results = await asyncio.gather(*(_probe_key(upstream, key, http_client) for key in keys))
    if any(each.key == "accepted" for each in results) and not await _checks_keys(
        upstream, http_client
    ):
        results = [_without_claim(each) for each in results]
    best = next((each for each in results if each.is_healthy), results[0])
    rejected = tuple(number for number, each in enumerate(results, 1) if each.key == "rejected")
    if not rejected or len(keys) == 1:
        return best
    return replace(best, key="rejected", rejected=rejected)


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
        is_unreachable = isinstance(error, UpstreamError) and error.phase == "connect"
        is_local_shortage = isinstance(error, LocalShortageError)
        reason = error.message.removeprefix(f"The upstream {upstream.name} ")
        return ProbeResult(is_reachable=is_local_shortage or not is_unreachable, reason=reason)


async def _checks_keys(upstream: Upstream, http_client: UpstreamHTTPClient) -> bool:
    """Return whether the upstream refuses a request without a key, so that an accepted key is a valid one."""
    path = _KEY_PATHS.get(upstream.profile.name, "/models")
    try:
        status, _, _ = await _get(upstream, path, None, http_client)
    except ApiError:
        return False
    return status in (401, 403)


def _without_claim(result: ProbeResult) -> ProbeResult:
    """Return the outcome for a list of models that needs no key: it does not show whether the key is valid."""
    return replace(result, key="not checked") if result.key == "accepted" else result


async def _get(
    upstream: Upstream, path: str, key: str | None, http_client: UpstreamHTTPClient
) -> tuple[int, Mapping[str, str], bytes]:
    headers = build_headers(replace(upstream, key_passthrough=False), key, ANONYMOUS)
    response = await http_client.get(
        upstream.build_url(path), {"user-agent": USER_AGENT, **headers}, _TIMEOUTS, upstream.name
    )
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
        content = f"a web page: {_NO_API}" if is_web_page else "200 without a list of models"
        return replace(result, reason=f"answered {content}", key="not checked")
    if status in MISSING_PATH_STATUSES and is_web_page:
        return replace(result, reason=f"answered {status} with a web page: {_NO_API}")
    if status in (401, 403) or status in MISSING_PATH_STATUSES:
        return result
    if status == 400 and wants_tls(body):
        return replace(result, reason=_WANTS_TLS)
    return replace(result, reason=f"answered {status} to a request for its models")


def _key_state(upstream: Upstream, key: str | None, status: int) -> KeyState:
    is_refused = status in (401, 403)
    if status != 200 and not is_refused:
        return "not checked"
    if key:
        return "rejected" if is_refused else "accepted"
    if upstream.key_passthrough:
        return "the client's"
    return "missing" if is_refused else "not set"


def _parse_model_names(body: bytes) -> tuple[str, ...] | None:
    try:
        infos = to_model_infos(loads_received(body))
    except ValueError:
        return None
    return None if infos is None else tuple(str(info["id"])[:_MAX_NAME_LENGTH] for info in infos)


def _server_name(upstream: Upstream, headers: Mapping[str, str]) -> str:
    """Return the kind of server: the one that was configured or found out, else what it calls itself."""
    if upstream.profile is not GENERIC and upstream.profile.name != GENERIC.name:
        return upstream.profile.name
    name = headers.get("server", "")
    is_name = bool(re.fullmatch(r"[A-Za-z0-9 ./_()-]{1,40}", name))
    return f"server {name}" if is_name and upstream.redactor.redact(name) == name else ""


# Words of reasons that name what to change already, and the variables to change.
_VARIABLES_OF_REASONS = {
    "SSL_CERT_FILE": "set SSL_CERT_FILE",
    "HTTP_PROXY": "check HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY",
}


def _hint(upstream: Upstream, result: ProbeResult, *, is_from_file: bool) -> str:
    """Return what the operator may do. is_from_file: whether CONFIG_FILE has the upstream."""
    place = f" of {upstream.name} in CONFIG_FILE"
    url = f"url{place}" if is_from_file else "UPSTREAM_BASE_URL"
    named = (hint for word, hint in _VARIABLES_OF_REASONS.items() if word in result.reason)
    if not result.is_reachable:
        advice = next(named, f"check that it runs, and {url}")
        return f"{advice}; it is probed again every {_RETRY_SECONDS:g} s"
    if result.key in ("rejected", "missing"):
        return f"set the key{place}" if is_from_file else "set UPSTREAM_API_KEY"
    return next(named, f"check {url}") if result.reason else ""
