import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.release import MANIFEST, WEIGHTS, Release
from tests.models.conftest import TWO, Twins, make_twins


@pytest.fixture
def release(twins: Twins) -> Release:
    return replace(twins.release, facts={"events": 3, "loss": 0.25})


def test_what_is_saved_is_loaded(release: Release, tmp_path: Path) -> None:
    path = release.save(tmp_path / "releases")
    assert path == tmp_path / "releases" / release.id
    assert sorted(file.name for file in path.iterdir()) == [MANIFEST, WEIGHTS]
    loaded = Release.load(path)
    assert loaded.id == release.id
    assert (loaded.config, loaded.item_ids, loaded.facts) == (release.config, release.item_ids, release.facts)
    assert loaded.space.vocabulary == release.space.vocabulary
    assert np.array_equal(loaded.space.text_mean, release.space.text_mean)
    assert loaded.arrays.keys() == release.arrays.keys()
    assert all(np.array_equal(loaded.arrays[name], release.arrays[name]) for name in release.arrays)


def test_two_members_need_the_newest_format_and_one_is_not_mentioned(release: Release, tmp_path: Path) -> None:
    """Otherwise the ids of releases that older versions wrote would not be what they were."""
    assert release.format == 1
    assert "members" not in json.loads((release.save(tmp_path) / MANIFEST).read_text())["config"]
    two = make_twins(TWO).release
    path = two.save(tmp_path)
    assert json.loads((path / MANIFEST).read_text())["format"] == 4
    assert Release.load(path).config == TWO


def test_the_id_is_made_of_the_content(release: Release) -> None:
    assert release.id.startswith("d16l3w6-")
    assert replace(release).id == release.id
    other = release.arrays | {"tower.item_bias": release.arrays["tower.item_bias"] + 1}
    assert replace(release, arrays=other).id != release.id
    assert replace(release, text_encoder="another").id != release.id


def test_saving_twice_is_fine_and_leaves_nothing_aside(release: Release, tmp_path: Path) -> None:
    assert release.save(tmp_path) == release.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [release.id]


def test_a_failed_save_leaves_nothing(release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        release.save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_changed_weights_are_noticed(release: Release, tmp_path: Path) -> None:
    path = release.save(tmp_path)
    content = bytearray((path / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (path / WEIGHTS).write_bytes(content)
    with pytest.raises(ValueError, match="sha256"):
        Release.load(path)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("item_ids", ["other", "ids"], "tower.residual"),
        ("text_encoder", "another", "gives the id"),
        ("format", 99, "format 99"),
        ("config", {"depth": 3}, "depth"),
    ],
)
def test_a_changed_manifest_is_noticed(
    release: Release, tmp_path: Path, field: str, value: object, message: str
) -> None:
    path = release.save(tmp_path)
    manifest = json.loads((path / MANIFEST).read_text())
    (path / MANIFEST).write_text(json.dumps(manifest | {field: value}))
    with pytest.raises(ValueError, match=message):
        Release.load(path)


@pytest.mark.parametrize("name", [MANIFEST, WEIGHTS])
def test_what_is_missing_is_named(release: Release, tmp_path: Path, name: str) -> None:
    path = release.save(tmp_path)
    (path / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        Release.load(path)


def test_a_manifest_that_is_no_json_is_refused(release: Release, tmp_path: Path) -> None:
    path = release.save(tmp_path)
    (path / MANIFEST).write_text("{")
    with pytest.raises(ValueError, match="not a release"):
        Release.load(path)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((20, 15), np.float32), r"tower.residual is float32 \(20, 15\), expected float32 \(20, 16\)"),
        (np.zeros((20, 16)), "float64"),
        (np.full((20, 16), np.nan, np.float32), "NaN"),
    ],
)
def test_bad_arrays_are_refused(release: Release, array: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(release, arrays=release.arrays | {"tower.residual": array})


def test_missing_and_unexpected_arrays_are_named(release: Release) -> None:
    arrays = {name: array for name, array in release.arrays.items() if name != "evolution.start"}
    with pytest.raises(ValueError, match=r"\['evolution.start', 'extra'\]"):
        replace(release, arrays=arrays | {"extra": np.zeros(1, np.float32)})


def test_an_id_twice_is_refused(release: Release) -> None:
    with pytest.raises(ValueError, match="twice"):
        replace(release, item_ids=("item-0", *release.item_ids[:-1]))


def test_a_release_is_read_without_torch() -> None:
    code = "import sys, models.release; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
