"""What a probe of an upstream at the start finds, and what /readyz makes of it."""

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest

from anthropic_proxy.api.health import HealthChecks
from anthropic_proxy.config.settings import Settings
from anthropic_proxy.config.upstreams import upstreams_from_settings
from anthropic_proxy.errors import resource_exhausted_error
from anthropic_proxy.gateway import upstream_probe
from anthropic_proxy.gateway.upstream_probe import (
    ProbeResult,
    Sharing,
    UpstreamProber,
    read_results,
)
from anthropic_proxy.observability.logs import Log
from anthropic_proxy.observability.observation import Observation
from anthropic_proxy.upstream import http_client
from anthropic_proxy.upstream.http_client import UpstreamHTTPClient
from tests.support.running_command import REQUEST, Command, until
from tests.support.running_proxy import running_proxy
from tests.support.scripted_upstream import (
    DEADLINE,
    Received,
    Script,
    ScriptedUpstream,
    answers,
    completion,
)

_MODELS = {"object": "list", "data": [{"id": "a"}, {"id": "b"}]}
_KEY: dict[str, Any] = {"UPSTREAM_API_KEY": "canary-key"}
_WEB_PAGE = "reachable, key not checked, returned a web page: it is not an OpenAI-compatible API"
_HTML = {"content-type": "text/html"}


def _probe(url: str, **variables: Any) -> ProbeResult:
    (endpoint,) = upstreams_from_settings(
        Settings(_env_file=None, UPSTREAM_BASE_URL=url, **variables)
    )

    async def main() -> ProbeResult:
        upstream = UpstreamHTTPClient()
        try:
            return await upstream_probe.probe_upstream(endpoint, upstream)
        finally:
            await upstream.aclose()

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("script", "variables", "summary", "is_good"),
    [
        (answers(_MODELS), _KEY, "reachable, key not checked, 2 models", True),
        (answers(_MODELS), {}, "reachable, no key set, 2 models", True),
        (
            answers({"data": [{"id": "a"}]}, headers={"server": "uvicorn"}),
            {},
            "reachable, no key set, server uvicorn, 1 model",
            True,
        ),
        (
            answers(_MODELS),
            {"UPSTREAM_PROVIDER": "vllm"},
            "reachable, no key set, vllm, 2 models",
            True,
        ),
        (answers({"data": None}), {}, "reachable, no key set, 0 models", True),
        (answers({}, 401), _KEY, "reachable, key rejected", False),
        (answers({}, 403), _KEY, "reachable, key rejected", False),
        (answers({}, 401), {}, "reachable, key missing", False),
        (
            answers({}, 401),
            {"UPSTREAM_API_KEY_PASSTHROUGH": True},
            "reachable, the client's key is sent, no list of models",
            True,
        ),
        (
            answers(_MODELS),
            {"UPSTREAM_API_KEY_PASSTHROUGH": True},
            "reachable, the client's key is sent, 2 models",
            True,
        ),
        (
            answers(b"<!doctype html>", 404, _HTML),
            _KEY,
            (
                "reachable, key not checked, returned status 404 with a web page: "
                "it is not an OpenAI-compatible API"
            ),
            False,
        ),
        (
            answers(b"\n<html>", 405),
            {},
            (
                "reachable, key not checked, returned status 405 with a web page: "
                "it is not an OpenAI-compatible API"
            ),
            False,
        ),
        (answers({}, 404), _KEY, "reachable, key not checked, no list of models", True),
        (answers({}, 405), _KEY, "reachable, key not checked, no list of models", True),
        (
            answers({}, 500),
            _KEY,
            "reachable, key not checked, returned status 500 for its list of models",
            False,
        ),
        (answers(b"<html>", headers=_HTML), {}, _WEB_PAGE, False),
        *(
            (
                answers(page, 400, _HTML),
                {},
                (
                    "reachable, key not checked, its port requires TLS: "
                    "the URL must begin with https://"
                ),
                False,
            )
            for page in (
                b"<html>The plain HTTP request was sent to HTTPS port</html>",
                b"Client sent an HTTP request to an HTTPS server.\n",
                b"<p>speaking plain HTTP to an SSL-enabled server port",
            )
        ),
        (
            answers(b"{}"),
            {},
            "reachable, key not checked, returned status 200 without a list of models",
            False,
        ),
    ],
)
def test_outcomes(
    upstream: ScriptedUpstream,
    *,
    script: Script,
    variables: dict[str, Any],
    summary: str,
    is_good: bool,
) -> None:
    upstream.on_probe = script
    found = _probe(upstream.url, **variables)
    assert (found.summary, found.is_healthy, found.is_reachable) == (summary, is_good, True)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:9", "refuses connections or can't be reached; check that it is running"),
        ("http://no-such-host.invalid", "has no address (its name can't be resolved)"),
    ],
)
def test_an_upstream_out_of_reach(url: str, reason: str) -> None:
    found = _probe(url)
    assert (found.summary, found.is_healthy, found.is_reachable) == (reason, False, False)


