"""Targets share the requests of their group by weight."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from anthropic_proxy.providers.profiles import GENERIC
from anthropic_proxy.routing.load_balancing import shuffle_by_weight
from anthropic_proxy.routing.router import Target, TargetGroups
from anthropic_proxy.routing.upstream import Upstream

_UPSTREAM = Upstream("local", "http://localhost:8080", GENERIC)


def _target(model: str, weight: float = 1) -> Target:
    return Target(_UPSTREAM, model, weight)


_TARGETS = st.builds(_target, st.text(max_size=3), st.floats(0.001, 1000))
_GROUPS = st.lists(st.lists(_TARGETS, max_size=4).map(tuple), max_size=4).map(tuple)


@given(_GROUPS, st.randoms(use_true_random=False))
def test_targets_are_shuffled_within_their_groups(groups: TargetGroups, random: Random) -> None:
    order = shuffle_by_weight(groups, random.random)
    for group in groups:
        first, order = order[: len(group)], order[len(group) :]
        assert sorted(map(repr, first)) == sorted(map(repr, group))
    assert order == []


def test_targets_receive_requests_by_weight() -> None:
    random = Random(7)  # noqa: S311 - the same draws each time
    groups = ((_target("one"), _target("three", 3)),)
    firsts = [shuffle_by_weight(groups, random.random)[0].model for _ in range(4000)]
    assert 2900 < firsts.count("three") < 3100


def test_equal_random_numbers_keep_the_order() -> None:
    order = shuffle_by_weight(((_target("a"), _target("b")), (_target("c"),)), lambda: 0)
    assert [target.model for target in order] == ["a", "b", "c"]
