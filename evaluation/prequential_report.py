"""What an evaluation found, as plain data for JSON. Knows nothing of how arms play or where the file goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from evaluation.bootstrap import differences
from evaluation.measures import METRICS, curve, gains, means, slices
from evaluation.prequential import Played
from evaluation.stream import EventStream

COMPARED = ("all", "untied", "cold_item", "first_event")
"""Slices whose differences get intervals."""


def report(
    stream: EventStream,
    cut: int,
    played: Mapping[str, Played],
    *,
    windows: int = 20,
    replicates: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Return the whole result: stream, arms with their scores by slice, curve, differences with intervals."""
    parts = slices(stream, cut)
    ranks = {name: one.ranks for name, one in played.items()}
    return {
        "stream": describe(stream, cut),
        "slices": {name: _size(stream, cut, mask) for name, mask in parts.items()},
        "arms": {
            name: {
                "scores": {part: means(one.ranks, mask) for part, mask in parts.items()},
                "seconds": _rounded(one.clock.seconds),
                "wall_seconds": _rounded(one.clock.wall),
                **one.facts,
            }
            for name, one in played.items()
        },
        "curve": [
            asdict(window)
            | {"from_ms": int(stream.times_ms[window.begin]), "to_ms": int(stream.times_ms[window.end - 1])}
            for window in curve(ranks, cut, windows)
        ],
        "bootstrap": {
            "by": "user",
            "replicates": replicates,
            "seed": seed,
            "level": 0.95,
            "differences": _compared(stream.users[cut:], ranks, parts, replicates, seed),
        },
    }


def describe(stream: EventStream, cut: int) -> dict[str, Any]:
    """Sizes of a stream and where its test begins."""
    return {
        "events": len(stream),
        "warm_up_events": cut,
        "test_events": len(stream) - cut,
        "cut_ms": int(stream.times_ms[cut]),
        "users": len(stream.user_ids),
        "items": len(stream.item_ids),
        "items_with_features": stream.listed,
        "tied": float(stream.tied[cut:].mean()),
    }


def _rounded(seconds: Mapping[str, float]) -> dict[str, float]:
    return {what: round(value, 3) for what, value in seconds.items()}


def _size(stream: EventStream, cut: int, mask: np.ndarray[Any, np.dtype[np.bool_]]) -> dict[str, int]:
    return {"events": int(mask.sum()), "users": len(np.unique(stream.users[cut:][mask]))}


def _compared(
    users: np.ndarray[Any, np.dtype[np.int64]],
    ranks: Mapping[str, np.ndarray[Any, np.dtype[np.int64]]],
    parts: Mapping[str, np.ndarray[Any, np.dtype[np.bool_]]],
    replicates: int,
    seed: int,
) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if len(ranks) < 2:
        return found
    for part in COMPARED:
        mask = parts[part]
        if not mask.any():
            continue
        for at, metric in enumerate(METRICS):
            values = {name: gains(one[mask])[at] for name, one in ranks.items()}
            pairs = differences(values, users[mask], replicates=replicates, seed=seed)
            found += [{"slice": part, "metric": metric, **asdict(one)} for one in pairs]
    return found
