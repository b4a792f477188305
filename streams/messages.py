"""From a batch's arrays to its messages: recommendation, decision, and the open slate that awaits its outcome.

One place decides what is said of a slate on each topic. Knows the contracts; knows nothing of Kafka or
of how the numbers came about.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.blend import Terms
from policy.slate import Decisions, PolicyConfig, draws
from streams.adjusting import Grouping
from streams.contracts import Ages, Cause, Decision, Recommendation
from streams.drift import Moves
from streams.fold import Touched
from streams.recent import Recent
from streams.sources import Candidates
from streams.state import OpenSlate, item_groups
from streams.world import World


@dataclass(frozen=True, slots=True)
class Slates:
    """One batch's slates as arrays, B rows parallel to `users`: their `vectors` [B, d+1], and `base` [B, width], the
    sum of the candidates' terms. `found` [B, width]: the candidates before rules took some out; `rules`: digest of what
    that and the adjustments follow from; `grouping`: of fairness, None where no groups are configured."""

    users: list[Touched]
    vectors: NDArray[np.float32]
    recent: Recent
    moves: Moves
    candidates: Candidates
    terms: Terms
    base: NDArray[np.float32]
    decisions: Decisions
    found: NDArray[np.int64]
    rules: str | None = None
    grouping: Grouping | None = None

    @property
    def slots(self) -> NDArray[np.int64]:
        """The candidates, [B, width]."""
        return self.candidates.slots


@dataclass(frozen=True, slots=True)
class Row:
    """One slate of the batch, as lists."""

    touched: Touched
    cause: Cause
    slate: str
    candidates: list[str | None]
    chosen: list[int]
    items: list[str]
    conditional: list[float]
    propensity: list[float] | None
    inclusion: list[float] | None
    pinned: list[int]
    groups: dict[str, list[int]]
    steered: bool | None
    swapped: list[int]


class Messages:
    """Says what a batch's slates are. `now`: wall-clock milliseconds, for ages only."""

    def __init__(self, slates: Slates, world: World, policy: PolicyConfig, now: int) -> None:
        self._slates = slates
        self._world = world
        self._policy = policy
        self._now = now
        self._position = list(world.position)
        self._release = world.model.release_id
        self._estimator = world.estimator.estimator if world.estimator else None
        self._estimator_age = now - world.estimator.created if world.estimator else None

    def row(self, at: int) -> Row:
        decisions, touched, grouping = self._slates.decisions, self._slates.users[at], self._slates.grouping
        candidates = self._ids(self._slates.slots[at])
        chosen = [column for column in decisions.chosen[at].tolist() if column >= 0]
        size = len(chosen)
        cause = touched.cause or _no_cause(touched)
        return Row(
            touched=touched,
            cause=cause,
            slate=f"{cause.partition}-{cause.offset}",
            candidates=candidates,
            chosen=chosen,
            items=[candidates[column] or "" for column in chosen],
            conditional=decisions.conditional[at, :size].tolist(),
            propensity=None if decisions.propensity is None else decisions.propensity[at, :size].tolist(),
            inclusion=None if decisions.inclusion is None else decisions.inclusion[at, :size].tolist(),
            pinned=np.flatnonzero(decisions.pinned[at]).tolist(),
            groups={} if grouping is None else grouping.columns(at),
            steered=None if grouping is None else grouping.steered[at],
            swapped=[place for place in decisions.swapped[at].tolist() if place >= 0],
        )

    def recommendation(self, at: int, row: Row) -> Recommendation:
        return Recommendation(
            user=row.touched.user,
            slate=row.slate,
            time=row.touched.time,
            cause=row.cause,
            covers=row.touched.covers,
            items=row.items,
            scores=self._slates.decisions.logits[at, row.chosen].tolist(),
            conditional=row.conditional,
            propensity=row.propensity,
            inclusion=row.inclusion,
            release=self._release,
            estimator=self._estimator,
            catalogue=self._position,
            ages=Ages(self._now - row.touched.arrived, self._now - self._world.created, self._estimator_age),
            pinned=row.pinned,
            swapped=row.swapped,
        )

    def decision(self, at: int, row: Row) -> Decision:
        slates, policy = self._slates, self._policy
        degrees = float(slates.moves.degrees[at])
        return Decision(
            user=row.touched.user,
            slate=row.slate,
            time=row.touched.time,
            cause=row.cause,
            covers=row.touched.covers,
            candidates=row.candidates,
            injected=policy.injected,
            injection=float(slates.candidates.injection[at]),
            base_f32=slates.base[at].tobytes(),
            correction_f32=slates.decisions.correction[at].tobytes(),
            logits_f32=slates.decisions.logits[at].tobytes(),
            chosen=row.chosen,
            conditional=row.conditional,
            uniform=bool(slates.decisions.uniform_arm[at]),
            seed=policy.seed,
            draws=draws(policy),
            temperature=float(slates.decisions.temperature[at]),
            epsilon=policy.epsilon,
            beta=policy.beta,
            release=self._release,
            estimator=self._estimator,
            catalogue=self._position,
            terms={name: term[at].tobytes() for name, term in slates.terms.items()},
            neighbours=policy.neighbours,
            counted=int(slates.candidates.counted[at]),
            adjustments={name: column[at].tobytes() for name, column in slates.decisions.adjustments.items()},
            pinned=row.pinned,
            swapped=row.swapped,
            removed=self._removed(at),
            rules=slates.rules,
            policy_temperature=policy.temperature,
            groups=row.groups,
            steered=row.steered,
            swaps=policy.swaps,
            drift=None if np.isnan(degrees) else round(degrees, 2),
            drift_topics=slates.moves.topics[at],
        )

    def open_slate(self, at: int, row: Row) -> OpenSlate:
        decisions = self._slates.decisions
        unshown: list[str] = []
        unshown_inclusion = None
        if decisions.unshown is not None and decisions.unshown_inclusion is not None:
            there = decisions.unshown[at] >= 0
            unshown = [row.candidates[column] or "" for column in decisions.unshown[at][there].tolist()]
            unshown_inclusion = decisions.unshown_inclusion[at][there].tolist()
        return OpenSlate(
            row.slate,
            row.touched.time,
            row.touched.watermark,
            row.items,
            conditional=row.conditional,
            propensity=row.propensity,
            inclusion=row.inclusion,
            unshown=unshown,
            unshown_inclusion=unshown_inclusion,
            candidates=len(row.candidates) - row.candidates.count(None),
            history=row.touched.state.events,
            release=self._release,
            estimator=self._estimator,
            uniform=bool(decisions.uniform_arm[at]),
            pinned=row.pinned,
            steered=row.steered,
            item_groups=item_groups(row.groups, row.chosen),
            group_candidates={name: len(columns) for name, columns in row.groups.items()},
            swapped=row.swapped,
        )

    def _removed(self, at: int) -> list[str]:
        found, slots = self._slates.found[at], self._slates.slots[at]
        return [] if (found == slots).all() else self._world.catalogue.ids(found[found != slots])

    def _ids(self, slots: NDArray[np.int64]) -> list[str | None]:
        present = slots >= 0
        if present.all():
            return list(self._world.catalogue.ids(slots))
        found = iter(self._world.catalogue.ids(slots[present]))
        return [next(found) if there else None for there in present.tolist()]


def _no_cause(touched: Touched) -> Cause:
    raise AssertionError(f"{len(touched.covers)} events without a cause: a slate answers an event")
