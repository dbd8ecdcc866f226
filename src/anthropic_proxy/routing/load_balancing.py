"""Order the targets of a request, so that each target gets its share of the requests.

Within a group, each target draws an exponentially distributed time with its weight as the rate, and
the shortest time is first. This is weighted sampling without replacement (Efraimidis and Spirakis,
"Weighted random sampling with a reservoir", 2006).

If the numbers are random, each request is independent. If they are hashes of the session and the
target, all requests of a session have the same order, and a removed target affects only its own
sessions (weighted rendezvous hashing: Schindelhauer and Schomaker, "Weighted Distributed Hash
Tables", 2005). Neither needs any state.
"""

from collections.abc import Callable
from hashlib import blake2b
from math import log

from anthropic_proxy.routing.router import Target, TargetGroups

# The bits of a float's mantissa: more bits could round the number up to 1.
_BITS = 53


def order_by_weight(groups: TargetGroups, draw: Callable[[Target], float]) -> list[Target]:
    """Return all targets, group by group, and within a group by weight.

    draw: returns a number from 0 up to 1 for a target.
    """

    def draw_waiting_time(target: Target) -> float:
        return -log(1 - draw(target)) / target.weight

    order: list[Target] = []
    for group in groups:
        order += sorted(group, key=draw_waiting_time)
    return order


def draw_for_session(session: str) -> Callable[[Target], float]:
    """Return a function for `order_by_weight` that depends only on the session and the target.

    Its numbers are the same in all processes.
    """

    def draw(target: Target) -> float:
        names = (session, target.upstream.name, target.model or "")
        # The lengths separate the names, which may contain any character.
        text = "".join(f"{len(name)}:{name}" for name in names)
        digest = blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
        return (int.from_bytes(digest) >> (64 - _BITS)) / (1 << _BITS)

    return draw
