"""`driftline rules check` as people run it, and what the settings make of an arrangement."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from ops.cli import app
from ops.configuration import arrangement
from ops.errors import CliError
from ops.settings import Settings
from policy.arrangement import OFF, Arrangement


def test_a_good_file_is_counted(tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    caps = '[[cap]]\ncategory = "a"\nmost = 2\n[[cap]]\ncategory = "b"\nmost = 1\n'
    file.write_text('[[boost]]\nitems = ["1"]\nby = 1\n' + caps)
    result = CliRunner().invoke(app, ["rules", "check", str(file)])
    assert result.exit_code == 0
    assert result.stdout.replace("\n", "").endswith("rules.toml is good: 1 boost, 2 cap")


def test_programs_get_counts(tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text('[[boost]]\nitems = ["1"]\nby = 1\n')
    told = json.loads(CliRunner().invoke(app, ["rules", "check", "--json", str(file)]).stdout)
    assert told["good"] is True and told["rules"] == dict.fromkeys(told["rules"], 0) | {"boost": 1}


def test_a_bad_file_is_an_error_that_names_the_field(tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text('[[pin]]\nitem = "1"\nposition = 0\n')
    result = CliRunner().invoke(app, ["rules", "check", str(file)])
    assert isinstance(result.exception, CliError)
    assert "[[pin]] number 1: position = 0, expected a whole number, 1 or more" in str(result.exception)


def test_every_strength_has_a_setting_and_all_can_be_switched_off() -> None:
    off = Settings(
        arrange_unsure=1, arrange_loss=float("inf"), arrange_new_bonus=0, arrange_diversity=0, arrange_calibration=0,
        arrange_fatigue=0, arrange_new_share=0.1,
    )  # fmt: skip
    assert arrangement(off) == OFF
    named = {name.removeprefix("arrange_") for name in Settings.model_fields if name.startswith("arrange_")}
    assert named - {"rules"} == set(vars(Arrangement()))
