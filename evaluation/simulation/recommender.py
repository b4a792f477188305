"""driftline in a simulated world: worker, learner and trainer in one process, by the code that runs in production.

Users' events go to `Pipeline.apply` as records and states come back as bytes; outcomes go to the estimators, and with
the events to the trainer, by way of the same reader of rounds; releases and estimates go to the pipeline as they would
to a worker. What is not here is Kafka, and the gate that judges a release before it is served. Knows nothing of how
users come to their clicks.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import msgspec
import numpy as np

from evaluation.simulation.clicks import Bools
from evaluation.simulation.world import Environment, Ints
from models.batches import InteractionLog
from models.online import OnlineConfig, OnlineTrainer
from models.release import Release
from models.serving import ServingModel
from policy.arrangement import OFF, Arrangement
from policy.reward import LARGEST_WEIGHT
from policy.slate import PolicyConfig
from streams.contracts import Event, Impression, Interaction, ItemVector, Outcome, Request, encode
from streams.estimator_clicks import ClicksPart, DriftPart
from streams.estimator_fairness import FairnessPart
from streams.estimator_parts import ExposurePart, Seen, unpack_frequency
from streams.estimators import Estimators
from streams.names import Topics
from streams.pipeline import Pipeline, PipelineConfig
from streams.rounds import Round, RoundReader, slate_log, user_code
from streams.state import StateLimits
from streams.validation import EventRules
from streams.world import Known, World, features_of

PARTITION = 0
TICK_MS = 60_000
START_MS = 1_700_000_000_000
ENCODER = "simulated"
RULES = EventRules(actions=("view",))


@dataclass(frozen=True, slots=True)
class Setup:
    """How driftline is run.

    Attributes:
        policy: of the worker.
        trainer: of the learner.
        round_ticks: ticks between two rounds of training, each followed by a release.
        weighed: what a click on a slate counts when it is repeated. dr: its doubly robust pseudo-reward, as in the
            trainer; ips: 1/π(item in the slate), at most LARGEST_WEIGHT; none: 1.
        estimated: whether the estimators learn, and the worker corrects by them.
        arrangement: of the worker.
    """

    policy: PolicyConfig
    trainer: OnlineConfig
    round_ticks: int = 8
    weighed: Literal["dr", "ips", "none"] = "dr"
    estimated: bool = True
    arrangement: Arrangement = OFF


@dataclass(slots=True)
class _Record:
    """As the engine and the trainer would read it."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    partition: int = PARTITION
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass(slots=True)
class _Heard:
    """What one user has done since his last slate, not sent yet."""

    slate: str
    items: list[str] = field(default_factory=list)
    clicked: list[str] = field(default_factory=list)


class _Unlearned:
    """A part of the learner that stays as it began: it decides nothing about slates, and costs most of an outcome."""

    def learn(self, seen: Seen) -> None:
        """Nothing."""


class _Exposure(_Unlearned, ExposurePart): ...


class _Clicks(_Unlearned, ClicksPart): ...


class _Fairness(_Unlearned, FairnessPart): ...


class _Drift(_Unlearned, DriftPart): ...


def _estimators() -> Estimators:
    """Of the learner, only how often items are shown: that is what a worker corrects by. The trainer has its own."""
    return Estimators({"exposure": _Exposure(), "clicks": _Clicks(), "fairness": _Fairness(), "drift": _Drift()})


