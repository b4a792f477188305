"""The evolution model in torch, as it is trained: how a user's taste moves with each event.

A causal Transformer whose mask is a band of width W in every layer, with relative terms only: a learned bias per
distance and per log2 bucket of the time between two events, as in HSTU (Zhai et al., 2024), pre-norm with RMSNorm.
Therefore a ring cache of W keys and values serves it exactly (models/serving.py). Knows nothing about items:
it reads their input vectors.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.config import ACTIONS, EvolutionConfig


class Block(nn.Module):
    """One layer; see models/attention.py for the same in NumPy."""

    def __init__(self, config: EvolutionConfig) -> None:
        super().__init__()
        d, self.heads, self.dropout, self.members = config.dim, config.heads, config.dropout, config.members
        width, inner = d // config.members, config.hidden // config.members
        self.attention_norm = nn.Parameter(torch.ones(d))
        self.qkv = nn.Parameter(torch.randn(d, 3 * width) * width**-0.5)
        self.out = nn.Parameter(torch.randn(d, width) * width**-0.5 * 0.5)
        self.distance = nn.Parameter(torch.zeros(config.heads, config.window))
        self.time = nn.Parameter(torch.zeros(config.heads, config.time_buckets))
        self.forward_norm = nn.Parameter(torch.ones(d))
        self.up = nn.Parameter(torch.randn(d, inner) * width**-0.5)
        self.down = nn.Parameter(torch.randn(config.hidden, width) * inner**-0.5 * 0.5)

    def forward(self, x: Tensor, back: Tensor, ages: Tensor) -> Tensor:
        """x [B, n, d], back [n, n] distances, of which those outside the window are not looked at, ages [B, n, n] time
        buckets."""
        users, length, dim = x.shape
        query, key, value = (
            part.reshape(users, length, self.heads, -1).transpose(1, 2)
            for part in self._apart(self._norm(x) * self.attention_norm, self.qkv)
            .view(users, length, self.members, 3, -1)
            .unbind(3)
        )
        scores = query @ key.transpose(2, 3) * (dim // self.heads) ** -0.5
        window = self.distance.shape[1]
        distance = self.distance[:, back.clamp(0, window - 1)].masked_fill((back < 0) | (back >= window), -1e9)
        scores = scores + distance + _TimeBias.apply(self.time, ages)
        mixed = self._drop(scores.softmax(dim=-1)) @ value
        x = x + self._drop(self._apart(mixed.transpose(1, 2).reshape(users, length, dim), self.out))
        inner = torch.relu(self._apart(self._norm(x) * self.forward_norm, self.up))
        return x + self._drop(self._apart(self._drop(inner), self.down))

    def _apart(self, x: Tensor, weights: Tensor) -> Tensor:
        return apart(x, weights, self.members)

    def _norm(self, x: Tensor) -> Tensor:
        return normalise_rms(x, self.members)

    def _drop(self, x: Tensor) -> Tensor:
        return drop(x, self.dropout) if self.training else x


class _TimeBias(torch.autograd.Function):
    """Biases [H, buckets] by ages [B, n, n] to [B, H, n, n]. An embedding would do, but for its gradient: summing
    rows of H numbers one by one took longer than the attention itself."""

    @staticmethod
    def forward(ctx: Any, time: Tensor, ages: Tensor) -> Tensor:
        ctx.save_for_backward(ages)
        ctx.buckets = time.shape[1]
        users, length, _ = ages.shape
        return time.index_select(1, ages.flatten()).view(-1, users, length, length).transpose(0, 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (ages,) = ctx.saved_tensors
        flat, buckets = ages.flatten(), ctx.buckets
        by_head = [torch.bincount(flat, one.flatten(), buckets) for one in gradient.unbind(dim=1)]
        return torch.stack(by_head), None


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

    def forward(self, inputs: Tensor, times_ms: Tensor, actions: Tensor, weights: Tensor, firsts: Tensor) -> Tensor:
        """Hidden states [B, n, d] after each of n events, padded on the right; after padding, anything.

        Args:
            inputs: [B, n, d] vectors from the item tower, zeros for unknown items.
            times_ms: [B, n] int64.
            actions: [B, n] integer codes.
            weights: [B, n] strengths, 1 for an ordinary event.
            firsts: [B] bool, whether the history starts with the user's first event ever.
        """
        config = self.config
        place = torch.arange(inputs.shape[1], device=inputs.device)
        # Nobody looks ahead, so nobody but padding looks at padding, and that is nobody's state.
        back = place[:, None] - place
        ages = bucketise(times_ms[:, :, None] - times_ms[:, None], config.time_buckets)
        gaps = bucketise(times_ms.diff(dim=1, prepend=times_ms[:, :1]), config.time_buckets)
        gaps[:, 0] = torch.where(firsts, config.time_buckets, gaps[:, 0])
        x = inputs + self.gap[gaps] + self.action[actions] + (weights - 1)[..., None] * self.weight
        x = drop(x, config.dropout) if self.training else x
        for block in self.layers:
            x = block(x, back, ages)
        return normalise_rms(x, config.members) * self.final_norm

    def query(self, hidden: Tensor) -> Tensor:
        """Hidden states [..., d] to user vectors [..., d]: of length 1 / temperature."""
        return unit(hidden, self.config.members) / self.log_temperature.exp()


def apart(x: Tensor, weights: Tensor, members: int) -> Tensor:
    """[..., m] from [..., d] by weights [d, m / members]; see ``models.attention.apart``."""
    if members == 1:
        return x @ weights
    parts = x.reshape(-1, members, x.shape[-1] // members).transpose(0, 1)
    mixed = parts @ weights.view(members, -1, weights.shape[1])
    joined: Tensor = mixed.transpose(0, 1).reshape(*x.shape[:-1], -1)
    return joined


def normalise_rms(x: Tensor, members: int = 1) -> Tensor:
    """x over the root mean square of each member's part of the last axis (RMSNorm without its gain)."""
    parts = x.reshape(*x.shape[:-1], members, x.shape[-1] // members)
    normed: Tensor = (parts * torch.rsqrt(parts.square().mean(dim=-1, keepdim=True) + 1e-6)).view(x.shape)
    return normed


def unit(vectors: Tensor, members: int) -> Tensor:
    """[..., d] of length 1, to which each member's part contributes as much; see ``models.attention.unit``."""
    parts = functional.normalize(vectors.reshape(*vectors.shape[:-1], members, vectors.shape[-1] // members), dim=-1)
    scaled: Tensor = parts.view(vectors.shape) * members**-0.5
    return scaled


def drop(x: Tensor, probability: float) -> Tensor:
    """Dropout with a probability rounded to 1/256. One draw makes eight masks' worth of random bytes: with a draw for
    each element, dropout was a seventh of a training step; arithmetic, because comparing bytes is slower still."""
    cut = round(256 * probability)
    draws = torch.empty(-(-x.numel() // 8), dtype=torch.int64, device=x.device).random_(-(2**63), None)
    keep = draws.view(torch.uint8)[: x.numel()].view(x.shape).to(x.dtype).sub_(cut - 1).clamp_(0, 1)
    return x * keep.mul_(256 / (256 - cut))


def bucketise(milliseconds: Tensor, buckets: int) -> Tensor:
    """Time buckets as ``models.config.time_buckets`` makes them."""
    exponent = torch.frexp(milliseconds.double() / 1000).exponent
    return torch.where(milliseconds > 0, exponent, 0).clamp(0, buckets - 1).long()
