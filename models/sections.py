"""The optional sections of a release: what was counted, and how it is blended with the model's score. Names and shapes.

A release has both sections or neither. n items, in the rows of ``tower.residual``:

- ``counts.<list>.neighbours`` int32 [n, M]: what goes with each item, -1 where empty, nothing twice in a row;
- of each table on a list, ``counts.<list>.<table>``: ``.values`` float32 [n, M], what each pair counts;
  ``.ages`` float32 [L], what the item of a user's j-th newest event counts; ``.floor`` float32 scalar, the sum
  at which its logarithm begins to rise (see models/blend.py). Values are not below 0, but for a table whose floor is 0:
  its sums are taken as they are, and it gives no candidates;
- ``counts.items.<column>`` float32 [n + 1]: a number for each item, and for one that the release does not know;
- ``blend.edges.<quantity>`` float32 [e], ascending: a quantity of the user's history is cut into e + 1 ranges;
- ``blend.weights`` float32 [contexts, features].

Which lists, tables, columns and quantities there are is up to the release. A list ``itself``, on which each item is its
own neighbour, says that the release may repeat what a user had (see ``ServingCounts.candidates``). Knows nothing of how
they were learned.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Arrays = Mapping[str, npt.NDArray[Any]]

MODEL = "model"
"""The feature that every release has: the model's own score."""

ITSELF = "itself"
"""The list on which each item is its own only neighbour."""

QUANTITIES = ("events", "gap_s", "repeat")
"""What of a user's history a blend can depend on (see ``Blend.contexts``)."""

_NAME = "([a-z][a-z0-9_]*)"
_LIST = re.compile(rf"counts\.{_NAME}\.neighbours")
_TABLE = re.compile(rf"counts\.{_NAME}\.{_NAME}\.(?:values|ages|floor)")
_COLUMN = re.compile(rf"counts\.items\.{_NAME}")
_EDGES = re.compile(rf"blend\.edges\.{_NAME}")
_PREFIXES = ("counts.", "blend.")
_FLOAT, _INT = np.dtype(np.float32), np.dtype(np.int32)


def optional(arrays: Iterable[str]) -> set[str]:
    """Those of the names that belong to an optional section."""
    return {name for name in arrays if name.startswith(_PREFIXES)}


def lists(arrays: Iterable[str]) -> list[str]:
    """Names of the lists of neighbours, in order."""
    return _found(_LIST, arrays)


def tables(arrays: Iterable[str]) -> list[str]:
    """Names of the tables of all lists, in order."""
    return sorted(table for _, table in _pairs(arrays))


def tables_of(arrays: Iterable[str], of: str) -> list[str]:
    """Names of the tables of one list, in order."""
    return sorted(table for one, table in _pairs(arrays) if one == of)


def columns(arrays: Iterable[str]) -> list[str]:
    """Names of the numbers that are known of every item, in order."""
    return _found(_COLUMN, arrays)


def quantities(arrays: Iterable[str]) -> list[str]:
    """Names of the quantities that the blend depends on, in order."""
    return _found(_EDGES, arrays)


def features(arrays: Iterable[str]) -> list[str]:
    """Names of the features, in the order of the columns of ``blend.weights``."""
    names = list(arrays)
    counted = [feature for table in tables(names) for feature in (table, f"{table}.missing")]
    return [MODEL, *counted, *columns(names)]


def floors(arrays: Arrays) -> dict[str, np.float32]:
    """The floor of each table."""
    return {table: np.float32(arrays[f"counts.{of}.{table}.floor"]) for of, table in sorted(_pairs(arrays))}


def check(arrays: Arrays, items: int, source: str) -> None:
    """Check the optional sections of a release of n items; ``source`` is the table that gives candidates.

    Raises:
        ValueError: naming the array, what it is and what was expected.
    """
    names = optional(arrays)
    if not names:
        if source:
            raise ValueError(f"Release.source is {source!r}, expected none in a release without counts")
        return
    _check_names(names)
    if source not in tables(names):
        raise ValueError(f"Release.source is {source!r}, expected one of the tables {tables(names)}")
    for name, (dtype, shape) in _expected(arrays, items).items():
        array = arrays[name]
        if array.dtype != dtype or array.shape != shape:
            raise ValueError(f"{name} is {array.dtype} {array.shape}, expected {dtype} {shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds NaN or infinity, expected finite numbers")
    if not floors(arrays)[source]:
        raise ValueError(f"Release.source is {source!r}, whose floor is 0, expected a table of counts")
    _check_values(arrays, items)


