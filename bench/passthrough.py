"""A pass-through server: Quart, Hypercorn and httpx forward bytes unchanged.

It shows the minimum cost of these libraries. `python -m bench.passthrough UPSTREAM TRANSPORT`
prints its port. TRANSPORT: `aiohttp`, which the proxy uses, or `httpx`.
"""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from typing import Any, cast

import httpx
import uvloop
from hypercorn.asyncio import serve
from hypercorn.config import Config
from hypercorn.typing import ASGIFramework
from quart import Quart, Response, request

from anthropic_proxy.upstream.transport import AiohttpTransport

_NO_LIMIT = httpx.Limits(max_connections=None, max_keepalive_connections=None)


def _client(transport: str) -> httpx.AsyncClient:
    options: dict[str, Any] = (
        {"transport": AiohttpTransport()} if transport == "aiohttp" else {"limits": _NO_LIMIT}
    )
    # No time limit: the upstream is on the same machine.
    return httpx.AsyncClient(timeout=None, trust_env=False, **options)  # noqa: S113 - see above


def _application(upstream: str, transport: str) -> Quart:
    app = Quart(__name__)
    app.config["RESPONSE_TIMEOUT"] = None
    app.config["MAX_CONTENT_LENGTH"] = None
    client = _client(transport)

    @app.post("/v1/chat/completions")
    async def pass_through() -> Response:
        upstream_request = client.build_request(
            "POST", f"{upstream}/v1/chat/completions", content=await request.get_data()
        )
        response = await client.send(upstream_request, stream=True)
        content_type = response.headers["content-type"]
        if content_type == "application/json":
            return Response(await response.aread(), response.status_code, content_type=content_type)

        async def body() -> AsyncIterator[bytes]:
            async for chunk in response.aiter_raw():
                yield chunk
            await response.aclose()

        return Response(body(), response.status_code, content_type=content_type)

    return app


async def _main(upstream: str, transport: str) -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    config = Config()
    config.bind = [f"fd://{listener.fileno()}"]
    config.accesslog = config.errorlog = None
    config.keep_alive_max_requests = 2**31
    print(listener.getsockname()[1], flush=True)
    app = cast("ASGIFramework", _application(upstream, transport))
    await serve(app, config, shutdown_trigger=asyncio.Event().wait)


if __name__ == "__main__":
    uvloop.run(_main(*sys.argv[1:]))