class _OneGoodKey(ScriptedUpstream):
    """Takes one of several keys."""

    async def _play(self, _: Script, writer: asyncio.StreamWriter) -> None:
        is_good = self.probes.get_nowait().headers["authorization"] == "Bearer good-key"
        await super()._play(answers(_MODELS) if is_good else answers({}, 401), writer)


def test_each_key_is_tried() -> None:
    with _OneGoodKey() as upstream:
        found = _probe(upstream.url, UPSTREAM_API_KEY="bad-key;good-key;worse-key")
    assert (found.summary, found.is_healthy) == ("reachable, key 1, 3 rejected, 2 models", False)


def test_a_key_is_accepted_where_a_request_without_one_is_refused(
    upstream: ScriptedUpstream,
) -> None:
    upstream.on_probe = answers(_MODELS)
    upstream.probe_scripts["without key"] = answers({}, 401)
    assert _probe(upstream.url, **_KEY).summary == "reachable, key accepted, 2 models"


@pytest.mark.parametrize(
    ("status", "variables", "paths", "summary", "is_good"),
    [
        (200, _KEY, ["models", "key", "key"], "key accepted", True),
        (401, _KEY, ["models", "key"], "key rejected", False),
        (500, _KEY, ["models", "key"], "key not checked", True),
        (401, {}, ["models"], "key missing", False),
        (
            401,
            {"UPSTREAM_API_KEY_PASSTHROUGH": True},
            ["models"],
            "the client's key is sent",
            True,
        ),
    ],
)
def test_a_public_list_of_models_says_nothing_of_the_key(
    upstream: ScriptedUpstream,
    *,
    status: int,
    variables: dict[str, Any],
    paths: list[str],
    summary: str,
    is_good: bool,
) -> None:
    """OpenRouter lists its models to everybody, and has another path that takes valid keys only."""
    upstream.on_probe = answers({}, 401)
    upstream.probe_scripts["/models"] = answers(_MODELS)
    upstream.probe_scripts["/key"] = answers({}, status)
    if status == 200:
        upstream.probe_scripts["without key"] = answers({}, 401)
    found = _probe(upstream.url, UPSTREAM_PROVIDER="openrouter", **variables)
    requested = [upstream.probes.get_nowait().path for _ in range(upstream.probes.qsize())]
    assert [path.rpartition("/")[2] for path in requested] == paths
    assert (found.summary, found.is_healthy) == (
        f"reachable, {summary}, openrouter, 2 models",
        is_good,
    )


_DOWN = ProbeResult(is_reachable=False, reason="refuses connections")
_REJECTED = ProbeResult(is_reachable=True, key="rejected")
_NO_LIST = ProbeResult(is_reachable=True)
_GOOD = ProbeResult(is_reachable=True, key="accepted", models=("a",))


@pytest.mark.parametrize(
    ("probed", "well", "is_ready", "line"),
    [
        ({}, True, True, "[+]upstream a ok"),
        ({"a": _GOOD}, True, True, "[+]upstream a ok: reachable, key accepted, 1 model"),
        (
            {"a": _NO_LIST},
            True,
            True,
            "[+]upstream a ok: reachable, key not checked, no list of models",
        ),
        ({"a": _REJECTED}, True, True, "[-]upstream a failed: reachable, key rejected"),
        ({"a": _DOWN, "b": _GOOD}, True, True, "[-]upstream a failed: refuses connections"),
        ({"a": _DOWN, "b": _DOWN}, True, False, "[-]upstream a failed: refuses connections"),
        ({"a": _GOOD, "b": _GOOD}, False, False, "[-]upstream a failed"),
    ],
)
@pytest.mark.parametrize(
    "required", [frozenset({"upstream"}), frozenset()], ids=["required", "not-required"]
)
def test_readiness(
    *, probed: dict[str, ProbeResult], well: bool, is_ready: bool, line: str, required: Any
) -> None:
    health = HealthChecks(
        lambda: False, lambda: {"a": well, "b": well}, lambda: probed, lambda: None, required
    )
    ready, text = health.check_readiness()
    assert ready is (is_ready or not required)
    assert line in text.splitlines()
    usable = 0 if not is_ready else 1 + (probed.get("a") is not _DOWN)
    assert f": {usable} of 2 reachable, at least 1 needed" in text
    decides = "draining, upstreams" if required else "draining"
    assert text.endswith(f"required checks: {decides}")


