"""How positions are looked at, as the learner's last snapshot of its estimates has it: learned, and by exchange.

Knows the snapshot and what its parts predict; knows nothing of pages.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from streams.contracts import ClicksState
from streams.estimator_clicks import ClicksPart

UNCERTAIN = 0.5
"""A standard error of log η from which on the experiment says nothing worth drawing."""


class _Snapshot(msgspec.Struct):
    """What is read of a snapshot: all else is passed over."""

    created: int
    clicks: ClicksState | None = None


@dataclass(frozen=True, slots=True)
class Curve:
    """η of n positions beside the first.

    Attributes:
        created: when the snapshot was made, milliseconds since the epoch.
        outcomes: that it was learned from.
        learned: float64 [n]; `clicks` [n]: that each rests on, older ones counting less.
        exchanged: float64 [n], by slates of which two positions were exchanged; NaN where too few were.
        contradicted: positions, from 0, at which the two differ by more than chance.
    """

    created: int
    outcomes: int
    learned: NDArray[np.float64]
    clicks: NDArray[np.float64]
    exchanged: NDArray[np.float64]
    contradicted: tuple[int, ...]


def curve_of(snapshot: bytes, positions: int) -> Curve | None:
    """The curve of so many positions; None: it says none. Raises ValueError or MsgspecError for what is no snapshot."""
    found = msgspec.json.decode(snapshot, type=_Snapshot)
    if found.clicks is None or not found.clicks.outcomes:
        return None
    part = ClicksPart.unpack(found.clicks)
    positions = min(positions, part.examination.positions)
    exchanged = part.swaps.curve(positions)
    certain = np.where(exchanged.error < UNCERTAIN, exchanged.examination, np.nan)
    learned, clicks = (values[:positions] for values in (part.examination.predict(), part.examination.clicks()))
    return Curve(found.created, part.outcomes, learned, clicks, certain, tuple(part.disagree))
