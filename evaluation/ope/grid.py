"""Several policies on one log: what each would earn, which the most, and which of the others cannot be told from it.

The difference of two policies is far surer than either's value, as both are weighted from the same rounds: so it is
drawn itself, by user, and not read off two intervals. Knows nothing of where weights come from or in what policies
differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from evaluation.ope import intervals
from evaluation.ope.ratio import Ints, Ratio
from evaluation.ope.report import Estimate, Family, Settings, Weighted, judged


@dataclass(frozen=True, slots=True)
class Standing:
    """How one policy stands among the others.

    Attributes:
        family: its estimates, or why there are none.
        behind: what the best earns more than it, with an interval that holds for all comparisons together; all None of
            the best itself, and where the log cannot say.
    """

    family: Family
    best: bool = False
    behind: float | None = None
    behind_low: float | None = None
    behind_high: float | None = None

    @property
    def worse(self) -> bool:
        """Whether it is told from the best."""
        return self.behind_low is not None and self.behind_low > 0

    def estimate(self, name: str) -> Estimate:
        """One of its estimates. Raises StopIteration for a name that there is not."""
        return next(one for one in self.family.estimates if one.name == name)


def standings(policies: Sequence[Weighted], cluster: Ints, settings: Settings, by: str = "dr") -> list[Standing]:
    """Judge policies on the same rounds, `cluster` int64 [n] of each, and compare them by an estimator.

    In their order. Of m comparisons each is at the level 1 - (1 - level) / m (Bonferroni). Raises ValueError when
    policies are not of the same rounds.
    """
    if len({policy.weight.shape for policy in policies}) != 1 or len(policies[0].weight) != len(cluster):
        raise ValueError(f"policies have weights of shapes {[policy.weight.shape for policy in policies]}")
    found = [Standing(judged(policy, cluster, settings)) for policy in policies]
    said = [at for at, one in enumerate(found) if not one.family.reasons]
    if not said:
        return found
    best = max(said, key=lambda at: policies[at].ratios[by].value)
    found[best] = replace(found[best], best=True)
    others = [at for at in said if at != best]
    if not others:
        return found
    level = 1 - (1 - settings.level) / len(others)
    less = [_less(policies[best].ratios[by], policies[at].ratios[by]) for at in others]
    drawn = intervals.draw(less, cluster, replicates=settings.replicates, seed=settings.seed)
    for at, one, ratio in zip(others, drawn, less, strict=True):
        found[at] = replace(found[at], behind=ratio.value)
        if np.isfinite(one.interval(level)).all():
            low, high = one.interval(level)
            found[at] = replace(found[at], behind_low=low, behind_high=high)
    return found


def _less(one: Ratio, other: Ratio) -> Ratio:
    """The first less the second."""
    return Ratio(
        np.concatenate([one.numerator, -other.numerator], axis=1),
        np.concatenate([one.denominator, other.denominator], axis=1),
    )
