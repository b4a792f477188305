"""Users and items that do not hold still: the world in which recommenders are compared.

Tastes drift slowly and now and then break; what is clicked a lot becomes more attractive (herding); more of the same
tires (fatigue), and so does what was shown in vain (wear); users who find nothing stay away longer, or leave and return
much later; new items come; two groups of users differ in size and taste. docs/simulation.md has every formula.

Two worlds of one seed meet the same luck whatever they are shown: what is drawn for everybody comes from a generator in
fixed shapes, and what is drawn for somebody's visit is a function of (seed, user, visit, item or place). Knows nothing
of recommenders.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from evaluation.simulation.clicks import Bools, ClickModel, Floats, PositionBased
from policy.randomness import event_keys, item_uniforms

Ints = NDArray[np.int64]

LOOKS, WANTS, STAYS = 100, 101, 102
"""Purposes of random numbers, beside those of policy/slate.py."""
_VISITS = 2**32
"""A user's visits have numbers below this."""


@dataclass(frozen=True, slots=True)
class WorldConfig:
    """The size of a world and how it moves. Times are in ticks: at each, everybody who is there sees one slate.

    Attributes:
        users, items, new_items: how many; the new ones come one by one, evenly over `ticks`.
        k: places of a slate.
        minority: share of the smaller group.
        dim, topics: of tastes; an item belongs to one topic.
        text_dim, text_noise: what a recommender may read of an item: a projection of its place, with noise.
        sharpness, offset, quality: r = σ(sharpness · ⟨taste, item⟩ + quality · N(0, 1) + … + offset).
        drift, breaks: standard deviation of a taste's step, and the probability that it is drawn anew, each a tick.
        novelty, novelty_ticks: what a new item has at first, and how fast it wears off.
        herding: × log(1 + an item's share of recent clicks over the mean share).
        fatigue, recovery: for each click in its topic; what is left of it after a visit.
        wear, taken: for each time an item was shown in vain, and clicked; recover alike. Nothing is taken only once: as
            with music, one comes back to it.
        stay, stay_pleased: P(another slate), without and with a click on something wanted.
        met: items that each user had come across before anything was recommended.
        away: ticks between two sessions of a content user, on average.
        churn, churn_ticks: P(a user who found nothing at all leaves, at a session's end), and for how long, on average.
    """

    users: int = 200
    items: int = 300
    new_items: int = 75
    ticks: int = 160
    k: int = 10
    minority: float = 0.3
    dim: int = 8
    topics: int = 10
    text_dim: int = 16
    text_noise: float = 0.5
    sharpness: float = 4.0
    offset: float = -4.0
    quality: float = 1.0
    drift: float = 0.01
    breaks: float = 0.001
    novelty: float = 0.5
    novelty_ticks: float = 30.0
    herding: float = 0.2
    fatigue: float = 0.1
    recovery: float = 0.8
    wear: float = 0.05
    taken: float = 0.3
    stay: float = 0.6
    stay_pleased: float = 0.8
    away: float = 8.0
    met: int = 20
    churn: float = 0.15
    churn_ticks: float = 80.0
    clicks: ClickModel = field(default_factory=PositionBased)

    def __post_init__(self) -> None:
        for name in ("users", "items", "ticks", "k", "dim", "topics", "text_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"WorldConfig.{name} is {getattr(self, name)}, expected at least 1")
        if self.items < self.k:
            raise ValueError(f"WorldConfig.items is {self.items}, expected at least k ({self.k})")
        for name in ("minority", "breaks", "recovery", "stay", "stay_pleased", "churn"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"WorldConfig.{name} is {getattr(self, name)}, expected 0 to 1")


@dataclass(frozen=True, slots=True, eq=False)
class Response:
    """What n users did with the slates that they were shown.

    Attributes:
        clicks: [n, k].
        reward: [n] expected number of clicks on wanted items, given the slate.
        best: [n] the same for the best slate that the user could have been shown then.
        stays: [n] whether the user sees another slate at the next tick.
    """

    clicks: Bools
    reward: Floats
    best: Floats
    stays: Bools


class Environment(Protocol):
    """What a recommender can be let loose in. Users and items are numbers from 0; `known` items are there by now."""

    k: int
    text: NDArray[np.float32]
    topic: Ints
    group: Ints

    @property
    def known(self) -> int: ...
    @property
    def ticks(self) -> int: ...
    def history(self) -> tuple[Ints, Ints]: ...
    def begin(self) -> Ints: ...
    def relevance(self, users: Ints) -> Floats: ...
    def value(self, users: Ints, slates: Ints) -> Floats: ...
    def show(self, users: Ints, slates: Ints) -> Response: ...


class World:
    """See the module. Each tick: `begin`, then `show` once, with a slate for everybody whom `begin` named.

    Attributes:
        tick: the number of the present one, from 0.
        text: float32 [items + new, text_dim] what can be read of each item.
        topic, group: [items + new] and [users].
        visits: [users] slates seen so far.
    """

    def __init__(self, config: WorldConfig, seed: int) -> None:
        self.config, self.seed, self.k, self.tick = config, seed, config.k, -1
        made = np.random.default_rng((seed, 0))
        self._moves = np.random.default_rng((seed, 1))
        centres = _unit(made.standard_normal((config.topics, config.dim)))
        count = config.items + config.new_items
        self.topic: Ints = made.integers(config.topics, size=count)
        self._place = _unit(centres[self.topic] + 0.6 / np.sqrt(config.dim) * made.standard_normal((count, config.dim)))
        projection = made.standard_normal((config.dim, config.text_dim)) / np.sqrt(config.dim)
        noise = config.text_noise / np.sqrt(config.dim) * made.standard_normal((count, config.text_dim))
        self.text = (self._place @ projection + noise).astype(np.float32)
        self._quality = config.quality * made.standard_normal(count)
        self._arrival = np.concatenate([np.full(config.items, -(10**9)), _evenly(config.new_items, config.ticks)])
        self.group: Ints = (np.arange(config.users) < round(config.minority * config.users)).astype(np.int64)
        made.shuffle(self.group)
        self._centres = centres
        self._taste = self._tastes(made)
        shape = (config.users, config.topics)
        self._tired, self._worn = np.zeros(shape), np.zeros((config.users, count))
        self._clicked = np.zeros(count)
        self.visits: Ints = np.zeros(config.users, np.int64)
        self._pleased = np.full(config.users, 0.5)
        self._due: Ints = made.geometric(1 / config.away, size=config.users) - 1
        self._history = self._organic(made)

    @property
    def known(self) -> int:
        """How many items there are by now: those with numbers below."""
        return int((self._arrival <= self.tick).sum())

    @property
    def ticks(self) -> int:
        return self.config.ticks

    def history(self) -> tuple[Ints, Ints]:
        """Users and items of what happened before anything was recommended, in order: found by other ways."""
        return self._history

    def begin(self) -> Ints:
        """The next tick: tastes move; the users [n] who look at a slate now, ascending."""
        config, moves = self.config, self._moves
        self.tick += 1
        self._taste += config.drift * moves.standard_normal(self._taste.shape)
        anew, broken = self._tastes(moves), moves.random(config.users) < config.breaks
        self._taste = np.where(broken[:, None], anew, _unit(self._taste))
        self._clicked *= 0.98
        return np.flatnonzero(self._due <= self.tick)

    def relevance(self, users: Ints) -> Floats:
        """[n, known] P(the user wants the item, once looked at) now."""
        config, known = self.config, self.known
        age = self.tick - self._arrival[:known]
        shared = self._quality[:known] + config.novelty * np.exp(-age / config.novelty_ticks)
        shared = shared + config.herding * np.log1p(self._clicked[:known] / (self._clicked[:known].mean() + 1))
        logit = config.sharpness * self._taste[users] @ self._place[:known].T + shared + config.offset
        logit -= self._tired[users][:, self.topic[:known]] + self._worn[users, :known]
        found: Floats = 1 / (1 + np.exp(-logit))
        return found

    def value(self, users: Ints, slates: Ints) -> Floats:
        """[n] expected clicks on wanted items, were the slates shown now."""
        shown = self.relevance(users)[np.arange(len(users))[:, None], slates]
        value: Floats = self.config.clicks.expected(shown).sum(axis=1)
        return value

    def show(self, users: Ints, slates: Ints) -> Response:
        """Let `users` [n] see `slates` [n, k] of item numbers, and go on from what they do."""
        model, rows = self.config.clicks, np.arange(len(users))[:, None]
        relevance = self.relevance(users)
        ideal = -np.sort(-relevance, axis=1)[:, : self.k]
        shown = relevance[rows, slates]
        looks = self._uniforms(users, LOOKS, np.broadcast_to(np.arange(self.k), slates.shape))
        clicks, wanted = model.draw(shown, looks, self._uniforms(users, WANTS, slates))
        self._remember(users, slates, clicks)
        stays = self._go_on(users, np.asarray(wanted.any(axis=1)))
        self.visits[users] += 1
        return Response(clicks, model.expected(shown).sum(axis=1), model.expected(ideal).sum(axis=1), stays)

    # -- inside ------------------------------------------------------------------------------------

    def _tastes(self, random: np.random.Generator) -> Floats:
        """[users, dim] two topics each, those of the groups overlapping in part."""
        config = self.config
        reach = max(1, round(0.7 * config.topics))
        first = np.where(self.group == 1, config.topics - reach, 0)
        liked = (first[:, None] + random.integers(reach, size=(config.users, 2))) % config.topics
        weight = random.uniform(0.3, 0.7, (config.users, 1))
        mixed = weight * self._centres[liked[:, 0]] + (1 - weight) * self._centres[liked[:, 1]]
        return _unit(mixed + 0.5 / np.sqrt(config.dim) * random.standard_normal((config.users, config.dim)))

    def _organic(self, random: np.random.Generator) -> tuple[Ints, Ints]:
        """Some items that each user came across by himself, the better known ones more often."""
        config = self.config
        scores = config.sharpness * self._taste @ self._place[: config.items].T + self._quality[: config.items]
        scores = scores + random.standard_normal(config.items) + random.gumbel(size=scores.shape)
        items = np.argsort(-scores, axis=1)[:, : min(config.met, config.items // 2)]
        users = np.repeat(np.arange(config.users), items.shape[1])
        order = random.permutation(len(users))
        return users[order], items.ravel()[order]

    def _uniforms(self, users: Ints, purpose: int, what: Ints) -> Floats:
        keys = event_keys(self.seed, 0, users * _VISITS + self.visits[users], purpose)
        return item_uniforms(keys, what.astype(np.uint64))

    def _remember(self, users: Ints, slates: Ints, clicks: Bools) -> None:
        config = self.config
        rows, places = np.nonzero(clicks)
        user, item = users[rows], slates[rows, places]
        self._tired[users] *= config.recovery
        self._worn[users] *= config.recovery
        np.add.at(self._tired, (user, self.topic[item]), config.fatigue)
        np.add.at(self._worn, (users[:, None], slates), np.where(clicks, config.taken, config.wear))
        np.add.at(self._clicked, item, 1.0)

    def _go_on(self, users: Ints, pleased: Bools) -> Bools:
        """Decide when each user looks again; whether it is at the next tick."""
        config = self.config
        luck = self._uniforms(users, STAYS, np.broadcast_to(np.arange(3), (len(users), 3)))
        self._pleased[users] += 0.3 * (pleased - self._pleased[users])
        content = self._pleased[users]
        stays: Bools = luck[:, 0] < np.where(pleased, config.stay_pleased, config.stay)
        leaves = luck[:, 1] < config.churn * (1 - content)
        mean = np.where(leaves, config.churn_ticks, config.away * 2 / (1 + 2 * content))
        gone = 2 + np.floor(-mean * np.log1p(-luck[:, 2])).astype(np.int64)
        self._due[users] = self.tick + np.where(stays, 1, gone)
        return stays


def _unit(vectors: Floats) -> Floats:
    found: Floats = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return found


def _evenly(count: int, ticks: int) -> Ints:
    return ((np.arange(count) + 1) * ticks / (count + 1)).astype(np.int64)
