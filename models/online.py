"""Training that goes on while the model serves: a warm-up, then round after round of new interactions.

What a round brings is first an example for the blend, with the model and the counts as they were, then counted
(models/blended.py), then learned by the model: a few gradient steps on pieces of history that end in what is new, mixed
with pieces of older ones (exemplar replay: Mi et al., ADER, 2020), so that learning the new does not cost the old.
Releases hold the moving average of the weights. Everything follows from the log, the rounds and the seed: a trainer
that was saved and loaded goes on exactly as one that never stopped. Knows nothing of Kafka, clocks, or who decides what
is served.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import numpy as np

from models import trainer_files
from models.batches import Batch, InteractionLog
from models.blended import Blended
from models.config import Bool, Float32, Int64
from models.exemplars import Exemplars, History
from models.features import FeatureSpace, ItemFeatures
from models.horizon_learner import HorizonLearner
from models.learner import Learner, seeded
from models.online_config import OnlineConfig, config_of
from models.release import Release
from models.shown import SlateLog, before
from models.train import Progress, check_log, warm_up

__all__ = ["OnlineConfig", "OnlineTrainer"]

FORMAT = 2
_UNFOLDED = 8
"""Users whose events are gone through together: histories differ in length, and are padded to the longest."""
_COMPANIONS = 3
"""An item without features starts where the last so many items before its first interaction are."""
_WAITING = 64
"""How far back the click of a slate is looked for."""
_SEEN = 1000
"""How far back the blend's examples look for what a user had seen."""


