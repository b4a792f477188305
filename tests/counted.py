"""Releases with counts and a blend, made up: what they say is random, how they are used is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from models import sections
from models.release import Release
from models.sections import Arrays

LISTS = {"pairs": {"after": [1.0], "window": [1.0, 0.8, 0.64, 0.5, 0.4]}, "own": {"again": [0.5, 1.0, 1.0]}}
EDGES = {"events": [3, 10], "gap_s": [0, 60], "repeat": [0.5]}


def sections_of(items: int, seed: int = 0, neighbours: int = 6) -> Arrays:
    """Two lists, three tables with gaps and ties, one column, weights for every context."""
    random = np.random.default_rng(seed)
    arrays: dict[str, np.ndarray] = {}
    for name, tables in LISTS.items():
        rows = np.arange(items)[:, None]
        if name == "pairs":
            rows = np.stack([random.choice(items, neighbours, replace=False) for _ in range(items)])
        listed = np.where(random.random(rows.shape) < 0.8, rows, -1).astype(np.int32)
        arrays[f"counts.{name}.neighbours"] = listed
        for table, ages in tables.items():
            # Few distinct values, so that sums tie.
            values = np.where(listed >= 0, random.choice([0, 0.5, 1.0, 2.0], listed.shape), 0).astype(np.float32)
            arrays[f"counts.{name}.{table}.values"] = values
            arrays[f"counts.{name}.{table}.ages"] = np.array(ages, np.float32)
            arrays[f"counts.{name}.{table}.floor"] = np.array(0.1, np.float32)
    arrays["counts.items.popularity"] = random.normal(size=items + 1).astype(np.float32)
    arrays |= {f"blend.edges.{name}": np.array(edges, np.float32) for name, edges in EDGES.items()}
    shape = (18, len(sections.features(arrays)))
    arrays["blend.weights"] = random.uniform(0.2, 1.0, shape).astype(np.float32)
    return arrays


def with_counts(release: Release, seed: int = 0) -> Release:
    """The release with counts besides; candidates come from the table `window`."""
    arrays = release.arrays | dict(sections_of(len(release.item_ids), seed))
    return replace(release, arrays=arrays, source="window")
