"""A study: arms × seeds of one world, the missing runs made and the found ones kept.

Knows nothing of files' names or of terminals.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from evaluation.simulation import results
from evaluation.simulation.arms import ARMS
from evaluation.simulation.clicks import MODELS
from evaluation.simulation.loop import run
from evaluation.simulation.world import World, WorldConfig

Progress = Callable[[str, int, int, int], None]
"""Arm, seed, runs done, runs in all."""


@dataclass(frozen=True, slots=True)
class Study:
    """What is played: `clicks` names a click model, `seeds` one world each."""

    clicks: str = "position"
    seeds: Sequence[int] = tuple(range(100, 110))
    arms: Sequence[str] = tuple(ARMS)
    world: WorldConfig = field(default_factory=WorldConfig)

    def named(self) -> dict[str, Any]:
        """What tells the runs of this study from those of others; arms and seeds aside."""
        world = asdict(replace(self.world, clicks=MODELS[self.clicks]))
        return {"clicks": self.clicks, "world": hashlib.blake2b(repr(world).encode(), digest_size=6).hexdigest()}


def play(study: Study, path: Path, progress: Progress | None = None) -> dict[str, Any]:
    """Make the runs that the file of JSON lines lacks, seed by seed, and sum all up."""
    named, arms = study.named(), list(study.arms)
    config = replace(study.world, clicks=MODELS[study.clicks])
    found = results.read(path, named)
    todo = [(seed, arm) for seed in study.seeds for arm in arms if seed not in found.get(arm, {})]
    for done, (seed, arm) in enumerate(todo):
        if progress is not None:
            progress(arm, seed, done, len(todo))
        world, chosen = World(config, seed), ARMS[arm]
        result = run(world, chosen.make(world, seed, chosen.setup), config.items)
        results.append(path, named, arm, seed, result.said())
    found = results.read(path, named)
    wanted = {arm: {seed: found[arm][seed] for seed in study.seeds} for arm in arms}
    return {
        "study": named,
        "world": {**asdict(config), "clicks": study.clicks},
        "said": {arm: ARMS[arm].said for arm in arms},
        **results.summary(wanted),
    }
