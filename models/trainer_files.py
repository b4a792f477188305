"""A trainer's state as two files, neither of them pickled: ``trainer.safetensors`` and ``trainer.json``.

Knows nothing of what the state means.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as parse_safetensors
from safetensors.numpy import save_file

STATE, ARRAYS = "trainer.json", "trainer.safetensors"


def write(directory: Path, state: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Write both files into a directory, which is made; ``state`` holds JSON values only."""
    directory.mkdir(parents=True, exist_ok=True)
    # asarray, because ascontiguousarray turns a scalar into a vector.
    save_file({name: np.asarray(array, order="C") for name, array in arrays.items()}, directory / ARRAYS)
    (directory / STATE).write_text(json.dumps(state, ensure_ascii=False))


def read(directory: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What `write` wrote.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged.
    """
    try:
        state = json.loads((directory / STATE).read_bytes())
        arrays = parse_safetensors((directory / ARRAYS).read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError, SafetensorError) as error:
        raise ValueError(f"{directory}: not a trainer that can be read: {error!r}") from error
    return state, arrays


def section(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The arrays whose names begin with the prefix, without it."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def prefixed(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The opposite of `section`."""
    return {prefix + name: array for name, array in arrays.items()}
