"""Text vectors kept on disk, by encoder and text, so that no text is encoded twice, whichever process asks.

A file for each fingerprint (weights, pooling, prompt, length), rows by the hash of the text. Embedders, `driftline
evaluate` and the demo share it: SQLite sees to that. The encoder is loaded when a text is new, not before. Knows
nothing of items, and must not be given texts about users: nothing is ever erased from it. A file that is damaged is
made anew: everything in it can be computed again.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
import structlog
from numpy.typing import NDArray

from streams.embedder import TextEncoder

log = structlog.get_logger(__name__)

_WAIT_S = 30.0
"""For another process that is writing."""


class StoredEncoder:
    """An encoder that looks into a file first; may be called from several threads."""

    def __init__(self, fingerprint: str, load: Callable[[], TextEncoder], folder: Path) -> None:
        """folder: holds one file for each encoder, and is made; load: called at the first text that is not known."""
        self.fingerprint = fingerprint
        self._load, self._encoder = load, None  # type: tuple[Callable[[], TextEncoder], TextEncoder | None]
        self._path = folder / f"{fingerprint}.sqlite"
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return float32 [len(texts), dimension]."""
        if not texts:
            return self._encode([])
        keys = [blake2b(text.encode(), digest_size=16).digest() for text in texts]
        with self._lock:
            known = self._read(keys)
            missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
            if missing:
                known |= zip(missing, self._encode(list(missing.values())), strict=True)
                self._write({key: known[key] for key in missing})
        return np.stack([known[key] for key in keys])

    def _encode(self, texts: list[str]) -> NDArray[np.float32]:
        if self._encoder is None:
            self._encoder = self._load()
        return self._encoder.encode(texts)

    def _read(self, keys: Sequence[bytes]) -> dict[bytes, NDArray[np.float32]]:
        found: dict[bytes, NDArray[np.float32]] = {}
        try:
            with contextlib.closing(self._open()) as file:
                for key in keys:
                    for (vector,) in file.execute("SELECT vector FROM vectors WHERE key = ?", (key,)):
                        found[key] = np.frombuffer(vector, "<f4")
        except sqlite3.OperationalError as error:  # locked for too long, a full or read-only disk
            log.warning(
                "text vectors are encoded again: their file cannot be read", path=str(self._path), error=str(error)
            )
        except sqlite3.DatabaseError:
            self._path.unlink(missing_ok=True)
            return {}
        return found

    def _write(self, vectors: dict[bytes, NDArray[np.float32]]) -> None:
        try:
            with contextlib.closing(self._open()) as file, file:
                rows = [(key, vector.astype("<f4").tobytes()) for key, vector in vectors.items()]
                file.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?)", rows)
        except sqlite3.Error as error:  # it is a cache: what cannot be kept is computed again
            log.warning("text vectors are not kept", path=str(self._path), error=str(error))

    def _open(self) -> sqlite3.Connection:
        file = sqlite3.connect(self._path, timeout=_WAIT_S)
        try:
            file.execute(
                "CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB NOT NULL) WITHOUT ROWID"
            )
        except sqlite3.Error:
            file.close()
            raise
        return file
