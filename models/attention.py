"""One block of the evolution model in NumPy float32: banded attention with relative biases, then feed-forward.

Pre-norm, no dropout, no torch. Knows nothing about caches, items or releases: it is given arrays.
"""

from __future__ import annotations

import numpy as np

from models.config import Bool, EvolutionConfig, Float32, Int64

MASKED = np.float32(-1e9)


class Layer:
    """Weights of a block, folded for serving: norms into the matrices after them, 1/√(d/H) into the query."""

    def __init__(self, weights: dict[str, Float32], config: EvolutionConfig) -> None:
        self.heads, self.window, self.members = config.heads, config.window, config.members
        width = config.dim // config.members
        scale = np.ones(3 * width, np.float32)
        scale[:width] = (config.dim // config.heads) ** -0.5
        self.qkv: Float32 = weights["attention_norm"][:, None] * weights["qkv"] * scale
        self.out = weights["out"]
        self.up: Float32 = weights["forward_norm"][:, None] * weights["up"]
        self.down = weights["down"]
        self.distance, self.time = weights["distance"], weights["time"]
        self.ring_bias = _ring_bias(self.distance)

    def project(self, x: Float32) -> tuple[Float32, Float32, Float32]:
        """Query (scaled), key and value, each [..., d], of inputs [..., d]."""
        mixed = apart(normalise_rms(x, self.members), self.qkv, self.members)
        query, key, value = np.moveaxis(mixed.reshape(*x.shape[:-1], self.members, 3, -1), -2, 0).reshape(3, *x.shape)
        return query, key, value

    def feed_forward(self, x: Float32) -> Float32:
        """What the second half of the block adds to x [..., d]."""
        inner = apart(normalise_rms(x, self.members), self.up, self.members)
        return apart(np.maximum(inner, 0, out=inner), self.down, self.members)

    def attend_ring(self, query: Float32, keys: Float32, values: Float32, place: Int64, ages: Int64) -> Float32:
        """What attention adds to the newest event of B users.

        Args:
            query: [B, d].
            keys, values: [B, W, d] rings that hold the newest event already.
            place: [B] slot of the newest event, plus W where the ring is full.
            ages: [B, W] time bucket of each slot's event, seen from the newest.
        """
        users, window, dim = keys.shape
        split = (users, window, self.heads, dim // self.heads)
        scores = np.matvec(keys.reshape(split).swapaxes(1, 2), query.reshape(users, self.heads, -1))
        scores += self.ring_bias[place]
        for head in range(self.heads):
            scores[:, head] += self.time[head][ages]
        mixed = np.vecmat(softmax(scores), values.reshape(split).swapaxes(1, 2))
        return apart(mixed.reshape(users, dim), self.out, self.members)

    def attend_band(self, query: Float32, keys: Float32, values: Float32, present: Bool, ages: Int64) -> Float32:
        """What attention adds to the last m of n events of B users, each looking back on W events.

        Args:
            query: [B, m, d].
            keys, values: [B, n, d], n ≥ m; the last m belong to the queries.
            present: [B, n] bool, False for padding.
            ages: [B, m, n] time bucket of each event, seen from each query.
        """
        users, asked, dim = query.shape
        known = keys.shape[1]
        by_head = (0, 2, 1, 3)
        scores = np.matmul(
            query.reshape(users, asked, self.heads, -1).transpose(by_head),
            keys.reshape(users, known, self.heads, -1).transpose(0, 2, 3, 1),
        )
        back = np.arange(known - asked, known)[:, None] - np.arange(known)
        band = (back >= 0) & (back < self.window)
        scores += np.where(band, self.distance[:, np.clip(back, 0, self.window - 1)], MASKED)
        for head in range(self.heads):
            scores[:, head] += self.time[head][ages]
        scores += np.where(present, np.float32(0), MASKED)[:, None, None]
        mixed = np.matmul(softmax(scores), values.reshape(users, known, self.heads, -1).transpose(by_head))
        return apart(mixed.transpose(by_head).reshape(users, asked, dim), self.out, self.members)


def apart(x: Float32, weights: Float32, members: int) -> Float32:
    """[..., m] from inputs [..., d]: each member's part of x by its own rows of the weights [d, m / members]."""
    if members == 1:
        whole: Float32 = x @ weights
        return whole
    parts = zip(np.split(x, members, axis=-1), np.split(weights, members), strict=True)
    return np.concatenate([part @ own for part, own in parts], axis=-1)


def normalise_rms(x: Float32, members: int = 1) -> Float32:
    """x over the root mean square of each member's part of the last axis (RMSNorm without its gain)."""
    parts = x.reshape(*x.shape[:-1], members, x.shape[-1] // members)
    mean_square = np.einsum("...d,...d->...", parts, parts) / np.float32(parts.shape[-1])
    normed: Float32 = (parts / np.sqrt(mean_square + np.float32(1e-6))[..., None]).reshape(x.shape)
    return normed


def unit(vectors: Float32, members: int = 1) -> Float32:
    """[n, d] of length 1, to which each member's part contributes as much: a dot product is the mean of theirs."""
    parts = vectors.reshape(len(vectors), members, vectors.shape[1] // members)
    norm = np.sqrt(np.einsum("nmd,nmd->nm", parts, parts) * np.float32(members))
    scaled: Float32 = (parts / np.maximum(norm, np.float32(1e-12))[..., None]).reshape(vectors.shape)
    return scaled


def softmax(scores: Float32) -> Float32:
    """Softmax along the last axis, in place."""
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    return scores


def _ring_bias(distance: Float32) -> Float32:
    """[2W, H, W] bias of slot s when the newest event is in slot p: row p filled up to p, row W + p full."""
    window = distance.shape[1]
    newest, slot = np.arange(window)[:, None], np.arange(window)
    full = distance[:, (newest - slot) % window].swapaxes(0, 1)
    filling = np.where((slot <= newest)[:, None], full, MASKED)
    table: Float32 = np.ascontiguousarray(np.concatenate([filling, full]), dtype=np.float32)
    return table
