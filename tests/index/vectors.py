"""Vectors for tests: clustered, as trained ones are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def clustered(count: int, dim: int, clusters: int = 40, seed: int = 0) -> NDArray[np.float32]:
    """float32 [count, dim] around random centres."""
    centres = np.random.default_rng(12345).standard_normal((clusters, dim))
    random = np.random.default_rng(seed)
    return (centres[random.integers(clusters, size=count)] + 0.5 * random.standard_normal((count, dim))).astype(
        np.float32
    )
