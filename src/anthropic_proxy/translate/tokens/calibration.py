"""Calibrate the token estimates of each model with the usage that upstreams report.

Vocabularies and chat templates differ, so an estimate may be wrong by tens of percent, but the
error is similar for all requests of a model. For the estimated tokens `text`, `tools` and `media`
(see TokenEstimate), the number of tokens is modeled as

    text_ratio * text + tools_ratio * tools + media_ratio * media + fixed

with three ratios and a fixed cost of the chat template for each model. Divided by the estimated
total, so that errors are relative, each response is a linear measurement of these four parameters:

    reported / total = parameters . shares + noise

A Kalman filter estimates the parameters: it stores their means and their covariance, which
describes the uncertainty of each combination. A few requests are enough for the combinations that
occur. The uncertainty of other combinations grows with time, so new observations soon outweigh old
ones.

Symbols in brackets are those of G. Welch and G. Bishop, "An Introduction to the Kalman Filter"
(UNC-Chapel Hill, TR 95-041), after R. E. Kalman, "A New Approach to Linear Filtering and Prediction
Problems" (1960).
"""

import math
from collections import OrderedDict

from anthropic_proxy.translate.tokens.estimate import TokenEstimate

# The ratios of all known vocabularies are between these. Reports outside this range count something
# else: Ollama omitted cached tokens.
_MIN_RATIO, _MAX_RATIO = 0.3, 3.0
# In shorter requests, the fixed cost outweighs the rest.
_MIN_TOKENS = 50
_MAX_MODELS = 256

# The unit of the fixed cost in tokens, which makes it comparable to the ratios.
_FIXED_UNIT = 100
# Ratios of text, tools and media, and the fixed cost.
_INITIAL_PARAMETERS = (1.0, 1.0, 1.0, 0.0)
# Variances before the first observation: a ratio may be wrong by a factor of two, the fixed cost by
# a few hundred tokens.
_INITIAL_VARIANCES = (1.0, 1.0, 1.0, 9.0)
# Variance of one measurement [R]: the tokens of texts of the same size differ by a few percent.
_NOISE = 0.02**2
# Share of the initial variances that each observation adds.
_FORGETTING_RATE = 0.001
# In standard deviations. Limits the effect of a single measurement.
_MAX_DEVIATIONS = 3


class TokenCalibration:
    """Predictions of input tokens for the 256 most recently observed models.

    The predictions depend only on the observations.
    """

    def __init__(self) -> None:
        self._filters: OrderedDict[str, _ParameterFilter] = OrderedDict()

    def predict(self, model: str, estimate: TokenEstimate) -> int:
        """Predict the input tokens that the upstream will report.

        Returns the estimate for a model without observations.
        """
        model_filter = self._filters.get(model)
        *ratios, fixed = model_filter.parameters if model_filter else _INITIAL_PARAMETERS
        tokens = 0.0
        for ratio, part in zip(ratios, estimate.parts, strict=True):
            tokens += _clamp(ratio, _MIN_RATIO, _MAX_RATIO) * part
        tokens += fixed * _FIXED_UNIT
        return round(_clamp(tokens, _MIN_RATIO * estimate.total, _MAX_RATIO * estimate.total))

    def observe(self, model: str, estimate: TokenEstimate, reported: int) -> None:
        """Update the model's parameters with the reported input tokens, including cached tokens."""
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
    """A Kalman filter for the parameters of one model.

    Instead of modeling changes of the parameters, each update increases their uncertainty a little,
    and the effect of a single measurement is limited.
    """

    def __init__(self) -> None:
        # Means of the parameters [x].
        self.parameters = list(_INITIAL_PARAMETERS)
        # Covariance of the parameters [P].
        self._covariance = _diagonal_matrix(_INITIAL_VARIANCES)

    def update(self, shares: list[float], measured_ratio: float) -> None:
        """Update the parameters with one measurement of `parameters . shares` [z, H]."""
        # Covariance of each parameter with the expected measurement [P H^T], and the variance of
        # the measurement [H P H^T + R].
        cross_covariance = [_dot(row, shares) for row in self._covariance]
        variance = _dot(shares, cross_covariance) + _NOISE
        gain = [covariance / variance for covariance in cross_covariance]  # [K]

        limit = _MAX_DEVIATIONS * math.sqrt(variance)
        deviation = _clamp(measured_ratio - _dot(shares, self.parameters), -limit, limit)
        for index, parameter_gain in enumerate(gain):
            self.parameters[index] += parameter_gain * deviation

        # The measurement reduces the uncertainty [(I - K H) P], forgetting increases it.
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
