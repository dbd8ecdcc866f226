"""Circuit breaker: scenarios as tables of events, and properties of all sequences of events."""

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anthropic_proxy.upstream.circuit_breaker import BreakerConfig, CircuitBreaker, Permit


class BreakerScenario:
    """A circuit breaker with named permits, for scenarios of text steps."""

    def __init__(
        self, random: Callable[[], float] = lambda: 0, config: BreakerConfig | None = None
    ) -> None:
        self.breaker = CircuitBreaker(random, config)
        self.permits: dict[str, Permit] = {}

    def run_step(self, now: float, step: str) -> Any:
        verb, _, name = step.partition(" ")
        if verb == "begin":
            return self._begin(now, name)
        if verb == "fails":
            for _ in range(int(name)):
                if self._begin(now, "one of them"):
                    self.permits["one of them"].record_failure(now)
            return None
        if verb == "errors":
            for _ in range(int(name)):
                self.breaker.record_server_error(now)
            return None
        if verb == "usable":
            self.breaker.record_usable_response()
            return None
        return getattr(self.permits[name], verb)(*([now] if verb == "record_failure" else []))

    def _begin(self, now: float, name: str) -> bool:
        permit = self.breaker.try_acquire(now)
        if permit:
            self.permits[name] = permit
        return bool(permit)


OPEN = [(0, "fails 5", "open", 10)]
PROBING = [*OPEN, (10, "begin probe", "half_open", 1)]
BREAKER: dict[str, list[tuple[float, str, str, float]]] = {
    # now (seconds), event, state after the event, retry_after (seconds)
    "the fifth failure opens it": [(0, "fails 4", "closed", 0), (1, "fails 1", "open", 10)],
    "a success resets the failure count": [
        (0, "fails 4", "closed", 0),
        (0, "begin a", "closed", 0),
        (0, "record_success a", "closed", 0),
        (0, "fails 4", "closed", 0),
    ],
    "abandoned requests do not count": [
        (0, "fails 4", "closed", 0),
        (0, "begin a", "closed", 0),
        (0, "abandon a", "closed", 0),
        (0, "fails 1", "open", 10),
    ],
    "an open breaker rejects requests": [*OPEN, (9, "begin refused", "open", 1)],
    "a half-open breaker permits one request": [*PROBING, (11, "begin refused", "half_open", 1)],
    "a successful probe closes it": [
        *PROBING,
        (11, "record_success probe", "closed", 0),
        (11, "fails 4", "closed", 0),
    ],
    "a response start of a probe closes it": [
        *PROBING,
        (11, "record_response_start probe", "closed", 0),
        (11, "fails 4", "closed", 0),
        (12, "record_failure probe", "closed", 0),
    ],
    "a response start of another request does not reset failures": [
        (0, "fails 4", "closed", 0),
        (0, "begin a", "closed", 0),
        (0, "record_response_start a", "closed", 0),
        (0, "record_failure a", "open", 10),
    ],
    "a failed probe doubles the cool-down": [*PROBING, (11, "record_failure probe", "open", 20)],
    "an abandoned probe permits another": [
        *PROBING,
        (11, "abandon probe", "half_open", 0),
        (12, "begin second", "half_open", 1),
        (13, "record_success second", "closed", 0),
    ],
    "only the first result of a permit counts": [
        *PROBING,
        (11, "abandon probe", "half_open", 0),
        (11, "begin second", "half_open", 1),
        (11, "abandon probe", "half_open", 1),
        (11, "record_failure probe", "half_open", 1),
        (12, "begin refused", "half_open", 1),
    ],
    "results of requests before the opening do not count": [
        (0, "begin early", "closed", 0),
        (0, "begin early too", "closed", 0),
        (0, "begin early three", "closed", 0),
        *PROBING,
        (11, "record_success early", "half_open", 1),
        (11, "record_failure early too", "half_open", 1),
        (11, "abandon early three", "half_open", 1),
    ],
    "results of requests before the opening do not count after closing": [
        (0, "begin early", "closed", 0),
        *PROBING,
        (11, "record_success probe", "closed", 0),
        (11, "fails 4", "closed", 0),
        (11, "record_failure early", "closed", 0),
    ],
    "the cool-down is at most two minutes": [
        *PROBING,
        (10, "record_failure probe", "open", 20),
        *[
            step
            for now, seconds in [(30, 40), (70, 80), (150, 120), (270, 120)]
            for step in [
                (now, "begin probe", "half_open", 1),
                (now, "record_failure probe", "open", seconds),
            ]
        ],
    ],
    "a successful probe resets the cool-down": [
        *PROBING,
        (10, "record_failure probe", "open", 20),
        (30, "begin probe", "half_open", 1),
        (30, "record_success probe", "closed", 0),
        (30, "fails 5", "open", 10),
    ],
}


