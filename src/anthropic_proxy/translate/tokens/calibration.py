"""How far the estimates of a model's tokens are off, learned from what its answers report.

Vocabularies and chat templates differ, so an estimate may be off by tens of percent, always in the same way for the same
model. For each model four numbers are followed: how many tokens one estimated token of text, of tools and of images
and files really is, and what every request costs on top. They come from a Kalman filter over the observed requests: a
handful of them is enough to tell the four apart as far as they matter, and what is no longer seen becomes uncertain
again, so that new observations soon outweigh it.
"""

from collections import OrderedDict
from dataclasses import dataclass, field

from anthropic_proxy.translate.tokens.estimate import TokenEstimate

# No vocabulary is further off than this; a report that is counts something else (Ollama has left cached tokens out).
_MIN_RATIO, _MAX_RATIO = 0.3, 3.0
# Tokens. In shorter requests the fixed cost hides everything else.
_MIN_TOKENS = 50
_MAX_MODELS = 256

# A request's fixed cost is followed in this unit (tokens), which makes it comparable to the ratios.
_FIXED_UNIT = 100
_INITIAL_MEANS = (1.0, 1.0, 1.0, 0.0)
# Variances before anything was seen: a ratio may be off by a factor of two, the fixed cost by some hundred tokens.
_INITIAL_VARIANCES = (1.0, 1.0, 1.0, 9.0)
# Variance of one observation: texts of the same size differ by some percent.
_NOISE = 0.02**2
# How much of the unknown returns with each observation.
_FORGETTING_RATE = 0.001
# Standard deviations; what is further off than that moves the numbers no further.
_MAX_DEVIATIONS = 3


@dataclass
class _ModelRatios:
    means: list[float] = field(default_factory=lambda: list(_INITIAL_MEANS))
    covariance: list[list[float]] = field(default_factory=lambda: _diagonal(_INITIAL_VARIANCES))


class TokenCalibration:
    """The ratios of the 256 models that were used last. They depend on the observations only."""

    def __init__(self) -> None:
        self._models: OrderedDict[str, _ModelRatios] = OrderedDict()

    def predict(self, model: str, estimate: TokenEstimate) -> int:
        """Predict the input tokens that `model` reports for a request of that estimate; for a new model, the estimate."""
        ratios = self._models.get(model)
        means = ratios.means if ratios else _INITIAL_MEANS
        tokens = sum(
            _clamp(mean) * part for mean, part in zip(means[:3], estimate.parts, strict=True)
        )
        tokens += means[3] * _FIXED_UNIT
        return round(min(max(tokens, _MIN_RATIO * estimate.total), _MAX_RATIO * estimate.total))

    def observe(self, model: str, estimate: TokenEstimate, reported: int) -> None:
        """Learn from one response: `reported` input tokens, cached ones included, for a request of that estimate."""
        if (
            estimate.total < _MIN_TOKENS
            or not _MIN_RATIO <= reported / estimate.total <= _MAX_RATIO
        ):
            return
        ratios = self._models.setdefault(model, _ModelRatios())
        self._models.move_to_end(model)
        if len(self._models) > _MAX_MODELS:
            self._models.popitem(last=False)
        # Divided by the size, as what counts is the error in percent.
        shares = [part / estimate.total for part in (*estimate.parts, _FIXED_UNIT)]
        _update(ratios, shares, reported / estimate.total)


def _diagonal(values: tuple[float, ...]) -> list[list[float]]:
    return [
        [value if row == column else 0.0 for column in range(len(values))]
        for row, value in enumerate(values)
    ]


def _clamp(ratio: float) -> float:
    return min(max(ratio, _MIN_RATIO), _MAX_RATIO)


def _update(ratios: _ModelRatios, shares: list[float], ratio: float) -> None:
    """One step of the filter: `ratio` was seen where `shares` x means was expected."""
    spread = [_dot(row, shares) for row in ratios.covariance]
    variance = _dot(shares, spread) + _NOISE
    limit = _MAX_DEVIATIONS * variance**0.5
    surprise = min(max(ratio - _dot(shares, ratios.means), -limit), limit)
    ratios.means = [
        mean + each / variance * surprise for mean, each in zip(ratios.means, spread, strict=True)
    ]
    for row, values in enumerate(ratios.covariance):
        for column, value in enumerate(values):
            left = value - spread[row] * spread[column] / variance
            values[column] = (1 - _FORGETTING_RATE) * left + (
                _FORGETTING_RATE * _INITIAL_VARIANCES[row] if row == column else 0.0
            )


def _dot(left: list[float], right: list[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))
