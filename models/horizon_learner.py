"""Learns the head that says what a user vector becomes (models/horizon.py), beside the evolution model and not in it.

Softmax cross-entropy over the items that came around the asked time, from hidden states that are taken as they are: no
gradient goes into the model, whose own objective stays what it was. The mixture of topics has the likelihood of those
items' topics. AdamW, and a moving average of the weights, as for the model itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from models import horizon
from models.batches import Batch
from models.config import Float32, Int64
from models.evolution import unit
from models.exemplars import Exemplars
from models.horizon_cases import Cases, draw
from models.learner import Learner, seeded

_MOMENTS = ("exp_avg", "exp_avg_sq", "step")
_BARRED = -1e9
_VIEWS_FASTER = 10  # the weights of the mixture have far to go, and few of them are asked at a time
_AT_ONCE = 32  # histories encoded together


@dataclass(frozen=True, slots=True)
class HorizonConfig:
    """How the head is learned.

    Attributes:
        hidden: width of its inner layer.
        warm_up: pairs drawn after the warm-up of the model, not more than there are interactions.
        passes: over those.
        batch_size: pairs a step.
        learning_rate, weight_decay, dropout: as usual.
        average: decay per step of the moving average of the weights.
        memory: everybody's topics are those of about so many last interactions.

    Raises:
        ValueError: a field is outside its range.
    """

    hidden: int = 128
    warm_up: int = 2048
    passes: int = 8
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    dropout: float = 0.2
    average: float = 0.99
    memory: int = 5000

    def __post_init__(self) -> None:
        for name, least in (("hidden", 1), ("warm_up", 0), ("passes", 0), ("batch_size", 1), ("memory", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"HorizonConfig.{name} is {getattr(self, name)}, expected at least {least}")
        if not self.learning_rate > 0:
            raise ValueError(f"HorizonConfig.learning_rate is {self.learning_rate}, expected a positive number")


class Head(nn.Module):
    """`models.horizon.Horizon` in torch; parameters are named as the arrays of a release, without the prefix."""

    def __init__(self, dim: int, hidden: int, dropout: float, members: int = 1) -> None:
        super().__init__()
        self.dropout, self.members = dropout, members
        self.sharpness = nn.Parameter(torch.zeros(horizon.BUCKETS))
        self.popularity = nn.Parameter(torch.zeros(horizon.BUCKETS))
        self.shift = nn.Parameter(torch.zeros(horizon.BUCKETS, dim))
        self.ahead = nn.Parameter(torch.randn(horizon.BUCKETS, hidden) * 0.1)
        self.up = nn.Parameter(torch.randn(dim, hidden) * dim**-0.5)
        self.calendar = nn.Parameter(torch.zeros(horizon.CALENDAR, hidden))
        self.down = nn.Parameter(torch.zeros(hidden, dim))
        self.views = nn.Parameter(torch.zeros(horizon.BUCKETS, len(horizon.VIEWS)))

    def forward(self, hidden: Tensor, at: Tensor, onset: Tensor, waves: Tensor) -> tuple[Tensor, Tensor]:
        """Directions [B, d] times how sharp they are, and what popularity counts [B]; inputs as in the other."""
        inner = torch.relu(self._drop(hidden) @ self.up + at @ self.ahead + waves @ self.calendar)
        moved = unit(hidden, self.members) + at @ self.shift + onset[:, None] * (self._drop(inner) @ self.down)
        direction = unit(moved, self.members) * (at @ self.sharpness).exp()[:, None]
        return direction, (at @ self.popularity).exp()

    def _drop(self, x: Tensor) -> Tensor:
        return functional.dropout(x, self.dropout, self.training)


@dataclass(frozen=True, slots=True)
class _States:
    """What is known of B cases when they are asked: hidden states [B, d], own topics [B, t], items so far [B, n]."""

    hidden: Tensor
    own: Float32
    items: Int64


class HorizonLearner:
    """The head, its optimiser and moving average, and the topics of everybody's events."""

    def __init__(self, config: HorizonConfig, learner: Learner, topics: slice, *, seed: int) -> None:
        """topics: columns of the learner's item features that are categories."""
        self.config, self._learner, self._topics = config, learner, topics
        with seeded(seed, learner.device):
            model = learner.config.model
            self.head = Head(model.dim, config.hidden, config.dropout, model.members).to(learner.device)
        self._averaged = {name: value.detach().clone() for name, value in self.head.named_parameters()}
        shape = [value for name, value in self.head.named_parameters() if name != "views"]
        groups: list[dict[str, Any]] = [
            {"params": shape},
            {"params": [self.head.views], "lr": _VIEWS_FASTER * config.learning_rate},
        ]
        self._optimiser = torch.optim.AdamW(groups, lr=config.learning_rate, weight_decay=config.weight_decay)
        self._counted = np.zeros(topics.stop - topics.start)

    def count(self, items: Int64) -> None:
        """Everybody's topics go on: interactions in order of arrival; unknown items, -1, do not count."""
        keep, known = np.exp(-1 / self.config.memory), items[items >= 0]
        age = np.arange(len(known) - 1, -1, -1)
        self._counted = self._counted * keep ** len(known) + (keep**age) @ self._shares(known)

    def warm_up(self, exemplars: Exemplars, random: np.random.Generator) -> float:
        """After the model's; the mean loss of the last pass, NaN where there is nothing to learn from."""
        cases = draw(exemplars, min(self.config.warm_up, exemplars.total), random)
        if not len(cases):
            return float("nan")
        states = self._states(exemplars, cases)
        size, loss = self.config.batch_size, float("nan")
        for _ in range(self.config.passes):
            begins = random.permutation(np.arange(0, len(cases), size)).tolist()
            losses = [
                self._step(
                    cases.part(at, at + size),
                    _States(states.hidden[at : at + size], states.own[at : at + size], states.items[at : at + size]),
                    random,
                )
                for at in begins
            ]
            loss = float(np.mean(losses))
        return loss

    def learn(self, exemplars: Exemplars, random: np.random.Generator) -> float:
        """One step on newly drawn pairs; its loss, NaN where there is nothing to learn from."""
        cases = draw(exemplars, self.config.batch_size, random)
        return self._step(cases, self._states(exemplars, cases), random) if len(cases) else float("nan")

    # -- giving out and taking in ------------------------------------------------------------------

    def arrays(self) -> dict[str, Float32]:
        """The section of a release."""
        found = {f"{horizon.PREFIX}{name}": value.cpu().numpy().copy() for name, value in self._averaged.items()}
        return found | {"horizon.everybody": self._everybody()}

    @torch.no_grad()
    def adopt(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take on the head of a release, where it has one; the optimiser starts anew."""
        if not horizon.optional(arrays):
            return
        self._optimiser.state.clear()
        for name, value in self.head.named_parameters():
            value.copy_(torch.from_numpy(arrays[horizon.PREFIX + name].copy()))
            self._averaged[name].copy_(value)

    def state(self) -> dict[str, np.ndarray]:
        """Everything that `restore` needs."""
        found: dict[str, Tensor] = {}
        for name, value in self.head.named_parameters():
            held = self._optimiser.state.get(value, {})
            found |= {f"weights.{name}": value.detach(), f"average.{name}": self._averaged[name]}
            found |= {f"adam.{moment}.{name}": held[moment] for moment in _MOMENTS if moment in held}
        return {name: value.cpu().numpy() for name, value in found.items()} | {"counted": self._counted}

    @torch.no_grad()
    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from what `state` gave."""
        for name, value in self.head.named_parameters():
            value.copy_(torch.from_numpy(state[f"weights.{name}"]))
            self._averaged[name].copy_(torch.from_numpy(state[f"average.{name}"]))
            self._optimiser.state[value] = {
                moment: torch.from_numpy(state[key].copy()).to("cpu" if moment == "step" else self._learner.device)
                for moment in _MOMENTS
                if (key := f"adam.{moment}.{name}") in state
            }
        self._counted = state["counted"].copy()

    # -- inside ------------------------------------------------------------------------------------

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self._learner.device)

    def _served(self, prefix: str) -> dict[str, Tensor]:
        """Averaged weights of the model's `evolution.` or `tower.`: those that a release has."""
        return {
            name.removeprefix(prefix): value
            for name, value in self._learner.averaged.items()
            if name.startswith(prefix)
        }

    def _shares(self, rows: Int64) -> Float32:
        """[..., t] the topics of these items; zeros for one that is not known, -1."""
        columns = self._learner.tower.get_buffer("columns")[:, self._topics]
        found = horizon.shares(columns[self._tensor(rows.ravel())].cpu().numpy())
        found[rows.ravel() < 0] = 0
        return found.reshape(*rows.shape, found.shape[1])

    def _everybody(self) -> Float32:
        total = self._counted.sum()
        return (self._counted / total if total else self._counted).astype(np.float32)

    @torch.no_grad()
    def _vectors(self, rows: Int64) -> tuple[Tensor, Tensor]:
        """Vectors and biases of items as a release has them."""
        self._learner.tower.eval()
        vectors, biases = functional_call(self._learner.tower, self._served("tower."), (self._tensor(rows),))
        return vectors, biases

    def _states(self, exemplars: Exemplars, cases: Cases) -> _States:
        """Encode the histories up to each case."""
        random = np.random.default_rng(0)  # nothing is shuffled
        length = self._learner.config.model.history
        hidden, own, items = [], [], []
        everybody = self._everybody()
        for start in range(0, len(cases), _AT_ONCE):
            batch = exemplars.batch(cases.ends[start : start + _AT_ONCE], length, 0.0, random)
            hidden.append(self._encode(batch))
            present = np.arange(batch.items.shape[1]) < batch.lengths[:, None]
            own.append(horizon.own_shares(self._shares(batch.items), present, everybody))
            items.append(np.pad(batch.items, ((0, 0), (0, length - batch.items.shape[1])), constant_values=-1))
        return _States(torch.cat(hidden), np.concatenate(own), np.concatenate(items))

    @torch.no_grad()
    def _encode(self, batch: Batch) -> Tensor:
        """Hidden states [B, d] after the last event of each history."""
        rows = np.unique(batch.items[batch.items >= 0])
        vectors, _ = self._vectors(rows)
        table = torch.cat([vectors, vectors.new_zeros(1, self._learner.config.model.dim)])
        places = np.where(batch.items >= 0, np.searchsorted(rows, batch.items), len(rows))
        self._learner.evolution.eval()
        hidden = functional_call(
            self._learner.evolution,
            self._served("evolution."),
            (
                table[self._tensor(places)] * self._learner.config.model.dim**0.5,
                self._tensor(batch.times_ms),
                self._tensor(batch.actions).long(),
                self._tensor(batch.weights),
                self._tensor(batch.firsts),
            ),
        )
        found: Tensor = hidden[torch.arange(len(places), device=hidden.device), self._tensor(batch.lengths) - 1]
        return found

    def _step(self, cases: Cases, states: _States, random: np.random.Generator) -> float:
        competing, log_inclusion = self._learner.competitors().draw(random)
        extra = np.setdiff1d(cases.items, competing)
        rows = np.concatenate([competing, extra])
        offset = np.concatenate([log_inclusion, np.zeros(len(extra), np.float32)])
        self.head.train()
        at, onset = horizon.steps(cases.ahead_ms)
        waves = horizon.calendar(cases.now_ms, cases.ahead_ms)
        direction, popularity = self.head(states.hidden, *(self._tensor(array) for array in (at, onset, waves)))
        vectors, biases = self._vectors(rows)
        temperature = self._learner.averaged["evolution.log_temperature"].exp()
        logits = direction @ vectors.T / temperature + popularity[:, None] * biases - self._tensor(offset)
        target = self._targets(cases, rows)
        if self._learner.config.mask_seen:
            barred = self._tensor(self._seen(states.items, rows)) & (target == 0)
            logits = logits.masked_fill(barred, _BARRED)
        log_chances = logits.log_softmax(dim=1)
        asked = target.sum(dim=1).clamp(max=1).sum().clamp(min=1)
        loss = -(log_chances * target).sum() / asked - self._topics_likelihood(
            at, log_chances, target, rows, states.own
        )
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.head.parameters(), self._learner.config.clip)
        self._optimiser.step()
        with torch.no_grad():
            for name, value in self.head.named_parameters():
                self._averaged[name].lerp_(value, 1 - self.config.average)
        return float(loss.item())

    def _topics_likelihood(self, at: Float32, log_chances: Tensor, target: Tensor, rows: Int64, own: Float32) -> Tensor:
        """Mean log-likelihood of the targets' topics under the mixture, whose weights alone learn from it."""
        shares = self._tensor(self._shares(rows))
        everybody = self._tensor(self._everybody()).expand(len(own), -1)
        views = torch.stack([log_chances.detach().exp() @ shares, self._tensor(own), everybody], dim=1)
        weight = (self._tensor(at) @ self.head.views).softmax(dim=1)
        mixed = torch.einsum("bv,bvt->bt", weight, views)
        likelihood: Tensor = ((target @ shares) * (mixed + 1e-6).log()).sum(dim=1).mean()
        return likelihood

    def _targets(self, cases: Cases, rows: Int64) -> Tensor:
        """[B, c] what share of each case's targets a row is."""
        order = np.argsort(rows)
        column = order[np.searchsorted(rows[order], cases.items)]
        counted = np.zeros((len(cases), len(rows)), np.float32)
        np.add.at(counted, (cases.rows, column), 1)
        return self._tensor(counted / np.maximum(counted.sum(axis=1, keepdims=True), 1))

    def _seen(self, items: Int64, rows: Int64) -> np.ndarray:
        """[B, c] whether the user has met the item of a row in the remembered history."""
        order = np.argsort(rows)
        place = np.minimum(np.searchsorted(rows[order], items), len(rows) - 1)
        hit = (items >= 0) & (rows[order][place] == items)
        seen = np.zeros((len(items), len(rows)), bool)
        row, _ = np.nonzero(hit)
        seen[row, order[place[hit]]] = True
        return seen
