"""Whether a slate that was computed again is the one that was served, and if not, why not.

From the record alone, without a model: base + correction + adjustments is the logits, and the policy's choice comes out
the same, byte for byte. With a model: the logged candidates are scored again, whatever was retrieved this time, so that
the model is checked also where an approximate index found others. Knows the contracts; knows nothing of Kafka.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from evaluation.replay_adjusting import drawn_with
from evaluation.replay_world import Worlds
from index.hashing import item_hash
from models.blend import total
from models.sections import MODEL
from policy.slate import Choice, PolicyConfig, correct, margin, redecide
from policy.slate import total as added_up
from streams.contracts import Decision
from streams.messages import Slates
from streams.sources import terms
from streams.world import World

TOLERANCE = 1e-5
"""How far numbers of the model may lie apart: rounding depends on what is computed together."""

Verdict = Literal["same", "near tie", "retrieval", "different", "unchecked"]
"""`near tie`: the slates differ, and two scores (perturbed, or at the edge of what was retrieved) lie closer than
`TOLERANCE`. `retrieval`: an approximate index found other candidates; those logged give the logged slate.
`unchecked`: something needed is gone, `note` says what."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """One decision of the log beside what was computed now.

    Attributes:
        recorded: as logged.
        made: as computed now; None where it could not be.
        choice: from the record alone the choice is the same, byte for byte; terms, base, correction, adjustments and
            logits add up.
        verdict: of the whole decision; for another policy or release it is `unchecked`.
        note: why, in words; None when the verdict says it all.
        base_error: largest difference of a score over the logged candidates; None when not computed.
        correction_error: of the propensity correction; None also where the estimator's snapshot is gone.
        margin: distance of the two perturbed scores that were nearest to changing the slate.
    """

    recorded: Decision
    made: Decision | None
    choice: bool
    verdict: Verdict
    note: str | None = None
    base_error: float | None = None
    correction_error: float | None = None
    margin: float = float("inf")


@dataclass(frozen=True, slots=True)
class _Columns:
    """A decision's arrays, as a batch of one; `added`: the base is the sum of its terms."""

    base: NDArray[np.float32]
    correction: NDArray[np.float32]
    logits: NDArray[np.float32]
    items: NDArray[np.uint64]
    present: NDArray[np.bool_]
    offset: NDArray[np.int64]
    adjustments: dict[str, NDArray[np.float32]]
    added: bool

    @classmethod
    def of(cls, decision: Decision) -> _Columns:
        parts = {name: np.frombuffer(term, "<f4") for name, term in decision.terms.items()}
        numbers = (decision.base_f32, decision.correction_f32, decision.logits_f32)
        base, correction, logits = (np.frombuffer(column, "<f4")[None] for column in numbers)
        hashes = [item_hash(item) if item else 0 for item in decision.candidates]
        present = np.array([[item is not None for item in decision.candidates]])
        added = not parts or np.array_equal(total(parts), base[0])
        items, offset = np.array([hashes], np.uint64), np.array([decision.cause.offset])
        adjustments = {name: np.frombuffer(column, "<f4")[None] for name, column in decision.adjustments.items()}
        return cls(base, correction, logits, items, present, offset, adjustments, added)

    def summed(self, base: NDArray[np.float32]) -> NDArray[np.float32]:
        """The logits with this base instead of the logged one."""
        return np.where(self.present, added_up(base, self.correction, self.adjustments), -np.inf).astype(np.float32)


def unmade(recorded: Decision, policy: PolicyConfig, why: str) -> Replayed:
    """A decision of which only the choice can be checked; `policy` is the one that made it."""
    columns = _Columns.of(recorded)
    return Replayed(recorded, None, _chosen_again(recorded, policy, columns), "unchecked", why)


