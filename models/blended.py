"""The half of a trainer that needs no gradients through a network: counts, users' last items, and the blend's weights.

An event is first an example for the blend, with the candidates, counts and model scores that a worker would have had,
and counted afterwards. Knows nothing of how the model is trained: it is given vectors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from models.batches import InteractionLog
from models.blend_learner import BlendConfig, BlendLearner
from models.config import Bool, Float32, Int64
from models.counts import Channel, Counts, CountsConfig, Learned, Table
from models.recent import Before, RecentItems
from models.shown import SlateLog, information, surplus

Arrays = dict[str, np.ndarray]

SLATES = 16
"""Slates learned at a time."""


@dataclass(frozen=True, slots=True)
class BlendedConfig:
    """What is counted, and how it is blended with the model."""

    counts: CountsConfig = field(default_factory=CountsConfig)
    blend: BlendConfig = field(default_factory=BlendConfig)


class Blended:
    """Counts over n items, and a blend for them."""

    def __init__(self, config: BlendedConfig, items: int) -> None:
        self.config = config
        self._counts = Counts(config.counts, items)
        self._recent = RecentItems(config.counts.length)
        self._blend = BlendLearner(self._blend_config(), self._counts.features)

    def grow(self, items: int) -> None:
        """Make room for items up to so many."""
        self._counts.grow(items)

    def count(self, log: InteractionLog) -> None:
        """Take in interactions without learning to blend, as for a warm-up."""
        before = self._recent.follow(log.users, log.items, log.times_ms)
        self._counts.learn(before.recent, log.items)

    def learn(
        self, log: InteractionLog, users: Float32, items: Float32, barred: tuple[Int64, Int64], waits: Bool
    ) -> float:
        """Learn to blend from n interactions, then count them; the blend's mean loss.

        Args:
            log: in order of arrival.
            users: [n, d + 1] the model's vector of each interaction's user right before it.
            items: [items, d + 1] vectors of all items.
            barred: flat pairs (interaction, row) that could not have been recommended.
            waits: [n] interactions that are only followed as their users' last ones: a slate will tell the rest.
        """
        before, kept = self._recent.follow(log.users, log.items, log.times_ms), np.flatnonzero(~waits)
        if not len(kept):
            return float("nan")
        if len(kept) < len(log):
            before = Before(before.recent[kept], before.events[kept], before.gap_s[kept])
            place, there = np.searchsorted(kept, barred[0]), ~waits[barred[0]]
            barred = place[there], barred[1][there]
        loss = self._learn_blend(before, log.items[kept], users[kept], items, barred)
        self._counts.learn(before.recent, log.items[kept])
        return loss

    def learn_shown(self, before: Before, slates: SlateLog, users: Float32, items: Float32) -> None:
        """Learn to blend from n slates by the position-based model, and what items are worth beside the blend.

        Args:
            before: what was known of the slates' users.
            users: [n, d + 1] the model's vector of each user then.
            items: [items, d + 1] vectors of all items.
        """
        for start in range(0, len(slates), SLATES):
            part = slice(start, start + SLATES)
            rows, clicks, examination = slates.items[part], slates.clicks[part], slates.examination[part]
            then = Before(before.recent[part], before.events[part], before.gap_s[part])
            scores = np.einsum("nd,nkd->nk", users[part], items[rows])
            counts, places = self._counts.serving(then.recent)
            examples = self._blend.shown(counts, places, then, rows, scores)
            levels, there = self._blend.levels(examples, clicks, examination), rows >= 0
            wrong = np.where(there, surplus(levels, clicks, examination), np.float32(0))
            told = np.where(there, information(levels, examination), np.float32(0))
            self._blend.learn_shown(examples, wrong, told)
            self._counts.like(rows, wrong, told)
            self._counts.correct(then.recent, rows, wrong)

    def count_shown(self, recent: Int64, items: Int64) -> None:
        """Count interactions that a slate brought, as `count`; `recent` [n, L] before each."""
        self._counts.learn(recent, items)

    def forget(self, users: Int64) -> None:
        """These users were never met; what was counted stays."""
        self._recent.forget(users.tolist())

    def arrays(self, rows: Int64) -> Arrays:
        """The sections of a release with these items, ascending."""
        return self._counts.arrays(rows) | self._blend.arrays()

    def adopt(self, weights: Float32) -> None:
        """Go on from a release's weights of the blend."""
        self._blend.adopt(weights)

    @property
    def length(self) -> int:
        """How many of a user's last items are looked at."""
        return self.config.counts.length

    @property
    def source(self) -> str:
        """``Release.source``."""
        return self.config.counts.source

    def state(self) -> Arrays:
        """Everything, exactly."""
        parts = {"counts": self._counts.state(), "recent": self._recent.state(), "blend": self._blend.state()}
        return {f"{part}.{name}": array for part, arrays in parts.items() for name, array in arrays.items()}

    @classmethod
    def restore(cls, config: BlendedConfig, state: Mapping[str, np.ndarray]) -> Self:
        """As it was when ``state`` was taken."""

        def part(prefix: str) -> Arrays:
            return {name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)}

        made = cls(config, 0)
        made._counts = Counts.restore(config.counts, part("counts."))
        made._recent = RecentItems.restore(part("recent."))
        made._blend = BlendLearner.restore(made._blend_config(), made._counts.features, part("blend."))
        return made

    def _learn_blend(
        self, before: Before, targets: Int64, users: Float32, items: Float32, barred: tuple[Int64, Int64]
    ) -> float:
        scores = users @ items.T
        scores[barred] = -np.inf
        k = min(self.config.blend.modelled, scores.shape[1])
        modelled = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        modelled = np.where(np.isfinite(np.take_along_axis(scores, modelled, axis=1)), modelled, -1)

        def score(rows: Int64) -> Float32:
            return np.take_along_axis(scores, rows, axis=1)

        counts, places = self._counts.serving(before.recent)
        available = np.ones(len(self._counts), np.bool_)
        examples = self._blend.examples(counts, places, before, modelled, score, targets, barred, available)
        surplus = self._blend.surplus(examples)
        loss = self._blend.learn(examples)
        self._counts.correct(before.recent, examples.rows, surplus)
        return loss

    def _blend_config(self) -> BlendConfig:
        blend = self.config.blend
        return replace(blend, start={**self._counts.start, **blend.start})


def config_of(fields: Mapping[str, Any]) -> BlendedConfig:
    """From ``dataclasses.asdict``, by way of JSON."""
    counts, blend = dict(fields["counts"]), dict(fields["blend"])
    counts["channels"] = {name: Channel(**one) for name, one in counts["channels"].items()}
    counts["tables"] = {name: Table(**one) for name, one in counts["tables"].items()}
    counts["learned"] = counts["learned"] and Learned(**counts["learned"])
    counts["popularity"] = tuple(counts["popularity"])
    blend["edges"] = {name: tuple(cuts) for name, cuts in blend["edges"].items()}
    return BlendedConfig(CountsConfig(**counts), BlendConfig(**blend))