def test_one_that_comes_up_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is probed again; meanwhile the server listens, but is not ready where it needs one."""
    monkeypatch.setattr(upstream_probe, "_RETRY_SECONDS", 0.02)
    with ScriptedUpstream() as gone:
        port = gone.port
    variables: dict[str, Any] = {"READY_REQUIRES": "upstream"}
    with (
        running_proxy(f"http://127.0.0.1:{port}", **variables) as proxy,
        httpx.Client(trust_env=False) as client,
    ):
        down = until(lambda: _if_probed(client, proxy), "it is probed")
        assert (down.status_code, "[-]upstreams failed" in down.text) == (503, True)
        upstream = ScriptedUpstream(port)
        upstream.on_probe = answers(_MODELS)
        with upstream:
            up = until(lambda: _if_ready(client, proxy), "it is reached")
    assert f"[+]upstream 127.0.0.1:{port} ok: reachable, no key set, 2 models" in up.text


def _if_probed(client: httpx.Client, proxy: str) -> httpx.Response | None:
    ready = client.get(f"{proxy}/readyz", timeout=DEADLINE)
    return ready if "refuses connections" in ready.text else None


def _if_ready(client: httpx.Client, proxy: str) -> httpx.Response | None:
    ready = client.get(f"{proxy}/readyz", timeout=DEADLINE)
    return ready if ready.status_code == 200 else None


def test_a_probe_sends_the_key_and_says_what_it_is(upstream: ScriptedUpstream) -> None:
    _probe(upstream.url, **_KEY)
    sent: Received = upstream.probes.get(timeout=DEADLINE)
    assert (sent.method, sent.path, sent.headers["authorization"]) == (
        "GET",
        "/v1/models",
        "Bearer canary-key",
    )
    assert sent.headers["user-agent"] == "anthropic-proxy (start-up probe)"


@pytest.mark.parametrize("first", [answers({}, 503), answers({}, 401), answers(b"<html>")])
def test_a_bad_outcome_is_replaced_by_a_later_probe(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, first: Script
) -> None:
    monkeypatch.setattr(upstream_probe, "_RETRY_SECONDS", 0.02)
    upstream.on_probe = first
    with running_proxy(upstream.url) as proxy, httpx.Client(trust_env=False) as client:
        until(lambda: "[-]upstream" in _readiness(client, proxy), "the first outcome is bad")
        upstream.on_probe = answers(_MODELS)
        until(lambda: "no key set, 2 models" in _readiness(client, proxy), "it is replaced")


def _readiness(client: httpx.Client, proxy: str) -> str:
    return client.get(f"{proxy}/readyz", timeout=DEADLINE).text


@pytest.mark.parametrize(
    ("pause", "is_reachable", "following"),
    [(10, True, 20), (200, True, 300), (300, True, 300), (300, False, 10)],
)
def test_pauses_between_probes(pause: float, following: float, *, is_reachable: bool) -> None:
    """They grow, except where an upstream is down, as it may come up at any time."""
    prober, endpoint = _prober()
    prober._results[endpoint.name] = (
        endpoint,
        ProbeResult(is_reachable=is_reachable, reason="answered 503"),
    )
    assert prober._next_pause(pause) == following


def _prober(**variables: Any) -> tuple[UpstreamProber, Any]:
    settings = Settings(_env_file=None, UPSTREAM_BASE_URL="http://u", **variables)
    (endpoint,) = upstreams_from_settings(settings)
    return UpstreamProber(Log(), lambda: [endpoint]), endpoint


_BAD = ProbeResult(is_reachable=True, reason="returned status 503 for its list of models")
_ONE_OF_TWO = ProbeResult(is_reachable=True, key="rejected", rejected=(1,))
_SUCCEEDED = "reachable, key accepted, a request succeeded"


@pytest.mark.parametrize(
    ("before", "statuses", "variables", "summary"),
    [
        (_BAD, [200], _KEY, _SUCCEEDED),
        (_DOWN, [200], _KEY, _SUCCEEDED),
        (_REJECTED, [200], _KEY, _SUCCEEDED),
        (_BAD, [200], {}, "reachable, key not needed, a request succeeded"),
        (_BAD, [503], _KEY, _BAD.summary),
        (_GOOD, [200], _KEY, _GOOD.summary),
        (_GOOD, [401], _KEY, "reachable, key rejected, rejected a request with status 401"),
        (_GOOD, [403], _KEY, "reachable, key rejected, rejected a request with status 403"),
        (_GOOD, [200, 403], _KEY, _GOOD.summary),
        (_GOOD, [401], {}, "reachable, key missing, rejected a request with status 401"),
        (_GOOD, [401, 200], _KEY, _SUCCEEDED),
        (_GOOD, [429], _KEY, _GOOD.summary),
        (_GOOD, [None], _KEY, _GOOD.summary),
        (_GOOD, [401], {"UPSTREAM_API_KEY_PASSTHROUGH": True}, _GOOD.summary),
        (_GOOD, [401], {"UPSTREAM_API_KEY": "a-key;b-key"}, _GOOD.summary),
        (_ONE_OF_TWO, [200], {"UPSTREAM_API_KEY": "a-key;b-key"}, _ONE_OF_TWO.summary),
    ],
)
def test_requests_replace_outcomes(
    before: ProbeResult, statuses: list[int | None], variables: dict[str, Any], summary: str
) -> None:
    prober, endpoint = _prober(**variables)
    prober._results[endpoint.name] = (endpoint, before)
    for status in statuses:
        observation = Observation("POST", "/v1/messages")
        observation.start_upstream_request(endpoint, "POST").status = status
        prober.request_finished(observation)
    assert prober.results()[endpoint.name].summary == summary


def test_a_request_that_was_refused(upstream: ScriptedUpstream) -> None:
    upstream.on_probe = answers(_MODELS)
    upstream.then(answers({"error": {"message": "bad key"}}, 401), answers(completion()))
    with running_proxy(upstream.url, **_KEY) as proxy, httpx.Client(trust_env=False) as client:
        until(lambda: "2 models" in _readiness(client, proxy), "it is probed")
        for expected in ("key rejected, rejected a request with status 401", "a request succeeded"):
            client.post(f"{proxy}/v1/messages", json=REQUEST, timeout=DEADLINE)
            # The function runs at once.
            until(lambda: expected in _readiness(client, proxy), expected)  # noqa: B023


def test_outcomes_of_the_process_that_probes(tmp_path: Path) -> None:
    """Another process adopts each outcome once; its own requests count until the next outcome."""
    file = tmp_path / "probes.json"
    _, endpoint = _prober(**_KEY)
    first, other = (
        UpstreamProber(Log(), lambda: [endpoint], Sharing(file, is_prober=is_prober))
        for is_prober in (True, False)
    )
    other._adopt(read_results(file))
    assert other.results() == {}
    seen: list[ProbeResult | str] = []
    for outcome in (_GOOD, _REJECTED):
        first._replace(endpoint, outcome)
        other._adopt(read_results(file))
        seen.append(other.results()[endpoint.name])
        other._correct(endpoint, 200, None)
        other._adopt(read_results(file))
        seen.append(other.results()[endpoint.name].summary)
    assert seen == [_GOOD, _GOOD.summary, _REJECTED, _SUCCEEDED]
    assert first.results()[endpoint.name] == _REJECTED


def test_one_of_several_workers_probes_and_reports(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    upstream.on_probe = answers(_MODELS)
    variables = {"UPSTREAM_BASE_URL": upstream.url, "WORKERS": "3", "HOST": "127.0.0.1"}
    with Command(tmp_path).serving(**variables) as server:
        until(lambda: "upstream probed" in server.log.read_text(), "it is probed")
        # A new connection each time, so that all workers respond at some time.
        ready = [until(lambda: _if_shown(server.address), "it is known to all") for _ in range(30)]
        code, log = server.end()
    assert (code, len(ready), upstream.probes.qsize()) == (0, 30, 1)
    for event in ("server started", "upstream probed", "server stopping"):
        assert log.count(event) == 1, event


def _if_shown(address: str) -> bool:
    ready = httpx.get(f"{address}/readyz", timeout=DEADLINE, trust_env=False)
    return "no key set, 2 models" in ready.text


_UNTRUSTED = ProbeResult(
    is_reachable=False, reason="has a certificate: SSL_CERT_FILE can name a PEM file"
)
_DEAD_PROXY = ProbeResult(
    is_reachable=False, reason="the HTTP proxy (HTTP_PROXY, ...) refuses connections"
)
_SHORTAGE = ProbeResult(
    is_reachable=True, reason="This server has run out of open files, so it can't connect"
)
_MISSING = ProbeResult(is_reachable=True, key="missing")
_AGAIN = "; the proxy probes it every 10 s"


@pytest.mark.parametrize(
    ("found", "hint", "hint_in_file"),
    [
        (
            _DOWN,
            f"check that it is running, and check UPSTREAM_BASE_URL{_AGAIN}",
            f"check that it is running, and check url of u in CONFIG_FILE{_AGAIN}",
        ),
        (_UNTRUSTED, _AGAIN.removeprefix("; "), _AGAIN.removeprefix("; ")),
        (_SHORTAGE, "", ""),
        (
            _DEAD_PROXY,
            f"check HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY{_AGAIN}",
            f"check HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY{_AGAIN}",
        ),
        (_REJECTED, "check UPSTREAM_API_KEY", "check the key of u in CONFIG_FILE"),
        (_ONE_OF_TWO, "check UPSTREAM_API_KEY", "check the key of u in CONFIG_FILE"),
        (_MISSING, "set UPSTREAM_API_KEY", "set the key of u in CONFIG_FILE"),
        (_BAD, "check UPSTREAM_BASE_URL", "check url of u in CONFIG_FILE"),
        (_GOOD, "", ""),
    ],
)
def test_hints(found: ProbeResult, hint: str, hint_in_file: str) -> None:
    prober, endpoint = _prober()
    hints = []
    for prober.has_config_file in (False, True):
        hints.append(prober._hint(endpoint, found))
    assert hints == [hint, hint_in_file]


_TLS_MISMATCH = "the URL must begin with http://"


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        (http_client._UNREACHABLE, "check UPSTREAM_BASE_URL"),
        ("has no address (its name can't be resolved)", "check the host name in UPSTREAM_BASE_URL"),
        (http_client._ENDED_HANDSHAKE, "check UPSTREAM_BASE_URL"),
        (f"can't be reached over TLS: {_TLS_MISMATCH}", "check UPSTREAM_BASE_URL"),
        ("can't be reached over TLS", "check UPSTREAM_BASE_URL"),
        (f"has a TLS certificate that can't be trusted; {http_client._TRUST_HINT}", ""),
        (
            "did not accept a connection in 5 s",
            "check that it is running, and check UPSTREAM_BASE_URL",
        ),
        (
            f"has no address (its name can't be resolved): this is {http_client._PROXY}",
            "check HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY",
        ),
    ],
)
def test_hints_do_not_repeat_the_reason(reason: str, advice: str) -> None:
    prober, endpoint = _prober()
    line = prober._describe_result(endpoint, ProbeResult(is_reachable=False, reason=reason))
    parts = [f"{endpoint.base_url}: {reason}", advice, _AGAIN.removeprefix("; ")]
    assert line == "; ".join(filter(None, parts))
    for phrase in ("running", "SSL_CERT_FILE"):
        assert line.count(phrase) <= 1


def test_the_advice_matches_texts_of_errors() -> None:
    reasons = "\n".join(text for _, _, text in http_client._FAILURES)
    reasons += http_client._ENDED_HANDSHAKE + resource_exhausted_error("files", "read").message
    assert [text for text in upstream_probe._ADVICE_BY_TEXT if text not in reasons] == []


def test_an_untrusted_certificate_and_a_dead_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reasons that errors of the client have are those that hints are chosen by."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert "HTTP_PROXY" in _probe("http://upstream.invalid").reason
    certificate = next(
        text
        for kind, _, text in http_client._FAILURES
        if kind is aiohttp.ClientConnectorCertificateError
    )
    assert "SSL_CERT_FILE" in certificate
