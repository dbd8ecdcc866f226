"""Types of ASGI 3, and keys of the proxy's values in `scope["state"]`."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Scope = MutableMapping[str, Any]
AsgiApplication = Callable[[Scope, Receive, Send], Awaitable[None]]

# Observation of the request.
OBSERVATION = "observation"

# Writer of the connection (asyncio.StreamWriter).
WRITER = "writer"

# Function without arguments that aborts the response: it closes the connection (HTTP/1.1) or resets
# the stream (HTTP/2).
ABORT = "abort"
