"""What a release would have put into the ten best, by the worker's own code: for the gate, before anybody is served.

Histories become worlds, vectors and candidates exactly as events do in a worker, but for the policy: no exploration, no
correction, the order of the scores. Knows worlds; knows nothing of Kafka, or of who is judged against whom.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.blend import total
from models.continual import Cases, History
from models.release import Release
from models.serving import ServingModel
from policy.slate import PolicyConfig, noise
from streams.contracts import ItemVector
from streams.recent import Recent
from streams.sources import find, terms
from streams.user_cache import excluded_pairs
from streams.world import Known, World

Float64 = NDArray[np.float64]


def judge(policy: PolicyConfig, *, filter_seen: bool) -> Callable[[Release], Judge]:
    """Return what makes the judges of releases that are served under this policy."""
    greedy = replace(policy, injected=0, marginals=False)
    return lambda release: Judge(release, greedy, filter_seen=filter_seen)


class Judge:
    """Gains of one release: NDCG at the policy's k with the one item that came, [n] in 0 to 1."""

    def __init__(self, release: Release, policy: PolicyConfig, *, filter_seen: bool) -> None:
        self._policy, self._filter_seen = policy, filter_seen
        self._world = World(ServingModel(release), 0, Known({}, ()))
        self._known = 0  # of the cases' items

    def __call__(self, cases: Cases) -> Float64:
        """Gains on the cases."""
        self._take_items(cases)
        world = self._world
        if not len(cases.targets) or not len(world.index):
            return np.zeros(len(cases.targets))
        slot = world.catalogue.slots(list(cases.items))
        histories = [np.where(items >= 0, slot[items], -1) for items, *_ in cases.histories]
        vectors = self._vectors(histories, cases.histories)
        seen = [np.unique(slots[slots >= 0]) if self._filter_seen else slots[:0] for slots in histories]
        length = world.counts.length if world.counts is not None else 0
        recent = _recent(histories, cases.histories, length)
        random = noise(self._policy, 0, np.arange(len(histories)))
        found = find(world, self._policy, vectors, recent, excluded_pairs(seen), random)
        scores = total(terms(world, found.model, recent, found.slots))
        return _gains(found.slots, scores, slot[cases.targets], self._policy.k)

    def _take_items(self, cases: Cases) -> None:
        """Put the items that are new on the shelf; features that changed since are not worth another world."""
        new = range(self._known, len(cases.items))
        self._world.upsert(_item(cases, row, self._world.model.text_encoder) for row in new)
        self._known = len(cases.items)

    def _vectors(self, slots: Sequence[NDArray[np.int64]], histories: Sequence[History]) -> NDArray[np.float32]:
        model, inputs = self._world.model, self._world.inputs
        kept = model.config.history
        cache = model.new_cache(len(slots))
        hidden = model.rebuild(
            cache,
            np.arange(len(slots)),
            [np.where(one[-kept:, None] >= 0, inputs[one[-kept:]], 0).astype(np.float32) for one in slots],
            [times[-kept:] for _, times, _, _ in histories],
            [actions[-kept:] for _, _, actions, _ in histories],
            [weights[-kept:] for _, _, _, weights in histories],
        )
        return model.user_vectors(hidden)


def _item(cases: Cases, row: int, encoder: str) -> ItemVector:
    features = cases.features
    year = int(features.years[row])
    return ItemVector(
        cases.items[row],
        encoder,
        "",
        features.text[row].astype("<f4").tobytes(),
        "",
        list(features.categories[row]),
        year or None,
    )


def _recent(slots: Sequence[NDArray[np.int64]], histories: Sequence[History], length: int) -> Recent:
    newest, when = np.full((2, len(slots), length), -1, np.int64)
    times = [history[1] for history in histories]
    for user, (known, at) in enumerate(zip(slots, times, strict=True)):
        last = known[::-1][:length]
        newest[user, : len(last)] = last
        when[user, : len(last)] = at[::-1][:length]
    gaps = [max(0, int(one[-1] - one[-2])) / 1000 if len(one) > 1 else -1 for one in times]
    return Recent(newest, np.array([len(one) for one in slots], np.int64), np.array(gaps, np.float32), when)


def _gains(slots: NDArray[np.int64], scores: NDArray[np.float32], targets: NDArray[np.int64], k: int) -> Float64:
    """1 / log2(1 + position) of the target among the k best, else 0."""
    best = np.take_along_axis(slots, np.argsort(-scores, axis=1, kind="stable")[:, :k], axis=1)
    hit = (best == targets[:, None]) & (best >= 0)
    gains: Float64 = (hit / np.log2(2 + np.arange(best.shape[1]))).sum(axis=1)
    return gains
