"""The Open Bandit files, whole: the command's numbers against a second implementation, written from the formulas.

It shares no code with the first: rows by csv, sums by loops, the reward model by dense Newton steps. Fetches the files
by pip when they are not there yet.
"""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from evaluation.ope.reward_model import folds
from ops.cli import app
from ops.datasets import open_bandit

Rows = list[tuple[str, str, float, float]]  # item, position, click, propensity


@pytest.fixture(scope="module")
def files(jar_cache: Path) -> dict[tuple[str, str], Path]:
    return open_bandit(jar_cache.parents[1] / "datasets")


def rows_of(path: Path) -> Rows:
    with path.open() as lines:
        return [
            (row["item_id"], row["position"], float(row["click"]), float(row["propensity_score"]))
            for row in csv.DictReader(lines)
        ]


def command(folder: Path, log: Path, policy: str) -> tuple[int, dict[str, Any]]:
    (folder / "policy.toml").write_text(policy)
    columns = [f"--column={one}" for one in ("action=item_id", "reward=click", "propensity=propensity_score")]
    arguments = ["ope", f"--log={log}", f"--policy={folder / 'policy.toml'}", *columns, "--json", "--replicates=100"]
    found = CliRunner().invoke(app, arguments, catch_exceptions=False)
    return found.exit_code, json.loads(found.stdout)


def uniform(rows: Rows) -> dict[tuple[str, str], float]:
    items = {item for item, _, _, _ in rows}
    return {(item, position): 1 / len(items) for item in items for position in "123"}


def frequencies(rows: Rows) -> dict[tuple[str, str], float]:
    both, each = Counter((item, position) for item, position, _, _ in rows), Counter(row[1] for row in rows)
    return {(item, position): count / each[position] for (item, position), count in both.items()}


def expected(rows: Rows, target: dict[tuple[str, str], float]) -> dict[str, float]:
    weighted = weights = squares = 0.0
    for item, position, click, propensity in rows:
        weight = target.get((item, position), 0.0) / propensity
        weighted, weights, squares = weighted + weight * click, weights + weight, squares + weight * weight
    n = len(rows)
    return {"ips": weighted / n, "snips": weighted / weights, "effective": weights**2 / squares, "mean": weights / n}


def doubly_robust(rows: Rows, target: dict[tuple[str, str], float]) -> float:
    """Logistic regression on item, position and both, with weights' squares halved as penalty, over five folds."""
    items, fold = sorted({row[0] for row in rows}), folds(np.arange(len(rows)))
    places = [(item, position) for item in items for position in "123"]
    design = {place: np.zeros(1 + len(items) + 3 + len(places)) for place in places}
    for at, (item, position) in enumerate(places):
        ones = [0, 1 + items.index(item), 1 + len(items) + int(position) - 1, 1 + len(items) + 3 + at]
        design[item, position][ones] = 1
    click = np.array([row[2] for row in rows])
    matrix, total = np.stack([design[row[0], row[1]] for row in rows]), 0.0
    for number in range(5):
        train, weight = fold != number, np.zeros(matrix.shape[1])
        weight[0] = math.log(click[train].mean() / (1 - click[train].mean()))
        penalty = np.r_[0.0, np.ones(len(weight) - 1)]
        for _ in range(30):
            chance = 1 / (1 + np.exp(-matrix[train] @ weight))
            gradient = matrix[train].T @ (chance - click[train]) + penalty * weight
            hessian = (matrix[train].T * (chance * (1 - chance))) @ matrix[train] + np.diag(penalty)
            weight -= np.linalg.solve(hessian, gradient)
        q = {place: 1 / (1 + math.exp(-float(design[place] @ weight))) for place in places}
        mean = {position: sum(target.get((i, position), 0.0) * q[i, position] for i in items) for position in "123"}
        for at in np.flatnonzero(~train):
            item, position, reward, propensity = rows[at]
            ratio = target.get((item, position), 0.0) / propensity
            total += mean[position] + ratio * (reward - q[item, position])
    return total / len(rows)


@pytest.mark.parametrize("campaign", ["all", "men"])
def test_from_bts_to_random(files: dict[tuple[str, str], Path], campaign: str, tmp_path: Path) -> None:
    rows = rows_of(files["bts", campaign])
    code, found = command(tmp_path, files["bts", campaign], 'kind = "uniform"')
    agree(found, rows, uniform(rows), model=campaign == "men")
    assert code == 0
    assert round(found["families"][0]["overlap"]["effective"]) == {"all": 340, "men": 656}[campaign]
    assert {one["verdict"] for one in found["families"][0]["estimates"]} == {"poor", "fair"}


def test_from_random_to_bts_as_it_was_on_average(files: dict[tuple[str, str], Path], tmp_path: Path) -> None:
    rows, target = rows_of(files["random", "men"]), frequencies(rows_of(files["bts", "men"]))
    _, found = command(tmp_path, files["random", "men"], f'kind = "empirical"\nlog = "{files["bts", "men"]}"')
    agree(found, rows, target)
    really = np.mean([row[2] for row in rows_of(files["bts", "men"])])
    each = {one["name"]: one for one in found["families"][0]["estimates"]}
    assert each["dr"]["low"] < really < each["dr"]["high"]


def agree(found: dict[str, Any], rows: Rows, target: dict[tuple[str, str], float], *, model: bool = True) -> None:
    each, wanted = {one["name"]: one["value"] for one in found["families"][0]["estimates"]}, expected(rows, target)
    for name in ("ips", "snips"):
        assert each[name] == pytest.approx(wanted[name], rel=1e-9)
    for name in ("effective", "mean"):
        assert found["families"][0]["overlap"][name] == pytest.approx(wanted[name], rel=1e-9)
    if model:  # with eighty items it takes long
        assert each["dr"] == pytest.approx(doubly_robust(rows, target), rel=1e-4)


def test_where_two_rounds_have_all_the_weight_nothing_is_said(
    files: dict[tuple[str, str], Path], tmp_path: Path
) -> None:
    code, found = command(tmp_path, files["bts", "women"], 'kind = "uniform"')
    rows = rows_of(files["bts", "women"])
    assert code == 1
    assert found["families"][0]["overlap"]["effective"] == pytest.approx(expected(rows, uniform(rows))["effective"])
    assert "the effective sample is 2.1, expected at least 50" in found["families"][0]["reasons"]
    assert all(one["value"] is None for one in found["families"][0]["estimates"])
