from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from index.faiss_index import ItemIndex
from index.snapshot import INVERTED, MANIFEST, SLOTS, VECTORS, SnapshotError, load, save
from tests.index.vectors import clustered


def filled(count: int, version: str = "r1") -> ItemIndex:
    index = ItemIndex(8, exact_below=500, nprobe=3, version=version)
    index.upsert(np.arange(count) * 2, clustered(count, 8))
    index.delete(np.arange(10))
    return index


@pytest.mark.parametrize("count", [0, 100, 1500])
def test_round_trip(tmp_path: Path, count: int) -> None:
    index, queries = filled(count), clustered(20, 8, seed=1)
    save(index, tmp_path / "snapshot")
    loaded = load(tmp_path / "snapshot")
    for before, after in zip(index.search(queries, 10), loaded.search(queries, 10), strict=True):
        assert np.array_equal(before, after)
    assert (len(loaded), loaded.dim, loaded.version, loaded.nprobe) == (len(index), 8, "r1", 3)
    assert loaded.approximate == index.approximate == (count > 500)
    loaded.delete(queries_best := loaded.search(queries, 1)[0].ravel())
    loaded.upsert(np.array([7777]), clustered(1, 8, seed=9))
    assert not np.isin(loaded.search(queries, 20)[0], queries_best[queries_best >= 0]).any()


def test_a_new_snapshot_replaces_the_old_one(tmp_path: Path) -> None:
    save(filled(1500), tmp_path / "snapshot")
    save(filled(100, version="r2"), tmp_path / "snapshot")
    assert load(tmp_path / "snapshot").version == "r2"
    assert not (tmp_path / "snapshot" / INVERTED).exists()
    assert [path.name for path in tmp_path.iterdir()] == ["snapshot"]


@pytest.mark.parametrize("name", [VECTORS, SLOTS, INVERTED])
def test_damage_is_noticed(tmp_path: Path, name: str) -> None:
    save(filled(1500), tmp_path)
    path = tmp_path / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(SnapshotError, match=f"{name} is missing or damaged"):
        load(tmp_path)
    path.unlink()
    with pytest.raises(SnapshotError, match=f"{name} is missing or damaged"):
        load(tmp_path)


def test_a_bad_manifest_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match="cannot be read"):
        load(tmp_path / "nothing")
    save(filled(100), tmp_path)
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    for change, message in (({"format": 2}, "format 2"), ({"count": 1}, "expected"), ({"dim": 9}, "expected")):
        (tmp_path / MANIFEST).write_text(json.dumps(manifest | change))
        with pytest.raises(SnapshotError, match=message):
            load(tmp_path)
    for broken in ("{}", "[]", "{"):
        (tmp_path / MANIFEST).write_text(broken)
        with pytest.raises(SnapshotError):
            load(tmp_path)


def test_only_an_empty_index_adopts() -> None:
    index = filled(100)
    with pytest.raises(ValueError, match="expected an empty one"):
        index.adopt(*filled(50).export())
