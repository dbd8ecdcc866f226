"""Routes for whoever runs or probes the server."""

from quart import Blueprint, Response

from anthropic_proxy import __version__
from anthropic_proxy.wire.codec import dumps


def routes() -> Blueprint:
    """`GET` and `HEAD` of `/` (Claude Code warms its connection up there) and `/health`."""
    blueprint = Blueprint("ops", __name__)

    @blueprint.get("/")
    async def root() -> Response:
        return Response(dumps({"name": "anthropic-proxy", "version": __version__}), content_type="application/json")

    @blueprint.get("/health")
    async def health() -> Response:
        return Response("OK", content_type="text/plain; charset=utf-8")

    return blueprint
