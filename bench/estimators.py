"""What the online estimators recover of a known truth, how long it takes them, and what they cost an outcome.

    python -m bench.estimators                 # minutes; the tables of docs/propensities.md
    python -m bench.estimators --json found.json --seeds 3

Simulated clicks (bench/clicks.py); CPU time of one core, as a ratio to the cheapest of them.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from bench.clicks import SEGMENTS, Slates, World, logged
from policy.drift import Alarm, DriftWatch
from policy.examination import Examination
from policy.exposure import CalibrationAudit
from policy.reward import RewardModel
from policy.slate import PolicyConfig, redecide
from policy.swap_check import SwapCheck
from streams.estimator_parts import ExposurePart, Seen
from streams.estimators import PARTS, Estimators

BLOCK = 500
FLAT = np.arange(1, 11.0) ** -0.4
"""The curve that the steep one, 1/k, changes into."""


@dataclass
class Clicks:
    """The estimators of clicks, together as the learner has them."""

    examination: Examination = field(default_factory=Examination)
    reward: RewardModel = field(default_factory=RewardModel)
    check: SwapCheck = field(default_factory=SwapCheck)
    drift: DriftWatch | None = None
    quicken: float = 8.0
    alarms: list[tuple[int, Alarm]] = field(default_factory=list)
    seen: int = 0

    def learn(self, slates: Slates) -> None:
        """Learn slate after slate."""
        names = [[f"i{item}" for item in row] for row in slates.items.tolist()]
        for at, segment in enumerate(slates.segment.tolist()):
            self._learn(SEGMENTS[segment], names[at], slates.clicks[at], slates, at)

    def _learn(self, segment: str, items: list[str], clicks: np.ndarray, slates: Slates, at: int) -> None:
        self.seen += 1
        features = self.reward.features(segment, items)
        reward, examination = self.reward.predict(features), self.examination.predict(segment)[: len(items)]
        if self.drift is not None:
            chance = examination * reward
            residual = (clicks - chance) / np.sqrt(chance * (1 - chance))
            signals = {f"position {k}": float(one) for k, one in enumerate(residual)}
            found = self.drift.update(signals | {f"segment {segment}": float(residual.sum() / len(items) ** 0.5)})
            self.alarms += [(self.seen, alarm) for alarm in found]
            if found:
                self.examination.quicken(self.quicken)
        swapped = tuple(slates.swapped[at].tolist())
        self.check.learn(clicks, swapped=swapped if swapped[0] >= 0 else None, uniform=bool(slates.uniform[at]))
        self.examination.learn(segment, clicks, reward)
        self.reward.learn(features, clicks, self.examination.predict(segment)[: len(items)])


def recovery(seed: int, *, slates: int = 20_000, watched: bool = True, level: float = -1.0) -> dict[str, Any]:
    """Error of η on the way: at first, and after η changed from 1/k to the flat curve, at half of the way."""
    world, clicks = World(seed, level=level), Clicks(drift=DriftWatch() if watched else None)
    errors = []
    for block in range(2 * slates // BLOCK):
        if block == slates // BLOCK:
            world.examination = FLAT
        clicks.learn(world.show(BLOCK))
        errors.append(float(np.abs(clicks.examination.predict()[:10] - world.examination).max()))
    half = slates // BLOCK
    return {
        "seed": seed,
        "settled": _settled(errors[:half]),
        "error": errors[half - 1],
        "settled_after_drift": _settled(errors[half:]),
        "error_after_drift": errors[-1],
        "alarms": [(at, alarm.signal) for at, alarm in clicks.alarms],
        "errors": [round(error, 4) for error in errors],
    }


def exposure(seed: int, *, slates: int = 3000) -> dict[str, Any]:
    """Calibration error of the exposure model against logged π, over the last 250 slates, on the way; what was worst is
    best from half of the way on."""
    estimators, errors, alarms, audit = Estimators(), [], [], CalibrationAudit(half_life=1e9)
    for number, outcome in enumerate(logged(seed, 2 * slates, flip=slates)):
        part = estimators.part(ExposurePart)
        seen = Seen.of(outcome, estimators.frequency)
        for predicted, inclusion, weight in part.predictions(seen):
            audit.update(predicted, inclusion, weight)
        alarms += [(number - slates, alarm.signal) for alarm in estimators.learn(outcome)]
        if number % 250 == 249:
            errors.append(round(audit.calibration_error, 4))
            audit = CalibrationAudit(half_life=1e9)
    half = len(errors) // 2
    settled = [_settled(part, 0.02, 250) for part in (errors[:half], errors[half:])]
    return {"seed": seed, "settled": settled[0], "settled_after_flip": settled[1], "errors": errors, "alarms": alarms}


def costs(outcomes: int = 1500) -> dict[str, float]:
    """µs of CPU time an outcome, by part of the learner."""
    estimators, spent = Estimators(), dict.fromkeys((part.name for part in PARTS), 0.0)
    for number, outcome in enumerate(logged(0, 500 + outcomes)):
        seen = Seen.of(outcome, estimators.frequency)
        for name, part in estimators.parts.items():
            started = time.process_time()
            part.learn(seen)
            if number >= 500:
                spent[name] += time.process_time() - started
    return {name: round(1e6 * seconds / outcomes, 1) for name, seconds in spent.items()}


def chances(slates: int = 64, rounds: int = 30) -> dict[str, float]:
    """µs of CPU time a slate: drawing and its chain, with exchanged neighbours, with marginals; 102 candidates."""
    random = np.random.default_rng(0)
    logits = random.normal(0, 1, (rounds, slates, 102)).astype(np.float32)
    items = random.integers(0, 2**63, logits.shape).astype(np.uint64)
    policies = {
        "draw and chain": PolicyConfig(marginals=False),
        "and swaps": PolicyConfig(marginals=False, swaps=0.02),
        "and marginals": PolicyConfig(marginals=True, swaps=0.02),
    }
    best = dict.fromkeys(policies, float("inf"))
    for _ in range(5):
        for name, policy in policies.items():
            started = time.process_time()
            for at in range(rounds):
                redecide(policy, logits[at], items[at], 0, np.arange(slates) + at * slates)
            best[name] = min(best[name], 1e6 * (time.process_time() - started) / rounds / slates)
    return {name: round(value, 1) for name, value in best.items()}


def _settled(errors: list[float], bound: float = 0.03, step: int = BLOCK) -> int | None:
    """Slates after which the error is within the bound and stays there; None: it is not at the end."""
    outside = [at for at, error in enumerate(errors) if error > bound]
    last = outside[-1] + 1 if outside else 0
    return None if last == len(errors) else last * step


def main(
    seeds: Annotated[int, typer.Option(help="How many worlds.", min=1)] = 3,
    slates: Annotated[int, typer.Option(help="Before a change, and after it.", min=BLOCK)] = 20_000,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write everything found to this file.")] = None,
) -> None:
    """Print what is recovered, when, and what it costs."""
    found: dict[str, Any] = {"examination": [], "unwatched": [], "exposure": []}
    for seed in range(seeds):
        for name, watched in (("examination", True), ("unwatched", False)):
            found[name].append(one := recovery(seed, slates=slates, watched=watched))
            typer.echo(f"{name}: {json.dumps({key: value for key, value in one.items() if key != 'errors'})}")
            typer.echo(f"  every 2,000 slates: {one['errors'][3::4]}")
        found["exposure"].append(exposure(seed))
        typer.echo(f"exposure: {json.dumps(found['exposure'][-1])}")
    found |= {"outcome_us": costs(), "slate_us": chances()}
    cheapest = min(found["outcome_us"].values())
    ratios = {name: round(value / cheapest, 1) for name, value in found["outcome_us"].items()}
    typer.echo(f"µs an outcome: {found['outcome_us']}; as ratios: {ratios}")
    typer.echo(f"µs a slate: {found['slate_us']}")
    if json_file is not None:
        json_file.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    if os.environ.get("OMP_NUM_THREADS") != "1":  # read when NumPy is loaded, and it is
        command = [sys.executable, "-m", "bench.estimators", *sys.argv[1:]]
        os.execve(sys.executable, command, os.environ | {"OMP_NUM_THREADS": "1"})
    typer.run(main)
