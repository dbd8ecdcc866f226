"""Routes for operators and probes. They need no key and send no request to an upstream."""

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
    """The sources of what health probes report."""

    # Whether the server is stopping.
    is_draining: Callable[[], bool]
    # Whether each upstream is available, by name.
    upstream_availability: Callable[[], dict[str, bool]]
    # The last probe result of each upstream, by name.
    probe_results: Callable[[], Mapping[str, ProbeResult]]
    # The reason for which a changed configuration was rejected; None when it was not.
    reload_error: Callable[[], str | None]
    # Further checks that decide whether the server is ready.
    required: frozenset[ReadinessRequirement]

    def check_readiness(self) -> tuple[bool, str]:
        """Return whether the server is ready for requests, and a report in Kubernetes' format.

        The report has a line for each check and upstream.
        """
        probe_results = self.probe_results()
        upstream_lines = []
        reachable = total = 0
        for name, is_available in self.upstream_availability().items():
            result = probe_results.get(name)
            upstream_lines.append(_upstream_line(name, result, is_available=is_available))
            total += 1
            # An upstream that rejects the key, or has no list of models, is reachable.
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
            # The line of an upstream that rejects the key is a failure, but this line is not.
            (
                f"{upstreams.line}: {reachable} of {total} can be reached, 1 is enough; "
                "a refused key does not count here"
            ),
            (
                f"readyz check {'passed' if is_ready else 'failed'}; "
                f"checks that decide: {', '.join(check.name for check in required)}"
            ),
        ]
        return is_ready, "\n".join(report)


class _Check(NamedTuple):
    name: str
    is_healthy: bool
    # Whether its failure makes the server not ready.
    is_required: bool

    @property
    def line(self) -> str:
        return _check_line(self.name, is_healthy=self.is_healthy)


def _check_line(name: str, *, is_healthy: bool) -> str:
    return f"[+]{name} ok" if is_healthy else f"[-]{name} failed"


def _upstream_line(name: str, probe_result: ProbeResult | None, *, is_available: bool) -> str:
    """Return the line of an upstream. Failed requests outweigh an earlier probe."""
    if not is_available or probe_result is None:
        return _check_line(f"upstream {name}", is_healthy=is_available)
    line = _check_line(f"upstream {name}", is_healthy=probe_result.is_healthy)
    return f"{line}: {probe_result.summary}"


def create_health_routes(health: HealthChecks, metrics: Exposition | None) -> Blueprint:
    """Return the routes `/`, `/health`, Kubernetes' three probes, and `/metrics` if there are any.

    Claude Code opens its connection with `HEAD /`.
    """
    blueprint = Blueprint("ops", __name__)

    @blueprint.get("/")
    async def root() -> Response:
        return Response(
            dumps({"name": "anthropic-proxy", "version": __version__}),
            content_type="application/json",
        )

    # A process that responds is alive: a restart would not repair an upstream, and it cuts streams.
    # The server listens only after its start.
    for path in ("/health", "/livez", "/startupz"):
        blueprint.add_url_rule(path, path.strip("/"), _respond_ok)

    @blueprint.get("/api/hello")
    async def hello() -> Response:
        """Respond to Claude Code's check of its connection, as Anthropic's server does."""
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
