"""Weights, optimiser and moving average of the evolution model and its item tower: one gradient step at a time.

AdamW on the next-item loss; what is given out is the exponential moving average of the weights. Knows nothing about
where batches come from, nor about users, streams or files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from models.batches import Batch
from models.config import Bool, EvolutionConfig, Float32, Int64
from models.evolution import EvolutionModel, unit
from models.loss import Competitors, next_item_loss
from models.tower import ItemTower

NEW_ITEM_QUANTILE = 0.01
"""New items start as popular as this quantile of the trained ones; lower costs them, higher costs everybody else."""

_PER_ITEM = ("tower.residual", "tower.item_bias")
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """How to train.

    Attributes:
        model: shape of the evolution model.
        epochs: passes over the log.
        batch_size: pieces of histories a step, each of up to twice the window.
        learning_rate, weight_decay, clip: of AdamW, and the largest norm of a gradient.
        tie_shuffle: probability of shuffling a user's events within equal timestamps, each epoch.
        id_dropout: probability that an item shows only its features in a step.
        mask_seen: items in the window do not compete with the target; for domains without repeats.
        average: decay per step of the moving average of the weights.
        full_softmax_items: the largest catalogue whose every item competes in every step.
        negatives: draws a step for larger ones.

    Raises:
        ValueError: a field is outside its range.
    """

    model: EvolutionConfig = field(default_factory=EvolutionConfig)
    epochs: int = 20
    batch_size: int = 24
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.01
    clip: float = 1.0
    tie_shuffle: float = 0.7
    id_dropout: float = 0.15
    mask_seen: bool = True
    average: float = 0.98
    full_softmax_items: int = 50_000
    negatives: int = 4096

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "negatives"):
            if getattr(self, name) < 1:
                raise ValueError(f"TrainConfig.{name} is {getattr(self, name)}, expected at least 1")
        for name in ("learning_rate", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"TrainConfig.{name} is {getattr(self, name)}, expected a positive number")
        for name in ("tie_shuffle", "id_dropout", "average"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"TrainConfig.{name} is {getattr(self, name)}, expected 0 to 1")


class Learner:
    """See the module.

    Attributes:
        config: as given.
        counts: [n] interactions of each item so far. Items without any do not compete: they could only lose, and
            would learn to be ranked last.
    """

    def __init__(self, columns: Float32, config: TrainConfig, *, seed: int, device: str = "cpu") -> None:
        """columns: [n, f] features of the items; seed: of the weights' start."""
        self.config, self.device = config, device
        self.counts = np.zeros(len(columns), np.int64)
        with seeded(seed, device):
            self.tower = ItemTower(
                torch.from_numpy(columns), config.model.dim, id_dropout=config.id_dropout, members=config.model.members
            )
            self.evolution = EvolutionModel(config.model)
        self.tower, self.evolution = self.tower.to(device), self.evolution.to(device)
        self._named = self._name()
        bare = self._bare(np.arange(len(columns)))
        with torch.no_grad():
            scattered = torch.from_numpy(self._scatter(int(bare.sum()), np.random.default_rng(seed)))
            self.tower.residual[torch.from_numpy(bare).to(device)] = scattered.to(device)
        self.averaged = {name: value.detach().clone() for name, value in self.parameters().items()}
        self.optimiser = torch.optim.AdamW(
            self.parameters().values(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )

    def parameters(self) -> dict[str, nn.Parameter]:
        """Named as the arrays of a release."""
        return self._named

    def _name(self) -> dict[str, nn.Parameter]:
        """Going through the modules takes longer than some of what is done with what is found."""
        return {
            f"{prefix}.{name}": value
            for prefix, module in (("tower", self.tower), ("evolution", self.evolution))
            for name, value in module.named_parameters()
        }

    def set_learning_rate(self, rate: float) -> None:
        """From now on."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate

    def competitors(self) -> Competitors:
        """Of the steps that follow, by the counts as they are."""
        return Competitors(self.counts, full_up_to=self.config.full_softmax_items, draws=self.config.negatives)

    def step(self, batch: Batch, competitors: Competitors, random: np.random.Generator) -> float:
        """One step; its loss. The batch must have a target."""
        self.tower.train()
        self.evolution.train()
        competing, log_inclusion = competitors.draw(random)
        loss = next_item_loss(
            self.tower,
            self.evolution,
            batch,
            competing,
            log_inclusion,
            mask_seen=self.config.mask_seen,
            device=self.device,
        )
        self.optimiser.zero_grad(set_to_none=True)
        # A sum over members, and a norm as for each by itself: as if they were trained one by one.
        members = self.config.model.members
        (members * loss).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.parameters().values(), members**0.5 * self.config.clip, foreach=True)
        self.optimiser.step()
        self._average()
        return loss.item()

    # -- items -------------------------------------------------------------------------------------

    @torch.no_grad()
    def put_columns(self, rows: Int64, columns: Float32) -> None:
        """Features of these rows; rows from n on are new items, and must be all of n, n + 1, ... without a gap."""
        known = len(self.counts)
        more = max(0, int(rows.max(initial=-1)) + 1 - known)
        held = self.tower.get_buffer("columns")
        if more:
            held = torch.cat([held, held.new_zeros(more, held.shape[1])])
            self.counts = np.concatenate([self.counts, np.zeros(more, np.int64)])
            for name in _PER_ITEM:
                self._grow(name, more)
        held[torch.from_numpy(rows).to(self.device)] = torch.from_numpy(columns).to(self.device)
        self.tower.columns = held

    def count(self, items: Int64) -> None:
        """Interactions with these items have come; -1 for unknown ones."""
        np.add.at(self.counts, items[items >= 0], 1)

    @torch.no_grad()
    def begin(self, rows: Int64, companions: Int64, random: np.random.Generator) -> None:
        """k items have their first interaction. They start as serving has shown them: by their features, and low.

        Those without features start at the mean of their companions, [k, c] rows with -1 for none.
        """
        bare = self._bare(rows)
        companions = np.where((companions >= 0) & (self.counts[companions] > 0), companions, -1)[bare]
        low = self.new_item_bias()
        for named in (self.parameters(), self.averaged):
            named["tower.item_bias"][torch.from_numpy(rows).to(self.device)] = low
            if bare.any():
                start = self._mean_of(named, companions)
                alone = torch.from_numpy((companions < 0).all(axis=1)).to(self.device)
                start[alone] = torch.from_numpy(self._scatter(1, random)).to(self.device)
                named["tower.residual"][torch.from_numpy(rows[bare]).to(self.device)] = start

    def new_item_bias(self) -> float:
        """What an item without any interaction is set back by."""
        known = self.counts > 0
        if not known.any():
            return 0.0
        averaged, columns = self.averaged, self.tower.get_buffer("columns")
        biases = (columns @ averaged["tower.popularity"] + averaged["tower.item_bias"]).cpu().numpy()[known]
        # Features alone would rank a new item like an average one, above half of those that proved themselves.
        return float(np.quantile(biases, NEW_ITEM_QUANTILE) - biases.mean())

    # -- giving out and taking in --------------------------------------------------------------------

    def arrays(self, rows: Int64) -> dict[str, Float32]:
        """The averaged weights of a release with these items, and where new items start."""
        arrays = {name: value.cpu().numpy().copy() for name, value in self.averaged.items()}
        arrays |= {name: arrays[name][rows] for name in _PER_ITEM}
        return arrays | {"tower.new_item_bias": np.asarray(self.new_item_bias(), np.float32)}

    @torch.no_grad()
    def adopt(self, arrays: Mapping[str, Float32], rows: Int64) -> None:
        """Take on the weights of a release whose items are these rows; others start anew, and so does the optimiser."""
        self.optimiser.state.clear()
        for name, value in self.parameters().items():
            given = torch.from_numpy(arrays[name].copy()).to(self.device)
            if name in _PER_ITEM:
                whole = torch.zeros_like(value)
                if name == "tower.item_bias":
                    whole += float(arrays["tower.new_item_bias"])
                whole[torch.from_numpy(rows).to(self.device)] = given
                given = whole
            value.copy_(given)
            self.averaged[name].copy_(given)

    def state(self) -> dict[str, np.ndarray]:
        """Everything that `restore` needs, as arrays by name."""
        found: dict[str, Tensor] = {}
        for name, value in self.parameters().items():
            found |= {f"weights.{name}": value.detach(), f"average.{name}": self.averaged[name]}
            held = self.optimiser.state.get(value, {})
            found |= {f"adam.{moment}.{name}": held[moment] for moment in _MOMENTS if moment in held}
        found["columns"] = self.tower.get_buffer("columns")
        return {name: value.cpu().numpy() for name, value in found.items()} | {"counts": self.counts}

    @torch.no_grad()
    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from what `state` gave; the number of items must be the same."""
        for name, value in self.parameters().items():
            value.copy_(torch.from_numpy(state[f"weights.{name}"]))
            self.averaged[name].copy_(torch.from_numpy(state[f"average.{name}"]))
            self.optimiser.state[value] = {
                moment: torch.from_numpy(state[key].copy()).to(self.device)
                for moment in _MOMENTS
                if (key := f"adam.{moment}.{name}") in state
            }
        self.tower.get_buffer("columns").copy_(torch.from_numpy(state["columns"]))
        self.counts = state["counts"].copy()

    # -- as serving would have it ------------------------------------------------------------------------

    @torch.no_grad()
    def item_vectors(self) -> Float32:
        """[n, d + 1] vectors for search of all items, by the averaged weights."""
        averaged = _section(self.averaged, "tower.")
        columns = self.tower.get_buffer("columns")
        known = torch.from_numpy(self.counts > 0).to(self.device)
        raw = columns @ averaged["project"] + averaged["project_bias"] + known[:, None] * averaged["residual"]
        biases = columns @ averaged["popularity"] + averaged["popularity_bias"]
        biases += torch.where(known, averaged["item_bias"], self.new_item_bias())
        vectors: Float32 = torch.cat([unit(raw, self.config.model.members), biases[:, None]], dim=1).cpu().numpy()
        return vectors

    def user_vectors(self, batch: Batch, items: Float32) -> Float32:
        """[m, d + 1] vectors for search before each of the batch's m targets, by the averaged weights.

        items: from `item_vectors`.
        """
        states = self._states(batch, items)
        return self._queries(states[:, :-1][torch.from_numpy(batch.targets).to(self.device)])

    def last_vectors(self, batch: Batch, items: Float32) -> Float32:
        """[B, d + 1] vectors for search after the last event of each piece, else as `user_vectors`."""
        lengths = torch.from_numpy(batch.lengths).to(self.device)
        return self._queries(self._states(batch, items)[torch.arange(len(lengths), device=self.device), lengths])

    @torch.no_grad()
    def _states(self, batch: Batch, items: Float32) -> Tensor:
        """[B, n + 1, d] hidden states before the first event and after each."""
        self.evolution.eval()
        directions = np.concatenate([items[:, :-1], np.zeros((1, items.shape[1] - 1), np.float32)])
        inputs = directions[batch.items] * np.float32(np.sqrt(directions.shape[1]))  # row -1: zeros
        given = (inputs, batch.times_ms, batch.actions, batch.weights, batch.firsts)
        tensors = [torch.from_numpy(array).to(self.device) for array in given]
        tensors[2] = tensors[2].long()
        averaged = _section(self.averaged, "evolution.")
        hidden = torch.func.functional_call(self.evolution, averaged, tuple(tensors))
        return torch.cat([averaged["start"].expand(len(hidden), 1, -1), hidden], dim=1)

    @torch.no_grad()
    def _queries(self, hidden: Tensor) -> Float32:
        query = unit(hidden, self.config.model.members) / self.averaged["evolution.log_temperature"].exp()
        vectors: Float32 = torch.cat([query, query.new_ones(len(query), 1)], dim=1).cpu().numpy()
        return vectors

    # -- inside ----------------------------------------------------------------------------------------

    def _average(self) -> None:
        with torch.no_grad():
            averaged = [self.averaged[name] for name in self.parameters()]
            torch._foreach_lerp_(averaged, list(self.parameters().values()), 1 - self.config.average)

    def _bare(self, rows: Int64) -> Bool:
        """Which of these items have no features that could tell them apart."""
        columns = self.tower.get_buffer("columns")[torch.from_numpy(rows).to(self.device)]
        bare: Bool = ~(columns != 0).any(dim=1).cpu().numpy()
        return bare

    def _mean_of(self, named: Mapping[str, Tensor], companions: Int64) -> Tensor:
        """[k, d] what to add to features of nothing to be at the mean of [k, c] companions."""
        rows = torch.from_numpy(companions).to(self.device)
        raw = self.tower.get_buffer("columns")[rows] @ named["tower.project"] + named["tower.residual"][rows]
        known = (rows >= 0).float()[..., None]
        return (raw * known).sum(dim=1) / known.sum(dim=1).clamp(min=1)

    def _scatter(self, items: int, random: np.random.Generator) -> Float32:
        """[items, d] to begin with where nothing else tells items apart."""
        scale = (self.config.model.dim // self.config.model.members) ** -0.5
        start: Float32 = (scale * random.standard_normal((items, self.config.model.dim))).astype(np.float32)
        return start

    def _grow(self, name: str, more: int) -> None:
        """Rows of zeros at the end of a table of items, in the weights, their average, and the optimiser's moments."""

        def grown(table: Tensor) -> Tensor:
            return torch.cat([table, table.new_zeros(more, *table.shape[1:])])

        old = self.parameters()[name]
        new = nn.Parameter(grown(old.detach()))
        setattr(self.tower, name.removeprefix("tower."), new)
        self._named[name] = new
        self.averaged[name] = grown(self.averaged[name])
        held = self.optimiser.state.pop(old, None)
        if held is not None:
            self.optimiser.state[new] = {key: grown(value) if value.dim() else value for key, value in held.items()}
        for group in self.optimiser.param_groups:
            group["params"] = [new if value is old else value for value in group["params"]]


def _section(named: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in named.items() if name.startswith(prefix)}


@contextmanager
def seeded(seed: int, device: str) -> Iterator[None]:
    """Torch's random numbers follow the seed inside, and are as they were before outside."""
    devices = [torch.device(device)] if torch.device(device).type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
