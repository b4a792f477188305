"""Learns the weights of the blend online: of what was on offer at an event, the item that came should score highest.

Each event is an example of softmax regression over its candidates, those that a worker would have had: the model's
best and the counts' best. A context's weights are a part that all contexts share and one of its own, so that a rare
context is no worse than the average. Serving needs only their sum (see models/blend.py). Knows nothing of how the
model or the counts learn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from models import sections
from models.blend import MISSING, context_count, contexts, table_features
from models.config import Bool, Float32, Int64
from models.cooccurrence import ServingCounts
from models.recent import Before
from models.sections import MODEL
from models.shown import level_of

Float64 = npt.NDArray[np.float64]
Arrays = dict[str, npt.NDArray[Any]]
Score = Callable[[Int64], Float32]
"""Rows [B, C], -1: none → the model's scores of them for each of the B users."""

LEVEL_PRIOR, LEVEL_MEMORY = 10.0, 1000.0
"""Of the levels at which slates are clicked: the information that their start rests on, and that of which the first
counts 1/e."""

_BETAS, _EPSILON = (0.9, 0.99), 1e-8


def _edges() -> dict[str, tuple[float, ...]]:
    return {"events": (1, 3, 6, 11, 21, 51), "gap_s": (0, 0.001, 60)}


@dataclass(frozen=True, slots=True)
class BlendConfig:
    """How to learn a blend.

    Attributes:
        edges: where quantities of a user's history are cut, by name (see ``Blend.contexts``).
        start: weights to begin with, by feature; others begin at 0.
        learning_rate: of Adam.
        batch: events a step.
        modelled, counted: candidates of an example from the model and from the counts.

    Raises:
        ValueError: a field is outside its range.
    """

    edges: Mapping[str, tuple[float, ...]] = field(default_factory=_edges)
    start: Mapping[str, float] = field(default_factory=lambda: {MODEL: 1.0})
    learning_rate: float = 0.005
    batch: int = 64
    modelled: int = 100
    counted: int = 100

    def __post_init__(self) -> None:
        if not self.learning_rate > 0:
            raise ValueError(f"BlendConfig.learning_rate is {self.learning_rate}, expected a positive number")
        for name in ("batch", "modelled", "counted"):
            if getattr(self, name) < 1:
                raise ValueError(f"BlendConfig.{name} is {getattr(self, name)}, expected at least 1")
        strange = sorted(set(self.edges) - set(sections.QUANTITIES))
        if strange:
            raise ValueError(f"BlendConfig.edges has {strange[0]!r}, expected some of {list(sections.QUANTITIES)}")


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """n events as the blend saw them.

    Attributes:
        rows: [n, C] candidates, -1: none; in a row no item twice.
        features: float32 [n, C, F], 0 where there is no candidate.
        contexts: [n] rows of the weights.
        targets: [n] where the item that came is among the candidates, -1 if it is not.
    """

    rows: Int64
    features: Float32
    contexts: Int64
    targets: Int64

    def __len__(self) -> int:
        return len(self.rows)


