"""One request, several routes: the first that answers, without the client noticing those that did not.

Nothing of an answer has reached the client while this runs, so whatever failed can be asked again elsewhere.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from anthropic_proxy.errors import ApiError
from anthropic_proxy.routing import Route

_Answer = TypeVar("_Answer")


async def first_answer(routes: Sequence[Route], answer: Callable[[Route], Awaitable[_Answer]]) -> _Answer:
    """The answer of the first route that gives one. Raises ApiError: of the last route, or a refusal of the request."""
    *others, last = routes
    for route in others:
        try:
            return await answer(route)
        except ApiError as error:
            if (error.upstream_status or error.status) < 500:
                raise
    return await answer(last)
