"""Count the source files that a request, or one more chunk of its response, passes through.

`running_application` is the real ASGI application with real sockets to its upstream, in the event
loop of the test. `entered_files` records the modules of the package that are entered meanwhile:
functions that are called, and coroutines that are resumed.
"""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Iterator, MutableMapping
from pathlib import Path
from types import FrameType
from typing import Any

import anthropic_proxy
from anthropic_proxy.api.app import Application
from anthropic_proxy.config.settings import Settings
from anthropic_proxy.config.upstreams import load_routing
from anthropic_proxy.wire.json_codec import dumps

_PACKAGE = f"{Path(anthropic_proxy.__file__).parent}/"


@contextlib.contextmanager
def entered_files() -> Iterator[set[str]]:
    """Record the files that the current thread enters, as paths within the package."""
    files: set[str] = set()

    def profile(frame: FrameType, event: str, _: Any) -> None:
        path = frame.f_code.co_filename
        if event == "call" and path.startswith(_PACKAGE):
            files.add(path.removeprefix(_PACKAGE))

    previous = sys.getprofile()
    sys.setprofile(profile)
    try:
        yield files
    finally:
        sys.setprofile(previous)


@contextlib.asynccontextmanager
async def running_application(upstream_url: str) -> AsyncIterator[Application]:
    """Run the application in front of an upstream."""
    variables: dict[str, Any] = {"UPSTREAM_BASE_URL": upstream_url}
    settings = Settings(_env_file=None, **variables)
    application = Application(settings, load_routing(settings))
    await application.start()
    try:
        yield application
    finally:
        await application.aclose()


class MessagesRequest:
    """A `POST /v1/messages` to the application, whose ASGI messages are received one by one."""

    def __init__(self, application: Application, body: dict[str, Any]) -> None:
        self._application = application
        self._body = dumps(body)
        self._is_body_received = False
        self._sent: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "MessagesRequest":
        scope: dict[str, Any] = {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": "/v1/messages",
            "raw_path": b"/v1/messages",
            "query_string": b"",
            "headers": [
                (b"content-type", b"application/json"),
                (b"content-length", str(len(self._body)).encode()),
            ],
            "state": {},
        }
        application = self._application.asgi(scope, self._receive, self._sent.put)
        self._task = asyncio.ensure_future(application)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None, "the request was not sent"
        self._task.cancel()
        await asyncio.wait({self._task})

    async def next_message(self) -> MutableMapping[str, Any]:
        """Return the next message that the application sends."""
        return await self._sent.get()

    async def _receive(self) -> MutableMapping[str, Any]:
        if self._is_body_received:
            # The client stays connected.
            await asyncio.Event().wait()
        self._is_body_received = True
        return {"type": "http.request", "body": self._body, "more_body": False}
