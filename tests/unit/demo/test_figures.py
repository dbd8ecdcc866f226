"""The figures that the demo prints."""

import pytest

from anthropic_proxy.demo import figures
from anthropic_proxy.demo.figures import Stream
from anthropic_proxy.demo.steps import StepError, parse


def test_stream() -> None:
    stream = Stream(sent=10.0, first=10.25, ended=12.25, tokens=101)
    assert figures.first_token_ms(stream) == pytest.approx(250)
    assert figures.tokens_per_second(stream) == pytest.approx(50)


def test_added_is_the_median_difference() -> None:
    assert figures.added_ms([(0.010, 0.013), (0.010, 0.012), (0.010, 0.090)]) == pytest.approx(3)


@pytest.mark.parametrize(
    "text", ["no JSON", "[]", '{"name": "x"}', '{"name": "x", "age": "1", "city": "y"}']
)
def test_an_answer_that_does_not_fit_the_schema_is_told(text: str) -> None:
    with pytest.raises(StepError):
        parse(text)
