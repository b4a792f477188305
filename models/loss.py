"""The training objective: which of the catalogue comes next. Knows nothing about optimisers or releases.

Full softmax cross-entropy where the catalogue allows, sampled softmax with the logQ correction (Bengio and
Senécal, 2008; Yi et al., 2019) where it does not: the same code, with fewer items competing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from models.batches import Batch
from models.config import Float32, Int64
from models.evolution import EvolutionModel
from models.tower import ItemTower

_CACHED, _LEAST_ROWS = 262_144, 64
"""Logits that are made at a time: one MiB of them; but not of fewer targets, which would be slow multiplying."""


class Competitors:
    """Items that compete with the target of a step, and how likely each was to be drawn."""

    def __init__(self, counts: Int64, *, full_up_to: int, draws: int) -> None:
        """counts: [n] interactions of each item; half of the draws are uniform, half follow them. Items without any
        do not compete."""
        self._rows = np.flatnonzero(counts)
        self.full = len(self._rows) <= full_up_to
        self._draws = draws
        seen = counts[self._rows]
        probability = 0.5 / max(1, len(seen)) + 0.5 * seen / max(1, seen.sum())
        self._cumulative = np.cumsum(probability)
        self._log_inclusion = np.log(-np.expm1(draws * np.log1p(-probability))).astype(np.float32)

    def draw(self, random: np.random.Generator) -> tuple[Int64, Float32]:
        """Distinct rows [c], and the log-probability of each to be among them."""
        if self.full:
            return self._rows, np.zeros(len(self._rows), np.float32)
        points = random.random(self._draws) * self._cumulative[-1]
        drawn = np.unique(np.searchsorted(self._cumulative, points, side="right"))
        return self._rows[drawn], self._log_inclusion[drawn]


def next_item_loss(
    tower: ItemTower,
    evolution: EvolutionModel,
    batch: Batch,
    competing: Int64,
    log_inclusion: Float32,
    *,
    mask_seen: bool,
    device: str,
) -> Tensor:
    """Mean cross-entropy of the batch's targets against the competing items, weighted by the targets' worth.

    Args:
        tower, evolution: on ``device``.
        batch: at least one target.
        competing, log_inclusion: from ``Competitors.draw``; logits are corrected by the latter.
        mask_seen: items within the window before the target do not compete.
        device: where to compute.
    """

    def tensor(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(device)

    rows = np.unique(np.concatenate([competing, batch.items[batch.items >= 0]]))
    unknown = len(rows)
    items = tensor(np.where(batch.items >= 0, np.searchsorted(rows, batch.items), unknown))
    vectors, biases = tower(tensor(rows))
    # An unknown item feeds zeros.
    known = torch.cat([vectors, vectors.new_zeros(1, vectors.shape[1])])
    hidden = evolution(
        known[items] * vectors.shape[1] ** 0.5,
        tensor(batch.times_ms),
        tensor(batch.actions).long(),
        tensor(batch.weights),
        tensor(batch.firsts),
    )
    before = torch.cat([evolution.start.expand(len(items), 1, -1), hidden[:, :-1]], dim=1)
    asked = tensor(batch.targets)
    query, target = evolution.query(before[asked]), items[asked]

    chosen = tensor(np.searchsorted(rows, competing))
    # One column more than competitors: it takes what is hidden without competing, and counts for nothing.
    offsets = torch.cat([biases[chosen] - tensor(log_inclusion), biases.new_full((1,), -torch.inf)])
    hide = target[:, None]
    if mask_seen:
        hide = torch.cat([hide, _window_before(items, unknown, evolution.config.window)[asked]], dim=1)
    column = torch.full((unknown + 1,), len(chosen), device=offsets.device)
    column[chosen] = torch.arange(len(chosen), device=offsets.device)
    hidden_columns, members = column[hide], evolution.config.members
    worth = tensor(batch.worth)[asked]
    # Each member learns by its own score, of which the served one is the mean.
    share = worth / (members * worth.sum())
    losses = [
        _cross_entropy(asking * members, own, biases, target, chosen, offsets, hidden_columns, share)
        for asking, own in zip(query.chunk(members, dim=1), vectors.chunk(members, dim=1), strict=True)
    ]
    return torch.stack(losses).sum()


def _cross_entropy(
    query: Tensor,
    vectors: Tensor,
    biases: Tensor,
    target: Tensor,
    chosen: Tensor,
    offsets: Tensor,
    hide: Tensor,
    share: Tensor,
) -> Tensor:
    """Of the targets' rows [m] against the chosen ones, whose offsets are given, but for the columns to hide [m, h];
    summed by the share [m] of each."""
    right = (query * vectors[target]).sum(dim=-1) + biases[target]
    table = torch.cat([vectors[chosen], vectors.new_zeros(1, vectors.shape[1])])
    loss: Tensor = _AgainstOthers.apply(query, table, offsets, right, hide, share)
    return loss


class _AgainstOthers(torch.autograd.Function):
    """Σ share · softplus(logsumexp(query · tableᵀ + offsets, but for hidden columns) − right), with its gradients.

    Logits are the largest thing there is in a step, and every pass over them costs. So they are made a few rows at a
    time, small enough for the processor's cache, and while they are there the gradients are made of them; they are
    never there as a whole, nor made again.
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, table: Tensor, offsets: Tensor, right: Tensor, hide: Tensor, share: Tensor
    ) -> Tensor:
        others = torch.empty_like(right)
        of_query, of_table = torch.empty_like(query), torch.zeros_like(table)
        of_offsets, of_right = torch.zeros_like(offsets), torch.empty_like(right)
        rows = max(_LEAST_ROWS, _CACHED // len(table))
        for start in range(0, len(query), rows):
            part = slice(start, start + rows)
            logits = torch.addmm(offsets, query[part], table.T).scatter_(1, hide[part], -torch.inf)
            # What competes with nothing has a largest logit of -inf.
            largest = logits.amax(dim=1).clamp_(min=torch.finfo(logits.dtype).min)
            odds = logits.sub_(largest[:, None]).exp_()
            total = odds.sum(dim=1)
            others[part] = total.log() + largest
            wrong = share[part] * torch.sigmoid(others[part] - right[part])
            scale = (wrong / total.clamp(min=torch.finfo(logits.dtype).tiny))[:, None]
            of_right[part] = -wrong
            of_query[part] = odds @ table * scale
            of_table.addmm_(odds.T, query[part] * scale)
            of_offsets.addmv_(odds.T, scale[:, 0])
        ctx.save_for_backward(of_query, of_table, of_offsets, of_right)
        return (functional.softplus(others - right) * share).sum()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return (*(made * gradient for made in ctx.saved_tensors), None, None)


def _window_before(items: Tensor, unknown: int, window: int) -> Tensor:
    """[B, n, W] the W items before each of [B, n]."""
    padding = items.new_full((len(items), window), unknown)
    place = torch.arange(items.shape[1], device=items.device)[:, None] + torch.arange(window, device=items.device)
    before: Tensor = torch.cat([padding, items[:, :-1]], dim=1)[:, place]
    return before
