"""The item tower in torch, as it is trained: features to unit vectors and a bias.

A linear projection of [centred text, categories, year] plus a residual per item that starts at zero and is dropped
at random (ID dropout), so that an item never seen has a vector, and a bias, that mean something: those of its
features. Serving does the same in NumPy (models/serving.py). Knows nothing about users.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.evolution import unit


class ItemTower(nn.Module):
    """Vectors of items by row of a fixed feature matrix; parameters are named as the arrays of a release."""

    def __init__(self, columns: Tensor, dim: int, *, id_dropout: float, members: int = 1) -> None:
        """columns: [n, f] of ``FeatureSpace.matrix``; id_dropout: probability of hiding an item's own part;
        members: see ``EvolutionConfig``."""
        super().__init__()
        items, width = columns.shape
        self.id_dropout, self.members = id_dropout, members
        self.register_buffer("columns", columns, persistent=False)
        self.project = nn.Parameter(torch.randn(width, dim) * (dim // members) ** -0.5)
        self.project_bias = nn.Parameter(torch.zeros(dim))
        self.popularity = nn.Parameter(torch.zeros(width))
        self.popularity_bias = nn.Parameter(torch.zeros(()))
        self.residual = nn.Parameter(torch.zeros(items, dim))
        self.item_bias = nn.Parameter(torch.zeros(items))

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Unit vectors [m, d] and biases [m] of m rows, which should be distinct: a row is hidden as a whole."""
        columns = self.get_buffer("columns").index_select(0, rows)
        keep = torch.ones(len(rows), device=rows.device)
        if self.training:
            keep = (torch.rand(len(rows), device=rows.device) >= self.id_dropout).float()
        raw = columns @ self.project + self.project_bias + keep[:, None] * self.residual.index_select(0, rows)
        bias = columns @ self.popularity + self.popularity_bias + keep * self.item_bias[rows]
        return unit(raw, self.members), bias
