"""The types of ASGI 3, and the names of our values in the `state` of a request's scope."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Scope = MutableMapping[str, Any]
AsgiApplication = Callable[[Scope, Receive, Send], Awaitable[None]]

# The request's observation.
OBSERVATION = "observation"

# The writer of its connection (asyncio.StreamWriter).
WRITER = "writer"

# A function without arguments that cuts the response: on HTTP/1.1 the connection, on HTTP/2 the
# stream.
ABORT = "abort"
