"""Predictions that others made, read from a file: a JSON line for each test event, as `--predictions` writes them.

Checked like the lists of an arm. Knows nothing of who made them or how.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from evaluation.prequential import check
from evaluation.stream import EventStream
from models.config import Int64


def read_predictions(path: Path, stream: EventStream, cut: int, k: int) -> Int64:
    """Return lists [n, k] of item rows (−1: none) for events ``cut`` to before ``cut`` + n; n: as far as the file goes.

    Of a longer list the first k count.

    Raises:
        ValueError: a line is not `{"event": …, "topk": […]}`, events are not ``cut``, ``cut`` + 1, …, or an item is
            unknown, listed twice, or listed before anybody had met it. The message names file, line and field.
    """
    rows = {item: row for row, item in enumerate(stream.item_ids)}
    lists: list[list[int]] = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            expected = cut + len(lists)
            if expected == len(stream):
                raise ValueError(f"{path}, line {number}: the stream has no event {expected}")
            try:
                lists.append(_list(line, expected, rows, k))
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {error}") from error
    found = np.array([one + [-1] * (k - len(one)) for one in lists], np.int64).reshape(-1, k)
    try:
        check(stream, cut, found)
    except ValueError as error:
        raise ValueError(f"{path}, {error}") from error
    return found


def _list(line: str, expected: int, rows: Mapping[str, int], k: int) -> list[int]:
    given = json.loads(line)
    if not isinstance(given, dict) or given.get("event") != expected:
        event = given.get("event") if isinstance(given, dict) else given
        raise ValueError(f"event is {event!r}, expected {expected}: a line for each test event in order")
    topk = given.get("topk")
    if not isinstance(topk, list) or not all(isinstance(item, str) for item in topk):
        raise ValueError(f"topk is {topk!r}, expected a list of item ids")
    unknown = [item for item in topk[:k] if item not in rows]
    if unknown:
        raise ValueError(f"topk has {unknown[0]!r}, which is no item of the stream")
    return [rows[item] for item in topk[:k]]