class OnlineTrainer:
    """See the module. Rows of items are places in ``item_ids``.

    Attributes:
        config: as given.
        item_ids, features: of the n items so far.
        text_encoder: fingerprint of the encoder behind the text vectors.
        rounds, events: taken since the warm-up.
    """

    config: OnlineConfig
    item_ids: list[str]
    features: ItemFeatures
    rounds: int
    events: int
    _space: FeatureSpace
    _learner: Learner
    _exemplars: Exemplars
    _blended: Blended | None
    _random: np.random.Generator

    def __init__(
        self,
        log: InteractionLog,
        ids: Sequence[str],
        features: ItemFeatures,
        config: OnlineConfig | None = None,
        *,
        seed: int = 0,
        text_encoder: str = "",
        progress: Progress | None = None,
        device: str = "cpu",
    ) -> None:
        """Warm up on a log; arguments as for ``models.train.train``.

        Raises:
            ValueError: the log has no known item or one that is not in the list, or ids and features disagree.
        """
        check_log(log, ids, features)
        known = np.unique(log.items[log.items >= 0])
        self._set_up(ids, features, FeatureSpace.fit(features.take(known)), config or OnlineConfig(), seed, device)
        self.text_encoder = text_encoder
        self._facts: dict[str, Any] = {"warm_up": len(log), "seed": seed}
        self._warm_up(log, progress)
        self.rounds = self.events = 0
        if self._horizon is not None:
            with seeded(int(self._random.integers(2**62)), device):
                self._horizon.warm_up(self._exemplars, self._random)

    def _set_up(
        self,
        ids: Sequence[str],
        features: ItemFeatures,
        space: FeatureSpace,
        config: OnlineConfig,
        seed: int,
        device: str,
    ) -> None:
        self.config, self.rounds, self.events = config, 0, 0
        self.item_ids, self.features = list(ids), features
        self._row = {item: row for row, item in enumerate(self.item_ids)}
        self._space = space
        self._learner = Learner(space.matrix(features), config.training, seed=seed, device=device)
        self._exemplars = Exemplars(config.exemplars)
        topics = slice(len(space.text_mean), len(space.text_mean) + len(space.vocabulary))
        self._horizon: HorizonLearner | None = None
        if config.horizon is not None:
            self._horizon = HorizonLearner(config.horizon, self._learner, topics, seed=seed)
        self._blended = None if config.blended is None else Blended(config.blended, len(ids))
        self._random = np.random.default_rng(seed)

    # -- what comes in ---------------------------------------------------------------------------------

    def put_items(self, ids: Sequence[str], features: ItemFeatures) -> None:
        """Items that are new, or whose features have changed; they count from the next round on.

        Raises:
            ValueError: ids and features differ in number, an id comes twice, or text vectors have another width.
        """
        if len(ids) != len(features) or len(set(ids)) != len(ids):
            raise ValueError(f"put_items got {len(set(ids))} distinct of {len(ids)} ids, features of {len(features)}")
        columns = self._space.matrix(features)
        for item in ids:
            if item not in self._row:
                self._row[item] = len(self.item_ids)
                self.item_ids.append(item)
        rows = np.array([self._row[item] for item in ids], np.int64)
        self.features = self.features.put(rows, features)
        self._learner.put_columns(rows, columns)
        if self._blended is not None:
            self._blended.grow(len(self.item_ids))

    def learn(self, log: InteractionLog, answers: Bool | None = None) -> float:
        """One round: interactions in order of arrival; the mean loss of its steps, NaN when there was none.

        answers: [n] which of them answer a slate that `learn_shown` will tell of.

        Raises:
            ValueError: an item is beyond ``item_ids``. Nothing has been learned then.
        """
        if int(log.items.max(initial=-1)) >= len(self.item_ids):
            raise ValueError(f"learn: item row {log.items.max()}, expected within -1..{len(self.item_ids) - 1}")
        numbers = self._exemplars.add(log)
        waits = np.zeros(len(log), np.bool_) if answers is None or not self._from_slates else answers
        self._exemplars.wait(numbers[waits])
        if self._blended is not None and len(log):
            self._learn_blend(self._blended, log, numbers, waits)
        self._count(log.items, numbers)
        ends = self._recent_ends(log.users, numbers)
        self._learner.set_learning_rate(self.config.learning_rate)
        competitors = self._learner.competitors()
        losses = []
        with seeded(int(self._random.integers(2**62)), self._learner.device):
            for _ in range(self.config.steps):
                batch = self._batch(ends)
                if batch.targets.any():
                    losses.append(self._learner.step(batch, competitors, self._random))
            if self._horizon is not None and losses:
                self._horizon.count(log.items)
                self._horizon.learn(self._exemplars, self._random)
        self.rounds += 1
        self.events += len(log)
        return float(np.mean(losses)) if losses else float("nan")

    def learn_shown(self, slates: SlateLog) -> None:
        """Slates whose outcome is known: the blend learns from them (see ``CountsConfig.liked``).

        Raises:
            ValueError: an item is beyond ``item_ids``. Nothing has been learned then.
        """
        if int(slates.items.max(initial=-1)) >= len(self.item_ids):
            raise ValueError(f"learn_shown: item {slates.items.max()}, expected within -1..{len(self.item_ids) - 1}")
        if self._blended is None or not self._from_slates or not len(slates):
            return
        ends, known = before(self._exemplars, slates, self._blended.length)
        items = self._learner.item_vectors()
        users = self._learner.last_vectors(self._exemplars.pieces(ends, self.config.training.model.history), items)
        self._blended.learn_shown(known, slates, users, items)
        row, place = np.nonzero(slates.clicks & (slates.items >= 0))
        clicked = slates.items[row, place]
        waited = self._exemplars.told(slates.users[row], clicked, _WAITING)
        self._blended.count_shown(known.recent[row[waited]], clicked[waited])

    def weigh(self, users: Int64, items: Int64, weights: Float32) -> None:
        """What the newest interaction of each (user, item) counts as a target from now on; 1 until then."""
        self._exemplars.weigh(users, items, weights, self._piece)

    def forget(self, users: Int64) -> None:
        """Leave nothing of what these users did; what was learned from it stays."""
        self._exemplars.forget(users)
        if self._blended is not None:
            self._blended.forget(users)

    def adopt(self, release: Release) -> None:
        """Go on from the weights of a release; items it does not know start anew, histories stay.

        Raises:
            ValueError: it has another shape, other feature columns, or an item that is not in ``item_ids``.
        """
        if release.config != self.config.training.model or release.space.columns != self._space.columns:
            raise ValueError(f"adopt: release {release.id} has another shape than this trainer")
        unknown = [item for item in release.item_ids if item not in self._row]
        if unknown:
            raise ValueError(f"adopt: release {release.id} has items that the trainer has not, {unknown[0]!r} first")
        if self._blended is not None and "blend.weights" in release.arrays:
            self._blended.adopt(release.arrays["blend.weights"])
        self._learner.adopt(release.arrays, np.array([self._row[item] for item in release.item_ids], np.int64))
        if self._horizon is not None:
            self._horizon.adopt(release.arrays)

    # -- what goes out ---------------------------------------------------------------------------------

    def histories(self, users: Int64) -> list[History]:
        """The last ``EvolutionConfig.history`` interactions of each user; empty arrays for users without any."""
        return self._exemplars.histories(users, self.config.training.model.history)

    def release(self, facts: dict[str, Any] | None = None) -> Release:
        """The model as it is now: averaged weights, of the items with an interaction."""
        known = np.flatnonzero(self._learner.counts)
        facts = self._facts | {"rounds": self.rounds, "events": self.events} | (facts or {})
        arrays = self._learner.arrays(known)
        if self._horizon is not None:
            arrays |= self._horizon.arrays()
        if self._blended is not None:
            arrays |= self._blended.arrays(known)
        return Release(
            self.config.training.model,
            self._space,
            tuple(self.item_ids[row] for row in known),
            arrays,
            self.text_encoder,
            facts,
            source="" if self._blended is None else self._blended.source,
        )

    def save(self, directory: Path) -> None:
        """Write all that `load` needs into a directory, which is made: one file of arrays, one of JSON."""
        arrays = trainer_files.prefixed(self._learner.state(), "learner.")
        arrays |= trainer_files.prefixed(self._exemplars.arrays(), "exemplars.")
        if self._blended is not None:
            arrays |= trainer_files.prefixed(self._blended.state(), "blended.")
        if self._horizon is not None:
            arrays |= trainer_files.prefixed(self._horizon.state(), "horizon.")
        arrays |= {"space.text_mean": self._space.text_mean}
        arrays |= {"features.text": self.features.text, "features.years": np.asarray(self.features.years, np.int64)}
        state = {
            "format": FORMAT,
            "config": asdict(self.config),
            "item_ids": self.item_ids,
            "categories": [list(names) for names in self.features.categories],
            "vocabulary": list(self._space.vocabulary),
            "year_mean": self._space.year_mean,
            "year_scale": self._space.year_scale,
            "text_encoder": self.text_encoder,
            "facts": self._facts,
            "rounds": self.rounds,
            "events": self.events,
            "exemplars": self._exemplars.total,
            "random": self._random.bit_generator.state,
        }
        trainer_files.write(directory, state, arrays)

    @classmethod
    def load(cls, directory: Path, device: str = "cpu") -> Self:
        """Go on where a trainer was saved.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a file is damaged or of another format.
        """
        state, arrays = trainer_files.read(directory)
        try:
            if state["format"] != FORMAT:
                raise ValueError(f"{directory}: format {state['format']}, this version reads {FORMAT}")
            return cls._of(state, arrays, device)
        except (KeyError, TypeError, RuntimeError) as error:
            raise ValueError(f"{directory}: not a trainer that can be read: {error!r}") from error

    @classmethod
    def _of(cls, state: dict[str, Any], arrays: dict[str, np.ndarray], device: str) -> Self:
        made = cls.__new__(cls)
        space = FeatureSpace(
            arrays["space.text_mean"], tuple(state["vocabulary"]), state["year_mean"], state["year_scale"]
        )
        features = ItemFeatures(arrays["features.text"], state["categories"], arrays["features.years"])
        config, section = config_of(state["config"]), trainer_files.section
        made._set_up(state["item_ids"], features, space, config, 0, device)
        made.text_encoder, made._facts = state["text_encoder"], state["facts"]
        made.rounds, made.events = state["rounds"], state["events"]
        made._learner.restore(section(arrays, "learner."))
        made._exemplars = Exemplars.restored(config.exemplars, state["exemplars"], section(arrays, "exemplars."))
        if config.blended is not None:
            made._blended = Blended.restore(config.blended, section(arrays, "blended."))
        if made._horizon is not None:
            made._horizon.restore(section(arrays, "horizon."))
        made._random.bit_generator.state = state["random"]
        return made

    # -- inside ----------------------------------------------------------------------------------------

    def _warm_up(self, log: InteractionLog, progress: Progress | None) -> None:
        """Most epochs over the log but for its end, the end in rounds, and the other epochs over all of it."""
        config, epochs = self.config, self.config.training.epochs
        rehearsed = int(config.rehearsal * len(log))
        first = log.part(slice(0, len(log) - rehearsed))
        if not rehearsed or not (first.items >= 0).any():
            first, rehearsed = log, 0
        most = epochs - round(config.finish * epochs) if rehearsed else epochs
        self._take_in(first)
        warm_up(self._learner, first, self._random, progress, epochs=range(1, most + 1))
        for start in range(len(first), len(log), config.round_events):
            self.learn(log.part(slice(start, start + config.round_events)))
        if most < epochs:
            warm_up(self._learner, log, self._random, progress, epochs=range(most + 1, epochs + 1))

    def _take_in(self, log: InteractionLog) -> None:
        self._learner.count(log.items)
        self._exemplars.add(log)
        if self._blended is not None:
            self._blended.count(log)
        if self._horizon is not None:
            self._horizon.count(log.items)

    @property
    def _piece(self) -> int:
        """Interactions of a piece; half of the warm-up's, since a step has to be cheap here."""
        return self.config.training.model.window

    def _learn_blend(self, blended: Blended, log: InteractionLog, numbers: Int64, waits: Bool) -> None:
        items = self._learner.item_vectors()
        users = np.zeros((len(log), items.shape[1]), np.float32)
        history = self.config.training.model.history
        asked = () if waits.all() else self._exemplars.unfolding(int(numbers[0]), history, _UNFOLDED)
        for number, batch in asked:
            users[number - numbers[0]] = self._learner.user_vectors(batch, items)
        nothing = np.empty(0, np.int64)
        seen = self._exemplars.seen(numbers, _SEEN) if self.config.training.mask_seen else (nothing, nothing)
        blended.learn(log, users, items, seen, waits)

    @property
    def _from_slates(self) -> bool:
        return self.config.blended is not None and self.config.blended.counts.liked > 0

    def _count(self, items: Int64, numbers: Int64) -> None:
        counts = self._learner.counts
        rows, first = np.unique(items, return_index=True)
        new = (rows >= 0) & (counts[rows] == 0)
        companions = self._exemplars.items(self._exemplars.chains(numbers[first[new]], 1 + _COMPANIONS)[:, 1:])
        self._learner.begin(rows[new], companions, self._random)
        self._learner.count(items)

    def _recent_ends(self, users: Int64, numbers: Int64) -> Int64:
        """Numbers to end pieces at so that every interaction of the round is in one, with half a piece before it."""
        stride = max(1, self._piece // 2)
        order = np.argsort(users[::-1], kind="stable")  # newest first, by user
        begins = np.r_[True, np.diff(users[::-1][order]) != 0][: len(users)]
        place = np.arange(len(users))
        age = place - np.maximum.accumulate(np.where(begins, place, 0))
        ends: Int64 = numbers[::-1][order][age % stride == 0]
        return ends

    def _batch(self, ends: Int64) -> Batch:
        config, random, exemplars = self.config, self._random, self._exemplars
        recent = random.permutation(ends)[: config.recent]
        replayed = random.integers(exemplars.oldest, exemplars.total, config.replayed + config.recent - len(recent))
        chosen = np.concatenate([recent, replayed])
        return exemplars.batch(chosen, self._piece, config.training.tie_shuffle, random)
