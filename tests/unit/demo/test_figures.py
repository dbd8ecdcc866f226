"""The figures that the demo prints."""

import pytest

from anthropic_proxy.demo import figures
from anthropic_proxy.demo.figures import StreamTimes
from anthropic_proxy.demo.steps import StepError, parse_structured


def test_stream_figures_are_computed() -> None:
    stream = StreamTimes(sent_at=10.0, first_text_at=10.25, ended_at=12.25, tokens=101)
    assert figures.compute_first_token_ms(stream) == pytest.approx(250)
    assert figures.compute_tokens_per_second(stream) == pytest.approx(50)


def test_added_latency_is_the_median_difference() -> None:
    assert figures.compute_added_ms(
        [(0.010, 0.013), (0.010, 0.012), (0.010, 0.090)]
    ) == pytest.approx(3)


@pytest.mark.parametrize(
    "text", ["no JSON", "[]", '{"name": "x"}', '{"name": "x", "age": "1", "city": "y"}']
)
def test_a_response_that_does_not_match_the_schema_is_rejected(text: str) -> None:
    with pytest.raises(StepError):
        parse_structured(text)
