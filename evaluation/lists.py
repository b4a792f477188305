"""Lists as JSON lines: what an arm recommended before each event, to be scored by others, or scored here for others.

A line is ``{"event": number of the event, "topk": [item id, …]}``, best first. Knows nothing of who made a list.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, TextIO

import msgspec
import numpy as np

from evaluation.prequential import Clock
from evaluation.stream import EventStream
from models.config import Int64


class _Line(msgspec.Struct):
    event: int
    topk: list[str]


_line = msgspec.json.Decoder(_Line).decode


def write_lists(file: TextIO, stream: EventStream, first: int, lists: Int64) -> None:
    """Write the lists [n, k] (item rows, −1 for none) for the n events from ``first`` on."""
    for event, row in enumerate(lists.tolist(), start=first):
        topk = [stream.item_ids[item] for item in row if item >= 0]
        file.write(json.dumps({"event": event, "topk": topk}, ensure_ascii=False) + "\n")
    file.flush()


def read_lists(lines: Iterable[str], stream: EventStream, cut: int, k: int) -> Int64:
    """Return the lists for the test events, [test events, k] of item rows; what is longer than k is cut.

    Raises:
        ValueError: a line cannot be read, names an event outside the test or twice, or an item that the stream does
            not have; or an event has no line. The text names the line.
    """
    rows = {item: row for row, item in enumerate(stream.item_ids)}
    found = np.full((len(stream) - cut, k), -1, np.int64)
    there = np.zeros(len(found), bool)
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            line = _line(text)
            if not cut <= line.event < len(stream):
                raise ValueError(f"event is {line.event}, expected {cut} to {len(stream) - 1}")
            if there[line.event - cut]:
                raise ValueError(f"event {line.event} comes a second time")
            topk = [rows[item] for item in line.topk[:k]]
        except KeyError as error:
            raise ValueError(f"line {number}: item {error} is not in the stream") from None
        except (ValueError, msgspec.MsgspecError) as error:
            raise ValueError(f"line {number}: {error}") from None
        there[line.event - cut] = True
        found[line.event - cut, : len(topk)] = topk
    if not there.all():
        raise ValueError(f"event {cut + int(np.argmin(there))} has no line")
    return found


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
