"""Calibration: within 5 % after a few requests of the sizes that agents send."""

import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anthropic_proxy.translate.tokens.calibration import TokenCalibration
from anthropic_proxy.translate.tokens.estimate import TokenEstimate, estimate_request

# Requests after which predictions must hold.
LEARNED = 5


def conversation(
    text_ratio: float, tools_ratio: float, fixed: int, chance: random.Random
) -> Iterator[tuple[TokenEstimate, int]]:
    """Yield estimates and true tokens of an agent's requests.

    A system prompt and tools, then turns of any size, each with its own vocabulary (source
    code, prose, logs) within 10 % of the model's.
    """
    text = chance.choice([1500, 4000, 8000])
    tools = chance.choice([0, 2000, 15_000])
    true_text = text * text_ratio
    for _ in range(40):
        yield TokenEstimate(text, tools), round(true_text + tools * tools_ratio + fixed)
        turn = chance.choice([100, 500, 1500, 4000, 8000])
        text += turn
        true_text += turn * text_ratio * chance.uniform(0.9, 1.1)


def random_source(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - repeatable on purpose


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("fixed", [0, 50, 300])
@pytest.mark.parametrize("tools_ratio", [0.6, 1.0, 1.4])
@pytest.mark.parametrize("text_ratio", [0.6, 0.85, 1.2, 2.0])
def test_a_growing_conversation(
    text_ratio: float, tools_ratio: float, fixed: int, seed: int
) -> None:
    calibration = TokenCalibration()
    for number, (estimate, true) in enumerate(
        conversation(text_ratio, tools_ratio, fixed, random_source(seed))
    ):
        if number >= LEARNED:
            assert calibration.predict("m", estimate) == pytest.approx(true, rel=0.05)
        calibration.observe("m", estimate, true)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("text_ratio", [0.6, 0.85, 1.2, 2.0])
def test_conversations_between_each_other(text_ratio: float, seed: int) -> None:
    """Two agents with their own tools, by turns: most predictions are exact, all are close."""
    chance, calibration = random_source(seed), TokenCalibration()
    errors = []
    both = [conversation(text_ratio, 0.9, 50, chance), conversation(text_ratio, 1.1, 50, chance)]
    for number in range(80):
        estimate, true = next(both[number % 2])
        errors.append(abs(calibration.predict("m", estimate) - true) / true)
        calibration.observe("m", estimate, true)
    learned = errors[2 * LEARNED :]
    assert sum(error < 0.05 for error in learned) > 0.9 * len(learned)
    assert max(learned) < 0.12


def test_a_new_model() -> None:
    assert TokenCalibration().predict("m", TokenEstimate(100, 20, 3)) == 123
    assert TokenCalibration().predict("m", TokenEstimate(0)) == 0


def test_images_have_a_ratio_of_their_own() -> None:
    calibration = TokenCalibration()
    for size in (1000, 2000, 4000):
        calibration.observe("m", TokenEstimate(size, 0, 0), size)
    for size in (1000, 3000):
        calibration.observe("m", TokenEstimate(size, 0, 1500), size + 600)
    assert calibration.predict("m", TokenEstimate(2000, 0, 3000)) == pytest.approx(
        2000 + 1200, rel=0.05
    )
    assert calibration.predict("m", TokenEstimate(2000, 0, 0)) == pytest.approx(2000, rel=0.05)


@pytest.mark.parametrize(
    ("tokens", "reported"),
    [
        # Beyond a factor of about three.
        (1000, 0),
        (1000, 299),
        (1000, 3001),
        (1000, 10**9),
        # Cached tokens are left out of a short request.
        (40, 11),
        # More than a default system prompt.
        (40, 1041),
        # A request without tokens measures nothing.
        (0, 0),
        (0, 20),
    ],
)
def test_implausible_reports_change_nothing(tokens: int, reported: int) -> None:
    calibration = TokenCalibration()
    calibration.observe("m", TokenEstimate(tokens), reported)
    assert calibration.predict("m", TokenEstimate(1000)) == 1000


# Estimated tokens of short prompts, and how far their words are off.
SHORT_PROMPTS = [6, 3, 11, 5, 24, 8, 2, 35, 4, 9]
DEVIATIONS = [0, 1, -2, 1, 3, 0, 1, -2, 0, 2]
TEMPLATE = 7


@pytest.mark.parametrize(("deviation", "tolerance"), [(0, 3), (1, 12)])
@pytest.mark.parametrize("per_message", [-2, 0, 2])
@pytest.mark.parametrize("fixed", [0, 13, 68, 400, 900])
@pytest.mark.parametrize("ratio", [0.7, 1.0, 1.25])
def test_short_prompts(
    ratio: float, fixed: int, per_message: int, deviation: int, tolerance: int
) -> None:
    """A default system prompt of any size, and a template that differs by some tokens."""
    for start in range(10):
        calibration = TokenCalibration()
        for number in range(start, start + 10):
            text = SHORT_PROMPTS[number % 10]
            true_text = (text + deviation * DEVIATIONS[number % 10]) * ratio
            estimate = TokenEstimate(text, template=TEMPLATE)
            true = round(TEMPLATE + per_message + fixed + true_text)
            if number >= start + LEARNED:
                assert calibration.predict("m", estimate) == pytest.approx(true, abs=tolerance)
            calibration.observe("m", estimate, true)


def observe_conversation(calibration: TokenCalibration, seed: int) -> None:
    for estimate, true in conversation(0.9, 0.8, 13, random_source(seed)):
        calibration.observe("m", estimate, true)


@pytest.mark.parametrize("seed", range(20))
def test_short_prompts_after_long_ones(seed: int) -> None:
    """The same prompt, over and over: near its tokens from the second time on."""
    calibration = TokenCalibration()
    observe_conversation(calibration, seed)
    estimate = TokenEstimate(6, template=TEMPLATE)
    assert TEMPLATE <= calibration.predict("m", estimate) <= 26 + 300
    for _ in range(5):
        calibration.observe("m", estimate, 26)
        assert calibration.predict("m", estimate) == pytest.approx(26, abs=3)


def estimate_question(number: int) -> TokenEstimate:
    message = {"role": "user", "content": f"What is HTTP? {number}"}
    return estimate_request({"messages": [message]})


def test_questions_to_llama_cpp() -> None:
    """llama.cpp reported 26 tokens for each, with the system prompt of its template."""
    calibration = TokenCalibration()
    for number in range(5):
        calibration.observe("m", estimate_question(number), 26)
    assert calibration.predict("m", estimate_question(5)) == pytest.approx(26, abs=1)
    observe_conversation(calibration, 1)
    assert calibration.predict("m", estimate_question(6)) == pytest.approx(26, abs=8)


@pytest.mark.parametrize("seed", range(20))
def test_short_prompts_do_not_disturb_long_ones(seed: int) -> None:
    calibration = TokenCalibration()
    observe_conversation(calibration, seed)
    for text in (6, 3, 20, 11, 8):
        calibration.observe("m", TokenEstimate(text, template=TEMPLATE), 26 + text)
    for text in (9000, 30_000):
        assert calibration.predict("m", TokenEstimate(text)) == pytest.approx(0.9 * text, rel=0.08)


ESTIMATES = st.builds(TokenEstimate, *[st.integers(0, 100_000)] * 3, template=st.integers(0, 5_000))


@given(st.lists(st.tuples(ESTIMATES, st.floats(0, 4))), ESTIMATES)
def test_no_prediction_is_below_the_template(
    observations: list[tuple[TokenEstimate, float]], estimate: TokenEstimate
) -> None:
    calibration = TokenCalibration()
    for observed, ratio in observations:
        calibration.observe("m", observed, round(observed.total * ratio))
    predicted = calibration.predict("m", estimate)
    least = estimate.template + 0.3 * sum(estimate.parts)
    most = estimate.template + 3 * sum(estimate.parts) + 1000
    assert round(least) <= predicted <= round(most)


def test_an_outlier_moves_little() -> None:
    calibration = TokenCalibration()
    for size in range(1000, 9000, 1000):
        calibration.observe("m", TokenEstimate(size), size)
    calibration.observe("m", TokenEstimate(9000), 25_000)
    assert calibration.predict("m", TokenEstimate(9000)) == pytest.approx(9000, rel=0.1)


def test_a_change_is_followed() -> None:
    """Another model behind the name."""
    calibration = TokenCalibration()
    for size in range(1000, 60_000, 1000):
        calibration.observe("m", TokenEstimate(size), size)
    for size in range(1000, 11_000, 1000):
        calibration.observe("m", TokenEstimate(size), round(size * 1.3))
    assert calibration.predict("m", TokenEstimate(8000)) == pytest.approx(8000 * 1.3, rel=0.05)


def test_models_are_apart_and_bounded_in_number() -> None:
    calibration = TokenCalibration()
    calibration.observe("first", TokenEstimate(1000), 2000)
    assert calibration.predict("other", TokenEstimate(1000)) == 1000
    for number in range(256):
        assert calibration.predict("first", TokenEstimate(1000)) > 1900
        calibration.observe(str(number), TokenEstimate(1000), 2000)
    assert calibration.predict("first", TokenEstimate(1000)) == 1000