SERVER_ERRORS: dict[str, list[tuple[float, str, str, float]]] = {
    "the fifth server error opens it": [
        (0, "errors 4", "closed", 0),
        (1, "errors 1", "open", 10),
    ],
    "a usable response resets the count": [
        (0, "errors 4", "closed", 0),
        (0, "usable response", "closed", 0),
        (0, "errors 4", "closed", 0),
    ],
    "the success of a permit does not reset the count": [
        # The end of a stream that contained only an error.
        (0, "errors 4", "closed", 0),
        (0, "begin a", "closed", 0),
        (0, "record_success a", "closed", 0),
        (0, "errors 1", "open", 10),
    ],
    "failures of permits count separately": [
        (0, "errors 4", "closed", 0),
        (0, "fails 4", "closed", 0),
        (0, "errors 1", "open", 10),
        (10, "begin probe", "half_open", 1),
        (10, "record_success probe", "closed", 0),
        (10, "errors 4", "closed", 0),
        (10, "fails 4", "closed", 0),
    ],
    "server errors of an open breaker do not count": [*OPEN, (9, "errors 9", "open", 1)],
    "server errors during a probe do not count": [*PROBING, (11, "errors 9", "half_open", 1)],
    "a probe with a server error opens it again": [
        *PROBING,
        (11, "abandon probe", "half_open", 0),
        (11, "errors 1", "open", 20),
    ],
}


@pytest.mark.parametrize("steps", SERVER_ERRORS.values(), ids=SERVER_ERRORS)
def test_server_errors(steps: Sequence[tuple[float, str, str, float]]) -> None:
    run_scenario(BreakerScenario(config=BreakerConfig(counts_server_errors=True)), steps)


def test_server_errors_do_not_count_by_default() -> None:
    run_scenario(BreakerScenario(), [(0, "errors 9", "closed", 0)])


@pytest.mark.parametrize("steps", BREAKER.values(), ids=BREAKER)
def test_breaker_scenarios(steps: Sequence[tuple[float, str, str, float]]) -> None:
    run_scenario(BreakerScenario(), steps)


def run_scenario(scenario: BreakerScenario, steps: Sequence[tuple[float, str, str, float]]) -> None:
    for now, step, state, retry_after in steps:
        permitted = scenario.run_step(now, step)
        assert (scenario.breaker.state(now), scenario.breaker.retry_after(now)) == (
            state,
            retry_after,
        ), step
        if step == "begin refused":
            assert not permitted
        elif step.startswith("begin"):
            assert permitted


def test_the_cool_down_is_shortened_randomly() -> None:
    scenario = BreakerScenario(lambda: 0.5)
    scenario.run_step(0, "fails 5")
    assert scenario.breaker.retry_after(0) == 9


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["begin", "record_success", "record_failure", "abandon", "wait"]),
        st.integers(0, 9),
    ),
    max_size=80,
)


@given(STEPS, st.randoms())
def test_half_open_has_one_probe_at_a_time(steps: list[tuple[str, int]], random: Random) -> None:
    breaker = CircuitBreaker(random.random, BreakerConfig(failures=2, cool_down=3, max_cool_down=8))
    now, permits, probes = 0.0, list[Permit](), list[Permit]()
    for verb, number in steps:
        now += number if verb == "wait" else 0
        allowed, half_open = breaker.allows(now), breaker.state(now) == "half_open"
        assert allowed == (breaker.retry_after(now) == 0)
        assert 0 <= breaker.retry_after(now) <= 8
        if verb == "begin":
            permit = breaker.try_acquire(now)
            assert (permit is not None) == allowed
            permits += [permit] if permit else []
            probes += [permit] if permit and half_open else []
            assert not (probes and half_open) or len(probes) == 1
        elif verb != "wait" and permits:
            ended = permits.pop(number % len(permits))
            getattr(ended, verb)(*([now] if verb == "record_failure" else []))
            probes = [probe for probe in probes if probe is not ended]
    for probe in probes:
        probe.abandon()
    assert breaker.allows(now + 8)
