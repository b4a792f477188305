"""Text vectors kept on disk, by encoder and text, so that the same catalogue is encoded once.

Knows nothing of items. A file that is damaged or cut short is made anew: everything in it can be computed again.
"""

from __future__ import annotations

import os
import zipfile
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streams.embedder import TextEncoder


class StoredEncoder:
    """An encoder that looks into a file first; `folder` holds one for each encoder."""

    def __init__(self, encoder: TextEncoder, folder: Path) -> None:
        self._encoder = encoder
        self._path = folder / f"{encoder.fingerprint}.npz"
        self._known = self._load()

    @property
    def fingerprint(self) -> str:
        """The encoder's."""
        return self._encoder.fingerprint

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        """Return float32 [len(texts), dimension]."""
        keys = [blake2b(text.encode(), digest_size=16).digest() for text in texts]
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._known}
        if missing:
            self._known |= zip(missing, self._encoder.encode(list(missing.values())), strict=True)
        return np.stack([self._known[key] for key in keys])

    def save(self) -> None:
        """Write what is known, at once or not at all."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        aside = self._path.with_suffix(f".{os.getpid()}.part")
        with aside.open("wb") as file:
            keys = np.frombuffer(b"".join(self._known), np.uint8).reshape(-1, 16)
            np.savez(file, keys=keys, vectors=np.stack(list(self._known.values())))
        aside.replace(self._path)

    def _load(self) -> dict[bytes, NDArray[np.float32]]:
        try:
            with self._path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                keys, vectors = file["keys"], file["vectors"]
                return {key.tobytes(): vector for key, vector in zip(keys, vectors, strict=True)}
        except (OSError, KeyError, ValueError, zipfile.BadZipFile):
            return {}
