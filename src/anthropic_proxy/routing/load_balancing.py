"""The order in which the targets of a request are tried: a share of the requests for each."""

from collections.abc import Callable
from math import log

from anthropic_proxy.routing.router import Target, TargetGroups


def shuffle_by_weight(groups: TargetGroups, random: Callable[[], float]) -> list[Target]:
    """Return all targets: group by group, and drawn by weight without replacement within a group.

    Each target draws a waiting time whose rate is its weight; the shortest comes first (Efraimidis
    and Spirakis, "Weighted random sampling with a reservoir", 2006).

    random: returns a number from 0 up to 1.
    """

    def draw_waiting_time(target: Target) -> float:
        return -log(1 - random()) / target.weight

    order: list[Target] = []
    for group in groups:
        order += sorted(group, key=draw_waiting_time)
    return order
