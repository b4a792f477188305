"""Studies: what is on file is not run again, a torn line is, and intervals are paired."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from evaluation.simulation import results, study
from evaluation.simulation.charts import lines
from evaluation.simulation.loop import gini
from evaluation.simulation.study import Study, play
from evaluation.simulation.world import WorldConfig

SMALL = WorldConfig(users=30, items=30, new_items=4, ticks=12, k=5, met=5)
STUDY = Study("position", (1, 2, 3), ("random", "oracle"), SMALL)


def test_gini_of_known_cases() -> None:
    assert gini(np.ones(7)) == pytest.approx(0)
    assert gini(np.array([0, 0, 0, 1.0])) == pytest.approx(3 / 4)
    assert gini(np.array([1.0, 3.0])) == pytest.approx(1 / 4)
    assert gini(np.zeros(3)) == 0


def test_a_study_goes_on_where_it_was_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, ran = tmp_path / "runs.jsonl", []
    whole = play(STUDY, path)
    torn = path.read_text().splitlines()
    path.write_text("\n".join(torn[:-1]) + "\n" + torn[-1][:40])
    found = play(STUDY, path, lambda arm, seed, done, all_: ran.append((arm, seed, all_)))
    assert ran == [("oracle", 3, 1)]
    for one in (whole, found):
        one["arms"]["oracle"].pop("curve")
    assert found["arms"]["oracle"] == whole["arms"]["oracle"]
    monkeypatch.setattr(study, "run", None)
    assert play(STUDY, path)["differences"] == found["differences"]


def test_another_world_is_another_study(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    play(Study("position", (1,), ("random",), SMALL), path)
    assert results.read(path, Study("cascade", (1,), ("random",), SMALL).named()) == {}
    assert list(results.read(path, Study("position", (1,), ("random",), SMALL).named())) == ["random"]


def test_differences_are_paired_by_seed(tmp_path: Path) -> None:
    """Worlds differ far more than arms do: only within a world can the arms be told apart."""
    found = play(STUDY, tmp_path / "runs.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "runs.jsonl").read_text().splitlines()]
    by = {(row["arm"], row["seed"]): row["found"]["reward"] for row in rows}
    differences = np.array([by["oracle", seed] - by["random", seed] for seed in STUDY.seeds])
    told = found["differences"]["oracle − random"]["reward"]
    half = stats.t.ppf(0.975, 2) * differences.std(ddof=1) / np.sqrt(3)
    assert told["mean"] == pytest.approx(differences.mean())
    assert told["high"] - told["low"] == pytest.approx(2 * half)
    assert told["low"] > 0
    assert found["arms"]["oracle"]["reward_of_oracle"]["mean"] == 1


def test_a_chart_shows_every_arm() -> None:
    drawn = lines({"a<b": [0.1, 0.5], "c": [1.0, 0.2]}, "Reward", "ticks", 40)
    assert drawn.count("<polyline") == 2
    assert "a&lt;b 0.50" in drawn
    with pytest.raises(ValueError, match="lengths"):
        lines({"a": [1.0], "b": [1.0, 2.0]}, "Reward", "ticks", 40)


def test_no_run_is_begun_when_time_is_over(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    assert play(STUDY, path, seconds=-1.0) is None
    assert not path.exists()
    whole = play(STUDY, path)
    assert whole is not None
    assert whole["differences"] == play(STUDY, path, seconds=-1.0)["differences"]