class Driftline:
    """See the module."""

    def __init__(self, world: Environment, setup: Setup, seed: int) -> None:
        self._env, self._setup = world, setup
        self._vectors = vectors_of(world)
        self._known = world.known
        self._tick = 0
        self._offset = 0
        self._heard: dict[int, _Heard] = {}
        self._slate: dict[int, str] = {}
        self._states: dict[bytes, bytes] = {}
        self._events: list[_Record] = []
        self._outcomes: list[_Record] = []
        self._estimators, self._reader = _estimators(), RoundReader(RULES)
        self._decode_outcome = msgspec.json.Decoder(Outcome)
        self._ranked: tuple[Ints, Ints] | None = None
        self._train(seed)
        limits = StateLimits(events=setup.trainer.training.model.history, seen=4096, outcome_window_ms=30 * TICK_MS)
        users = len(world.group)
        # What goes with a slate changes none: it is worked out where somebody weighs by it.
        policy = replace(setup.policy, marginals=setup.weighed != "none")
        config = PipelineConfig(
            Topics(),
            RULES,
            policy,
            limits,
            filter_seen=False,
            cached_users=users,
            arrangement=setup.arrangement,
        )
        self._pipeline = Pipeline(config, lambda: self._world, clock=lambda: START_MS + self._tick * TICK_MS)
        self._pipeline.assigned(PARTITION, self._states)
        self._send([*itertools.starmap(self._came_across, zip(*map(np.ndarray.tolist, world.history()), strict=True))])

    # -- what a simulation calls -------------------------------------------------------------------

    def choose(self, users: Ints) -> Ints:
        self._tick += 1
        if self._tick % self._setup.round_ticks == 0:
            self._round()
        self._learn_of_items()
        events = [event for user, heard in self._heard.items() for event in self._told(user, heard)]
        events += [Request(_user(user), self._now) for user in users.tolist() if user not in self._heard]
        self._heard.clear()
        self._send(events)
        return self._slates(users)

    def hear(self, users: Ints, slates: Ints, clicks: Bools) -> None:
        for user, slate, clicked in zip(users.tolist(), slates, clicks, strict=True):
            items = [_item(item) for item in slate.tolist()]
            chosen = [item for item, yes in zip(items, clicked.tolist(), strict=True) if yes]
            self._heard[user] = _Heard(self._slate[user], items, chosen)

    def ranked(self, users: Ints) -> Ints | None:
        if self._ranked is None:
            return None
        return self._ranked[1]

    def facts(self) -> dict[str, float]:
        return {
            "rounds": float(self._trainer.rounds),
            "events": float(self._trainer.events),
            **{f"seconds.{stage}": seconds for stage, seconds in self._pipeline.timings.seconds.items()},
        }

    # -- learning ----------------------------------------------------------------------------------

    def _train(self, seed: int) -> None:
        """The first release, from what users came across by themselves."""
        users, items = self._env.history()
        count = len(users)
        codes = np.array([user_code(_user(user)) for user in users.tolist()], np.int64)
        times = START_MS - (count - np.arange(count, dtype=np.int64)) * 1000
        log = InteractionLog(codes, items, times, np.zeros(count, np.uint8), np.ones(count, np.float32))
        self._trainer = first_trainer(log, self._vectors[: self._known], self._setup.trainer, seed)
        self._serve()

    def _serve(self) -> None:
        """Have the worker take what was learned."""
        known = {vector.item: vector for vector in self._vectors[: self._known]}
        self._world = World(ServingModel(self._trainer.release()), self._now, Known(known, (self._known,)))
        if self._setup.estimated and self._estimators.outcomes:
            snapshot = self._estimators.snapshot({PARTITION: len(self._outcomes)}, self._now)
            self._world.estimate(snapshot, unpack_frequency(snapshot.frequency))

    def _round(self) -> None:
        """Learn what has happened since the last round, and serve it."""
        found = self._reader.read({PARTITION: self._events}, {PARTITION: self._outcomes} if self._corrects else {})
        shown = self._shown() if self._setup.weighed == "ips" else found.shown
        self._events, self._outcomes = [], []
        rows = {item: row for row, item in enumerate(self._trainer.item_ids)}
        new = [vector for vector in self._vectors[: self._known] if vector.item not in rows]
        if new:
            self._trainer.put_items([vector.item for vector in new], features_of(new))
            rows = {item: row for row, item in enumerate(self._trainer.item_ids)}
        self._trainer.learn(_interactions(found, rows), found.answers)
        self._trainer.learn_shown(slate_log(found.slates, rows))
        if self._setup.weighed != "none" and shown:
            users, items, weights = zip(*shown, strict=True)
            placed = np.array([rows[item] for item in items], np.int64)
            self._trainer.weigh(np.array(users, np.int64), placed, np.array(weights, np.float32))
        self._serve()

    @property
    def _corrects(self) -> bool:
        """Whether anything that outcomes say reaches the trainer: naive arms learn from events alone."""
        blended = self._setup.trainer.blended
        return self._setup.weighed != "none" or (blended is not None and blended.counts.liked > 0)

    def _shown(self) -> list[tuple[int, str, float]]:
        """The clicks of the round's outcomes, weighed by inverse propensity."""
        outcomes = [self._decode_outcome.decode(record.value or b"") for record in self._outcomes]
        return [
            (user_code(outcome.user), item, min(LARGEST_WEIGHT, 1 / max(inclusion, 1e-9)))
            for outcome in outcomes
            for item, reward, inclusion in zip(outcome.items, outcome.rewards, outcome.inclusion or (), strict=False)
            if reward > 0
        ]

    def _learn_of_items(self) -> None:
        if self._env.known > self._known:
            before, self._known = self._known, self._env.known
            self._world.upsert(self._vectors[before : self._known])

    # -- events and slates -------------------------------------------------------------------------

    @property
    def _now(self) -> int:
        return START_MS + self._tick * TICK_MS

    def _came_across(self, user: int, item: int) -> Interaction:
        return Interaction(_user(user), _item(item), START_MS, "view")

    def _told(self, user: int, heard: _Heard) -> list[Event]:
        name = _user(user)
        shown = Impression(name, self._now, heard.items, heard.slate)
        return [shown, *(Interaction(name, item, self._now, "view", slate=heard.slate) for item in heard.clicked)]

    def _send(self, events: Sequence[Event]) -> None:
        """What the engine does with a batch of events, and the learner with its outcomes."""
        now, records = self._now, []
        for event in events:
            records.append(_Record(self._offset, now, event.user.encode(), encode(event)))
            self._offset += 1
        effects = self._pipeline.apply(PARTITION, records, self._states)
        if effects.dead:
            raise RuntimeError(f"a simulated event is dead: {effects.dead[0].message}")
        for key, state in effects.states.items():
            if state is not None:
                self._states[key] = state
        told = [value for _, value, _ in effects.outputs.get(Topics().outcomes, ()) if value is not None]
        if self._setup.estimated:
            for value in told:
                self._estimators.learn(self._decode_outcome.decode(value))
        if self._tick:
            self._events += records
            self._outcomes += [_Record(at, now, b"", value) for at, value in enumerate(told)]

    def _slates(self, users: Ints) -> Ints:
        """[n, k] what the pipeline has just chosen for these users, who had an event in its last batch."""
        made = self._pipeline.last
        if made is None:
            raise RuntimeError("the pipeline answered no event of its last batch")
        row_of = {touched.user: row for row, touched in enumerate(made.users)}
        rows = np.array([row_of[_user(user)] for user in users.tolist()], np.int64)
        for user, row in zip(users.tolist(), rows.tolist(), strict=True):
            self._slate[user] = f"{PARTITION}-{made.users[row].covers[-1]}"
        best = np.argsort(-made.base[rows], axis=1, kind="stable")[:, : self._env.k]
        self._ranked = (users, self._items(np.take_along_axis(made.slots[rows], best, axis=1)))
        return self._items(np.take_along_axis(made.slots[rows], made.decisions.chosen[rows], axis=1))

    def _items(self, slots: Ints) -> Ints:
        if (slots < 0).any():
            raise RuntimeError(f"a slate has fewer than {self._env.k} items: the world is too small for its users")
        ids = self._world.catalogue.ids(slots.ravel())
        return np.array([int(item[1:]) for item in ids], np.int64).reshape(slots.shape)