@dataclass(frozen=True, slots=True)
class Bench:
    """A batch that was computed again: its world, its arrays, and what is known of the log."""

    world: World
    slates: Slates | None
    worlds: Worlds
    begins: int

    def judge(self, recorded: Decision, made: Decision | None, policy: PolicyConfig, checks: bool) -> Replayed:
        """Compare. `policy` made the recorded one; `checks`: both should be the same."""
        columns = _Columns.of(recorded)
        choice = _chosen_again(recorded, policy, columns)
        if made is None or self.slates is None:
            return Replayed(recorded, None, choice, "different", "no slate came out of these events")
        if not checks:
            return Replayed(recorded, made, choice, "unchecked")
        place = (recorded.cause.partition, columns.offset)
        temperature, pinned = drawn_with(recorded, policy.k)
        margins = margin(policy, columns.logits, columns.items, *place, temperature=temperature, pinned=pinned)
        nearest = float(margins[0])
        base, unknown = self._scores(recorded, self.slates)
        here = columns.present & ~unknown
        base_error = _largest(np.where(here, base - np.where(here, columns.base, 0), 0))
        popularity, correction_error = None, None
        if self.worlds.knows_estimator(recorded.estimator):
            popularity = self._correction(recorded, policy, columns, unknown)
            correction_error = _largest(popularity - columns.correction)
        note = None
        if correction_error is None:
            note = f"estimator {recorded.estimator} is gone from models: the correction was taken from the record"
        result = Replayed(recorded, made, choice, "same", note, base_error, correction_error, nearest)
        if unknown.any():
            gone = [recorded.candidates[at] for at in np.flatnonzero(unknown[0]).tolist()]
            return self._left_open(result, self._why_unknown(gone, recorded))
        if max(base_error, correction_error or 0.0) > TOLERANCE:
            return self._differs(result, f"numbers differ by {max(base_error, correction_error or 0.0):.1e}")
        return self._judge_slate(result, made, policy, columns, base)

    def _judge_slate(
        self, result: Replayed, made: Decision, policy: PolicyConfig, columns: _Columns, base: NDArray[np.float32]
    ) -> Replayed:
        """All numbers agree: what of the slate?"""
        recorded = result.recorded
        agrees = _shown(made) == _shown(recorded) and made.uniform == recorded.uniform
        if agrees and set(made.candidates) == set(recorded.candidates):
            return result
        if self._stepped(result, made, policy, columns, base):
            return replace(result, verdict="near tie", note="rounding turned a step of the arrangement")
        edge = self._edge(recorded, made)
        if edge is None:
            if result.margin < TOLERANCE:
                return replace(result, verdict="near tie", note=f"two perturbed scores lie {result.margin:.1e} apart")
            return self._differs(result, "the same candidates and numbers, another slate")
        if edge < TOLERANCE:
            return replace(result, verdict="near tie", note=f"the last retrieved scores lie {edge:.1e} apart")
        if self.world.index.approximate:
            again = _again(recorded, policy, columns, columns.summed(base))
            if again.chosen[0][again.chosen[0] >= 0].tolist() == recorded.chosen or result.margin < TOLERANCE:
                return replace(result, verdict="retrieval", note="the approximate index found other candidates")
        return self._differs(result, f"other candidates, by scores {edge:.1e} apart")

    def _stepped(
        self, result: Replayed, made: Decision, policy: PolicyConfig, columns: _Columns, base: NDArray[np.float32]
    ) -> bool:
        """Whether only the arrangement came out otherwise, and by rounding: what it did then gives the same slate."""
        recorded = result.recorded
        if recorded.rules is None or made.rules != recorded.rules or not result.base_error:
            return False
        if {*made.candidates, *made.removed} != {*recorded.candidates, *recorded.removed}:
            return False
        if set(made.candidates) == set(recorded.candidates) and made.adjustments.keys() == recorded.adjustments.keys():
            ours, theirs = _by_item(made), _by_item(recorded)
            if max(abs(ours[item] - theirs[item]) for item in theirs) < TOLERANCE:
                return False
        again = _again(recorded, policy, columns, columns.summed(base))
        return bool(again.chosen[0][again.chosen[0] >= 0].tolist() == recorded.chosen)

    def _scores(self, recorded: Decision, slates: Slates) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The scores of the logged candidates, [1, width], and which of them the world does not have."""
        offsets = [touched.covers[-1] for touched in slates.users]
        user = np.array([offsets.index(recorded.cause.offset)])
        slots = self.world.catalogue.slots([item or "" for item in recorded.candidates])[None]
        model = self.world.index.scores(slates.vectors[user], slots)
        slots = np.where(np.isneginf(model), -1, slots)
        scores = total(terms(self.world, model, slates.recent.take(user), slots))
        present = np.array([[item is not None for item in recorded.candidates]])
        return np.where(slots < 0, 0, scores).astype(np.float32), present & (slots < 0)

    def _correction(
        self, recorded: Decision, policy: PolicyConfig, columns: _Columns, unknown: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        slots = self.world.catalogue.slots([item or "" for item in recorded.candidates])[None]
        popularity = self.world.log_popularity[slots] if len(self.world.log_popularity) else np.zeros(slots.shape)
        computed = correct(policy.beta, columns.present, np.where(unknown, 0.0, popularity))
        return np.where(unknown, columns.correction, computed)

    def _edge(self, recorded: Decision, made: Decision) -> float | None:
        """How far the nearest candidates that only one of both has lie from the last that both could have.

        None when both retrieved the same. What counts name is the same or different: there is no rounding in it.
        """
        ours, theirs = _nearest(made), _nearest(recorded)
        apart = [ours[item] for item in ours.keys() - theirs.keys()] + [
            theirs[item] for item in theirs.keys() - ours.keys()
        ]
        if not apart:
            return None if set(made.candidates) == set(recorded.candidates) else float("inf")
        last = min([*ours.values(), *theirs.values()])
        return max(apart) - last

    def _why_unknown(self, gone: list[str | None], recorded: Decision) -> str:
        position = tuple(recorded.catalogue)
        later = [item for item in gone if item is not None and self.worlds.changed_later(item, position)]
        if later:
            return f"the vector that item {later[0]!r} had then is gone: a later one has replaced it in item_vectors"
        return f"item {gone[0]!r} is not in item_vectors up to its position"

    def _left_open(self, result: Replayed, note: str) -> Replayed:
        lost = "replaced" in note
        return replace(result, verdict="unchecked" if lost else "different", note=note)

    def _differs(self, result: Replayed, note: str) -> Replayed:
        if self.begins:
            return replace(
                result,
                verdict="unchecked",
                note=f"{note}; the log begins at offset {self.begins}, what the user did before is not in it",
            )
        return replace(result, verdict="different", note=note)


def _chosen_again(recorded: Decision, policy: PolicyConfig, columns: _Columns) -> bool:
    again = _again(recorded, policy, columns, columns.logits)
    size = len(recorded.chosen)
    return (
        columns.added
        and np.array_equal(columns.summed(columns.base), columns.logits)
        and again.chosen[0, :size].tolist() == recorded.chosen
        and bool((again.chosen[0, size:] < 0).all())
        and again.conditional[0, :size].tolist() == recorded.conditional
        and bool(again.uniform_arm[0]) == recorded.uniform
        and np.flatnonzero(again.pinned[0]).tolist() == recorded.pinned
        and [place for place in again.swapped[0].tolist() if place >= 0] == recorded.swapped
    )


def _again(recorded: Decision, policy: PolicyConfig, columns: _Columns, logits: NDArray[np.float32]) -> Choice:
    """The choice from these logits, all else as logged."""
    temperature, pinned = drawn_with(recorded, policy.k)
    place = (recorded.cause.partition, columns.offset)
    policy = replace(policy, marginals=False)
    return redecide(policy, logits, columns.items, *place, temperature=temperature, pinned=pinned)


def _by_item(decision: Decision) -> dict[str | None, float]:
    """What was added to each candidate in all."""
    added = sum((np.frombuffer(column, "<f4") for column in decision.adjustments.values()), np.float32(0))
    return dict(zip(decision.candidates, np.broadcast_to(added, len(decision.candidates)).tolist(), strict=True))


def _shown(decision: Decision) -> list[str | None]:
    return [decision.candidates[column] for column in decision.chosen]


def _nearest(decision: Decision) -> dict[str, float]:
    """The candidates that the index gave, with the model's part of their scores."""
    columns = slice(decision.counted, len(decision.candidates) - decision.injected)
    scores = np.frombuffer(decision.terms.get(MODEL, decision.base_f32), "<f4")[columns].tolist()
    return {item: score for item, score in zip(decision.candidates[columns], scores, strict=True) if item is not None}


def _largest(differences: NDArray[np.floating]) -> float:
    return float(np.abs(differences).max(initial=0.0))
