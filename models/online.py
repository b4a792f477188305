"""Training that goes on while the model serves: a warm-up, then round after round of new interactions.

A round takes a few gradient steps on pieces of history that end in what is new, mixed with pieces of older ones
(exemplar replay: Mi et al., ADER, 2020), so that learning the new does not cost the old; releases hold the moving
average of the weights. Everything follows from the log, the rounds and the seed: a trainer that was saved and loaded
goes on exactly as one that never stopped. Knows nothing of Kafka, clocks, or who decides what is served.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from models.batches import Batch, InteractionLog
from models.config import EvolutionConfig, Float32, Int64
from models.exemplars import Exemplars, History
from models.features import FeatureSpace, ItemFeatures
from models.horizon_learner import HorizonConfig, HorizonLearner
from models.learner import Learner, TrainConfig, seeded
from models.release import Release
from models.train import Progress, check_log, warm_up

STATE, ARRAYS = "trainer.json", "trainer.safetensors"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class OnlineConfig:
    """How to go on learning.

    Attributes:
        training: the warm-up, and all that a round has in common with it.
        learning_rate: of the rounds.
        steps: gradient steps a round.
        recent: pieces a step that end in what the round brought.
        replayed: pieces a step from all that is remembered.
        exemplars: interactions that are remembered, at most.
        horizon: of the head for later times; None leaves it out.

    Raises:
        ValueError: a field is outside its range.
    """

    training: TrainConfig = field(default_factory=TrainConfig)
    learning_rate: float = 4e-4
    steps: int = 4
    recent: int = 12
    replayed: int = 20
    exemplars: int = 1_000_000
    horizon: HorizonConfig | None = field(default_factory=HorizonConfig)

    def __post_init__(self) -> None:
        for name in ("steps", "recent", "replayed"):
            if getattr(self, name) < 0:
                raise ValueError(f"OnlineConfig.{name} is {getattr(self, name)}, expected at least 0")
        if self.exemplars < 1:
            raise ValueError(f"OnlineConfig.exemplars is {self.exemplars}, expected at least 1")
        if not self.learning_rate > 0:
            raise ValueError(f"OnlineConfig.learning_rate is {self.learning_rate}, expected a positive number")


class OnlineTrainer:
    """See the module. Rows of items are places in ``item_ids``.

    Attributes:
        config: as given.
        item_ids, features: of the n items so far.
        text_encoder: fingerprint of the encoder behind the text vectors.
        rounds, events: taken since the warm-up.
    """

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
        warm_up(self._learner, log, self._random, progress)
        self._exemplars.add(log)
        if self._horizon is not None:
            self._horizon.count(log.items)
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

    def learn(self, log: InteractionLog) -> float:
        """One round: interactions in order of arrival; the mean loss of its steps, NaN when there was none.

        Raises:
            ValueError: an item is beyond ``item_ids``. Nothing has been learned then.
        """
        if int(log.items.max(initial=-1)) >= len(self.item_ids):
            raise ValueError(f"learn: item row {log.items.max()}, expected within -1..{len(self.item_ids) - 1}")
        numbers = self._exemplars.add(log)
        self._count(log.items[log.items >= 0])
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

    def weigh(self, users: Int64, items: Int64, weights: Float32) -> None:
        """What the newest interaction of each (user, item) counts as a target from now on; 1 until then."""
        self._exemplars.weigh(users, items, weights, self._piece)

    def forget(self, users: Int64) -> None:
        """Leave nothing of what these users did; what was learned from it stays."""
        self._exemplars.forget(users)

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
        return Release(
            self.config.training.model,
            self._space,
            tuple(self.item_ids[row] for row in known),
            self._learner.arrays(known) | (self._horizon.arrays() if self._horizon is not None else {}),
            self.text_encoder,
            facts,
        )

    def save(self, directory: Path) -> None:
        """Write all that `load` needs into a directory, which is made: one file of arrays, one of JSON."""
        directory.mkdir(parents=True, exist_ok=True)
        arrays = {f"learner.{name}": array for name, array in self._learner.state().items()}
        arrays |= {f"exemplars.{name}": array for name, array in self._exemplars.arrays().items()}
        if self._horizon is not None:
            arrays |= {f"horizon.{name}": array for name, array in self._horizon.state().items()}
        arrays |= {"space.text_mean": self._space.text_mean}
        arrays |= {"features.text": self.features.text, "features.years": np.asarray(self.features.years, np.int64)}
        # asarray, because ascontiguousarray turns a scalar into a vector.
        save_file({name: np.asarray(array, order="C") for name, array in arrays.items()}, directory / ARRAYS)
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
        (directory / STATE).write_text(json.dumps(state, ensure_ascii=False))

    @classmethod
    def load(cls, directory: Path, device: str = "cpu") -> Self:
        """Go on where a trainer was saved.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a file is damaged or of another format.
        """
        try:
            state = json.loads((directory / STATE).read_bytes())
            if state["format"] != FORMAT:
                raise ValueError(f"{directory}: format {state['format']}, this version reads {FORMAT}")
            return cls._of(state, load_file(directory / ARRAYS), device)
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, SafetensorError, RuntimeError) as error:
            raise ValueError(f"{directory}: not a trainer that can be read: {error!r}") from error

    @classmethod
    def _of(cls, state: dict[str, Any], arrays: dict[str, np.ndarray], device: str) -> Self:
        made = cls.__new__(cls)
        space = FeatureSpace(
            arrays["space.text_mean"], tuple(state["vocabulary"]), state["year_mean"], state["year_scale"]
        )
        features = ItemFeatures(arrays["features.text"], state["categories"], arrays["features.years"])
        made._set_up(state["item_ids"], features, space, _config(state["config"]), 0, device)
        made.text_encoder, made._facts = state["text_encoder"], state["facts"]
        made.rounds, made.events = state["rounds"], state["events"]
        made._learner.restore(_section(arrays, "learner."))
        if made._horizon is not None:
            made._horizon.restore(_section(arrays, "horizon."))
        made._exemplars = Exemplars.restored(made.config.exemplars, state["exemplars"], _section(arrays, "exemplars."))
        made._random.bit_generator.state = state["random"]
        return made

    # -- inside ----------------------------------------------------------------------------------------

    @property
    def _piece(self) -> int:
        """Interactions of a piece; half of the warm-up's, since a step has to be cheap here."""
        return self.config.training.model.window

    def _count(self, items: Int64) -> None:
        counts = self._learner.counts
        self._learner.begin(np.unique(items[counts[items] == 0]))
        np.add.at(counts, items, 1)

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


def _config(fields: dict[str, Any]) -> OnlineConfig:
    training = fields["training"]
    training = TrainConfig(**(training | {"model": EvolutionConfig(**training["model"])}))
    horizon = fields["horizon"] and HorizonConfig(**fields["horizon"])
    return OnlineConfig(**(fields | {"training": training, "horizon": horizon}))


def _section(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
