"""Settings of baselines, found on the warm-up: one at a time over a stated grid, by NDCG on its second half.

Knows nothing of the test.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evaluation.measures import gains
from evaluation.prequential import BaselineArm, play
from evaluation.stream import EventStream
from models.baselines import Baseline

Settings = dict[str, Any]

MOST_LEARNED, MOST_SCORED = 100_000, 10_000
"""Events that a trial looks at, at most: the last ones of the warm-up."""
SWEEPS = 2
"""How often each setting is looked at again with the others at their best."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A baseline, and the values that its settings may take; `start`: where the search begins."""

    name: str
    make: Callable[..., Baseline]
    start: Settings = field(default_factory=dict)
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tuned:
    """The best settings, and every trial: settings and NDCG."""

    settings: Settings
    trials: list[tuple[Settings, float]]


def tune(
    recipe: Recipe,
    stream: EventStream,
    cut: int,
    *,
    k: int,
    exclude_seen: bool,
    progress: Callable[[int], None] = lambda trials: None,
) -> Tuned:
    """Search the recipe's grid on the events before ``cut``."""
    warm_up = stream.head(cut)
    found: dict[tuple[tuple[str, Any], ...], float] = {}

    def score(settings: Settings) -> float:
        key = tuple(sorted(settings.items()))
        if key not in found:
            found[key] = _score(recipe.make(**settings), warm_up, k, exclude_seen)
            progress(len(found))
        return found[key]

    best = dict(recipe.start)
    for _ in range(SWEEPS):
        before = dict(best)
        for name, values in recipe.grid.items():
            # What is in force wins among equals, so that a sweep that changes nothing ends the search.
            tried = [best, *({**best, name: value} for value in values)]
            best = max(tried, key=score)
        if best == before:
            break
    return Tuned(best, [(dict(key), value) for key, value in found.items()])


def _score(baseline: Baseline, warm_up: EventStream, k: int, exclude_seen: bool) -> float:
    """NDCG over the last events of the warm-up, those before them learned."""
    scored = max(1, min(len(warm_up) // 2, MOST_SCORED))
    cut = len(warm_up) - scored
    arm = BaselineArm(warm_up, cut, baseline, k=k, exclude_seen=exclude_seen, begin=max(0, cut - MOST_LEARNED))
    return float(gains(play(warm_up, cut, arm, round_size=scored).ranks)[1].mean())
