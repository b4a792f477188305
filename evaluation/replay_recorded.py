"""Events folded with their slates as they were logged: what a worker did, without any model.

Brings states to where a replay begins, and past what cannot be computed any more. Knows the contracts; knows nothing of
Kafka, models or worlds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from evaluation.replay_adjusting import configured, drawn_with
from index.hashing import item_hash
from policy.slate import PolicyConfig, redecide
from streams.contracts import Decision
from streams.fold import Folder, Touched
from streams.job import DeadLetter, Record
from streams.pipeline import PipelineConfig
from streams.state import OpenSlate, item_groups


class FromRecord:
    """The fold of one partition, from `states` on."""

    def __init__(self, config: PipelineConfig, partition: int, states: Mapping[bytes, bytes]) -> None:
        self._rest = config.policy
        self._folder = Folder(partition, config.limits, config.rules)
        self._folder.restored(states)

    def apply(
        self, records: Sequence[Record], states: Mapping[bytes, bytes], decisions: Mapping[int, Decision]
    ) -> tuple[dict[bytes, bytes | None], list[DeadLetter]]:
        """Return the changed states, None where one goes, and dead letters; `decisions` by offset of their cause."""
        folded = self._folder.fold(records, states)
        for key, touched in list(folded.users.items()):
            decision = decisions.get(touched.covers[-1]) if touched.covers else None
            if decision is not None:
                self._folder.open(folded, key, self._slate(decision, touched))
        self._folder.close_absent(folded, states)
        return folded.changes(states), folded.dead

    def _slate(self, decision: Decision, touched: Touched) -> OpenSlate:
        """The open slate that the worker kept: its probabilities follow from the logged logits."""
        policy = recorded_policy(decision, self._rest)
        logits = np.frombuffer(decision.logits_f32, "<f4")[None]
        hashes = np.array([[item_hash(item) if item else 0 for item in decision.candidates]], np.uint64)
        temperature, pinned = drawn_with(decision, policy.k)
        offset = np.array([decision.cause.offset])
        choice = redecide(
            policy, logits, hashes, decision.cause.partition, offset, temperature=temperature, pinned=pinned
        )
        size = len(decision.chosen)
        slate = OpenSlate(
            decision.slate,
            decision.time,
            touched.watermark,
            [decision.candidates[column] or "" for column in decision.chosen],
            conditional=decision.conditional,
            candidates=len(decision.candidates) - decision.candidates.count(None),
            history=touched.state.events,
            release=decision.release,
            estimator=decision.estimator,
            uniform=decision.uniform,
            steered=decision.steered,
            item_groups=item_groups(decision.groups, decision.chosen),
            group_candidates={name: len(columns) for name, columns in decision.groups.items()},
            pinned=decision.pinned,
        )
        if choice.propensity is not None and choice.inclusion is not None:
            slate.propensity = choice.propensity[0, :size].tolist()
            slate.inclusion = choice.inclusion[0, :size].tolist()
        if choice.unshown is not None and choice.unshown_inclusion is not None:
            there = choice.unshown[0] >= 0
            slate.unshown = [decision.candidates[column] or "" for column in choice.unshown[0][there].tolist()]
            slate.unshown_inclusion = choice.unshown_inclusion[0][there].tolist()
        return slate


def recorded_policy(decision: Decision, rest: PolicyConfig) -> PolicyConfig:
    """The policy that made a decision; what it does not name is taken from `rest`."""
    available = len(decision.candidates) - decision.candidates.count(None)
    shown = len(decision.chosen)
    return replace(
        rest,
        k=shown if shown < available else max(shown, min(rest.k, len(decision.candidates) - decision.injected)),
        candidates=len(decision.candidates) - decision.injected,
        neighbours=decision.neighbours,
        injected=decision.injected,
        temperature=configured(decision),
        epsilon=decision.epsilon,
        beta=decision.beta,
        seed=decision.seed,
        swaps=decision.swaps,
    )
