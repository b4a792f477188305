"""A linear layer on a text encoder that brings together what the same people take, learned from a stream's own pairs.

Two items that one user took within a few events of each other are a pair. Of a batch of pairs, each item has to find
its own partner by their vectors (InfoNCE with in-batch negatives, corrected for how often each is drawn). Only a layer
on top is learned, from the identity on, so that a laptop does it in minutes, and an item that nobody has touched moves
with those whose text is like its own. Whether that helps it is measured on items that are held out. Knows nothing of
files or of where events come from.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.config import Bool, Float32, Int64

AMONG = 10
"""A partner counts as found among so many."""
CHECKED, HELD_OUT = 4000, 2000
"""Pairs and items of the check, at most."""

Progress = Callable[[int, int, float], None]
"""Steps so far, of how many, and the share of held-out partners found at the last check."""


@dataclass(frozen=True, slots=True)
class TuneConfig:
    """How to tune.

    Attributes:
        steps: at most.
        minutes: at most, of wall-clock time.
        batch: pairs a step.
        learning_rate: of AdamW.
        decay: weight decay, towards the encoder as it was.
        temperature: of the softmax over a batch.
        held_out: share of the items that take no part and say whether it helps.
        every: steps between two checks; the best one is what is kept.
        seed: of the draws.

    Raises:
        ValueError: a field is outside its range.
    """

    steps: int = 1000
    minutes: float = 10.0
    batch: int = 256
    learning_rate: float = 1e-3
    decay: float = 0.1
    temperature: float = 0.1
    held_out: float = 0.1
    every: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "every"):
            if getattr(self, name) < 1:
                raise ValueError(f"TuneConfig.{name} is {getattr(self, name)}, expected at least 1")
        if self.batch < 2:
            raise ValueError(f"TuneConfig.batch is {self.batch}, expected at least 2: each is the others' negative")
        for name in ("minutes", "learning_rate", "temperature"):
            if not getattr(self, name) > 0:
                raise ValueError(f"TuneConfig.{name} is {getattr(self, name)}, expected a positive number")
        if not 0 < self.held_out < 1:
            raise ValueError(f"TuneConfig.held_out is {self.held_out}, expected between 0 and 1")


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """n pairs of rows of items, each both ways round the same."""

    one: Int64
    other: Int64

    def __len__(self) -> int:
        return len(self.one)

    def where(self, which: Bool) -> Pairs:
        """Some of them."""
        return Pairs(self.one[which], self.other[which])


@dataclass(frozen=True, slots=True, eq=False)
class Tuned:
    """A layer x → x · weightᵀ, to be followed by scaling to length 1.

    Attributes:
        weight: [t, t].
        before, after: share of the checked pairs whose held-out item is among the ten nearest held-out ones, without
            the layer and with it.
        steps: after which the layer was best; 0: none was better than none.
        pairs, checked: how many there were to learn from and to check by.
    """

    weight: Float32
    before: float
    after: float
    steps: int
    pairs: int
    checked: int


def pairs_of(users: Int64, items: Int64, window: int) -> Pairs:
    """Pairs of different items within ``window`` events of one user, in order of arrival; an item of -1 is in none."""
    order = np.argsort(users, kind="stable")
    users, items = users[order], items[order]
    found = []
    for apart in range(1, min(window, len(users) - 1) + 1):
        same = (users[:-apart] == users[apart:]) & (items[:-apart] != items[apart:])
        same &= (items[:-apart] >= 0) & (items[apart:] >= 0)
        found.append(np.stack([items[:-apart][same], items[apart:][same]]))
    both = np.concatenate(found, axis=1) if found else np.empty((2, 0), np.int64)
    return Pairs(both[0], both[1])


def tune(vectors: Float32, pairs: Pairs, config: TuneConfig | None = None, progress: Progress | None = None) -> Tuned:
    """Learn a layer.

    Args:
        vectors: [n, t] of the items' texts, of length 1.
        pairs: rows of them.

    Raises:
        ValueError: there is nothing to learn from, or nothing to check by.
    """
    config = config or TuneConfig()
    random = np.random.default_rng(config.seed)
    met = np.unique(np.concatenate([pairs.one, pairs.other]))
    held = np.zeros(len(vectors), np.bool_)
    held[random.permutation(met)[: min(HELD_OUT, round(config.held_out * len(met)))]] = True
    learned, check = pairs.where(~held[pairs.one] & ~held[pairs.other]), _Check.of(vectors, pairs, held, random)
    if len(learned) < config.batch or not len(check.pairs):
        raise ValueError(
            f"tune got {len(learned)} pairs to learn from and {len(check.pairs)} to check by, expected at least "
            f"{config.batch} and 1"
        )
    layer = _Layer(vectors.shape[1])
    before = best = check.found(layer)
    kept, at, ends = layer.weight(), 0, time.monotonic() + 60 * config.minutes
    for step in _learning(layer, torch.from_numpy(vectors), learned, config, random):
        late = time.monotonic() > ends
        if step % config.every == 0 or step == config.steps or late:
            found = check.found(layer)
            if found > best:
                best, kept, at = found, layer.weight(), step
            if progress is not None:
                progress(step, config.steps, found)
        if late:
            break
    return Tuned(kept, before, best, at, len(learned), len(check.pairs))


class _Layer(nn.Module):
    """x → x + x · change, scaled to length 1; decay takes it back to x.

    Without a bias: what an encoder pools is not of length 1 yet, and so its length does not matter.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.change = nn.Parameter(torch.zeros(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return functional.normalize(x + x @ self.change, dim=-1)

    @torch.no_grad()
    def weight(self) -> Float32:
        """[t, t] as a linear layer has it: outputs by inputs."""
        weight: Float32 = (torch.eye(len(self.change)) + self.change.T).numpy().copy()
        return weight


@dataclass(frozen=True, slots=True, eq=False)
class _Check:
    """Pairs of a known item and a held-out one; the latter is looked for among all that are held out."""

    pairs: Pairs  # the known item's row, and the other's place among the held-out
    known: Tensor
    hidden: Tensor

    @classmethod
    def of(cls, vectors: Float32, pairs: Pairs, held: Bool, random: np.random.Generator) -> _Check:
        one = np.concatenate([pairs.one, pairs.other])
        other = np.concatenate([pairs.other, pairs.one])
        chosen = np.flatnonzero(~held[one] & held[other])
        chosen = random.permutation(chosen)[:CHECKED]
        place = np.cumsum(held) - 1
        here = Pairs(one[chosen], place[other[chosen]])
        return cls(here, torch.from_numpy(vectors[here.one]), torch.from_numpy(vectors[held]))

    @torch.no_grad()
    def found(self, layer: _Layer) -> float:
        """Share of the held-out items among the ten nearest, by the cosine of vectors less what all have in common."""
        known, hidden = layer(self.known), layer(self.hidden)
        mean = hidden.mean(dim=0)
        scores = functional.normalize(known - mean, dim=-1) @ functional.normalize(hidden - mean, dim=-1).T
        right = scores.gather(1, torch.from_numpy(self.pairs.other)[:, None])
        return float(((scores > right).sum(dim=1) < AMONG).float().mean())


def _learning(
    layer: _Layer, vectors: Tensor, pairs: Pairs, config: TuneConfig, random: np.random.Generator
) -> Iterator[int]:
    """Step after step; the number of each, from 1, when it is done."""
    optimiser = torch.optim.AdamW(layer.parameters(), lr=config.learning_rate, weight_decay=config.decay)
    often = np.bincount(np.concatenate([pairs.one, pairs.other]), minlength=len(vectors))
    log_often = torch.from_numpy(np.log(np.maximum(often, 1) / (2 * len(pairs))).astype(np.float32))
    for step in range(1, config.steps + 1):
        drawn = random.integers(0, len(pairs), config.batch)
        sides = [torch.from_numpy(side[drawn]) for side in (pairs.one, pairs.other)]
        one, other = (layer(vectors[rows]) for rows in sides)
        scores = one @ other.T / config.temperature
        loss = sum(
            _own_partner(table, asking, answering, log_often)
            for table, asking, answering in ((scores, *sides), (scores.T, *reversed(sides)))
        )
        optimiser.zero_grad()
        loss.backward()  # type: ignore[union-attr]
        optimiser.step()
        yield step


def _own_partner(scores: Tensor, asking: Tensor, answering: Tensor, log_often: Tensor) -> Tensor:
    """Softmax cross-entropy of the diagonal. What is drawn often stands against others as often, which is taken off;
    the partner's own item, or the one that asks, elsewhere in the batch is no negative."""
    same = (answering[None] == answering[:, None]) | (answering[None] == asking[:, None])
    same.fill_diagonal_(False)
    logits = (scores - log_often[answering]).masked_fill(same, -torch.inf)
    return functional.cross_entropy(logits, torch.arange(len(logits)))
