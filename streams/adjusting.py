"""What is decided of a batch's slates before anything is drawn: from what, and what can come of it.

Knows nothing of how it is decided (streams/adjuster.py), of messages or of how a draw is made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.blend import Terms
from models.sections import MODEL
from policy.slate import PolicyConfig
from streams.recent import Recent
from streams.state import UserState
from streams.world import World

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Scene:
    """A batch of B slates before they are adjusted.

    Attributes:
        partition: of the causing events.
        offsets: int64 [B] of the causing events.
        users: their ids.
        times: int64 [B] event times of the causing events, ms.
        vectors: float32 [B, d+1] of the users.
        degrees: float64 [B] a day that the users' interest has turned, NaN where that is not known.
        states: after the batch's events.
        slots: int64 [B, width] of the candidates, -1 in empty columns.
        base: float32 [B, width] their scores, -inf in empty columns.
        log_popularity: float64 [B, width] that the logits will be corrected for.
        pins: int64 [B, k] the slot that is to stand at a position, -1 for none; None: nothing is pinned.
    """

    world: World
    policy: PolicyConfig
    partition: int
    offsets: Ints
    users: Sequence[str]
    times: Ints
    vectors: Floats32
    recent: Recent
    degrees: Floats
    states: Sequence[UserState]
    slots: Ints
    base: Floats32
    log_popularity: Floats
    pins: Ints | None = None


@dataclass(frozen=True, slots=True)
class Grouping:
    """What fairness knows of a batch.

    Attributes:
        names: of the item groups.
        groups: int64 [B, width], the index of each candidate's group, -1 for none.
        steered: [B] True, the term took part; False, it is left alone to compare; None, of a user in no group.
    """

    names: Sequence[str]
    groups: Ints
    steered: Sequence[bool | None]

    def columns(self, row: int) -> dict[str, list[int]]:
        """One slate's columns, by group."""
        return {name: np.flatnonzero(self.groups[row] == at).tolist() for at, name in enumerate(self.names)}


@dataclass(frozen=True, slots=True)
class Adjusted:
    """What was decided beforehand.

    Attributes:
        slots: int64 [B, width] as they came, or -1 where a candidate has to leave.
        adjustments: by name, float32 [B, width]; in empty columns any number.
        temperature: float64 [B]; None: the policy's.
        pinned: int64 [B, k] the column that stands at a position for certain, -1 where one is drawn; None: nowhere.
        rules: digest of what all this follows from; None: nothing was asked for.
        grouping: of fairness; None: no groups are configured.
    """

    slots: Ints
    adjustments: Mapping[str, Floats32] = field(default_factory=dict)
    temperature: Floats | None = None
    pinned: Ints | None = None
    rules: str | None = None
    grouping: Grouping | None = None


class Adjusts(Protocol):
    """Decides beforehand."""

    def pins(self, world: World, offsets: Ints, users: Sequence[str], k: int) -> Ints | None:
        """The slot that is to stand at each position, int64 [B, k], -1 for none; None: nothing is pinned."""
        ...

    def adjust(self, scene: Scene) -> Adjusted:
        """What becomes of a batch."""
        ...


def without(parts: Terms, slots: Ints) -> Terms:
    """The terms [B, width] where some candidates have left, `slots` -1: -inf for the model's, 0 for others."""
    left = slots < 0
    return {name: np.where(left, np.float32(-np.inf if name == MODEL else 0), part) for name, part in parts.items()}
