"""Arrays that grow by doubling along their first axis. Knows nothing of what they hold."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Kind = TypeVar("Kind", bound=np.generic)
SMALLEST = 1024


def with_room(array: NDArray[Kind], rows: int, fill: int = 0) -> NDArray[Kind]:
    """The same array when it has `rows` rows, else a copy with at least twice as many, new rows filled with `fill`."""
    if rows <= len(array):
        return array
    grown = np.full((max(rows, 2 * len(array), SMALLEST), *array.shape[1:]), fill, dtype=array.dtype)
    grown[: len(array)] = array
    return grown
