"""The evolution model in torch, as it is trained: how a user's taste moves with each event.

A causal Transformer whose mask is a band of width W in every layer, with relative terms only: a learned bias per
distance and per log2 bucket of the time between two events, as in HSTU (Zhai et al., 2024), pre-norm with RMSNorm.
Therefore a ring cache of W keys and values serves it exactly (models/serving.py). Knows nothing about items:
it reads their input vectors.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.config import ACTIONS, EvolutionConfig


class Block(nn.Module):
    """One layer; see models/attention.py for the same in NumPy."""

    def __init__(self, config: EvolutionConfig) -> None:
        super().__init__()
        d, self.heads, self.dropout = config.dim, config.heads, config.dropout
        self.attention_norm = nn.Parameter(torch.ones(d))
        self.qkv = nn.Parameter(torch.randn(d, 3 * d) * d**-0.5)
        self.out = nn.Parameter(torch.randn(d, d) * d**-0.5 * 0.5)
        self.distance = nn.Parameter(torch.zeros(config.heads, config.window))
        self.time = nn.Parameter(torch.zeros(config.heads, config.time_buckets))
        self.forward_norm = nn.Parameter(torch.ones(d))
        self.up = nn.Parameter(torch.randn(d, config.hidden) * d**-0.5)
        self.down = nn.Parameter(torch.randn(config.hidden, d) * config.hidden**-0.5 * 0.5)

    def forward(self, x: Tensor, allowed: Tensor, back: Tensor, ages: Tensor) -> Tensor:
        """x [B, n, d], allowed [B, 1, n, n] bool, back [n, n] distances, ages [B, n, n] time buckets."""
        users, length, dim = x.shape
        query, key, value = (
            part.view(users, length, self.heads, -1).transpose(1, 2)
            for part in torch.chunk(normalise_rms(x) * self.attention_norm @ self.qkv, 3, dim=-1)
        )
        bias = self.distance[:, back] + functional.embedding(ages, self.time.T).permute(0, 3, 1, 2)
        mixed = functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=bias.masked_fill(~allowed, -1e9),
            dropout_p=self.dropout if self.training else 0.0,
        )
        x = x + self._drop(mixed.transpose(1, 2).reshape(users, length, dim) @ self.out)
        inner = torch.relu(normalise_rms(x) * self.forward_norm @ self.up)
        return x + self._drop(self._drop(inner) @ self.down)

    def _drop(self, x: Tensor) -> Tensor:
        return functional.dropout(x, self.dropout, self.training)


class EvolutionModel(nn.Module):
    """Hidden states after each event of a history; parameters are named as the arrays of a release."""

    def __init__(self, config: EvolutionConfig) -> None:
        super().__init__()
        d, self.config = config.dim, config
        self.start = nn.Parameter(torch.randn(d))
        self.gap = nn.Parameter(torch.randn(config.time_buckets + 1, d) * 0.02)
        self.action = nn.Parameter(torch.zeros(ACTIONS, d))
        self.weight = nn.Parameter(torch.zeros(d))
        self.layers = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.final_norm = nn.Parameter(torch.ones(d))
        self.log_temperature = nn.Parameter(torch.tensor(config.temperature).log())

    def forward(
        self, inputs: Tensor, times_ms: Tensor, actions: Tensor, weights: Tensor, lengths: Tensor, firsts: Tensor
    ) -> Tensor:
        """Hidden states [B, n, d] after each of n events, padded on the right.

        Args:
            inputs: [B, n, d] vectors from the item tower, zeros for unknown items.
            times_ms: [B, n] int64.
            actions: [B, n] integer codes.
            weights: [B, n] strengths, 1 for an ordinary event.
            lengths: [B] events of each history.
            firsts: [B] bool, whether the history starts with the user's first event ever.
        """
        config, length = self.config, inputs.shape[1]
        place = torch.arange(length, device=inputs.device)
        back = place[:, None] - place
        band = (back >= 0) & (back < config.window)
        allowed = band & (place < lengths[:, None])[:, None, None]
        ages = bucketise(times_ms[:, :, None] - times_ms[:, None], config.time_buckets)
        gaps = bucketise(times_ms.diff(dim=1, prepend=times_ms[:, :1]), config.time_buckets)
        gaps[:, 0] = torch.where(firsts, config.time_buckets, gaps[:, 0])
        x = inputs + self.gap[gaps] + self.action[actions] + (weights - 1)[..., None] * self.weight
        x = functional.dropout(x, config.dropout, self.training)
        for block in self.layers:
            x = block(x, allowed, back.clamp(0, config.window - 1), ages)
        return normalise_rms(x) * self.final_norm

    def query(self, hidden: Tensor) -> Tensor:
        """Hidden states [..., d] to user vectors [..., d]: of length 1 / temperature."""
        return functional.normalize(hidden, dim=-1) / self.log_temperature.exp()


def normalise_rms(x: Tensor) -> Tensor:
    """x over its root mean square along the last axis (RMSNorm without its gain)."""
    return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + 1e-6)


def bucketise(milliseconds: Tensor, buckets: int) -> Tensor:
    """Time buckets as ``models.config.time_buckets`` makes them."""
    exponent = torch.frexp(milliseconds.double() / 1000).exponent
    return torch.where(milliseconds > 0, exponent, 0).clamp(0, buckets - 1).long()
