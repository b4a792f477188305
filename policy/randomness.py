"""Random numbers that replay: a pure function of (seed, partition, offset), and of the item where one is concerned.

Every choice the policy makes is read from here, so that the same log gives the same slates however its
events are batched, and on whichever worker. Knows nothing of slates, of messages or of what a draw is for.

How to reproduce a draw elsewhere. There are two kinds.

`uniforms`, the draws of an event. The generator is Philox4x64-10 (Salmon et al., "Parallel random numbers: as
easy as 1, 2, 3", SC 2011) with the 128-bit key (seed, partition), low word first. Draw number n of the
stream is word n mod 4 of the block whose 256-bit counter is n div 4 + 1 (NumPy increments the counter before it
encrypts), shifted right by 11 bits and multiplied by 2^-53; a zero is replaced by 2^-54. An event at offset o
that owns D draws has numbers D·o to D·o + D - 1.

`item_uniforms`, one number for each item of an event: m(m(m(m(m(seed) ^ purpose) ^ partition) ^ offset) ^ item hash),
all 64-bit, made a fraction in the same way. m is one step of SplitMix64 (Steele, Lea and Flood, "Fast splittable
pseudorandom number generators", OOPSLA 2014; it passes BigCrush): z = x + 0x9E3779B97F4A7C15, then
z = (z ^ z >> 30) · 0xBF58476D1CE4E5B9, z = (z ^ z >> 27) · 0x94D049BB133111EB, z ^ z >> 31, modulo 2^64. m is a
bijection: two items of an event, or two events of a partition, never start from the same word.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

WORDS_PER_BLOCK = 4
SMALLEST = 2.0**-54
KEY_LIMIT = 2**64
BLOCK = 4096
"""Numbers mixed at once: the arrays of a block stay in a core's own cache."""

Words = NDArray[np.uint64]


def uniforms(seed: int, partition: int, offsets: NDArray[np.int64], draws: int) -> NDArray[np.float64]:
    """Uniform numbers in the open interval (0, 1), float64 [B, draws], one row for each offset.

    `offsets` is int64 [B], strictly ascending, as a partition's log gives them. Consecutive offsets are drawn by
    one native call. Raises ValueError for a seed or partition outside [0, 2^64), draws below 1, or offsets that
    are negative or do not ascend.
    """
    _check_key(seed=seed, partition=partition)
    if draws < 1:
        raise ValueError(f"draws is {draws}, expected at least 1")
    offsets = np.asarray(offsets, dtype=np.int64)
    result = np.empty((len(offsets), draws))
    if not len(offsets):
        return result
    steps = np.diff(offsets)
    if offsets[0] < 0 or (steps < 1).any():
        raise ValueError("offsets must be non-negative and strictly ascending")
    key = np.array([seed, partition], dtype=np.uint64)
    edges = [0, *(np.flatnonzero(steps > 1) + 1).tolist(), len(offsets)]
    for start, stop in itertools.pairwise(edges):
        _fill(key, int(offsets[start]) * draws, result[start:stop].reshape(-1))
    return np.maximum(result, SMALLEST, out=result)


def event_keys(seed: int, partition: int, offsets: NDArray[np.int64], purpose: int) -> Words:
    """A word for each event, uint64 [B], from which `item_uniforms` makes numbers; `offsets` int64 [B].

    `purpose` tells independent uses apart. Raises ValueError for a seed, partition or purpose outside [0, 2^64).
    """
    _check_key(seed=seed, partition=partition, purpose=purpose)
    key = np.zeros(1, np.uint64)
    for part in (seed, purpose, partition):
        key = _mixed(key ^ np.uint64(part))
    return _mixed(key ^ np.asarray(offsets, dtype=np.int64).view(np.uint64))


def item_uniforms(keys: Words, items: Words) -> NDArray[np.float64]:
    """Uniform numbers in the open interval (0, 1), float64 [B, C]: one for each item of each event.

    `keys` uint64 [B] from `event_keys`, `items` uint64 [B, C], hashes. An item has the same number for an event
    whatever stands beside it.
    """
    result = np.empty(items.shape)
    rows = max(1, BLOCK // max(items.shape[1], 1))
    for start in range(0, len(items), rows):
        part = slice(start, start + rows)
        mixed = _mixed(items[part] ^ keys[part, None])
        mixed >>= np.uint64(11)
        np.multiply(mixed, 2.0**-53, out=result[part])
    return np.maximum(result, SMALLEST, out=result)


def _mixed(words: Words) -> Words:
    """One step of SplitMix64 on words that the caller no longer needs."""
    words += np.uint64(0x9E3779B97F4A7C15)
    words ^= words >> np.uint64(30)
    words *= np.uint64(0xBF58476D1CE4E5B9)
    words ^= words >> np.uint64(27)
    words *= np.uint64(0x94D049BB133111EB)
    words ^= words >> np.uint64(31)
    return words


def _check_key(**parts: int) -> None:
    for name, value in parts.items():
        if not 0 <= value < KEY_LIMIT:
            raise ValueError(f"{name} is {value}, expected 0 to 2**64 - 1")


def _fill(key: NDArray[np.uint64], first: int, out: NDArray[np.float64]) -> None:
    """Write draws `first`, `first` + 1, ... of the stream into `out`."""
    block, skip = divmod(first, WORDS_PER_BLOCK)
    generator = np.random.Generator(np.random.Philox(key=key, counter=block))
    if skip:
        generator.random(skip)
    generator.random(out=out)


def distinct_ranks(uniforms: NDArray[np.float64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Draw distinct ranks uniformly without replacement, int64 [B, m]: row b draws from 0 .. sizes[b] - 1.

    `uniforms` is float64 [B, m] in (0, 1), `sizes` int64 [B]. Each subset of size m is equally likely, and so is
    each order. Where a row has fewer than m ranks it gives them all, then -1. m is meant to be small: the
    work grows with m².
    """
    ranks = np.full(uniforms.shape, -1, dtype=np.int64)
    for j in range(uniforms.shape[1]):
        rank = (uniforms[:, j] * (sizes - j)).astype(np.int64)
        for taken in np.sort(ranks[:, :j], axis=1).T:  # skip what is taken, in ascending order
            rank += rank >= taken
        ranks[:, j] = np.where(sizes > j, rank, -1)
    return ranks