_first: dict[str, Release] = {}


def first_trainer(log: InteractionLog, items: Sequence[ItemVector], config: OnlineConfig, seed: int) -> OnlineTrainer:
    """A trainer that has warmed up. The last weights are kept: arms of one world begin with the same, whatever else
    they learn."""
    training, ids, features = config.training, [item.item for item in items], features_of(items)
    digest = hashlib.blake2b(repr((training, seed, [(item.item, item.vector_f32) for item in items])).encode())
    for column in (log.users, log.items, log.times_ms):
        digest.update(column.tobytes())
    key = digest.hexdigest()
    if key not in _first:
        _first.clear()
        alone = replace(config, blended=None)
        _first[key] = OnlineTrainer(log, ids, features, alone, seed=seed, text_encoder=ENCODER).release()
    begun = replace(config, training=replace(training, epochs=1))
    trainer = OnlineTrainer(log, ids, features, begun, seed=seed, text_encoder=ENCODER)
    trainer.adopt(_first[key])
    return trainer


def vectors_of(world: Environment) -> list[ItemVector]:
    """The items of a world, those included that come later, as the embedder would tell of them."""
    return [
        ItemVector(_item(item), ENCODER, f"{item:016x}", text.astype("<f4").tobytes(), _item(item), [f"t{topic}"])
        for item, (text, topic) in enumerate(zip(world.text, world.topic.tolist(), strict=True))
    ]


def _interactions(found: Round, rows: dict[str, int]) -> InteractionLog:
    items = np.array([rows.get(item, -1) for item in found.items], np.int64)
    return InteractionLog(found.users, items, found.times_ms, found.actions, found.weights)


def _user(user: int) -> str:
    return f"u{user}"


def _item(item: int) -> str:
    return f"i{item}"
