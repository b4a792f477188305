"""What every worker knows in full: the release, the catalogue as the release sees it, the estimators.

A world belongs to one release. Item changes and estimator snapshots are applied to it in place, between
batches, by the thread that reads it; another release means another world, built aside. Knows nothing of
Kafka or of users.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import structlog
from numpy.typing import NDArray

from index.catalogue import Catalogue
from index.categories import Categories
from index.faiss_index import ItemIndex
from index.growable import with_room
from models.blend import Blend
from models.cooccurrence import ServingCounts
from models.features import ItemFeatures
from models.serving import ServingModel
from policy.fairness import FairnessConfig, Steering, steer
from policy.frequency import StreamingFrequency
from policy.group_rates import GroupRates
from policy.injection import Pool
from streams.contracts import EstimatorSnapshot, ItemVector
from streams.estimator_fairness import unpack_rates
from streams.release_rows import ReleaseRows

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Known:
    """The items as last told: vectors by id, and how far each partition of `item_vectors` was read."""

    items: Mapping[str, ItemVector]
    position: tuple[int, ...]


class World:
    """Release + catalogue + estimators.

    `search` [slots, d+1] and `inputs` [slots, d] are float32 rows by catalogue slot, `log_popularity`
    float64 [slots], `exposures` int64 [slots] in how many slates each item was, as far as is known, `categories` what
    each item is; `rows` says which row of the release is which slot. `epoch` grows when the input vector of a known
    item changes or is forgotten: whatever was computed from inputs before is out of date then.

    Two worlds of one release that were told the same are alike, in whichever steps they were told: slots, which
    depend on that, decide nothing.
    """

    def __init__(self, model: ServingModel, created: int, known: Known) -> None:
        self.model = model
        self.created = created
        self.catalogue = Catalogue()
        self.index = ItemIndex(model.dim + 1)
        self.inputs: NDArray[np.float32] = np.empty((0, model.dim), np.float32)
        self.log_popularity: NDArray[np.float64] = np.empty(0, np.float64)
        self.exposures: NDArray[np.int64] = np.empty(0, np.int64)
        self.categories = Categories()
        self.rows = ReleaseRows(model.items)
        self.position = known.position
        self.epoch = 0
        self.estimator: EstimatorSnapshot | None = None
        self._frequency: StreamingFrequency | None = None
        self._rates: GroupRates | None = None
        self._steering: tuple[FairnessConfig, Steering] | None = None
        self._pool: Pool | None = None
        self._order: NDArray[np.int64] = np.empty(0, np.int64)  # slots by the hash of their item
        self.upsert(known.items.values())

    @property
    def counts(self) -> ServingCounts | None:
        """The counts of the release, in its rows; None where it has none."""
        return self.model.counts

    @property
    def blend(self) -> Blend | None:
        """What makes a score of model and counts; None where the model's score is the score."""
        return self.model.blend

    @property
    def pool(self) -> Pool:
        """The items that exploration may draw from, in the order of their hashes."""
        if self._pool is None:
            order = self._by_hash()
            self._pool = Pool.of(order[self.catalogue.alive[order]])
        return self._pool

    def _by_hash(self) -> NDArray[np.int64]:
        """All slots in the order of their items' hashes; the new ones are merged in."""
        hashes = self.catalogue.hashes
        new = np.arange(len(self._order), len(hashes))
        if len(new):
            new = new[np.argsort(hashes[new], kind="stable")]
            self._order = np.insert(self._order, np.searchsorted(hashes[self._order], hashes[new]), new)
        return self._order

    def apply(self, changes: Sequence[tuple[str, ItemVector | None]], position: tuple[int, ...]) -> None:
        """Apply item changes (id, vector or None for gone) in order, up to `position`."""
        latest = dict(changes)
        self.forget([item for item, vector in latest.items() if vector is None])
        self.upsert([vector for vector in latest.values() if vector is not None])
        self.position = position

    def upsert(self, items: Iterable[ItemVector]) -> None:
        """Add items or replace them. What is withdrawn keeps its meaning in histories and is not recommended; an item
        whose vector was made by another text encoder than the release's is not known at all."""
        batch = self._readable(items)
        if not batch:
            return
        ids = [item.item for item in batch]
        before = self.catalogue.slots(ids)
        vectors = self.model.project(ids, features_of(batch))
        slots = self.catalogue.upsert(ids, [None] * len(ids))
        self._grow(len(self.catalogue))
        known = before >= 0
        # Rounding depends on how many items are projected together: the same text again is no change.
        if known.any() and not np.allclose(self.inputs[slots[known]], vectors.input[known], atol=1e-5):
            self.epoch += 1
        self.inputs[slots] = vectors.input
        self.log_popularity[slots], self.exposures[slots] = self._exposure(self.catalogue.hashes[slots])
        self.categories.put(slots, [item.categories for item in batch])
        there = np.array([not item.withdrawn for item in batch])
        self.index.upsert(slots[there], vectors.search[there])
        self.rows.put(slots, self.model.rows(ids), there)
        self._withdraw([item.item for item in batch if item.withdrawn])
        self._pool = None

    def _readable(self, items: Iterable[ItemVector]) -> list[ItemVector]:
        listed = list(items)
        encoder, size = self.model.text_encoder, 4 * self.model.text_dim
        readable = [item for item in listed if item.encoder == encoder and len(item.vector_f32) == size]
        if len(readable) < len(listed):
            log.warning(
                "items left out: their vectors were made by another encoder than the release reads; "
                "embed them with the release's encoder, or train a release on the new vectors",
                items=len(listed) - len(readable),
                release=self.model.release_id,
                encoder=self.model.text_encoder,
            )
            kept = {item.item for item in readable}
            self.forget([item.item for item in listed if item.item not in kept])
        return readable

    def _withdraw(self, ids: Sequence[str]) -> None:
        """Take items off the shelf; histories still refer to them."""
        self.index.delete(self.catalogue.delete(ids))

    def forget(self, ids: Sequence[str]) -> None:
        """Items are gone: in histories they stand for nothing from now on, as to a worker that never knew them."""
        slots = self.catalogue.forget(ids)
        if len(slots):
            self.index.delete(slots)
            self.rows.forget(slots)
            self.epoch += 1
            self._pool = None

    def estimate(self, snapshot: EstimatorSnapshot, frequency: StreamingFrequency) -> None:
        """Use these estimators from now on; `frequency` is the snapshot's, unpacked."""
        self.estimator = snapshot
        self._frequency = frequency
        self._rates = unpack_rates(snapshot.fairness) if snapshot.fairness is not None else None
        self._steering = None
        known = len(self.catalogue)
        self.log_popularity[:known], self.exposures[:known] = self._exposure(self.catalogue.hashes)

    def steering(self, config: FairnessConfig) -> Steering | None:
        """What fairness does by these estimators; None while they tell nothing of groups."""
        if self._rates is None:
            return None
        if self._steering is None or self._steering[0] is not config:
            self._steering = (config, steer(config, self._rates))
        return self._steering[1]

    @property
    def steered(self) -> tuple[FairnessConfig, Steering] | None:
        """What `steering` last said by these estimators, and by which configuration; None where it was not asked."""
        return self._steering

    def _exposure(self, hashes: NDArray[np.uint64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Log of the estimated probability of exposure, 0 for all, thus no correction, before the first snapshot; and
        the number of exposures, the largest there is before the first."""
        if self._frequency is None:
            return np.zeros(len(hashes)), np.full(len(hashes), np.iinfo(np.int64).max)
        return np.log(self._frequency.probability(hashes)), self._frequency.hits(hashes)

    def _grow(self, size: int) -> None:
        self.inputs = with_room(self.inputs, size)
        self.log_popularity = with_room(self.log_popularity, size)
        self.exposures = with_room(self.exposures, size)


def features_of(items: Sequence[ItemVector]) -> ItemFeatures:
    """Return the features of n item vectors as arrays."""
    return ItemFeatures(
        text=np.stack([np.frombuffer(item.vector_f32, "<f4") for item in items]),
        categories=[item.categories for item in items],
        years=np.array([item.year or 0 for item in items], np.int64),
    )
