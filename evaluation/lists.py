"""Lists as JSON lines: what an arm recommended before each event, written for others, and an arm of lists read.

A line is ``{"event": number of the event, "topk": [item id, …]}``, best first; predictions.py reads it. Knows nothing
of who made a list.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TextIO

from evaluation.prequential import Clock
from evaluation.stream import EventStream
from models.config import Int64


def write_lists(file: TextIO, stream: EventStream, first: int, lists: Int64) -> None:
    """Write the lists [n, k] (item rows, −1 for none) for the n events from ``first`` on."""
    for event, row in enumerate(lists.tolist(), start=first):
        topk = [stream.item_ids[item] for item in row if item >= 0]
        file.write(json.dumps({"event": event, "topk": topk}, ensure_ascii=False) + "\n")
    file.flush()


class ListedArm:
    """An arm that was played elsewhere: its lists are known."""

    def __init__(self, lists: Int64, cut: int, facts: Mapping[str, Any]) -> None:
        self._lists, self._cut = lists, cut
        self.facts = facts
        self.clock = Clock()

    def warm_up(self) -> None:
        """There is nothing to learn."""

    def play(self, begin: int, end: int) -> Int64:
        """The lists for the events from ``begin`` to before ``end``."""
        return self._lists[begin - self._cut : end - self._cut]
