"""The whole command on files, small enough to train in a moment."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from ops.cli import app
from ops.errors import CliError

runner = CliRunner()


def events_file(folder: Path, events: int = 250, seed: int = 0) -> Path:
    """Twenty users who each like one of two halves of thirty items."""
    random = np.random.default_rng(seed)
    lines = ["user,item,timestamp"]
    for at in range(events):
        user = int(random.integers(20))
        lines.append(f"u{user},i{2 * random.integers(15) + user % 2},{1_600_000_000 + 10 * (at // 2)}")
    path = folder / f"events{seed}.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def run(*arguments: object) -> str:
    result = runner.invoke(app, ["evaluate", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_stream_without_texts(tmp_path: Path) -> None:
    out, lists = tmp_path / "found.json", tmp_path / "lists.jsonl"
    events = events_file(tmp_path)
    shown = run(
        *("--events", events, "--json", out, "--epochs", 1, "--no-tune", "--seen", "keep"),
        *("--replicates", 50, "--retrain-every", 0.4, "--round", 50, "--seed", 3, "--predictions", lists),
    )
    found = json.loads(out.read_text())
    counted = {"popularity", "last_item", "last_10", "co_occurrence_plain", "co_occurrence", "isgd"}
    assert set(found["arms"]) == {"frozen", "online", "retrain", *counted}
    assert found["stream"]["test_events"] == 200
    assert found["stream"]["items_with_features"] == 0
    assert found["settings"]["seed"] == found["bootstrap"]["seed"] == 3
    for name, arm in found["arms"].items():
        assert name in shown
        assert 0 < arm["scores"]["all"]["hit_rate"] <= 1
        assert sum(arm["seconds"].values()) > 0
    assert found["arms"]["retrain"]["releases"] == 1
    assert found["arms"]["online"]["releases"] == 4
    assert sum(window["end"] - window["begin"] for window in found["curve"]) == 200
    differences = found["bootstrap"]["differences"]
    (one,) = [
        one
        for one in differences
        if (one["a"], one["b"], one["slice"], one["metric"]) == ("frozen", "popularity", "all", "ndcg")
    ]
    scores = [found["arms"][name]["scores"]["all"]["ndcg"] for name in ("frozen", "popularity")]
    assert one["difference"] == pytest.approx(scores[0] - scores[1])
    assert one["low"] <= one["difference"] <= one["high"]

    predicted = [json.loads(line) for line in lists.read_text().splitlines()]
    assert [one["event"] for one in predicted] == list(range(50, 250))
    assert all(set(one) == {"event", "topk"} and len(one["topk"]) == len(set(one["topk"])) for one in predicted)
    came = [line.split(",")[1] for line in events.read_text().splitlines()[1:]]
    hits = [came[one["event"]] in one["topk"] for one in predicted]
    assert np.mean(hits) == pytest.approx(found["arms"]["online"]["scores"]["all"]["hit_rate"])


def test_tuning_says_what_it_tried(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    run("--events", events_file(tmp_path, 200), "--json", out, "--arms", "last_10", "--replicates", 10)
    arm = json.loads(out.read_text())["arms"]["last_10"]
    best = max(arm["tuning"], key=lambda one: one["ndcg"])
    assert best["ndcg"] == max(one["ndcg"] for one in arm["tuning"] if one["settings"] == arm["settings"])
    assert len(arm["tuning"]) > 5


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--arms", "frozen,magic"], "--arms names magic"),
        (["--arms", "content"], "arm content needs texts"),
        (["--seen", "maybe"], "--seen is 'maybe'"),
        (["--unit", "days"], "--unit is 'days'"),
        (["--warm-up", "5000"], "a warm-up of 5000 is 5000 of 40 events"),
        (["--predictions", "nowhere/lists.jsonl"], "its folder does not exist"),
        (["--predictions", "lists.jsonl", "--arms", "frozen"], "which is not among the arms"),
    ],
)
def test_what_cannot_be_done_is_said(tmp_path: Path, arguments: list[str], problem: str) -> None:
    with pytest.raises(CliError) as error:
        run("--events", events_file(tmp_path, 40), "--json", tmp_path / "found.json", *arguments)
    assert problem in error.value.problem
    assert error.value.next_step


def test_lists_made_elsewhere_are_one_more_arm(tmp_path: Path) -> None:
    out, again, events = tmp_path / "a.json", tmp_path / "b.json", events_file(tmp_path, 100)
    common = ("--events", events, "--no-tune", "--replicates", 10)
    run(*common, "--json", out, "--arms", "popularity", "--lists", tmp_path / "lists")
    run(*common, "--json", again, "--arms", "none", "--add", f"theirs={tmp_path / 'lists' / 'popularity.jsonl'}")
    ours, theirs = (json.loads(path.read_text())["arms"] for path in (out, again))
    assert theirs["theirs"]["scores"] == ours["popularity"]["scores"]
    (empty := tmp_path / "empty.jsonl").touch()
    with pytest.raises(CliError, match="event 20 has no line"):
        run(*common, "--json", out, "--arms", "none", "--add", f"none={empty}")
