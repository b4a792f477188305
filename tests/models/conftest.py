"""A small release with random weights, and the torch model that has the same ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from models.config import EvolutionConfig, Float32, Int64, UInt8
from models.evolution import EvolutionModel
from models.features import FeatureSpace, ItemFeatures
from models.release import Release
from models.tower import ItemTower

torch.set_num_threads(
    1
)  # tensors this small are not worth a second thread, which would spin while others have the core


@dataclass(frozen=True)
class Histories:
    """Random events of some users, [users, events]: ties, gaps of all sizes, some steps back in time."""

    inputs: Float32
    times: Int64
    actions: UInt8
    weights: Float32

    @classmethod
    def random(cls, users: int, events: int, dim: int, seed: int = 0) -> Histories:
        random = np.random.default_rng(seed)
        gaps = 10 ** random.uniform(0, 9, (users, events)) * random.choice([0, 1, 1, 1, -0.01], (users, events))
        return cls(
            random.normal(size=(users, events, dim)).astype(np.float32),
            10**12 + np.cumsum(gaps, axis=1).astype(np.int64),
            random.integers(0, 4, (users, events)).astype(np.uint8),
            random.uniform(0, 2, (users, events)).astype(np.float32),
        )

    def at(self, event: int) -> tuple[Float32, Int64, UInt8, Float32]:
        """Arguments of a step."""
        return self.inputs[:, event], self.times[:, event], self.actions[:, event], self.weights[:, event]

    def slices(self, begin: int, end: int) -> tuple[list[Float32], list[Int64], list[UInt8], list[Float32]]:
        """Arguments of a rebuild."""
        return (
            list(self.inputs[:, begin:end]),
            list(self.times[:, begin:end]),
            list(self.actions[:, begin:end]),
            list(self.weights[:, begin:end]),
        )

    @torch.no_grad()
    def forward(self, model: EvolutionModel) -> Float32:
        """[users, events, d] of a full forward pass in torch."""
        users = len(self.times)
        hidden: Float32 = model.eval()(
            torch.from_numpy(self.inputs),
            torch.from_numpy(self.times),
            torch.from_numpy(self.actions).long(),
            torch.from_numpy(self.weights),
            torch.ones(users, dtype=torch.bool),
        ).numpy()
        return hidden


@dataclass(frozen=True)
class Twins:
    """One set of weights, twice."""

    evolution: EvolutionModel
    tower: ItemTower
    features: ItemFeatures
    release: Release


def random_features(items: int, seed: int = 0) -> ItemFeatures:
    random = np.random.default_rng(seed)
    text = random.normal(size=(items, 12)).astype(np.float32)
    categories = [[str(name) for name in random.choice(list("abcd"), 2)] for _ in range(items)]
    return ItemFeatures(text, categories, random.choice([0, 1970, 1985, 2001], items))


@torch.no_grad()
def make_twins(config: EvolutionConfig, items: int = 20, seed: int = 0) -> Twins:
    """Random weights, every one of them away from its neutral start, so that each has a say."""
    features = random_features(items, seed)
    space = FeatureSpace.fit(features)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        evolution = EvolutionModel(config)
        tower = ItemTower(torch.from_numpy(space.matrix(features)), config.dim, id_dropout=0.5, members=config.members)
        for parameter in [*evolution.parameters(), *tower.parameters()]:
            parameter.add_(0.2 * torch.randn_like(parameter))
    named = {f"evolution.{name}": value for name, value in evolution.named_parameters()}
    named |= {f"tower.{name}": value for name, value in tower.named_parameters()}
    arrays = {name: value.detach().numpy().copy() for name, value in named.items()}
    arrays["tower.new_item_bias"] = np.array(-0.5, np.float32)
    ids = tuple(f"item-{at}" for at in range(items))
    return Twins(evolution.eval(), tower.eval(), features, Release(config, space, ids, arrays, "encoder"))


TWO = EvolutionConfig(dim=32, layers=2, heads=4, window=6, hidden=64, members=2)
"""Two models side by side."""


@pytest.fixture(scope="session")
def twins() -> Twins:
    """Three layers and a small window, so that a short history wraps around it several times."""
    return make_twins(EvolutionConfig(dim=16, layers=3, heads=2, window=6, hidden=32))
