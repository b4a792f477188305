"""The whole command on a file: what it finds, what it refuses, and that errors name row, column and value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from ops.cli import app
from ops.errors import CliError

runner = CliRunner()
RATES = {"a": 0.1, "b": 0.3, "c": 0.5}
LOGGING = {"a": 0.5, "b": 0.3, "c": 0.2}
HEADER = "user,where,action,position,reward,propensity,target,score_a,score_b,score_c"


def rounds_file(folder: Path, rounds: int = 1200, target: dict[str, float] = LOGGING) -> Path:
    """Clicks on three actions by users of four rounds each; the target's column is of a fixed policy."""
    random = np.random.default_rng(0)
    lines = [HEADER]
    for at in range(rounds):
        action = str(random.choice([*RATES], p=[*LOGGING.values()]))
        click, place = int(random.random() < RATES[action]), random.integers(1, 3)
        scores = ",".join(f"{np.log(one):.6f}" for one in (0.2, 0.3, 0.5))
        lines.append(f"u{at // 4},{'xy'[at % 2]},{action},{place},{click},{LOGGING[action]},{target[action]},{scores}")
    path = folder / "rounds.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def policy_file(folder: Path, text: str) -> Path:
    path = folder / "policy.toml"
    path.write_text(text)
    return path


def run(*arguments: object, code: int = 0) -> dict[str, Any]:
    result = runner.invoke(app, ["ope", *map(str, arguments), "--json", "--replicates", "200"], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return dict(json.loads(result.stdout))


def estimates(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in found["families"][0]["estimates"]}


def value(target: dict[str, float]) -> float:
    return sum(target[action] * RATES[action] for action in RATES)


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ('kind = "uniform"', {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}),
        ('kind = "uniform"\nactions = ["b", "c"]', {"a": 0.0, "b": 0.5, "c": 0.5}),
        ('kind = "softmax"\nprefix = "score_"', {"a": 0.2, "b": 0.3, "c": 0.5}),
        ('kind = "softmax"\nscores = "s.csv"\ntemperature = 0.5\nepsilon = 0.3', None),
    ],
)
def test_policies_are_estimated_with_intervals_that_hold_their_value(
    tmp_path: Path, text: str, target: dict[str, float] | None
) -> None:
    (tmp_path / "s.csv").write_text("action,score\na,0\nb,0\nc,1\n")
    if target is None:
        raw = np.exp(np.array([0, 0, 2.0]))
        target = dict(zip(RATES, (0.7 * raw / raw.sum() + 0.1).tolist(), strict=True))
    found = run("--log", rounds_file(tmp_path), "--policy", policy_file(tmp_path, text), "--context", "where")
    family, each = found["families"][0], estimates(found)
    assert set(each) == {"ips", "snips", "clipped_ips", "dr", "dros", "direct"}
    assert (family["overlap"]["rounds"], family["overlap"]["clusters"], family["reasons"]) == (1200, 300, [])
    for name in ("ips", "snips", "dr"):
        assert each[name]["verdict"] == "fair"
        assert each[name]["low"] < value(target) < each[name]["high"]
        assert each[name]["difference"] == pytest.approx(each[name]["value"] - found["logged"]["value"])
        assert each[name]["difference_low"] > 0  # all of them are better than what was logged
    assert family["certain"]["low"] < value(target) < family["certain"]["high"]
    assert each["direct"]["low"] is None
    assert each["direct"]["value"] == pytest.approx(value(target), abs=0.05)


def test_a_column_of_probabilities_gives_what_needs_no_more(tmp_path: Path) -> None:
    target = {"a": 0.2, "b": 0.3, "c": 0.5}
    path = rounds_file(tmp_path, target=target)
    each = estimates(run("--log", path))
    assert set(each) == {"ips", "snips", "clipped_ips"}
    assert each["ips"]["low"] < value(target) < each["ips"]["high"]
    path.write_text(path.read_text().replace("target", "pi_e", 1).replace("propensity", "pi_0", 1))
    again = estimates(run("--log", path, "--column", "target=pi_e", "--column", "propensity=pi_0"))
    assert again == each


def test_empirical_is_the_frequency_by_position_of_this_or_another_log(tmp_path: Path) -> None:
    path = rounds_file(tmp_path)
    (tmp_path / "other.csv").write_text("action,position\n" + "b,1\n" * 3 + "c,1\n" + "a,2\n" + "c,2\n")
    by_position = policy_file(tmp_path, 'kind = "empirical"\nlog = "other.csv"')
    rows = [line.split(",") for line in path.read_text().splitlines()[1:]]
    frequency = {("b", "1"): 0.75, ("c", "1"): 0.25, ("a", "2"): 0.5, ("c", "2"): 0.5}
    expected = [frequency.get((row[2], row[3]), 0.0) / float(row[5]) * float(row[4]) for row in rows]
    assert estimates(run("--log", path, "--policy", by_position))["ips"]["value"] == pytest.approx(np.mean(expected))
    anywhere = policy_file(tmp_path, 'kind = "empirical"\nlog = "other.csv"\nby_position = false')
    share = {"a": 1 / 6, "b": 3 / 6, "c": 2 / 6}
    expected = [share[row[2]] / float(row[5]) * float(row[4]) for row in rows]
    assert estimates(run("--log", path, "--policy", anywhere))["ips"]["value"] == pytest.approx(np.mean(expected))
    own = policy_file(tmp_path, 'kind = "empirical"\nby_position = false')
    assert estimates(run("--log", path, "--policy", own))["snips"]["value"] == pytest.approx(
        np.mean([float(row[4]) for row in rows]), abs=0.02
    )


