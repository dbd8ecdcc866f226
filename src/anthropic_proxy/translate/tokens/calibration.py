"""Calibrate the token estimates of each model with the usage that upstreams report.

Vocabularies and chat templates differ, so an estimate may be wrong by tens of percent, but the
error is similar for all requests of a model. For the estimated tokens `text`, `tools`, `media` and
`template` (see TokenEstimate), the number of tokens is modeled as

    text_ratio * text + tools_ratio * tools + media_ratio * media + fixed + template

with three ratios and a fixed cost for each model, such as a default system prompt. Divided by the
estimated total, so that errors are relative, each response is a linear measurement of these four
parameters:

    (reported - template) / total = parameters . shares + noise

A Kalman filter estimates the parameters: it stores their means and their covariance, which
describes the uncertainty of each combination. A few requests are enough for the combinations that
occur. The uncertainty of other combinations grows with time, so new observations soon outweigh old
ones.

A long request contains little information about the fixed cost. To prevent a negative one, which
would compensate for errors of the ratios, the means are moved to the most likely ones without a
fixed cost (D. Simon, "Kalman filtering with state constraints", 2010, estimate projection).

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
# The largest fixed cost in tokens: templates add default system prompts to short requests.
_MAX_FIXED = 1000
_MAX_MODELS = 256

# The unit of the fixed cost in tokens, which makes it comparable to the ratios.
_FIXED_UNIT = 100
# Ratios of text, tools and media, and the fixed cost.
_INITIAL_PARAMETERS = (1.0, 1.0, 1.0, 0.0)
# Variances before the first observation: a ratio may be wrong by a factor of two, the fixed cost by
# a few hundred tokens.
_INITIAL_VARIANCES = (1.0, 1.0, 1.0, 9.0)
# Standard deviations of one measurement [R]: the tokens of texts of the same size differ by a few
# percent, and those of short texts by a few tokens.
_RELATIVE_NOISE = 0.02
_NOISE_TOKENS = 1.0
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
        tokens = estimate.template + min(fixed * _FIXED_UNIT, _MAX_FIXED)
        for ratio, part in zip(ratios, estimate.parts, strict=True):
            tokens += _clamp(ratio, _MIN_RATIO, _MAX_RATIO) * part
        return round(tokens)

    def observe(self, model: str, estimate: TokenEstimate, reported: int) -> None:
        """Update the model's parameters with the reported input tokens, including cached tokens."""
        total = estimate.total
        if total == 0:
            return
        if not _MIN_RATIO * total <= reported <= max(_MAX_RATIO * total, total + _MAX_FIXED):
            return
        model_filter = self._filters.setdefault(model, _ParameterFilter())
        self._filters.move_to_end(model)
        if len(self._filters) > _MAX_MODELS:
            self._filters.popitem(last=False)
        shares = [part / total for part in (*estimate.parts, _FIXED_UNIT)]
        noise = _RELATIVE_NOISE**2 + (_NOISE_TOKENS / total) ** 2
        model_filter.update(shares, (reported - estimate.template) / total, noise)


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

    def update(self, shares: list[float], measured_ratio: float, noise: float) -> None:
        """Update the parameters with one measurement of `parameters . shares` [z, H].

        noise: variance of the measurement [R].
        """
        # Covariance of each parameter with the expected measurement [P H^T], and the variance of
        # the measurement [H P H^T + R].
        cross_covariance = [_dot(row, shares) for row in self._covariance]
        variance = _dot(shares, cross_covariance) + noise
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
        self._make_fixed_cost_positive()

    def _make_fixed_cost_positive(self) -> None:
        """Move the parameters to the most likely ones whose fixed cost is not negative."""
        fixed = self.parameters[-1]
        if fixed >= 0:
            return
        variance = self._covariance[-1][-1]
        for index, row in enumerate(self._covariance):
            self.parameters[index] -= row[-1] / variance * fixed


def _diagonal_matrix(diagonal: tuple[float, ...]) -> list[list[float]]:
    matrix = [[0.0] * len(diagonal) for _ in diagonal]
    for index, value in enumerate(diagonal):
        matrix[index][index] = value
    return matrix


def _dot(left: list[float], right: list[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))


def _clamp(value: float, lowest: float, highest: float) -> float:
    return min(max(value, lowest), highest)
