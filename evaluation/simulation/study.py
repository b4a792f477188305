"""A study: arms × seeds of one kind of world, the missing runs made and the found ones kept.

Knows nothing of files' names or of terminals.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from evaluation.simulation import results
from evaluation.simulation.arms import ARMS
from evaluation.simulation.clicks import MODELS
from evaluation.simulation.loop import run
from evaluation.simulation.world import Environment, World, WorldConfig

Progress = Callable[[str, int, int, int], None]
"""Arm, seed, runs done, runs to do."""


class Plan(Protocol):
    """What is to be played."""

    @property
    def seeds(self) -> Sequence[int]: ...
    @property
    def arms(self) -> Sequence[str]: ...
    @property
    def first_items(self) -> int: ...
    def named(self) -> dict[str, Any]:
        """What tells its runs from those of others; arms and seeds aside. JSON values."""

    def environment(self, seed: int) -> Environment: ...


@dataclass(frozen=True, slots=True)
class Study:
    """Our own world: `clicks` names a click model, `seeds` one world each."""

    clicks: str = "position"
    seeds: Sequence[int] = tuple(range(100, 110))
    arms: Sequence[str] = tuple(ARMS)
    world: WorldConfig = field(default_factory=WorldConfig)

    @property
    def first_items(self) -> int:
        return self.world.items

    def named(self) -> dict[str, Any]:
        world = asdict(self._config())
        digest = hashlib.blake2b(repr(world).encode(), digest_size=6).hexdigest()
        return {"clicks": self.clicks, "ticks": self.world.ticks, "world": digest}

    def environment(self, seed: int) -> Environment:
        return World(self._config(), seed)

    def _config(self) -> WorldConfig:
        return replace(self.world, clicks=MODELS[self.clicks])


def play(study: Plan, path: Path, progress: Progress | None = None, seconds: float = math.inf) -> dict[str, Any] | None:
    """Make the runs that the file of JSON lines lacks, seed by seed, and sum all up.

    None when `seconds` were over before all were made: no run is begun after that.
    """
    started, named, arms = time.monotonic(), study.named(), list(study.arms)
    found = results.read(path, named)
    todo = [(seed, arm) for seed in study.seeds for arm in arms if seed not in found.get(arm, {})]
    for done, (seed, arm) in enumerate(todo):
        if time.monotonic() - started > seconds:
            return None
        if progress is not None:
            progress(arm, seed, done, len(todo))
        world, chosen = study.environment(seed), ARMS[arm]
        result = run(world, chosen.make(world, seed, chosen.setup), study.first_items)
        results.append(path, named, arm, seed, result.said())
    found = results.read(path, named)
    wanted = {arm: {seed: found[arm][seed] for seed in study.seeds} for arm in arms}
    return {"study": named, "said": {arm: ARMS[arm].said for arm in arms}, **results.summary(wanted)}
