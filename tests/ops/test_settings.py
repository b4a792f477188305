"""Settings: the environment over the file over the defaults, and mistakes told by name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ops.errors import CliError
from ops.settings import Settings, default_data_dir, explain, load


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No DRIFTLINE_* variable of the machine, and no file in the working directory."""
    for name in [name for name in os.environ if name.upper().startswith("DRIFTLINE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_environment_over_file_over_default(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("driftline.toml").write_text('partitions = 8\ntopic_prefix = "shop."\n')
    monkeypatch.setenv("DRIFTLINE_PARTITIONS", "16")
    settings = load()
    assert (settings.partitions, settings.topic_prefix, settings.app_id) == (16, "shop.", "driftline")
    origins = {one.name: one.origin for one in explain(settings)}
    assert origins["partitions"] == "environment"
    assert origins["topic_prefix"] == "file"
    assert origins["app_id"] == "default"


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIFTLINE_PARTITIONS", "")
    settings = load()
    assert settings.partitions == 4
    assert {one.origin for one in explain(settings)} == {"default"}


def test_the_file_can_be_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text("partitions = 8")
    monkeypatch.setenv("DRIFTLINE_CONFIG", str(tmp_path / "other.toml"))
    assert load().partitions == 8


def test_releases_follow_the_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DRIFTLINE_DATA_DIR", "~/here")
    assert load().releases_dir == Path.home() / "here" / "releases"
    monkeypatch.setenv("DRIFTLINE_RELEASES_DIR", str(tmp_path))
    assert load().releases_dir == tmp_path


def test_the_data_folder_is_where_the_platform_keeps_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    assert default_data_dir() == Path.home() / ".local" / "share" / "driftline"
    monkeypatch.setenv("XDG_DATA_HOME", "/xdg")
    assert default_data_dir() == Path("/xdg/driftline")


def test_actions_are_written_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIFTLINE_EVENTS_ACTIONS", "view, buy")
    assert load().events_actions == ("view", "buy")


@pytest.mark.parametrize(
    ("variable", "value", "expectation"),
    [
        ("PARTITIONS", "0", "greater than or equal to 1"),
        ("PARTITIONS", "four", "valid integer"),
        ("POLICY_EPSILON", "1.5", "less than or equal to 1"),
        ("TOPIC_PREFIX", "a b", "match pattern"),
        ("EVENTS_ACTIONS", "view,,buy", "at least 1 character"),
    ],
)
def test_a_bad_variable_is_named_with_its_value(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, expectation: str
) -> None:
    monkeypatch.setenv(f"DRIFTLINE_{variable}", value)
    with pytest.raises(CliError) as caught:
        load()
    assert caught.value.problem.startswith(f"DRIFTLINE_{variable}={value!r} (environment): should ")
    assert expectation in caught.value.problem
    assert "\n" not in caught.value.problem and ";" not in caught.value.problem


def test_a_bad_value_in_the_file_is_named_with_the_file() -> None:
    Path("driftline.toml").write_text("policy_slate_size = 0")
    with pytest.raises(CliError, match=r"policy_slate_size = 0 \(in driftline.toml\): should be greater"):
        load()


def test_a_slate_needs_enough_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIFTLINE_POLICY_CANDIDATES", "5")
    with pytest.raises(CliError, match="policy_candidates=5 should be at least policy_slate_size=10"):
        load()


def test_a_misspelt_name_is_told_with_the_nearest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DRIFTLINE_PARTITION", "8")
    Path("driftline.toml").write_text("topic_prefiks = 'x'\nzzzz = 1")
    load()
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "warning: DRIFTLINE_PARTITION is not a setting; did you mean DRIFTLINE_PARTITIONS?",
        "warning: topic_prefiks in driftline.toml is not a setting; did you mean topic_prefix?",
        "warning: zzzz in driftline.toml is not a setting; `driftline settings` lists them all",
    ]


@pytest.mark.parametrize("name", ["DRIFTLINE_DEBUG", "DRIFTLINE_APP_ID", "driftline_app_id", "OTHER_PARTITION"])
def test_a_known_name_gets_no_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.setenv(name, "1")
    load()
    assert capsys.readouterr().err == ""


def test_an_unreadable_file_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("driftline.toml").write_text("partitions = four")
    with pytest.raises(CliError, match=r"driftline\.toml cannot be read: Invalid value \(at line 1"):
        load()
    monkeypatch.setenv("DRIFTLINE_CONFIG", "missing.toml")
    with pytest.raises(CliError, match=r"DRIFTLINE_CONFIG names a file that does not exist: missing\.toml"):
        load()


def test_every_setting_is_explained() -> None:
    explained = explain(load())
    assert [one.name for one in explained] == list(Settings.model_fields)
    assert all(one.meaning for one in explained)
    numbers = [one.name for one in explained if one.name.endswith(("_s", "_ms")) and not one.unit]
    assert numbers == []
