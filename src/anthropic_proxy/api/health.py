"""Routes for whoever runs or probes the server. None needs a key, and none asks an upstream anything."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

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
    # Why a changed configuration was refused; None when it was not.
    reload_error: Callable[[], str | None]
    # What else must be healthy for the server to count as ready.
    required: frozenset[ReadinessRequirement]

    def check_readiness(self) -> tuple[bool, str]:
        """Whether requests should come here, and a line for each thing that was looked at, in the form of Kubernetes'
        own checks.
        """
        upstreams = self.upstream_availability()
        probe_results = self.probe_results()
        # Only an upstream that cannot be reached is none. One that refuses the key, or has no list of models, answers.
        usable = {
            name: is_healthy and _is_reachable(probe_results.get(name))
            for name, is_healthy in upstreams.items()
        }
        checks = [
            ("draining", not self.is_draining(), True),
            ("config", self.reload_error() is None, "config" in self.required),
            ("upstreams", any(usable.values()), "upstream" in self.required),
        ]
        lines = [_check_line(name, is_healthy=is_well) for name, is_well, _ in checks]
        lines[-1:-1] = [
            _upstream_line(name, probe_results.get(name), is_healthy=is_well)
            for name, is_well in upstreams.items()
        ]
        lines[-1] += _usable_text(sum(usable.values()), len(usable))
        deciding = [name for name, _, is_required in checks if is_required]
        is_ready = all(is_well or not matters for _, is_well, matters in checks)
        outcome = "passed" if is_ready else "failed"
        return is_ready, "\n".join(
            [*lines, f"readyz check {outcome}; checks that decide: {', '.join(deciding)}"]
        )


def _usable_text(count: int, total: int) -> str:
    """Return why the check of all upstreams may pass where the line of one of them says that it failed."""
    return f": {count} of {total} can be reached, 1 is enough; a refused key does not count here"


def _is_reachable(probe_result: ProbeResult | None) -> bool:
    return probe_result is None or probe_result.is_reachable


def _check_line(name: str, *, is_healthy: bool) -> str:
    return f"[+]{name} ok" if is_healthy else f"[-]{name} failed"


def _upstream_line(name: str, probe_result: ProbeResult | None, *, is_healthy: bool) -> str:
    """Return the line of an upstream; what a probe found at the start is of no interest once it has failed since."""
    if not is_healthy or probe_result is None:
        return _check_line(f"upstream {name}", is_healthy=is_healthy)
    return f"{_check_line(f'upstream {name}', is_healthy=probe_result.is_healthy)}: {probe_result.summary}"


def create_health_routes(health: HealthChecks, metrics: Exposition | None) -> Blueprint:
    """`GET` and `HEAD` of `/` (Claude Code warms its connection up there), `/health`, and Kubernetes' three probes; and of
    `/metrics`, where there are any.
    """
    blueprint = Blueprint("ops", __name__)

    @blueprint.get("/")
    async def root() -> Response:
        return Response(
            dumps({"name": "anthropic-proxy", "version": __version__}),
            content_type="application/json",
        )

    # The process answers: there is nothing else to it. A restart would not mend an upstream, and cuts streams. The server
    # listens when it has started, and not before.
    for path in ("/health", "/livez", "/startupz"):
        blueprint.add_url_rule(path, path.strip("/"), _respond_ok)

    @blueprint.get("/api/hello")
    async def hello() -> Response:
        """Answer Claude Code's check that it is connected, as Anthropic's server does."""
        return Response(dumps({"message": "hello"}), content_type="application/json")

    @blueprint.get("/readyz")
    async def readyz() -> Response:
        is_ready, report = health.check_readiness()
        return Response(
            f"{report}\n", 200 if is_ready else 503, content_type="text/plain; charset=utf-8"
        )

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
