"""What groups of users were shown of groups of items, learned from outcomes: what the fairness controller goes by.

Only slates that a worker with such groups made tell anything. A click is any interaction with a shown item. Knows the
contracts; knows nothing of Kafka or of what a controller does with it.
"""

from __future__ import annotations

import re
from typing import ClassVar, Self

import numpy as np

from policy.group_rates import Floats, GroupedSlate, GroupRates
from streams.contracts import FairnessState, Outcome
from streams.estimator_parts import Seen

_LEARNED = re.compile(r"^e(\d+)-")
"""An estimator's id says how many outcomes it had learned."""


class FairnessPart:
    """Sums by group pair, `policy.group_rates`."""

    name: ClassVar[str] = "fairness"
    signals: ClassVar[tuple[str, ...]] = ("segment",)

    def __init__(self, rates: GroupRates | None = None) -> None:
        self.rates = rates or GroupRates()

    def learn(self, seen: Seen) -> None:
        """Learn from one outcome, if its slate had to do with fairness."""
        examination = discount(len(seen.outcome.items)) if seen.examination is None else seen.examination
        slate = grouped(seen.outcome, examination, seen.step)
        if slate is not None:
            self.rates.learn(slate)

    def quicken(self, factor: float) -> None:
        """Forget all but one part in `factor`."""
        self.rates.forget(1 / factor)

    def pack(self) -> FairnessState:
        """As a message."""
        return pack_rates(self.rates)

    @classmethod
    def unpack(cls, state: FairnessState) -> Self:
        """From a message. Raises ValueError when it contradicts itself."""
        return cls(unpack_rates(state))


def grouped(outcome: Outcome, examination: Floats, learned: int) -> GroupedSlate | None:
    """An outcome as a slate of groups; None for one that no controller had to do with.

    `examination` [k]: P(the user looks at a position). `learned`: how many outcomes have been learned by now.
    """
    if outcome.origin != "driftline" or outcome.steered is None or not outcome.item_groups:
        return None
    size = len(outcome.items)
    inclusion = np.full(size, np.nan) if outcome.inclusion is None else np.array(outcome.inclusion, np.float64)
    # A position that was given away for certain says nothing of what a draw would have chosen.
    inclusion[getattr(outcome, "pinned", [])] = np.nan
    served = _LEARNED.match(outcome.estimator or "e0-")
    return GroupedSlate(
        user=outcome.group or "",
        items=outcome.item_groups,
        candidates=outcome.group_candidates,
        clicked=(np.array(outcome.rewards) > 0).astype(np.float64),
        examination=examination,
        inclusion=inclusion,
        steered=outcome.steered,
        uniform=bool(outcome.uniform),
        age=float(max(0, learned - int(served.group(1)))) if served else 0.0,
    )


def discount(size: int) -> Floats:
    """1 / log2(1 + position), [size]: the examination of the paper that the controller comes from."""
    found: Floats = 1 / np.log2(2 + np.arange(size, dtype=np.float64))
    return found


def pack_rates(rates: GroupRates) -> FairnessState:
    """The rates as a message."""
    state = rates.state()
    return FairnessState(
        half_life=state["half_life"],
        users=state["users"],
        items=state["items"],
        pairs_f64=state["pairs"].astype("<f8").tobytes(),
        slates_f64=state["slates"].astype("<f8").tobytes(),
        arms_f64=state["arms"].astype("<f8").tobytes(),
        age=state["age"],
    )


def unpack_rates(state: FairnessState) -> GroupRates:
    """The rates of a message. Raises ValueError when its arrays do not fit its names."""
    for name, data in (("pairs", state.pairs_f64), ("slates", state.slates_f64), ("arms", state.arms_f64)):
        if len(data) % 8:
            raise ValueError(f"fairness.{name}_f64 holds {len(data)} bytes, expected 8 for each number")
    return GroupRates.from_state(
        {
            "half_life": state.half_life,
            "users": state.users,
            "items": state.items,
            "pairs": np.frombuffer(state.pairs_f64, "<f8"),
            "slates": np.frombuffer(state.slates_f64, "<f8"),
            "arms": np.frombuffer(state.arms_f64, "<f8"),
            "age": state.age,
        }
    )
