"""From a log of interactions to a release. Knows nothing about streams, policies or files.

AdamW on the next-item loss; what a release holds is the exponential moving average of the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import nn

from models.batches import InteractionLog, iterate
from models.config import EvolutionConfig, Float32
from models.evolution import EvolutionModel
from models.features import FeatureSpace, ItemFeatures
from models.loss import Competitors, next_item_loss
from models.release import Release
from models.tower import ItemTower

Progress = Callable[[int, int, float], None]

NEW_ITEM_QUANTILE = 0.01
"""New items start as popular as this quantile of the trained ones; lower costs them, higher costs everybody else."""


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


def train(
    log: InteractionLog,
    ids: Sequence[str],
    features: ItemFeatures,
    config: TrainConfig | None = None,
    *,
    seed: int = 0,
    text_encoder: str = "",
    progress: Progress | None = None,
    device: str = "cpu",
) -> Release:
    """Train a release.

    Args:
        log: interactions; ``log.items`` are rows of ids and features.
        ids: n items. Those without an interaction are not in the release: they must not compete in training,
            where they could only lose, and so learn to be ranked last. They are served by their features.
        features: of the same n items.
        config: None for the default recipe.
        seed: two runs with one seed agree up to rounding.
        text_encoder: fingerprint of the encoder behind ``features.text``.
        progress: called after each epoch with (epoch from 1, epochs, mean loss).
        device: a torch device.

    Raises:
        ValueError: the log has no known item or one that is not in the list, or ids and features disagree.
    """
    config = config or TrainConfig()
    if len(ids) != len(features):
        raise ValueError(f"train got {len(ids)} ids and features of {len(features)} items")
    largest = int(log.items.max(initial=-1))
    if not 0 <= largest < len(ids):
        raise ValueError(f"train: the largest item row in the log is {largest}, expected within 0..{len(ids) - 1}")
    known = np.unique(log.items[log.items >= 0])
    row = np.full(len(ids) + 1, -1)
    row[known] = np.arange(len(known))
    log = replace(log, items=row[log.items])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        learner = Learner(log, features.take(known), config, seed=seed, device=device)
        loss = float("nan")
        for epoch in range(1, config.epochs + 1):
            loss = learner.epoch()
            if progress is not None:
                progress(epoch, config.epochs, loss)
    users = len(np.unique(log.users))
    facts = {"events": len(log), "users": users, "epochs": config.epochs, "seed": seed, "loss": loss}
    item_ids = tuple(ids[at] for at in known)
    return Release(config.model, learner.space, item_ids, learner.arrays(), text_encoder, facts)


class Learner:
    """Weights, optimiser and moving average of one run."""

    def __init__(
        self, log: InteractionLog, features: ItemFeatures, config: TrainConfig, *, seed: int, device: str
    ) -> None:
        self.log, self.config, self.device = log, config, device
        self.space = FeatureSpace.fit(features)
        self.random = np.random.default_rng(seed)
        columns = torch.from_numpy(self.space.matrix(features))
        self.tower = ItemTower(columns, config.model.dim, id_dropout=config.id_dropout).to(device)
        self.evolution = EvolutionModel(config.model).to(device)
        self.averaged = {name: value.detach().clone() for name, value in self._parameters().items()}
        self.optimiser = torch.optim.AdamW(
            self._parameters().values(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        counts = np.bincount(log.items[log.items >= 0], minlength=len(features))
        self.competitors = Competitors(counts, full_up_to=config.full_softmax_items, draws=config.negatives)

    def epoch(self) -> float:
        """One pass over the log; the mean loss of its steps."""
        config = self.config
        losses = []
        batches = iterate(self.log, 2 * config.model.window, config.batch_size, config.tie_shuffle, self.random)
        for batch in batches:
            if not batch.targets.any():
                continue
            loss = next_item_loss(
                self.tower,
                self.evolution,
                batch,
                *self.competitors.draw(self.random),
                mask_seen=config.mask_seen,
                device=self.device,
            )
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self._parameters().values(), config.clip)
            self.optimiser.step()
            self._average()
            losses.append(loss.item())
        return float(np.mean(losses))

    def arrays(self) -> dict[str, Float32]:
        """The averaged weights, named as a release names them, and where new items start."""
        arrays = {name: value.cpu().numpy().copy() for name, value in self.averaged.items()}
        columns = self.tower.get_buffer("columns").cpu().numpy()
        biases = columns @ arrays["tower.popularity"] + arrays["tower.item_bias"]
        # Features alone would rank a new item like an average one, above half of those that proved themselves.
        low = np.quantile(biases, NEW_ITEM_QUANTILE) - biases.mean()
        return arrays | {"tower.new_item_bias": np.asarray(low, np.float32)}

    def _parameters(self) -> dict[str, nn.Parameter]:
        return {
            f"{prefix}.{name}": value
            for prefix, module in (("tower", self.tower), ("evolution", self.evolution))
            for name, value in module.named_parameters()
        }

    @torch.no_grad()
    def _average(self) -> None:
        for name, value in self._parameters().items():
            self.averaged[name].lerp_(value, 1 - self.config.average)
