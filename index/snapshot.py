"""An item index on disk: vectors, slots and the trained inverted file, with a manifest that says what they should be.

A snapshot is a directory, written aside and renamed into place, so that a reader finds the old one or the new one, and
never half of either. Knows nothing of what made the vectors but its name, the version.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from index.faiss_index import ItemIndex
from index.inverted import InvertedFile

FORMAT = 1
MANIFEST = "manifest.json"
VECTORS, SLOTS, INVERTED = "vectors.npy", "slots.npy", "inverted.faiss"


class SnapshotError(Exception):
    """A snapshot is missing, incomplete, or not what its manifest says."""


def save(index: ItemIndex, directory: Path) -> None:
    """Write `index` to `directory`, replacing a snapshot that is there. Searches go on; mutations wait for a copy."""
    vectors, slots, inverted = index.export()
    aside, before = directory.with_name(directory.name + ".new"), directory.with_name(directory.name + ".old")
    for leftover in (aside, before):
        shutil.rmtree(leftover, ignore_errors=True)
    aside.mkdir(parents=True)
    np.save(aside / VECTORS, vectors, allow_pickle=False)
    np.save(aside / SLOTS, slots, allow_pickle=False)
    if inverted is not None:
        (aside / INVERTED).write_bytes(inverted.to_bytes().tobytes())
    manifest = {
        "format": FORMAT,
        "version": index.version,
        "dim": index.dim,
        "count": len(slots),
        "exact_below": index.exact_below,
        "nprobe": index.nprobe,
        "trained_on": inverted.trained_on if inverted else None,
        "blake2b": {path.name: _digest(path) for path in sorted(aside.iterdir())},
    }
    (aside / MANIFEST).write_text(json.dumps(manifest, indent=2))
    if directory.exists():
        directory.rename(before)
    aside.rename(directory)
    shutil.rmtree(before, ignore_errors=True)


def load(directory: Path, threads: int = 1) -> ItemIndex:
    """The index that was saved. Raises SnapshotError, naming the file, when anything is not as the manifest says."""
    manifest = _manifest(directory)
    for name, digest in manifest["blake2b"].items():
        path = directory / name
        if not path.is_file() or _digest(path) != digest:
            raise SnapshotError(f"{path} is missing or damaged: its checksum is not the manifest's")
    vectors = np.load(directory / VECTORS, allow_pickle=False)
    slots = np.load(directory / SLOTS, allow_pickle=False)
    if vectors.shape != (manifest["count"], manifest["dim"]) or slots.shape != (manifest["count"],):
        expected = f"({manifest['count']}, {manifest['dim']})"
        raise SnapshotError(f"{directory} holds vectors {vectors.shape} and slots {slots.shape}, expected {expected}")
    index = ItemIndex(
        manifest["dim"],
        exact_below=manifest["exact_below"],
        nprobe=manifest["nprobe"],
        threads=threads,
        version=manifest["version"],
    )
    inverted = None
    if manifest["trained_on"] is not None:
        data = np.fromfile(directory / INVERTED, dtype=np.uint8)
        inverted = InvertedFile.from_bytes(data, manifest["nprobe"], manifest["trained_on"])
    index.adopt(vectors, slots, inverted)
    return index


def _manifest(directory: Path) -> dict[str, Any]:
    path = directory / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise SnapshotError(f"{path} cannot be read: {error}") from error
    fields = {"format", "version", "dim", "count", "exact_below", "nprobe", "trained_on", "blake2b"}
    if not isinstance(manifest, dict) or not fields <= manifest.keys():
        raise SnapshotError(f"{path} lacks fields, expected {sorted(fields)}")
    if manifest["format"] != FORMAT:
        raise SnapshotError(f"{path} has format {manifest['format']}, expected {FORMAT}")
    return manifest


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()
