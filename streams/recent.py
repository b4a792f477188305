"""What users did last, as arrays: the items of their newest events, and what of their history a blend looks at.

Read from the states as they are after the batch. Knows nothing of releases, models or messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from index.catalogue import Catalogue
from streams.state import EVENT, UserState


@dataclass(frozen=True, slots=True)
class Recent:
    """Of B users.

    Attributes:
        slots: int64 [B, L] of the items of their last L events, newest first; -1 where the catalogue does not know the
            item, and beyond a user's first event.
        events: int64 [B] how many events they have had.
        gap_s: float32 [B] seconds between the last two, at least 0; -1 for users with fewer.
        times: int64 [B, L] of the same events as `slots`, ms; -1 beyond a user's first event.
    """

    slots: NDArray[np.int64]
    events: NDArray[np.int64]
    gap_s: NDArray[np.float32]
    times: NDArray[np.int64]

    @classmethod
    def of(cls, states: Sequence[UserState], catalogue: Catalogue, length: int) -> Recent:
        """Read the last `length` events of each state, two or more for their gap; fewer where the ring holds fewer."""
        users, kept = len(states), max(length, 2)
        rings = [state.ring[-kept * EVENT.itemsize :] for state in states]
        counts = np.array([len(ring) // EVENT.itemsize for ring in rings], np.int64)
        events = np.frombuffer(b"".join(rings), EVENT)
        owner = np.repeat(np.arange(users), counts)
        age = counts.cumsum()[owner] - 1 - np.arange(len(events))
        slots = np.full((users, kept), -1, np.int64)
        slots[owner, age] = catalogue.slots_of_hashes(events["item"])
        times = np.full((users, kept), -1, np.int64)
        times[owner, age] = events["time"]
        gaps = np.where(counts < 2, -1, np.maximum(times[:, 0] - times[:, 1], 0) / 1000).astype(np.float32)
        had = np.array([state.events for state in states], np.int64)
        return cls(slots[:, :length], had, gaps, times[:, :length])

    def take(self, users: NDArray[np.int64]) -> Recent:
        """The same of some of the users."""
        return Recent(self.slots[users], self.events[users], self.gap_s[users], self.times[users])
