"""Results of many runs: kept line by line so that a study can be interrupted, and compared arm by arm, seed by seed.

Two arms of one seed met the same world and the same luck, so differences are taken within seeds; their interval is
Student's, over seeds. Knows nothing of how a run came about.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

Rows = Mapping[str, Mapping[int, Mapping[str, Any]]]
"""By arm and seed, what `Found.said` gave."""

MEASURES = ("reward", "mean_reward", "late_mean_reward", "ranker", "late_ranker", "gini", "cold_share")


def read(path: Path, study: Mapping[str, Any]) -> dict[str, dict[int, dict[str, Any]]]:
    """The runs of a study in a file of JSON lines, by arm and seed; none where there is no file. A torn last line, of
    a run that was killed, is left out."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if row["study"] == study:
            found.setdefault(row["arm"], {})[row["seed"]] = row["found"]
    return found


def append(path: Path, study: Mapping[str, Any], arm: str, seed: int, found: Mapping[str, Any]) -> None:
    """Add a run: one line, written at once."""
    line = json.dumps({"study": study, "arm": arm, "seed": seed, "found": found})
    torn = path.exists() and path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")
    with path.open("a") as out:
        out.write(("\n" if torn else "") + line + "\n")


def summary(rows: Rows, oracle: str = "oracle", level: float = 0.95) -> dict[str, Any]:
    """Means over seeds by arm with their intervals, relative to the oracle, and every arm less every other.

    Only seeds that all arms have are used.
    """
    seeds = sorted(set.intersection(*(set(by_seed) for by_seed in rows.values()))) if rows else []
    arms: dict[str, Any] = {}
    for arm, by_seed in rows.items():
        arms[arm] = {name: _interval(_values(by_seed, name, seeds), level) for name in MEASURES}
        arms[arm]["regret"] = _interval(_regret(by_seed, seeds), level)
        if oracle in rows:
            for name in ("reward", "mean_reward", "late_mean_reward"):
                of = _values(by_seed, name, seeds) / _values(rows[oracle], name, seeds)
                arms[arm][f"{name}_of_oracle"] = _interval(of, level)
        arms[arm]["curve"] = _curve([by_seed[seed] for seed in seeds])
        arms[arm]["groups"] = _groups([by_seed[seed] for seed in seeds])
    pairs = {
        f"{a} − {b}": {name: _interval(_values(rows[a], name, seeds) - _values(rows[b], name, seeds), level)
                       for name in ("reward", "mean_reward", "gini")}
        for a in rows for b in rows if a != b
    }  # fmt: skip
    return {"seeds": seeds, "arms": arms, "differences": pairs}


def _values(by_seed: Mapping[int, Mapping[str, Any]], name: str, seeds: Sequence[int]) -> np.ndarray:
    return np.array([by_seed[seed][name] if by_seed[seed][name] is not None else np.nan for seed in seeds], float)


def _regret(by_seed: Mapping[int, Mapping[str, Any]], seeds: Sequence[int]) -> np.ndarray:
    """Per slate, beside the best slates for the moments that the arm itself came to."""
    return np.array([(by_seed[s]["best"] - by_seed[s]["reward"]) / max(1, by_seed[s]["slates"]) for s in seeds])


def _interval(values: np.ndarray, level: float) -> dict[str, float] | None:
    """Mean and interval; None where an arm has no such number."""
    if not len(values) or np.isnan(values).any():
        return None
    mean = float(values.mean())
    if len(values) < 2:
        return {"mean": mean}
    half = float(stats.t.ppf(0.5 + level / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return {"mean": mean, "low": mean - half, "high": mean + half}


def _curve(found: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Reward and regret per slate, by window of ticks, over all seeds."""
    slates = np.maximum(1, np.sum([one["curve_slates"] for one in found], axis=0))
    reward = np.sum([one["curve_reward"] for one in found], axis=0)
    best = np.sum([one["curve_best"] for one in found], axis=0)
    return {"reward": (reward / slates).tolist(), "regret": ((best - reward) / slates).tolist()}


def _groups(found: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Reward per slate, and over the best, by group of users."""
    slates, reward, best = (
        np.sum([one[name] for one in found], axis=0) for name in ("group_slates", "group_reward", "group_best")
    )
    return {"reward": (reward / np.maximum(1, slates)).tolist(), "of_best": (reward / best).tolist()}
