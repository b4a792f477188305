"""Ring caches of keys, values and times, one row a user. Knows nothing about weights or how they attend."""

from __future__ import annotations

import numpy as np

from models.config import EvolutionConfig, Float32, Int64


class RingCache:
    """The last W keys and values of every layer, for a fixed number of users; one user of it at a time.

    2·L·W·d floats a row (50 KiB at d 64, two layers, window 50). A row's memory is touched when its first user comes
    (some 10 µs, once): touching all of it here stalled the first batch of every release for seconds, and held memory
    for users who never come.

    Attributes:
        keys, values: [L, rows, W, d] float32; event number i of a user lies in slot i mod W.
        times: [rows, W] int64 milliseconds.
        count: [rows] int64 events taken since the row was cleared.
        release_id: the weights that made the contents; other weights must rebuild first.
    """

    def __init__(self, rows: int, config: EvolutionConfig, release_id: str, *, scratch_rows: int) -> None:
        if rows < 1:
            raise ValueError(f"RingCache.rows is {rows}, expected at least 1")
        shape = (config.layers, rows, config.window, config.dim)
        self.keys: Float32 = np.zeros(shape, np.float32)
        self.values: Float32 = np.zeros(shape, np.float32)
        self.times: Int64 = np.zeros((rows, config.window), np.int64)
        self.count: Int64 = np.full(rows, 0, np.int64)
        self.release_id = release_id
        self.scratch: Float32 = np.full((2, scratch_rows, config.window, config.dim), 0, np.float32)

    @property
    def rows(self) -> int:
        """Users that fit in."""
        return len(self.count)

    def check(self, rows: Int64) -> None:
        """Raises ValueError unless rows are distinct and within the cache."""
        if len(rows) and not (rows.min() >= 0 and rows.max() < self.rows):
            raise ValueError(f"rows span {rows.min()}..{rows.max()}, expected rows within 0..{self.rows - 1}")
        if not np.diff(np.sort(rows)).all():
            raise ValueError("rows name a user twice, expected distinct rows (a second event is a second step)")

    def clear(self, rows: Int64) -> None:
        """Forget these users: their next event is their first."""
        self.count[rows] = 0

    def erase(self, rows: Int64) -> None:
        """As `clear`, leaving nothing of what these users did in memory either."""
        self.clear(rows)
        self.keys[:, rows] = 0
        self.values[:, rows] = 0
        self.times[rows] = 0

    def gather(self, layer: int, rows: Int64) -> tuple[Float32, Float32]:
        """Keys and values of these rows, each [B, W, d], in scratch memory that the next call overwrites."""
        keys, values = self.scratch[:, : len(rows)]
        # mode="clip" writes straight into the scratch; "raise" would fill a buffer first. Rows are checked.
        np.take(self.keys[layer], rows, axis=0, out=keys, mode="clip")
        np.take(self.values[layer], rows, axis=0, out=values, mode="clip")
        return keys, values
