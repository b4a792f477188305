"""A release in service: events in, user vectors out, in NumPy float32. Knows nothing about torch or training.

Each event costs O(W): the model is trained with a banded causal mask of width W in every layer and relative
terms only, so that keys and values of the last W events, kept in a ring, give what a full forward pass would.
Numbers agree with it up to rounding, and so do batches of different shapes: never compare them as bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.attention import Layer, normalise_rms, unit
from models.blend import Blend
from models.config import EvolutionConfig, Float32, Int64, UInt8, time_buckets
from models.cooccurrence import ServingCounts
from models.features import ItemFeatures, ItemVectors
from models.horizon import Horizon, optional
from models.release import Release
from models.ring import RingCache

STEP_ROWS = 64
"""Users stepped together: their gathered keys and values should stay within a core's own cache."""
REBUILD_ROWS = 16


class ServingModel:
    """What a worker calls.

    Attributes:
        config: shape of the evolution model.
        release_id: a ring cache is exact only for the release that made it.
        text_encoder: fingerprint of the encoder whose text vectors it reads.
        text_dim: numbers in such a vector.
        items: how many the release knows, each in a row of its own.
        counts, blend: of the release, None where it has none.
        horizon: its head for later times, None where it has none.
        topics: categories that the release knows, in the order of the head's topics.
    """

    def __init__(self, release: Release) -> None:
        self.config: EvolutionConfig = release.config
        self.release_id: str = release.id
        self.text_encoder: str = release.text_encoder
        self.text_dim: int = len(release.space.text_mean)
        self.items: int = len(release.item_ids)
        self.counts: ServingCounts | None = ServingCounts(release.arrays, release.source) if release.source else None
        self.blend: Blend | None = Blend(release.arrays) if release.source else None
        self.topics: tuple[str, ...] = release.space.vocabulary
        self._space = release.space
        self._row_of = {item: row for row, item in enumerate(release.item_ids)}
        self._tower = _section(release.arrays, "tower.")
        weights = _section(release.arrays, "evolution.")
        self._weights = weights
        self._temperature = np.float32(np.exp(weights["log_temperature"]))
        self.horizon = (
            Horizon(release.arrays, self._temperature, self.config.members) if optional(release.arrays) else None
        )
        self._layers = [Layer(_section(weights, f"layers.{at}."), self.config) for at in range(self.config.layers)]

    @property
    def dim(self) -> int:
        """d; vectors for search have d + 1 numbers."""
        return self.config.dim

    def project(self, ids: Sequence[str], features: ItemFeatures) -> ItemVectors:
        """Vectors of n items; one that the release does not know gets what its features say, ranked with care:
        its bias is lowered as far as the release's least popular items lie below its average one.

        Raises:
            ValueError: ids and features differ in number, or the text vectors in width from the release's.
        """
        if len(ids) != len(features):
            raise ValueError(f"project got {len(ids)} ids and features of {len(features)} items")
        tower, columns = self._tower, self._space.matrix(features)
        raw = columns @ tower["project"] + tower["project_bias"]
        bias = columns @ tower["popularity"] + tower["popularity_bias"]
        rows = self.rows(ids)
        known = rows >= 0
        raw[known] += tower["residual"][rows[known]]
        bias += np.where(known, tower["item_bias"][rows], tower["new_item_bias"])
        direction = unit(raw, self.config.members)
        search = np.concatenate([direction, bias[:, None]], axis=1)
        return ItemVectors(search=search, input=direction * np.float32(np.sqrt(self.dim)))

    def rows(self, ids: Sequence[str]) -> Int64:
        """Row of each of n items in the release, int64 [n], -1 where it does not know the item."""
        return np.array([self._row_of.get(item, -1) for item in ids], np.int64)

    @property
    def start_vector(self) -> Float32:
        """[d + 1] user vector of somebody without any event."""
        start: Float32 = self.user_vectors(self._weights["start"][None])[0]
        return start

    def user_vectors(self, hidden: Float32) -> Float32:
        """[B, d + 1] from hidden states [B, d]: a unit vector over the temperature, and 1 for the item's bias."""
        out = np.ones((len(hidden), self.dim + 1), np.float32)
        out[:, :-1] = unit(hidden, self.config.members) / self._temperature
        return out

    def future_vectors(self, hidden: Float32, now_ms: Int64, ahead_ms: Int64) -> Float32:
        """[B, d + 1] the vectors as they will be ``ahead_ms`` [B] after the events that the states follow, whose times
        are ``now_ms`` [B]; for 0 and less they are those of `user_vectors`, to the byte.

        Raises:
            ValueError: the release has no head for later times.
        """
        out = self.user_vectors(hidden)
        later = ahead_ms > 0
        if later.any():
            if self.horizon is None:
                raise ValueError(f"release {self.release_id} has no head for later times")
            out[later] = self.horizon.vectors(hidden[later], now_ms[later], ahead_ms[later])
        return out

    def new_cache(self, rows: int) -> RingCache:
        """An empty cache for ``rows`` users."""
        return RingCache(rows, self.config, self.release_id, scratch_rows=STEP_ROWS)

    def step(
        self,
        cache: RingCache,
        rows: Int64,
        inputs: Float32,
        times_ms: Int64,
        actions: UInt8,
        weights: Float32,
    ) -> Float32:
        """Append one event to each of B rows; O(W) each.

        Args:
            cache: made by this release.
            rows: [B] distinct rows of the cache.
            inputs: [B, d] from ``project``; zeros for an item that is not in the catalogue.
            times_ms: [B] UTC; where an event is older than one before it, their difference counts as 0.
            actions: [B] codes.
            weights: [B] strengths of the events, 1 for an ordinary one.

        Returns:
            [B, d] hidden states.

        Raises:
            ValueError: rows repeat or lie outside, shapes disagree, or the cache is another release's.
                Nothing has been written then.
        """
        self._check(cache, rows)
        for name, array, shape in (
            ("inputs", inputs, (len(rows), self.dim)),
            ("times_ms", times_ms, (len(rows),)),
            ("actions", actions, (len(rows),)),
            ("weights", weights, (len(rows),)),
        ):
            if array.shape != shape:
                raise ValueError(f"step: {name} has shape {array.shape}, expected {shape}")
        hidden = np.empty((len(rows), self.dim), np.float32)
        for start in range(0, len(rows), STEP_ROWS):
            part = slice(start, start + STEP_ROWS)
            hidden[part] = self._step(cache, rows[part], inputs[part], times_ms[part], actions[part], weights[part])
        return hidden

    def rebuild(
        self,
        cache: RingCache,
        rows: Int64,
        inputs: Sequence[Float32],
        times_ms: Sequence[Int64],
        actions: Sequence[UInt8],
        weights: Sequence[Float32],
    ) -> Float32:
        """Replace the contents of B rows by what stepping through their events would have left.

        Args:
            cache: made by this release.
            rows: [B] distinct rows of the cache.
            inputs, times_ms, actions, weights: for each row its n_i ≥ 1 events, oldest first, as for ``step``.
                The last ``config.history`` (layers × window) make it exact; more are not looked at.

        Returns:
            [B, d] hidden states after the last event.

        Raises:
            ValueError: a row has no event, its arrays disagree, rows repeat or lie outside, or the cache is
                another release's.
        """
        self._check(cache, rows)
        keep = self.config.history
        events = []
        for at, (x, t, a, w) in enumerate(zip(inputs, times_ms, actions, weights, strict=True)):
            if not len(x) == len(t) == len(a) == len(w) or len(x) == 0:
                sizes = [len(x), len(t), len(a), len(w)]
                raise ValueError(f"rebuild: row {at} has {sizes} inputs, times, actions, weights; expected equal, >= 1")
            events.append((x[-keep:], t[-keep:], a[-keep:], w[-keep:]))
        if len(events) != len(rows):
            raise ValueError(f"rebuild: events of {len(events)} users for {len(rows)} rows")
        hidden = np.empty((len(rows), self.dim), np.float32)
        # Of like length together: a batch is padded to its longest.
        order = np.argsort([len(event[1]) for event in events], kind="stable")
        for start in range(0, len(rows), REBUILD_ROWS):
            part = order[start : start + REBUILD_ROWS]
            hidden[part] = self._rebuild(cache, rows[part], [events[at] for at in part])
        return hidden

    def _check(self, cache: RingCache, rows: Int64) -> None:
        if cache.release_id != self.release_id:
            raise ValueError(f"the cache was made by release {cache.release_id}, this is {self.release_id}")
        cache.check(rows)

    def _embed(self, inputs: Float32, gaps: Int64, actions: UInt8, weights: Float32) -> Float32:
        table = self._weights
        strength = (weights - np.float32(1))[..., None] * table["weight"]
        embedded: Float32 = inputs + table["gap"][gaps] + table["action"][actions] + strength
        return embedded

    def _step(
        self, cache: RingCache, rows: Int64, inputs: Float32, times: Int64, actions: UInt8, weights: Float32
    ) -> Float32:
        buckets, window = self.config.time_buckets, self.config.window
        count = cache.count[rows]
        slot = count % window
        gaps = time_buckets(times - cache.times[rows, slot - 1], buckets)
        x = self._embed(inputs, np.where(count > 0, gaps, buckets), actions, weights)
        cache.times[rows, slot] = times
        ages = time_buckets(times[:, None] - cache.times[rows], buckets)
        # Row s of the bias tables is for a ring in which only slots 0..s are filled, row W + s for a full one.
        place = np.where(count < window, slot, slot + window)
        for at, layer in enumerate(self._layers):
            query, key, value = layer.project(x)
            cache.keys[at, rows, slot] = key
            cache.values[at, rows, slot] = value
            keys, values = cache.gather(at, rows)
            x += layer.attend_ring(query, keys, values, place, ages)
            x += layer.feed_forward(x)
        cache.count[rows] = count + 1
        return normalise_rms(x, self.config.members) * self._weights["final_norm"]

    def _rebuild(self, cache: RingCache, rows: Int64, events: list[tuple[Float32, Int64, UInt8, Float32]]) -> Float32:
        buckets, window = self.config.time_buckets, self.config.window
        lengths = np.array([len(event[1]) for event in events])
        longest = int(lengths.max())
        inputs = np.zeros((len(rows), longest, self.dim), np.float32)
        times = np.zeros((len(rows), longest), np.int64)
        actions = np.zeros((len(rows), longest), np.uint8)
        weights = np.ones((len(rows), longest), np.float32)
        # Ends are aligned, so that the last m events of everybody are one slice.
        for at, event in enumerate(events):
            own = (at, slice(longest - len(event[1]), None))
            inputs[own], times[own], actions[own], weights[own] = event
        present = np.arange(longest) >= (longest - lengths)[:, None]
        gaps = time_buckets(np.diff(times, axis=1, prepend=0), buckets)
        gaps[np.arange(len(rows)), longest - lengths] = buckets
        x = self._embed(inputs, gaps, actions, weights)
        # The last layer answers for the newest event only, the one before it for what that one sees, ...
        asked = [min(longest, left * (window - 1) + 1) for left in reversed(range(len(self._layers)))]
        ages = time_buckets(times[:, -asked[0] :, None] - times[:, None], buckets)
        recent = min(longest, window)
        row, column = np.nonzero(present[:, -recent:])
        slot = (lengths[row] - recent + column) % window
        for depth, (layer, size) in enumerate(zip(self._layers, asked, strict=True)):
            query, key, value = layer.project(x)
            cache.keys[depth, rows[row], slot] = key[:, -recent:][row, column]
            cache.values[depth, rows[row], slot] = value[:, -recent:][row, column]
            known = x.shape[1]
            x = x[:, -size:]
            x = x + layer.attend_band(query[:, -size:], key, value, present[:, -known:], ages[:, -size:, -known:])
            x += layer.feed_forward(x)
        cache.times[rows[row], slot] = times[:, -recent:][row, column]
        cache.count[rows] = lengths
        return normalise_rms(x[:, -1], self.config.members) * self._weights["final_norm"]


def _section(arrays: dict[str, Float32], prefix: str) -> dict[str, Float32]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
