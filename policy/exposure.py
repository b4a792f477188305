"""The exposure model: which candidates get shown, learned online, for events that carry no logged propensity.

Logistic regression with FTRL-Proximal (McMahan et al., "Ad click prediction: a view from the trenches", KDD 2013) over
hashed sparse features. A known propensity is never replaced by it: it serves legacy and organic events, and audits
itself against the inclusion probabilities that the policy did log. Knows nothing of Kafka or of how slates are drawn.
"""

from __future__ import annotations

import bisect
import hashlib
import math
from typing import Any

BIN_EDGES = (0.001, 0.003, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
ALPHA = 0.1
LOG_POPULARITY_SCALE = 0.2  # brings log-probabilities (0 to about -12) to the size of the indicator features


class ExposureModel:
    """P(shown | user segment, item, popularity, release, hour). Weights are bounded by 2**bits buckets."""

    def __init__(self, bits: int = 18) -> None:
        if not 1 <= bits <= 30:
            raise ValueError(f"bits is {bits}, expected 1 to 30")
        # Here, not above: river takes two seconds to import, and a worker needs only the frequencies.
        from river import linear_model, optim

        self.bits = bits
        self._optimizer = optim.FTRLProximal(alpha=ALPHA, l1=0.0, l2=0.0)
        self._model = linear_model.LogisticRegression(optimizer=self._optimizer)

    def features(self, segment: str, item: str, log_popularity: float, release: str, hour: int) -> dict[int, float]:
        """Sparse features, bucket to value. `log_popularity`: natural logarithm of P(item in a slate); `hour`: 0 to 23.

        Raises ValueError for a log-popularity that is not a finite number at most 0, or an hour out of range.
        """
        if not (math.isfinite(log_popularity) and log_popularity <= 0):
            raise ValueError(f"log_popularity is {log_popularity}, expected a finite number, at most 0")
        if not 0 <= hour <= 23:
            raise ValueError(f"hour is {hour}, expected 0 to 23")
        names = (f"segment={segment}", f"item={item}", f"release={release}", f"hour={hour}")
        values = dict.fromkeys(map(self._bucket, names), 1.0)
        values[self._bucket("log_popularity")] = log_popularity * LOG_POPULARITY_SCALE
        return values

    def learn_one(self, features: dict[int, float], shown: bool, weight: float = 1.0) -> None:
        """Learn from one candidate. `weight` undoes sampling: u / s for one of s drawn from u unshown candidates."""
        self._model.learn_one(features, shown, weight)

    def predict_one(self, features: dict[int, float]) -> float:
        """P(shown), between 0 and 1."""
        return float(self._model.predict_proba_one(features)[True])

    def quicken(self, factor: float) -> None:
        """Let the next gradients move the weights `factor` times as far; no prediction changes by it.

        FTRL's step is α / (1 + √n), n the sum of squared gradients: n shrinks, and z so that the weight stays.
        Raises ValueError for a factor below 1.
        """
        if not factor >= 1:
            raise ValueError(f"factor is {factor}, expected at least 1")
        for bucket, n in self._optimizer.n.items():
            less = float(n) / factor**2
            self._optimizer.z[bucket] *= (1.0 + math.sqrt(less)) / (1.0 + math.sqrt(n))
            self._optimizer.n[bucket] = less

    def state(self) -> dict[str, Any]:
        """Everything needed to go on, as JSON: `buckets` [bucket, weight, z, n], `intercept`, `iterations`, `bits`."""
        z, n = self._optimizer.z, self._optimizer.n
        weights = self._model.weights
        buckets = [[bucket, weights.get(bucket, 0.0), float(z[bucket]), float(n[bucket])] for bucket in sorted(n)]
        return {
            "bits": self.bits,
            "buckets": [[bucket, float(weight), zi, ni] for bucket, weight, zi, ni in buckets],
            "intercept": float(self._model.intercept),
            "iterations": int(self._optimizer.n_iterations),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> ExposureModel:
        """The model that gave `state`. Raises ValueError for a bucket out of range."""
        restored = cls(int(state["bits"]))
        for bucket, weight, z, n in state["buckets"]:
            if not 0 <= bucket < 2**restored.bits:
                raise ValueError(f"bucket is {bucket}, expected 0 to 2**{restored.bits} - 1")
            restored._model._weights[bucket] = weight
            restored._optimizer.z[bucket] = z
            restored._optimizer.n[bucket] = n
        restored._model.intercept = float(state["intercept"])
        restored._optimizer.n_iterations = int(state["iterations"])
        return restored

    def _bucket(self, name: str) -> int:
        digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little") & ((1 << self.bits) - 1)


class CalibrationAudit:
    """Compares predicted with logged inclusion probabilities, forgetting at a half-life counted in observations.

    Predictions fall into 12 fixed bins, narrower towards 0, where inclusion probabilities are.
    """

    def __init__(self, half_life: float = 10_000) -> None:
        if not half_life > 0:
            raise ValueError(f"half_life is {half_life}, expected a positive number of observations")
        self.half_life = half_life
        self._growth = 2 ** (1 / half_life)
        self._scale = 1.0  # newer observations weigh more, so that nothing old needs touching
        bins = len(BIN_EDGES) + 1
        self._weight = [0.0] * bins
        self._residual = [0.0] * bins

    def update(self, predicted: float, logged: float, weight: float = 1.0) -> None:
        """One candidate of a slate whose inclusion probability was logged.

        `weight` undoes sampling, as in ExposureModel.learn_one: the error is then that over all candidates.
        """
        place = bisect.bisect_right(BIN_EDGES, predicted)
        self._weight[place] += self._scale * weight
        self._residual[place] += self._scale * weight * (logged - predicted)
        self._scale *= self._growth
        if self._scale > 1e100:
            self._weight = [value / self._scale for value in self._weight]
            self._residual = [value / self._scale for value in self._residual]
            self._scale = 1.0

    @property
    def observed(self) -> bool:
        """Whether it has seen anything: until then, both measures are 0."""
        return any(self._weight)

    @property
    def calibration_error(self) -> float:
        """Expected calibration error: |mean logged − mean predicted| of each bin, weighted by its observations."""
        return sum(map(abs, self._residual)) / self._total

    @property
    def residual(self) -> float:
        """Mean of logged − predicted."""
        return sum(self._residual) / self._total

    def state(self) -> dict[str, Any]:
        """Everything needed to go on, as JSON: sums of each bin, `weight` and `residual`, in units of `scale`."""
        return {
            "half_life": self.half_life,
            "scale": self._scale,
            "weight": list(self._weight),
            "residual": list(self._residual),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> CalibrationAudit:
        """The audit that gave `state`. Raises ValueError when the number of bins is another."""
        restored = cls(float(state["half_life"]))
        weight, residual = list(state["weight"]), list(state["residual"])
        if not len(weight) == len(residual) == len(restored._weight):
            expected = len(restored._weight)
            raise ValueError(f"weight and residual have {len(weight)} and {len(residual)} bins, expected {expected}")
        restored._scale, restored._weight, restored._residual = float(state["scale"]), weight, residual
        return restored

    @property
    def _total(self) -> float:
        return sum(self._weight) or 1.0
