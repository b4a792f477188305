"""`driftline simulate`: what it writes, what it goes on from, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ops.cli import app
from ops.errors import CliError

SMALL = ["--users", "20", "--items", "30", "--ticks", "6", "--seeds", "2", "--arms", "random,oracle"]


def test_runs_are_kept_and_summed_up(tmp_path: Path) -> None:
    runs, told, chart = tmp_path / "runs.jsonl", tmp_path / "told.json", tmp_path / "chart.svg"
    command = ["simulate", "--runs", str(runs), "--json", str(told), "--chart", str(chart), *SMALL]
    first = CliRunner().invoke(app, command)
    assert first.exit_code == 0, first.output
    assert "oracle" in first.output
    assert len(runs.read_text().splitlines()) == 4
    found = json.loads(told.read_text())
    assert found["seeds"] == [100, 101]
    assert found["differences"]["oracle − random"]["reward"]["mean"] > 0
    assert chart.read_text().count("<polyline") == 2
    assert CliRunner().invoke(app, command).exit_code == 0
    assert len(runs.read_text().splitlines()) == 4


@pytest.mark.parametrize(
    ("wrong", "message"),
    [(["--arms", "best"], "--arms has 'best'"), (["--clicks", "mouse"], "--clicks has 'mouse'")],
)
def test_what_is_not_there_is_refused(tmp_path: Path, wrong: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["simulate", "--runs", str(tmp_path / "runs.jsonl"), *wrong])
    assert isinstance(result.exception, CliError)
    assert message in result.exception.problem
