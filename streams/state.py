"""The interest state of one user: what the worker remembers of him, folded event by event.

A state is stored as bytes (MessagePack, a few hundred bytes to about 3 KB); decoding makes a fresh
object, so that changing it is copy-on-write for free. Only what cannot be derived is here: the last
events (enough to rebuild an attention cache exactly), the items seen before those, the slates whose
outcome is still open, and the last folded offset. Knows nothing of Kafka, models or policies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from index.hashing import item_hash

SCHEMA_VERSION = 2
"""Of what is written. 2: users have groups; states of version 1 are read, their users have none yet."""

EVENT = np.dtype([("item", "<u8"), ("time", "<i8"), ("weight", "<f4"), ("action", "u1")])
"""One remembered interaction, 21 bytes: item hash, event time in ms, weight, index of the action."""

EXPOSURE = np.dtype([("item", "<u8"), ("minute", "<u4")])
"""One item shown and not reacted to, 12 bytes: its hash, minutes since the epoch of event time."""

EXPOSURES = 40
"""So many of the last are remembered of a user."""

PARTITION_KEY = b""
"""The key, in the state topic, of what belongs to the partition and to no user (no user id is empty)."""


def id_hash(text: str) -> bytes:
    """Return the hash of an id as states keep it: 8 bytes, little-endian; the catalogue finds items by the same."""
    return item_hash(text).to_bytes(8, "little")


@dataclass(frozen=True, slots=True)
class StateLimits:
    """Bounds of a state's size, and how long a slate waits for its outcome (milliseconds of event time)."""

    events: int
    seen: int = 1024
    event_ids: int = 32
    open_slates: int = 3
    outcome_window_ms: int = 1_800_000


class OpenSlate(Struct, array_like=True):
    """A published slate whose outcome is still open. Columns run parallel to `items`.

    `opened`: how far event time had come in its partition, at least `time`. The window counts from there, so that
    the slates of a user whose clock is slow do not close the moment they are made.
    """

    slate: str
    time: int
    opened: int
    items: list[str]
    external: bool = False
    shown: bool = False
    conditional: list[float] | None = None
    propensity: list[float] | None = None
    inclusion: list[float] | None = None
    unshown: list[str] = []
    unshown_inclusion: list[float] | None = None
    candidates: int = 0
    history: int = 0
    release: str | None = None
    estimator: str | None = None
    rewards: list[float] = []
    uniform: bool | None = None
    steered: bool | None = None
    item_groups: list[str | None] = []
    group_candidates: dict[str, int] = {}
    pinned: list[int] = []
    swapped: list[int] = []

    def credit(self, item: str, weight: float) -> None:
        if not self.rewards:
            self.rewards = [0.0] * len(self.items)
        self.rewards[self.items.index(item)] += weight


def item_groups(groups: Mapping[str, Sequence[int]], chosen: Sequence[int]) -> list[str | None]:
    """Return the group of each chosen column, None for one in none; empty when there are no groups."""
    of = {column: name for name, columns in groups.items() for column in columns}
    return [of.get(column) for column in chosen] if groups else []


