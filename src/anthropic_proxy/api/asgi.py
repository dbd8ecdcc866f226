"""The types of ASGI 3, and the names of what travels in a request's scope, in its `state`."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Scope = MutableMapping[str, Any]
AsgiApplication = Callable[[Scope, Receive, Send], Awaitable[None]]

OBSERVATION = "observation"
"""The request's observation."""

WRITER = "writer"
"""The writer of its connection (asyncio.StreamWriter)."""

ABORT = "abort"
"""A function without arguments that cuts its response: the connection on HTTP/1.1, the stream on HTTP/2."""
