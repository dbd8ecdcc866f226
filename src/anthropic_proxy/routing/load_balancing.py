"""Order the targets of a request, so that each target gets its share of the requests."""

from collections.abc import Callable
from math import log

from anthropic_proxy.routing.router import Target, TargetGroups


def shuffle_by_weight(groups: TargetGroups, random: Callable[[], float]) -> list[Target]:
    """Return all targets, group by group. Within a group, the order is random by weight.

    Algorithm: weighted sampling without replacement. Each target draws an exponentially distributed
    time with its weight as the rate, and the shortest time is first (Efraimidis and Spirakis,
    "Weighted random sampling with a reservoir", 2006).

    random: returns a number from 0 up to 1.
    """

    def draw_waiting_time(target: Target) -> float:
        return -log(1 - random()) / target.weight

    order: list[Target] = []
    for group in groups:
        order += sorted(group, key=draw_waiting_time)
    return order
