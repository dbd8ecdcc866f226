"""Routes for whoever runs or probes the server. None needs a key, and none asks an upstream anything."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from quart import Blueprint, Response, request

from anthropic_proxy import __version__
from anthropic_proxy.config.settings import ReadinessRequirement
from anthropic_proxy.gateway.upstream_probe import Probe
from anthropic_proxy.observability.exposition import Exposition, Format
from anthropic_proxy.wire.json_codec import dumps

PATHS = frozenset(
    {"/", "/api/hello", "/health", "/livez", "/readyz", "/startupz", "/metrics", "/openapi.json"}
)


@dataclass(frozen=True)
class Health:
    """What the probes are told. draining: whether the server is stopping. upstreams: which of them are well. probed: what
    they answered when they were probed. refused: why a changed configuration was refused, if it was. required: what else
    must be well for the server to count as ready.
    """

    draining: Callable[[], bool]
    upstreams: Callable[[], dict[str, bool]]
    probed: Callable[[], Mapping[str, Probe]]
    refused: Callable[[], str | None]
    required: frozenset[ReadinessRequirement]

    def ready(self) -> tuple[bool, str]:
        """Whether requests should come here, and a line for each thing that was looked at, in the form of Kubernetes'
        own checks.
        """
        upstreams = self.upstreams()
        probed = self.probed()
        # Only an upstream that cannot be reached is none. One that refuses the key, or has no list of models, answers.
        usable = {
            name: is_well and _is_reachable(probed.get(name)) for name, is_well in upstreams.items()
        }
        checks = [
            ("draining", not self.draining(), True),
            ("config", self.refused() is None, "config" in self.required),
            ("upstreams", any(usable.values()), "upstream" in self.required),
        ]
        lines = [_line(name, is_well=is_well) for name, is_well, _ in checks]
        lines[-1:-1] = [
            _upstream_line(name, probed.get(name), is_well=is_well)
            for name, is_well in upstreams.items()
        ]
        lines[-1] += _usable_text(sum(usable.values()), len(usable))
        deciding = [name for name, _, matters in checks if matters]
        is_ready = all(is_well or not matters for _, is_well, matters in checks)
        outcome = "passed" if is_ready else "failed"
        return is_ready, "\n".join(
            [*lines, f"readyz check {outcome}; checks that decide: {', '.join(deciding)}"]
        )


def _usable_text(count: int, total: int) -> str:
    """Return why the check of all upstreams may pass where the line of one of them says that it failed."""
    return f": {count} of {total} can be reached, 1 is enough; a refused key does not count here"


def _is_reachable(probe: Probe | None) -> bool:
    return probe is None or probe.is_reachable


def _line(name: str, *, is_well: bool) -> str:
    return f"[+]{name} ok" if is_well else f"[-]{name} failed"


def _upstream_line(name: str, probe: Probe | None, *, is_well: bool) -> str:
    """Return the line of an upstream; what a probe found at the start is of no interest once it has failed since."""
    if not is_well or probe is None:
        return _line(f"upstream {name}", is_well=is_well)
    return f"{_line(f'upstream {name}', is_well=probe.is_good)}: {probe.summary}"


def routes(health: Health, metrics: Exposition | None) -> Blueprint:
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
        blueprint.add_url_rule(path, path.strip("/"), _well)

    @blueprint.get("/api/hello")
    async def hello() -> Response:
        """Answer Claude Code's check that it is connected, as Anthropic's server does."""
        return Response(dumps({"message": "hello"}), content_type="application/json")

    @blueprint.get("/readyz")
    async def readyz() -> Response:
        is_ready, told = health.ready()
        return Response(
            f"{told}\n", 200 if is_ready else 503, content_type="text/plain; charset=utf-8"
        )

    if metrics is not None:

        @blueprint.get("/metrics")
        async def exposition() -> Response:
            form = Format.of(
                request.headers.get("accept", ""), request.headers.get("accept-encoding", "")
            )
            rendered = await metrics.rendered(form)
            return Response(rendered.body, headers=rendered.headers)

    return blueprint


async def _well() -> Response:
    return Response("OK", content_type="text/plain; charset=utf-8")