class BlendLearner:
    """Weights for the features that a release with such arrays has, in the order of ``sections.features``."""

    def __init__(self, config: BlendConfig | None, features: Sequence[str]) -> None:
        self.config = config or BlendConfig()
        self.features = list(features)
        unknown = sorted(set(self.config.start) - set(self.features))
        if unknown:
            raise ValueError(f"BlendConfig.start has {unknown[0]!r}, expected some of {self.features}")
        self._edges = {name: np.array(cuts, np.float32) for name, cuts in self.config.edges.items()}
        # Row 0 is the part that is shared.
        self._weights: Float64 = np.zeros((1 + context_count(self._edges), len(self.features)))
        for name, weight in self.config.start.items():
            self._weights[0, self.features.index(name)] = weight
        self._moments: Float64 = np.zeros((2, *self._weights.shape))
        self._steps = 0
        self._levels: Float64 = np.zeros(len(self._weights))
        self._told: Float64 = np.zeros(len(self._weights))

    def examples(
        self, counts: ServingCounts, places: Int64, before: Before, modelled: Int64, score: Score, items: Int64,
        barred: tuple[Int64, Int64], available: Bool,
    ) -> Examples:  # fmt: skip
        """Make examples of n events.

        Args:
            counts: as served at the time, and `places` [n, L], the last items before each event in its rows
                (both from ``Counts.serving``).
            before: what was known of the users.
            modelled: [n, K] the model's best rows, -1: none; without those that are barred.
            score: the model's scores.
            items: [n] what came, -1: an unknown item.
            barred: flat pairs (event, row) that could not be recommended, such as what the user has seen.
            available: [items] rows that the counts may find.
        """
        counted = counts.candidates(places, self.config.counted, barred, available)
        rows = _distinct(np.concatenate([modelled[:, : self.config.modelled], counted], axis=1))
        sums, scores = counts.sums(places, rows), score(rows)
        columns = {name: known[rows] for name, known in counts.columns.items()}
        features = _matrix(self.features, scores, sums, columns, counts.floors)
        features[rows < 0] = 0
        hit = (rows == items[:, None]) & (rows >= 0)
        targets = np.where(hit.any(axis=1), hit.argmax(axis=1), -1)
        # Counting may look further back than serving does, and a context is to be what the worker will see.
        recent = before.recent[:, : counts.length]
        return Examples(rows, features, contexts(self._edges, before.events, before.gap_s, recent), targets)

    def scores(self, examples: Examples) -> Float32:
        """[n, C] as served with the weights of now; -inf where there is no candidate."""
        weights = self._summed()[examples.contexts]
        found: Float32 = np.einsum("ncf,nf->nc", examples.features, weights)
        scores: Float32 = np.where(examples.rows >= 0, found, np.float32(-np.inf))
        return scores

    def surplus(self, examples: Examples) -> Float32:
        """[n, C] each candidate's chance with the weights of now, less 1 for the one that came; 0 where there is no
        candidate, and for an event whose item is not among them: the gradient of the loss in the scores."""
        scores, found = self.scores(examples), examples.targets >= 0
        odds = np.where(found[:, None], np.exp(scores - scores.max(axis=1, keepdims=True, initial=-1e30)), 0)
        chances: Float32 = odds / np.maximum(odds.sum(axis=1, keepdims=True), np.float32(1e-30))
        chances[found, examples.targets[found]] -= 1
        return chances

    def learn(self, examples: Examples) -> float:
        """Learn from n events in order, in batches; the mean loss before each step, NaN without a target among the
        candidates."""
        kept = np.flatnonzero(examples.targets >= 0)
        losses = [
            self._step(kept[start : start + self.config.batch], examples)
            for start in range(0, len(kept), self.config.batch)
        ]
        return float(np.concatenate(losses).mean()) if losses else float("nan")

    def shown(self, counts: ServingCounts, places: Int64, before: Before, slates: Int64, scores: Float32) -> Examples:
        """Examples of n slates: rows [n, k], -1: none, with the model's scores of them; the rest as in `examples`."""
        columns = {name: known[slates] for name, known in counts.columns.items()}
        features = _matrix(self.features, scores, counts.sums(places, slates), columns, counts.floors)
        features[slates < 0] = 0
        recent = before.recent[:, : counts.length]
        at = contexts(self._edges, before.events, before.gap_s, recent)
        return Examples(slates, features, at, np.full(len(slates), -1))

    def levels(self, examples: Examples, clicks: Bool, examination: Float32) -> Float32:
        """[n, k] as `scores`, and the level of the context, at which who looks clicks; 0 where nothing is.

        Before anything was learned the level is what makes the `clicks` [n, k] as many as expected, η being
        `examination`: from another one every item would be learned to be far worse or better than it is.
        """
        there = examples.rows >= 0
        scores = np.where(there, self.scores(examples), np.float32(0))
        if not self._told.any():
            self._levels[0] = level_of(scores, clicks, examination, there)
        level = self._levels[0] + self._levels[examples.contexts + 1]
        found: Float32 = np.where(there, scores + level[:, None], 0).astype(np.float32)
        return found

    def learn_shown(self, examples: Examples, surplus: Float32, information: Float32) -> None:
        """One step by the gradient [n, k] of the loss in the levels and its information, both 0 where nothing is."""
        each = np.einsum("nk,nkf->nf", surplus, examples.features) / len(surplus)
        gradient = np.zeros_like(self._weights)
        gradient[0] = each.sum(axis=0)
        np.add.at(gradient, examples.contexts + 1, each)
        self._descend(gradient)
        size = len(self._levels)
        told = np.bincount(examples.contexts + 1, information.sum(axis=1), size)
        slope = np.bincount(examples.contexts + 1, surplus.sum(axis=1), size)
        told[0], slope[0] = told.sum(), slope.sum()
        self._told += told
        # Half to the level of all and half to the context's own, so that both together make one whole step.
        self._levels -= slope / (2 * self._told + LEVEL_PRIOR)
        self._told *= np.exp(-told / LEVEL_MEMORY)

    def arrays(self) -> Arrays:
        """What a release holds of it: the ``blend.`` arrays that models/sections.py describes."""
        edges = {f"blend.edges.{name}": cuts for name, cuts in self._edges.items()}
        return {**edges, "blend.weights": self._summed()}

    def state(self) -> Arrays:
        """Everything, exactly: ``restore`` of it goes on as this would have. Not a copy: write it before going on."""
        weights = {"weights": self._weights, "moments": self._moments, "steps": np.array(self._steps)}
        return weights | {"levels": self._levels, "told": self._told}

    @classmethod
    def restore(
        cls, config: BlendConfig, features: Sequence[str], state: Mapping[str, npt.NDArray[Any]]
    ) -> BlendLearner:
        """As it was when ``state`` was taken.

        Raises:
            ValueError: the state is of other contexts or features.
        """
        learner = cls(config, features)
        if state["weights"].shape != learner._weights.shape:
            shape, expected = state["weights"].shape, learner._weights.shape
            raise ValueError(f"blend weights are {shape}, expected [1 + contexts, features] {expected}")
        learner._weights, learner._moments = state["weights"].copy(), state["moments"].copy()
        learner._steps = int(state["steps"])
        for name, held in (("levels", learner._levels), ("told", learner._told)):
            held[:] = state.get(name, held)  # an older checkpoint has none
        return learner

    def adopt(self, weights: Float32) -> None:
        """Go on from the weights [contexts, F] of a release.

        Raises:
            ValueError: they are of other contexts or features.
        """
        if weights.shape != self._weights[1:].shape:
            raise ValueError(f"blend.weights are {weights.shape}, expected {self._weights[1:].shape}")
        self._weights[0] = weights.mean(axis=0)
        self._weights[1:] = weights - self._weights[0]
        self._moments[:] = 0
        self._steps = 0

    def _summed(self) -> Float32:
        summed: Float32 = (self._weights[0] + self._weights[1:]).astype(np.float32)
        return summed

    def _step(self, at: Int64, examples: Examples) -> Float64:
        """One step of Adam on the events `at`; the loss of each."""
        features, context = examples.features[at], examples.contexts[at]
        present = examples.rows[at] >= 0
        logits = np.einsum("ncf,nf->nc", features, self._summed()[context]).astype(np.float64)
        logits = np.where(present, logits, -np.inf)
        logits -= logits.max(axis=1, keepdims=True)
        odds = np.exp(logits)
        total = odds.sum(axis=1, keepdims=True)
        event, target = np.arange(len(at)), examples.targets[at]
        losses: Float64 = np.log(total[:, 0]) - logits[event, target]
        surplus = odds / total
        surplus[event, target] -= 1
        each = np.einsum("nc,ncf->nf", surplus.astype(np.float32), features) / len(at)
        gradient = np.zeros_like(self._weights)
        gradient[0] = each.sum(axis=0)
        np.add.at(gradient, context + 1, each)
        self._descend(gradient)
        return losses

    def _descend(self, gradient: Float64) -> None:
        self._steps += 1
        for moment, beta, new in zip(self._moments, _BETAS, (gradient, gradient**2), strict=True):
            moment += (1 - beta) * (new - moment)
        first, second = (moment / (1 - beta**self._steps) for moment, beta in zip(self._moments, _BETAS, strict=True))
        self._weights -= self.config.learning_rate * first / (np.sqrt(second) + _EPSILON)


def _distinct(rows: Int64) -> Int64:
    """Each row sorted, what comes twice or is none as -1."""
    ordered = np.sort(rows, axis=1)
    ordered[:, 1:][ordered[:, 1:] == ordered[:, :-1]] = -1
    return ordered


def _matrix(
    names: Sequence[str],
    model: Float32,
    sums: Mapping[str, Float32],
    columns: Mapping[str, Float32],
    floors: Mapping[str, np.float32],
) -> Float32:
    """[n, C, F] features in the order of their names."""
    by_name: dict[str, npt.NDArray[Any]] = {MODEL: model, **columns}
    for name, summed in sums.items():
        by_name[name], by_name[name + MISSING] = table_features(summed, floors[name])
    return np.stack([by_name[name].astype(np.float32) for name in names], axis=2)