def _found(pattern: re.Pattern[str], names: Iterable[str]) -> list[str]:
    return sorted({match[1] for name in names if (match := pattern.fullmatch(name))})


def _pairs(names: Iterable[str]) -> set[tuple[str, str]]:
    """(list, table)."""
    return {(match[1], match[2]) for name in names if (match := _TABLE.fullmatch(name))}


def _check_names(names: set[str]) -> None:
    pairs, known = _pairs(names), {"blend.weights"}
    known |= {f"counts.{of}.neighbours" for of, _ in pairs}
    known |= {f"counts.{of}.{table}.{part}" for of, table in pairs for part in ("values", "ages", "floor")}
    known |= {f"counts.items.{column}" for column in columns(names)}
    known |= {f"blend.edges.{quantity}" for quantity in quantities(names)}
    if names != known:
        raise ValueError(f"Release.arrays: missing or unexpected {sorted(names ^ known)}")
    if strange := sorted(set(quantities(names)) - set(QUANTITIES)):
        raise ValueError(f"blend.edges.{strange[0]} is not known, expected one of {list(QUANTITIES)}")
    taken = [MODEL, *tables(names), *columns(names)]
    if len(set(taken)) < len(taken):
        raise ValueError(f"Release.arrays: names of tables and columns are {taken}, expected distinct ones")


def _expected(arrays: Arrays, items: int) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    """Type and shape of every array of the sections; sizes that are free are taken from the arrays."""
    expected: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {}
    for of in lists(arrays):
        shape = (items, max(1, _size(arrays[f"counts.{of}.neighbours"], axis=1)))
        expected[f"counts.{of}.neighbours"] = _INT, shape
        for table in tables_of(arrays, of):
            name = f"counts.{of}.{table}"
            expected[f"{name}.values"] = _FLOAT, shape
            expected[f"{name}.ages"] = _FLOAT, (max(1, _size(arrays[f"{name}.ages"], axis=0)),)
            expected[f"{name}.floor"] = _FLOAT, ()
    for column in columns(arrays):
        expected[f"counts.items.{column}"] = _FLOAT, (items + 1,)
    contexts = 1
    for quantity in quantities(arrays):
        size = _size(arrays[f"blend.edges.{quantity}"], axis=0)
        expected[f"blend.edges.{quantity}"] = _FLOAT, (size,)
        contexts *= size + 1
    expected["blend.weights"] = _FLOAT, (contexts, len(features(arrays)))
    return expected


def _size(array: npt.NDArray[Any], axis: int) -> int:
    return array.shape[axis] if array.ndim > axis else 0


def _check_values(arrays: Arrays, items: int) -> None:
    for of in lists(arrays):
        neighbours = arrays[f"counts.{of}.neighbours"]
        if neighbours.size and not -1 <= neighbours.min() <= neighbours.max() < items:
            span = f"{neighbours.min()} to {neighbours.max()}"
            raise ValueError(f"counts.{of}.neighbours goes from {span}, expected -1 to {items - 1}")
        ordered = np.sort(neighbours, axis=1)
        if ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any():
            raise ValueError(f"counts.{of}.neighbours names an item twice in a row, expected distinct ones")
    for of, table in sorted(_pairs(arrays)):
        floor = arrays[f"counts.{of}.{table}.floor"]
        for part in ("values", "ages") if floor else ("ages",):
            least = arrays[f"counts.{of}.{table}.{part}"].min(initial=0)
            if least < 0:
                raise ValueError(f"counts.{of}.{table}.{part} holds {least}, expected nothing below 0")
        if not floor >= 0:
            raise ValueError(f"counts.{of}.{table}.floor is {floor}, expected a number from 0 on")
    for quantity in quantities(arrays):
        if (np.diff(arrays[f"blend.edges.{quantity}"]) <= 0).any():
            raise ValueError(f"blend.edges.{quantity} does not ascend, expected each edge above the one before")