def test_a_log_that_cannot_say_refuses_with_reasons_and_exit_status(tmp_path: Path) -> None:
    path = rounds_file(tmp_path, target={"a": 0.0, "b": 0.05, "c": 0.1})
    found = run("--log", path, code=1)
    (reason,) = found["families"][0]["reasons"]
    assert found["families"][0]["certain"] is None
    assert "excludes 1: propensities are wrong, or the target shows what the log hardly ever did" in reason
    assert all(one["value"] is None and one["verdict"] == "refused" for one in estimates(found).values())
    shown = runner.invoke(app, ["ope", "--log", str(path), "--replicates", "100"])
    assert shown.exit_code == 1
    assert "nothing is said: the mean weight is" in shown.stdout
    assert "snips" not in shown.stdout


def test_what_is_printed_names_estimators_and_intervals(tmp_path: Path) -> None:
    arguments = ["--log", rounds_file(tmp_path), "--policy", policy_file(tmp_path, 'kind = "uniform"')]
    shown = runner.invoke(app, ["ope", *map(str, arguments), "--replicates", "100"]).stdout
    for part in (
        "1,200 rounds of 300 users",
        "effective sample",
        "dros",
        "fair",
        "certain, whatever the distribution: [",
    ):
        assert part in shown


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("u,x,a,1,1,0,0.5,0,0,0", "row 1201: column propensity is '0', expected a probability above 0, at most 1"),
        ("u,x,a,1,1,1.5,0.5,0,0,0", "row 1201: column propensity is '1.5'"),
        ("u,x,a,1,yes,0.5,0.5,0,0,0", "row 1201: column reward is 'yes', expected a finite number"),
        ("u,x,,1,1,0.5,0.5,0,0,0", "row 1201: column action is '', expected not empty"),
        ("u,x,a,1,1,0.5,2,0,0,0", "row 1201: column target is '2', expected a probability, 0 to 1"),
        ("u,x,a,1,nan,0.5,0.5,0,0,0", "row 1201: column reward is 'nan'"),
        ("u,x,a", "row 1201: it has 3 fields, the header has 10"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: str, problem: str) -> None:
    path = rounds_file(tmp_path)
    path.write_text(path.read_text() + row + "\n")
    with pytest.raises(CliError) as error:
        run("--log", path)
    assert problem in error.value.problem
    assert error.value.next_step


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('kind = "greedy"', "kind is 'greedy'"),
        ('kind = "uniform"\ntemperature = 1', "temperature is not a field of kind uniform"),
        ('kind = "softmax"', "a softmax needs scores"),
        ('kind = "softmax"\nprefix = "score_"\ntemperature = 0', "temperature is 0"),
        ('kind = "softmax"\nprefix = "nothing_"', "has no column that begins with 'nothing_'"),
        ('kind = "softmax"\nscores = "gone.csv"', "scores is 'gone.csv'"),
        ('kind = "empirical"\nepsilon = true', "epsilon is True"),
        ('kind = "uniform"\nactions = ["a", "a"]', "actions is ['a', 'a']"),
        ("kind = ", "cannot be read"),
    ],
)
def test_a_policy_that_cannot_be_is_named(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(CliError) as error:
        run("--log", rounds_file(tmp_path, 40), "--policy", policy_file(tmp_path, text))
    assert problem in error.value.problem
    assert error.value.next_step


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--column", "reward"], "--column is 'reward'"),
        (["--column", "reward=clicks"], "has no column clicks; it has user, where, action"),
        (["--context", "where,weather"], "has no column weather"),
        (["--shown"], "--shown is for the topics"),
        (["--most", "0.5"], "--most is 0.5, and a reward is 1"),
        (["--reward", "clicks"], "--reward is 'clicks'"),
        (["--beta", "0", "--beta", "0.1"], "--beta is for the topics"),
    ],
)
def test_options_that_do_not_fit_are_named(tmp_path: Path, arguments: list[str], problem: str) -> None:
    with pytest.raises(CliError) as error:
        run("--log", rounds_file(tmp_path, 60), *arguments)
    assert problem in error.value.problem
    assert error.value.next_step


def test_one_user_alone_says_nothing(tmp_path: Path) -> None:
    path = rounds_file(tmp_path, 4)
    with pytest.raises(CliError, match="all rounds are of one user"):
        run("--log", path, "--policy", policy_file(tmp_path, 'kind = "uniform"'))


@pytest.mark.parametrize(
    ("arguments", "policy", "problem"),
    [
        (["--beta", "0.1"], None, "--beta is given as 0.1"),
        (["--beta", "0.1", "--beta", "0.1"], None, "--beta is given as 0.1, 0.1"),
        (["--beta", "0", "--beta", "0.1"], "policy_beta = 0.2", "policy_beta is 0.2"),
        (["--beta", "0", "--beta", "0.1", "--most", "3"], None, "--most is not for --beta"),
    ],
)
def test_betas_that_cannot_be_compared_are_named(
    tmp_path: Path, arguments: list[str], policy: str | None, problem: str
) -> None:
    told = [] if policy is None else ["--policy", policy_file(tmp_path, policy)]
    with pytest.raises(CliError) as error:
        run(*arguments, *told)
    assert problem in error.value.problem
    assert error.value.next_step