class UserState(Struct, array_like=True):
    """All that is remembered of one user."""

    version: int = SCHEMA_VERSION
    events: int = 0
    offset: int = -1
    last_time: int = 0
    ring: bytes = b""
    seen: bytes = b""
    ids: bytes = b""
    slates: list[OpenSlate] = []
    group: str | None = None
    exposures: bytes = b""

    def history(self) -> NDArray[np.void]:
        """Return the remembered interactions, oldest first: structured array [n] of `EVENT`."""
        return np.frombuffer(self.ring, dtype=EVENT)

    def seen_before(self) -> NDArray[np.uint64]:
        """Return the hashes of items that have left the ring, oldest first: uint64 [m]."""
        return np.frombuffer(self.seen, dtype="<u8")

    def push(self, item: bytes, time: int, weight: float, action: int, limits: StateLimits) -> None:
        """Fold one interaction in; what falls off the ring is remembered as seen."""
        entry = np.array((int.from_bytes(item, "little"), time, weight, action), EVENT).tobytes()
        overflow = len(self.ring) + EVENT.itemsize - limits.events * EVENT.itemsize
        if overflow > 0:
            dropped = self.ring[:8]
            if _find(self.seen, dropped) < 0:
                self.seen = _last(self.seen + dropped, limits.seen)
            self.ring = self.ring[overflow:] + entry
        else:
            self.ring += entry
        self.events += 1
        self.last_time = max(self.last_time, time)

    def expose(self, items: Sequence[str], time: int) -> None:
        """Remember that items were shown."""
        minute = time // 60_000
        shown = np.array([(item_hash(item), minute) for item in items[-EXPOSURES:]], EXPOSURE).tobytes()
        self.exposures = (self.exposures + shown)[-EXPOSURES * EXPOSURE.itemsize :]

    def react(self, item: bytes) -> None:
        """What was shown of this item was not in vain: its exposures count no more."""
        if item in self.exposures:
            known = np.frombuffer(self.exposures, EXPOSURE)
            self.exposures = known[known["item"] != int.from_bytes(item, "little")].tobytes()

    def remember_id(self, event_id: str, limits: StateLimits) -> bool:
        """Return False when the event's id is among the last ones of this user; remember it otherwise."""
        digest = id_hash(event_id)
        if _find(self.ids, digest) >= 0:
            return False
        self.ids = _last(self.ids + digest, limits.event_ids)
        return True

    def credit(self, item: str, weight: float, slate: str | None) -> None:
        """Join an interaction to the slate that showed the item: the named one, else the newest that holds it."""
        for open_slate in reversed(self.slates):
            if item in open_slate.items and slate in (None, open_slate.slate):
                open_slate.credit(item, weight)
                return

    def open(self, slate: OpenSlate, limits: StateLimits) -> list[OpenSlate]:
        """Add a slate and return those that had to make room for it: unconfirmed ones first, then the oldest."""
        self.slates.append(slate)
        evicted = []
        while len(self.slates) > limits.open_slates:
            unconfirmed = [at for at, one in enumerate(self.slates[:-1]) if not one.shown]
            evicted.append(self.slates.pop(unconfirmed[0] if unconfirmed else 0))
        return evicted

    def close_due(self, now: int, limits: StateLimits) -> list[OpenSlate]:
        """Remove and return the slates whose window has closed at event time `now`."""
        due = [slate for slate in self.slates if slate.opened + limits.outcome_window_ms <= now]
        if due:
            self.slates = [slate for slate in self.slates if slate.opened + limits.outcome_window_ms > now]
        return due


class PartitionState(Struct, array_like=True):
    """What belongs to a partition as a whole: how far event time has come."""

    version: int = SCHEMA_VERSION
    watermark: int = 0


class _Opened(Struct, array_like=True, gc=False):
    """What says when a slate's window closes, and no more: decoding skips the rest."""

    slate: msgspec.Raw
    time: int
    opened: int


class _Windows(Struct, array_like=True, gc=False):
    version: int = SCHEMA_VERSION
    events: int = 0
    offset: int = 0
    last_time: int = 0
    ring: msgspec.Raw = msgspec.Raw()
    seen: msgspec.Raw = msgspec.Raw()
    ids: msgspec.Raw = msgspec.Raw()
    slates: list[_Opened] = []


class UnknownStateVersion(ValueError):
    """The state topic was written by a newer driftline than this one."""


_encoder = msgspec.msgpack.Encoder()
_user_decoder = msgspec.msgpack.Decoder(UserState)
_partition_decoder = msgspec.msgpack.Decoder(PartitionState)
_windows_decoder = msgspec.msgpack.Decoder(_Windows)


def encode_state(state: UserState | PartitionState) -> bytes:
    return _encoder.encode(state)


def decode_user(data: bytes | None) -> UserState:
    """Return the user's state, a fresh one for None. Raises `UnknownStateVersion`."""
    if data is None:
        return UserState()
    state: UserState = _user_decoder.decode(data)
    _check_version(state.version)
    state.version = SCHEMA_VERSION  # as which it is written again
    return state


def waits(data: bytes) -> bytes | None:
    """Return when the first of a state's open slates was opened (event time, ms, 8 bytes); None when none is open.

    The mark by which a store finds those again without reading the others. Less work than `decode_user`: a third of
    it where three slates are open. Raises `UnknownStateVersion`.
    """
    windows = _windows_decoder.decode(data)
    _check_version(windows.version)
    return min(slate.opened for slate in windows.slates).to_bytes(8, "big", signed=True) if windows.slates else None


def decode_partition(data: bytes | None) -> PartitionState:
    """Return the partition's state, a fresh one for None. Raises `UnknownStateVersion`."""
    if data is None:
        return PartitionState()
    state: PartitionState = _partition_decoder.decode(data)
    _check_version(state.version)
    return state


def _check_version(version: int) -> None:
    if version > SCHEMA_VERSION:
        raise UnknownStateVersion(
            f"state has schema version {version}, this driftline knows up to {SCHEMA_VERSION}: upgrade the worker"
        )


def _last(hashes: bytes, count: int) -> bytes:
    """Return the last `count` of a row of 8-byte hashes; none for 0."""
    return hashes[max(0, len(hashes) - 8 * count) :]


def _find(hashes: bytes, digest: bytes) -> int:
    """Return the index of an 8-byte hash in a row of them, -1 when it isn't there."""
    at = hashes.find(digest)
    while at >= 0 and at % 8:
        at = hashes.find(digest, at + 1)
    return at // 8 if at >= 0 else -1
