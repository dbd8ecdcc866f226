"""Learn from reported usage how far the token estimates are off, for each model.

Vocabularies and chat templates differ, so an estimate may be off by tens of percent, but always in
the same way for the same model. A request with the estimated tokens `text`, `tools` and `media`
(see TokenEstimate) is assumed to have

    text_ratio * text + tools_ratio * tools + media_ratio * media + fixed

tokens: each model has three ratios, and a fixed cost of its chat template. Divided by the estimated
total, which makes errors relative, each response measures these four parameters linearly:

    reported / total = parameters . shares + noise

A Kalman filter estimates them: it keeps their means and their covariance, which says how certain
each combination of them is. A few requests are enough for the combinations that occur. Others
become uncertain again with time, so that new observations of them soon outweigh old ones.

The names in brackets in the code are those of G. Welch and G. Bishop, "An Introduction to the
Kalman Filter" (UNC-Chapel Hill, TR 95-041), after R. E. Kalman, "A New Approach to Linear Filtering
and Prediction Problems" (1960).
"""

import math
from collections import OrderedDict

from anthropic_proxy.translate.tokens.estimate import TokenEstimate

# No vocabulary is further off. A report beyond these ratios counts something else (Ollama omitted
# cached tokens).
_MIN_RATIO, _MAX_RATIO = 0.3, 3.0
# Tokens. In shorter requests the fixed cost hides everything else.
_MIN_TOKENS = 50
_MAX_MODELS = 256

# Tokens. The unit of the fixed cost, which makes it comparable to the ratios.
_FIXED_UNIT = 100
# Ratios of text, tools and media, and the fixed cost.
_INITIAL_PARAMETERS = (1.0, 1.0, 1.0, 0.0)
# Variances before the first observation: a ratio may be off by a factor of two, the fixed cost by
# some hundred tokens.
_INITIAL_VARIANCES = (1.0, 1.0, 1.0, 9.0)
# Variance of one measurement [R]: texts of the same size differ by some percent.
_NOISE = 0.02**2
# Share of the initial variances that returns with each observation.
_FORGETTING_RATE = 0.001
# Standard deviations. A measurement further off moves the parameters no further than that.
_MAX_DEVIATIONS = 3


class TokenCalibration:
    """Predicts the tokens of requests for the 256 models that were observed last.

    The predictions depend only on the observations.
    """

    def __init__(self) -> None:
        self._filters: OrderedDict[str, _ParameterFilter] = OrderedDict()

    def predict(self, model: str, estimate: TokenEstimate) -> int:
        """Predict the input tokens that `model` reports; for a new model, return the estimate."""
        model_filter = self._filters.get(model)
        *ratios, fixed = model_filter.parameters if model_filter else _INITIAL_PARAMETERS
        tokens = 0.0
        for ratio, part in zip(ratios, estimate.parts, strict=True):
            tokens += _clamp(ratio, _MIN_RATIO, _MAX_RATIO) * part
        tokens += fixed * _FIXED_UNIT
        return round(_clamp(tokens, _MIN_RATIO * estimate.total, _MAX_RATIO * estimate.total))

    def observe(self, model: str, estimate: TokenEstimate, reported: int) -> None:
        """Learn from a response that reported `reported` input tokens, including cached ones."""
        if estimate.total < _MIN_TOKENS:
            return
        ratio = reported / estimate.total
        if not _MIN_RATIO <= ratio <= _MAX_RATIO:
            return
        model_filter = self._filters.setdefault(model, _ParameterFilter())
        self._filters.move_to_end(model)
        if len(self._filters) > _MAX_MODELS:
            self._filters.popitem(last=False)
        shares = [part / estimate.total for part in (*estimate.parts, _FIXED_UNIT)]
        model_filter.update(shares, ratio)


class _ParameterFilter:
    """Kalman filter of the parameters of one model.

    It has no model of how parameters change. Instead it forgets a small share of what it learned
    with each update, and it limits how much a single measurement changes them.
    """

    def __init__(self) -> None:
        # Means of the parameters [x].
        self.parameters = list(_INITIAL_PARAMETERS)
        # Covariance of the parameters [P].
        self._covariance = _diagonal_matrix(_INITIAL_VARIANCES)

    def update(self, shares: list[float], measured_ratio: float) -> None:
        """Learn from one measurement of `parameters . shares` [z, H]."""
        # Covariance of each parameter with the expected measurement [P H^T], and the variance of
        # the measurement [H P H^T + R].
        cross_covariance = [_dot(row, shares) for row in self._covariance]
        variance = _dot(shares, cross_covariance) + _NOISE
        gain = [covariance / variance for covariance in cross_covariance]  # [K]

        limit = _MAX_DEVIATIONS * math.sqrt(variance)
        deviation = _clamp(measured_ratio - _dot(shares, self.parameters), -limit, limit)
        for index, parameter_gain in enumerate(gain):
            self.parameters[index] += parameter_gain * deviation

        # The measurement makes the parameters more certain [(I - K H) P], and forgetting less.
        for index, row in enumerate(self._covariance):
            for column, covariance in enumerate(row):
                explained = cross_covariance[index] * cross_covariance[column] / variance
                row[column] = (1 - _FORGETTING_RATE) * (covariance - explained)
            row[index] += _FORGETTING_RATE * _INITIAL_VARIANCES[index]


def _diagonal_matrix(diagonal: tuple[float, ...]) -> list[list[float]]:
    matrix = [[0.0] * len(diagonal) for _ in diagonal]
    for index, value in enumerate(diagonal):
        matrix[index][index] = value
    return matrix


def _dot(left: list[float], right: list[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))


def _clamp(value: float, lowest: float, highest: float) -> float:
    return min(max(value, lowest), highest)
