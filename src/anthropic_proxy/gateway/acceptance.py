"""The event that an upstream has accepted a request."""

import asyncio


class Acceptance(asyncio.Event):
    """An event that is set while an upstream that has accepted the request has not failed."""

    def __init__(self) -> None:
        super().__init__()
        # The number of upstreams that have accepted the request.
        self.count = 0

    def set(self) -> None:
        self.count += 1
        super().set()
