"""A partition's states on disk (RocksDB), in front of them one bounded cache that all partitions of a worker share.

The changelog is the write-ahead log: nothing is logged or synced a second time here. A store holds some
prefix of the changelog and says which, in the same atomic write as the states; what a crash takes from it is
read again from there. Whatever looks wrong is `StoreDamaged`, and the changelog mends it.

Layout: `s` + hash of the key → state, key, length of the key; `w` + hash → mark, key, length of the key, where there is
a mark; `m` → what the store says of itself. Hashes, so that ids are in values only: RocksDB copies keys into its
manifest and its log, where no compaction removes them after an erasure.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import ItemsView, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import structlog
from msgspec import Struct
from rocksdict import AccessType, Options, Rdict, ReadOptions, WriteBatch

from streams.slots import Slot
from streams.store import Mark, Store, StoreDamaged
from streams.store_memory import OPEN_FILES, Memory, unlogged

log = structlog.get_logger(__name__)

FORMAT = 1
FLUSH_SECONDS = 300.0
"""What is in memory only is written out about this often at least: a restart reads it from the changelog otherwise."""

_STATE, _MARK, _ABOUT = b"s", b"w", b"m"
_SCRUBBED_ONE_BY_ONE = 16
_OLD_FILES_S = {"ttl": "43200", "periodic_compaction_seconds": "86400"}


class About(Struct, array_like=True):
    """What a store says of itself; changes in one write with the states.

    `deleted`: seconds since the epoch when the first state was deleted whose bytes may still be in a file; 0: none.
    """

    format: int = FORMAT
    origin: str = ""
    position: int = 0
    contact: float = 0.0
    count: int = 0
    deleted: float = 0.0


_encode = msgspec.msgpack.Encoder().encode
_about_decoder = msgspec.msgpack.Decoder(About)


class DiskStore(Store):
    """One partition's states in the folder of a slot, which is given back with `close`."""

    def __init__(
        self, slot: Slot, memory: Memory, mark: Mark | None = None, keep_seconds: float = float("inf")
    ) -> None:
        self.keep_seconds = keep_seconds
        self.closed = False
        self._slot = slot
        self._memory = memory
        self.mark = mark
        self._writing = threading.Lock()  # a batch, or what `scrub` says when it is done
        self._scrub: set[bytes] = set()
        self._read_at = time.time()
        self._db: Rdict | None = None
        try:
            self._open()
        except StoreDamaged as error:
            log.warning("local store is damaged: rebuilding it from the changelog", path=str(slot), error=str(error))
            self._clear_anew()

    def _clear_anew(self) -> None:
        try:
            self.clear()
        except BaseException:
            self._shut()  # else RocksDB keeps the folder from whoever tries next in this process
            raise

    # -- reading -----------------------------------------------------------------------------------

    def get(self, key: bytes, default: Any = None) -> Any:
        self._read_at = time.time()
        try:  # not `_damage`, which would cost as much again
            stored = self._opened.get(_STATE + _hash(key))
        except Exception as error:
            raise _damaged(error) from error
        return default if stored is None else stored[: -4 - len(key)]

    def __getitem__(self, key: bytes) -> bytes:
        state: bytes | None = self.get(key)
        if state is None:
            raise KeyError(key)
        return state

    def __contains__(self, key: object) -> bool:
        return isinstance(key, bytes) and self.get(key) is not None

    def __len__(self) -> int:
        return self._about.count

    def __iter__(self) -> Iterator[bytes]:
        return (key for key, _ in self._scan())

    def items(self) -> ItemsView[bytes, bytes]:
        return _Items(self)

    def marked(self) -> Iterable[tuple[bytes, bytes]]:
        return (_parts(stored) for _, stored in self._rows(_MARK))

    def _scan(self) -> Iterator[tuple[bytes, bytes]]:
        return (_parts(stored) for _, stored in self._rows(_STATE))

    def _rows(self, kind: bytes) -> Iterator[tuple[bytes, bytes]]:
        """All entries of one kind, past the cache: a scan would push out what is in use."""
        options = ReadOptions()
        options.fill_cache(False)
        with _damage():
            rows = self._opened.iter(options)
            rows.seek(kind)
        while True:
            with _damage():
                if not rows.valid():
                    rows.status()  # the end, or a block that cannot be read
                    return
                place, value = rows.key(), rows.value()
                rows.next()
            if not place.startswith(kind):
                return
            yield place, value

    # -- writing -----------------------------------------------------------------------------------

    def take(self, changes: Mapping[bytes, bytes | None], position: int, contact: float | None = None) -> None:
        # The last read before the commit is the last moment known at which nobody else could have written: a
        # process may sleep for a day between its commit and this line.
        contact = self._read_at if contact is None else contact
        places = [_hash(key) for key in changes]
        batch = WriteBatch(raw_mode=True)
        with self._writing:
            about = msgspec.structs.replace(self._about, position=position, contact=contact)
            for place, before, (key, state) in zip(places, self._before(places), changes.items(), strict=True):
                if before is not None or state is not None:
                    self._change(batch, about, place, before, None if state is None else _stored(key, state))
            self._write(batch, about)
            self._flush_old()

    def _before(self, places: list[bytes]) -> list[bytes | None]:
        """What is stored at `places` now."""
        if not self._about.count or not places:
            return [None] * len(places)
        with _damage():
            found: list[bytes | None] = self._opened.get([_STATE + place for place in places])
        return found

    def _change(self, batch: WriteBatch, about: About, place: bytes, before: bytes | None, after: bytes | None) -> None:
        """Add to the batch what turns `before` into `after`, with its mark, and count it."""
        about.count += (after is not None) - (before is not None)
        if after is not None:
            batch.put(_STATE + place, after)
        else:
            batch.delete(_STATE + place)
            self._scrub.add(place)
            about.deleted = about.deleted or time.time()
        was, now = self._mark_of(before), self._mark_of(after)
        if now is not None and now != was:
            batch.put(_MARK + place, now)
        elif now is None and was is not None:
            batch.delete(_MARK + place)

    def _mark_of(self, stored: bytes | None) -> bytes | None:
        """What is stored as the mark of what is stored as a state."""
        if self.mark is None or stored is None:
            return None
        key, state = _parts(stored)
        found = self.mark(state)
        return None if found is None else _stored(key, found)

    def _write(self, batch: WriteBatch, about: About) -> None:
        batch.put(_ABOUT, _encode(about))
        with _damage():
            self._opened.write(batch)
        self._unwritten = True
        self._become(about)

    def _become(self, about: About) -> None:
        self._about = about
        self.position, self.origin, self.contact = about.position, about.origin, about.contact

    def flush_old(self) -> None:
        """Write out what is in memory only for long, also where nothing is taken any more. For upkeep's thread."""
        with self._writing:
            if not self.closed:
                self._flush_old()

    def _flush_old(self) -> None:
        if self._unwritten and time.monotonic() - self._flushed > FLUSH_SECONDS:
            self._flush()

    def _flush(self) -> None:
        with _damage():
            self._opened.flush()
        self._flushed, self._unwritten = time.monotonic(), False
        self._slot.note(self.position)

    # -- what was deleted ----------------------------------------------------------------------------

    @property
    def to_scrub(self) -> bool:
        """Whether a file may still hold the bytes of deleted states."""
        return self._about.deleted > 0

    def scrub(self) -> None:
        """Rewrite the files that may still hold the bytes of deleted states. Long: for a thread of its own."""
        with self._writing:
            places, self._scrub = self._scrub, set()
        with _damage():
            if places and len(places) <= _SCRUBBED_ONE_BY_ONE:
                for entry in (kind + place for place in places for kind in (_STATE, _MARK)):
                    self._opened.compact_range(entry, entry)
            else:  # many, or those of an earlier run, which nobody remembers one by one
                self._opened.compact_range(None, None)
        with self._writing:
            if not self._scrub:
                self._write(WriteBatch(raw_mode=True), msgspec.structs.replace(self._about, deleted=0.0))
                self._flush()

    # -- opening and giving up -----------------------------------------------------------------------

    def clear(self, origin: str | None = None) -> None:
        with self._writing:
            if self.closed:  # by a takeover that was given up in the middle; the slot may be another's by now
                raise StoreDamaged(f"{self._slot} is closed")
            self._shut()
            self._slot.empty()
            self._open()
            self._write(WriteBatch(raw_mode=True), About(origin=origin or "", contact=time.time()))
            self._flush()

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        with self._writing:
            try:
                with contextlib.suppress(StoreDamaged, OSError):  # what is not written out is in the changelog
                    self._flush()
            finally:
                self._shut()
                self._slot.release()

    @property
    def _opened(self) -> Rdict:
        if self._db is None:
            raise StoreDamaged(f"{self._slot} is closed")
        return self._db

    def _shut(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            with contextlib.suppress(Exception):
                db.cancel_all_background(True)
            with contextlib.suppress(Exception):
                db.close()

    def _open(self) -> None:
        self._scrub.clear()
        self._flushed, self._unwritten = time.monotonic(), False
        with _damage():
            self._slot.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._db = Rdict(str(self._slot.path), self._memory.options())
            self._db.set_write_options(unlogged())
            self._db.set_options(_OLD_FILES_S)
            self._become(read_about(self._db))


class _Items(ItemsView[bytes, bytes]):
    """Items in one scan instead of a lookup for each key."""

    _mapping: DiskStore

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return self._mapping._scan()


def read_about(db: Rdict) -> About:
    """What the store in `db` says of itself; raises `StoreDamaged` where that is of another driftline."""
    stored = db.get(_ABOUT)
    if stored is None:
        return About()
    about = _about_decoder.decode(stored)
    if about.format != FORMAT:
        raise StoreDamaged(f"format {about.format}, this driftline knows {FORMAT}")
    return about


def peek(path: Path, key: bytes) -> tuple[About, bool]:
    """What the files of a store say of it, and whether they have a state for `key`; also while it is in use.

    What is in its user's memory only is not seen. Raises `StoreDamaged` where the files cannot be read.
    """
    options = Options(raw_mode=True)
    options.set_max_open_files(OPEN_FILES)
    with _damage():
        db = Rdict(str(path), options, access_type=AccessType.read_only(False))
        try:
            return read_about(db), db.get(_STATE + _hash(key)) is not None
        finally:
            db.close()


def _hash(key: bytes) -> bytes:
    return hashlib.blake2b(key, digest_size=16).digest()


def _stored(key: bytes, state: bytes) -> bytes:
    return state + key + len(key).to_bytes(4, "little")


def _parts(stored: bytes) -> tuple[bytes, bytes]:
    """Key and state, or key and mark, of what is stored."""
    end = len(stored) - 4
    start = end - int.from_bytes(stored[end:], "little")
    return stored[start:end], stored[:start]


@contextlib.contextmanager
def _damage() -> Iterator[None]:
    """RocksDB's errors have no type of their own, and every one of them means that the store cannot be relied on."""
    try:
        yield
    except Exception as error:
        raise _damaged(error) from error


def _damaged(error: Exception) -> StoreDamaged:
    return error if isinstance(error, StoreDamaged) else StoreDamaged(f"local store: {error}")
