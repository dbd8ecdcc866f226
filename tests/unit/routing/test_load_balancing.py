"""Targets share the requests of their group by weight."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from anthropic_proxy.providers.profiles import GENERIC
from anthropic_proxy.routing.load_balancing import draw_for_session, order_by_weight
from anthropic_proxy.routing.router import Target, TargetGroups
from anthropic_proxy.routing.upstream import Upstream

_UPSTREAM = Upstream("local", "http://localhost:8080", GENERIC)
_OTHER = Upstream("spare", "http://localhost:8081", GENERIC)


def _target(model: str | None, weight: float = 1, upstream: Upstream = _UPSTREAM) -> Target:
    return Target(upstream, model, weight)


_TARGETS = st.builds(
    _target,
    st.none() | st.text(max_size=3),
    st.floats(0.001, 1000),
    st.sampled_from([_UPSTREAM, _OTHER]),
)
_GROUPS = st.lists(st.lists(_TARGETS, max_size=4).map(tuple), max_size=4).map(tuple)
_SESSIONS = st.text(max_size=40)


@given(_GROUPS, _SESSIONS, st.randoms(use_true_random=False))
def test_targets_are_ordered_within_their_groups(
    groups: TargetGroups, session: str, random: Random
) -> None:
    for draw in (draw_for_session(session), lambda _: random.random()):
        order = order_by_weight(groups, draw)
        for group in groups:
            first, order = order[: len(group)], order[len(group) :]
            assert sorted(map(repr, first)) == sorted(map(repr, group))
        assert order == []


@given(_GROUPS, _SESSIONS)
def test_a_session_has_one_order_of_targets(groups: TargetGroups, session: str) -> None:
    reversed_groups = tuple(group[::-1] for group in groups)
    distinct = {(t.upstream.name, t.model or "") for group in groups for t in group}
    first = order_by_weight(groups, draw_for_session(session))
    assert order_by_weight(groups, draw_for_session(session)) == first
    if len(distinct) == sum(map(len, groups)):
        # The order of the targets in the configuration does not matter.
        assert order_by_weight(reversed_groups, draw_for_session(session)) == first


@given(_GROUPS.filter(any), _SESSIONS, st.data())
def test_a_removed_target_changes_only_its_own_sessions(
    groups: TargetGroups, session: str, data: st.DataObject
) -> None:
    """The other targets keep their order, so only sessions whose first target it was move."""
    order = order_by_weight(groups, draw_for_session(session))
    removed = data.draw(st.sampled_from(order))
    remaining = tuple(tuple(t for t in group if t is not removed) for group in groups)
    expected = [target for target in order if target is not removed]
    assert order_by_weight(remaining, draw_for_session(session)) == expected


@given(_GROUPS, _SESSIONS, st.floats(0.001, 1000))
def test_a_greater_weight_never_moves_a_target_back(
    groups: TargetGroups, session: str, weight: float
) -> None:
    group = (_target("new", weight), *(groups[0] if groups else ()))
    heavier = (_target("new", weight * 2), *group[1:])
    draw = draw_for_session(session)
    before = [target.model for target in order_by_weight((group,), draw)]
    after = [target.model for target in order_by_weight((heavier,), draw)]
    assert after.index("new") <= before.index("new")


def test_targets_receive_requests_by_weight() -> None:
    random = Random(7)  # noqa: S311 - the same draws each time
    groups = ((_target("one"), _target("three", 3)),)
    firsts = [order_by_weight(groups, lambda _: random.random())[0].model for _ in range(4000)]
    assert 2900 < firsts.count("three") < 3100


def test_targets_receive_sessions_by_weight() -> None:
    """The hashes are fixed, so the counts are the same in each run."""
    groups = ((_target("one"), _target("three", 3), _target("four", 4, _OTHER)),)
    firsts = [
        order_by_weight(groups, draw_for_session(f"session {number}"))[0].model
        for number in range(8000)
    ]
    counts = {model: firsts.count(model) for model in ("one", "three", "four")}
    assert 900 < counts["one"] < 1100
    assert 2850 < counts["three"] < 3150
    assert 3850 < counts["four"] < 4150


def test_the_second_targets_of_sessions_follow_the_weights_too() -> None:
    """When a target fails, its sessions are distributed to the others by their weights."""
    groups = ((_target("failed"), _target("one"), _target("three", 3)),)
    orders = [
        order_by_weight(groups, draw_for_session(f"session {number}")) for number in range(5000)
    ]
    seconds = [order[1].model for order in orders if order[0].model == "failed"]
    assert 0.7 < seconds.count("three") / len(seconds) < 0.8


def test_the_parts_of_a_name_are_separate() -> None:
    draws = {
        draw_for_session(session)(Target(Upstream(name, "", GENERIC), model))
        for session, name, model in (
            ("a", "b", "c"),
            ("ab", "", "c"),
            ("a", "bc", ""),
            ("", "", "abc"),
        )
    }
    assert len(draws) == 4


def test_numbers_of_sessions_are_the_same_in_all_processes() -> None:
    """Replicas and restarted servers have to agree."""
    assert draw_for_session("session")(_target("model")) == 0.6729633331750863


def test_equal_numbers_keep_the_order() -> None:
    order = order_by_weight(((_target("a"), _target("b")), (_target("c"),)), lambda _: 0)
    assert [target.model for target in order] == ["a", "b", "c"]
