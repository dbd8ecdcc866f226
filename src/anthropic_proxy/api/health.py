"""Routes for operators and health probes, without API key or upstream requests."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from quart import Blueprint, Response, request

from anthropic_proxy import __version__
from anthropic_proxy.config.settings import ReadinessRequirement
from anthropic_proxy.gateway.upstream_probe import ProbeResult
from anthropic_proxy.observability.exposition import Exposition, ExpositionFormat
from anthropic_proxy.wire.json_codec import dumps

PATHS = frozenset(
    {"/", "/api/hello", "/health", "/livez", "/readyz", "/startupz", "/metrics", "/openapi.json"}
)


@dataclass(frozen=True)
class HealthChecks:
    """Data sources of the health probes."""

    # Whether the server is stopping.
    is_draining: Callable[[], bool]
    # Whether each upstream is available, by name.
    upstream_availability: Callable[[], dict[str, bool]]
    # Last probe result of each upstream, by name.
    probe_results: Callable[[], Mapping[str, ProbeResult]]
    # Reason for the rejection of the last reload; None if it succeeded.
    reload_error: Callable[[], str | None]
    # Checks that are required for readiness, in addition to draining.
    required: frozenset[ReadinessRequirement]

    def check_readiness(self) -> tuple[bool, str]:
        """Return whether the server is ready, and a report in the format of Kubernetes.

        The report has one line for each check and each upstream.
        """
        probe_results = self.probe_results()
        upstream_lines = []
        reachable = total = 0
        for name, is_available in self.upstream_availability().items():
            result = probe_results.get(name)
            upstream_lines.append(_upstream_line(name, result, is_available=is_available))
            total += 1
            # An upstream that rejects the key or has no model list counts as reachable.
            if is_available and (result is None or result.is_reachable):
                reachable += 1

        draining = _Check("draining", not self.is_draining(), is_required=True)
        config = _Check("config", self.reload_error() is None, "config" in self.required)
        upstreams = _Check("upstreams", reachable > 0, "upstream" in self.required)
        required = [check for check in (draining, config, upstreams) if check.is_required]
        is_ready = all(check.is_healthy for check in required)
        report = [
            draining.line,
            config.line,
            *upstream_lines,
            # A rejected key fails the line of the upstream, but not this line.
            (
                f"{upstreams.line}: {reachable} of {total} reachable, at least 1 needed; "
                "an upstream that rejects the key is reachable"
            ),
            (
                f"readyz check {'passed' if is_ready else 'failed'}; "
                f"required checks: {', '.join(check.name for check in required)}"
            ),
        ]
        return is_ready, "\n".join(report)


class _Check(NamedTuple):
    name: str
    is_healthy: bool
    # Whether the server is not ready if this check fails.
    is_required: bool

    @property
    def line(self) -> str:
        return _check_line(self.name, is_healthy=self.is_healthy)


def _check_line(name: str, *, is_healthy: bool) -> str:
    return f"[+]{name} ok" if is_healthy else f"[-]{name} failed"


def _upstream_line(name: str, probe_result: ProbeResult | None, *, is_available: bool) -> str:
    """Return the report line of an upstream. Failed requests override an earlier probe."""
    if not is_available or probe_result is None:
        return _check_line(f"upstream {name}", is_healthy=is_available)
    line = _check_line(f"upstream {name}", is_healthy=probe_result.is_healthy)
    return f"{line}: {probe_result.summary}"


def create_health_routes(health: HealthChecks, metrics: Exposition | None) -> Blueprint:
    """Return the routes of PATHS except `/openapi.json`.

    `/metrics` is included if `metrics` is not None. Claude Code opens its connection with `HEAD /`.
    """
    blueprint = Blueprint("ops", __name__)

    @blueprint.get("/")
    async def root() -> Response:
        return Response(
            dumps({"name": "anthropic-proxy", "version": __version__}),
            content_type="application/json",
        )

    # A process that responds is alive: a restart would not repair an upstream, and would truncate
    # streams. It has also started: the server listens only after startup.
    for path in ("/health", "/livez", "/startupz"):
        blueprint.add_url_rule(path, path.strip("/"), _respond_ok)

    @blueprint.get("/api/hello")
    async def hello() -> Response:
        """Return the same response as the Anthropic API to the connection check of Claude Code."""
        return Response(dumps({"message": "hello"}), content_type="application/json")

    @blueprint.get("/readyz")
    async def readyz() -> Response:
        is_ready, report = health.check_readiness()
        status = 200 if is_ready else 503
        return Response(f"{report}\n", status, content_type="text/plain; charset=utf-8")

    if metrics is not None:

        @blueprint.get("/metrics")
        async def exposition() -> Response:
            form = ExpositionFormat.negotiate(
                request.headers.get("accept", ""), request.headers.get("accept-encoding", "")
            )
            rendered = await metrics.render(form)
            return Response(rendered.body, headers=rendered.headers)

    return blueprint


async def _respond_ok() -> Response:
    return Response("OK", content_type="text/plain; charset=utf-8")
