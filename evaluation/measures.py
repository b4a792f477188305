"""What ranks are worth: hit rate and NDCG over all events, over slices of them and along the stream.

With one relevant item an event, NDCG is 1 / log2(1 + rank). Knows nothing of how ranks came about.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from evaluation.stream import EventStream
from models.baselines import Float64
from models.config import Bool, Int64

COLD_BELOW = 5
"""An item with fewer events than this is cold."""

METRICS = ("hit_rate", "ndcg")


def gains(ranks: Int64) -> Float64:
    """[2, n] hit (0 or 1) and discounted gain of n events, from their ranks (0: not in the list)."""
    hit = ranks > 0
    discounted = np.where(hit, 1 / np.log2(1 + np.maximum(ranks, 1)), 0.0)
    return np.stack([hit.astype(np.float64), discounted])


def slices(stream: EventStream, cut: int) -> dict[str, Bool]:
    """Which of the test events belong to which part, [test events] each.

    all; untied: later than its user's event before; tied: of the same time; first_event: the user had none before;
    cold_item: the item may be recommended and had fewer than `COLD_BELOW` events; unknown_item: nobody had met it,
    so that every arm misses; repeat: the user had met it.
    """
    test = slice(cut, None)
    number = np.arange(len(stream))
    known = stream.known_from[stream.items] < number
    parts = {
        "all": np.ones(len(stream), bool),
        "untied": ~stream.tied,
        "tied": stream.tied,
        "first_event": stream.previous < 0,
        "cold_item": known & (stream.item_events < COLD_BELOW),
        "unknown_item": ~known,
        "repeat": stream.repeated,
    }
    return {name: mask[test] for name, mask in parts.items()}


def means(ranks: Int64, mask: Bool) -> dict[str, float | None]:
    """Hit rate and NDCG over the events of a slice; None for an empty one."""
    if not mask.any():
        return dict.fromkeys(METRICS)
    return dict(zip(METRICS, gains(ranks[mask]).mean(axis=1).tolist(), strict=True))


@dataclass(frozen=True, slots=True)
class Window:
    """Part of the curve: test events from `begin` to before `end`, counted in the whole stream."""

    begin: int
    end: int
    arms: Mapping[str, dict[str, float | None]]


def curve(ranks: Mapping[str, Int64], cut: int, windows: int) -> list[Window]:
    """Hit rate and NDCG in windows of equally many test events."""
    size = len(next(iter(ranks.values())))
    edges = np.linspace(0, size, min(windows, size) + 1).round().astype(int)
    found = []
    for begin, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        everything = np.ones(end - begin, bool)
        arms = {name: means(one[begin:end], everything) for name, one in ranks.items()}
        found.append(Window(cut + begin, cut + end, arms))
    return found
