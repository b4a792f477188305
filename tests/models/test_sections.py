"""Counts and blend of a release: what is saved is loaded, what does not fit is named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.release import FORMAT, MANIFEST, Release
from tests import counted
from tests.models.conftest import Twins

ITEMS = 20


@pytest.fixture(scope="module")
def release(twins: Twins) -> Release:
    return counted.with_counts(twins.release)


def test_a_release_with_counts_is_saved_and_loaded(release: Release, twins: Twins, tmp_path: Path) -> None:
    loaded = Release.load(release.save(tmp_path))
    assert (loaded.id, loaded.source) == (release.id, "window")
    assert loaded.arrays.keys() == release.arrays.keys()
    for name, array in loaded.arrays.items():
        assert array.dtype == release.arrays[name].dtype
        assert np.array_equal(array, release.arrays[name])
    assert loaded.id != twins.release.id
    assert replace(release, source="after").id != release.id


def test_a_release_without_counts_is_written_as_it_always_was(release: Release, twins: Twins, tmp_path: Path) -> None:
    manifests = [json.loads((one.save(tmp_path) / MANIFEST).read_text()) for one in (twins.release, release)]
    assert [manifest["format"] for manifest in manifests] == [1, 2]
    assert "source" not in manifests[0]


def test_a_learned_table_may_hold_any_numbers_and_needs_the_newest_format(release: Release, tmp_path: Path) -> None:
    after = "counts.pairs.after"
    shape = release.arrays[f"{after}.values"].shape
    changed = {f"{after}.floor": np.zeros((), np.float32), f"{after}.values": np.full(shape, -0.5, np.float32)}
    learned = replace(release, arrays=release.arrays | changed)
    assert (learned.format, release.format) == (FORMAT, 2)
    loaded = Release.load(learned.save(tmp_path))
    np.testing.assert_array_equal(loaded.arrays[f"{after}.values"], changed[f"{after}.values"])


def test_a_newer_format_is_refused(release: Release, tmp_path: Path) -> None:
    path = release.save(tmp_path)
    manifest = json.loads((path / MANIFEST).read_text())
    (path / MANIFEST).write_text(json.dumps(manifest | {"format": FORMAT + 1}))
    with pytest.raises(ValueError, match=f"format {FORMAT + 1}, this version reads 1 to {FORMAT}"):
        Release.load(path)


PAIRS, WINDOW = "counts.pairs", "counts.pairs.window"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({f"{PAIRS}.neighbours": np.full((ITEMS, 6), ITEMS, np.int32)}, "goes from 20 to 20, expected -1 to 19"),
        ({f"{PAIRS}.neighbours": np.full((ITEMS, 6), -1, np.int64)}, "expected int32"),
        ({f"{PAIRS}.neighbours": np.full((ITEMS - 1, 6), -1, np.int32)}, r"expected int32 \(20, 6\)"),
        (
            {f"{WINDOW}.values": np.zeros((ITEMS, 5), np.float32)},
            r"values is float32 \(20, 5\), expected float32 \(20, 6\)",
        ),
        ({f"{WINDOW}.values": np.full((ITEMS, 6), -1, np.float32)}, "holds -1.0, expected nothing below 0"),
        ({f"{WINDOW}.values": np.full((ITEMS, 6), np.nan, np.float32)}, "NaN"),
        ({f"{WINDOW}.ages": np.ones(0, np.float32)}, r"ages is float32 \(0,\)"),
        ({f"{WINDOW}.floor": np.array(-1, np.float32)}, "floor is -1.0, expected a number from 0 on"),
        ({f"{WINDOW}.floor": np.array(0, np.float32)}, "whose floor is 0, expected a table of counts"),
        ({"counts.items.popularity": np.zeros(ITEMS, np.float32)}, r"\(20,\), expected float32 \(21,\)"),
        ({"counts.items.model": np.zeros(ITEMS + 1, np.float32)}, "expected distinct ones"),
        ({f"{PAIRS}.neighbours": np.zeros((ITEMS, 6), np.int32)}, "names an item twice in a row"),
        ({"blend.weights": np.zeros((18, 5), np.float32)}, r"\(18, 5\), expected float32 \(18, 8\)"),
        ({"blend.edges.gap_s": np.array([60, 0], np.float32)}, "does not ascend"),
        ({"blend.edges.weather": np.array([1], np.float32)}, "weather is not known, expected one of"),
        ({f"{WINDOW}.colour": np.zeros(1, np.float32)}, r"unexpected \['counts.pairs.window.colour'\]"),
        ({f"{WINDOW}.ages": None}, r"missing or unexpected \['counts.pairs.window.ages'\]"),
        ({"blend.weights": None}, r"missing or unexpected \['blend.weights'\]"),
    ],
)
def test_what_does_not_fit_is_named(release: Release, changed: dict[str, np.ndarray | None], message: str) -> None:
    arrays = {name: array for name, array in (release.arrays | changed).items() if array is not None}
    with pytest.raises(ValueError, match=message):
        replace(release, arrays=arrays)


@pytest.mark.parametrize("source", ["", "colour"])
def test_the_source_is_one_of_the_tables(release: Release, source: str) -> None:
    with pytest.raises(ValueError, match=f"source is {source!r}"):
        replace(release, source=source)


def test_a_release_without_counts_has_no_source(twins: Twins) -> None:
    with pytest.raises(ValueError, match="expected none in a release without counts"):
        replace(twins.release, source="window")
