"""The 64-bit hash by which an item is known inside stored state. Knows nothing of catalogues, users or messages."""

from __future__ import annotations

import hashlib

MAX_ID_BYTES = 256


def item_hash(item: str) -> int:
    """BLAKE2b-64 of the item's id, little-endian: 0 to 2^64 - 1, the same in every process and release.

    Raises ValueError when the id is not 1 to 256 bytes of UTF-8.
    """
    encoded = item.encode()
    if not 1 <= len(encoded) <= MAX_ID_BYTES:
        raise ValueError(f"item id {item[:40]!r} has {len(encoded)} bytes, expected 1 to {MAX_ID_BYTES}")
    return hash64(encoded)


def hash64(content: bytes) -> int:
    """BLAKE2b-64 of any bytes, little-endian: 0 to 2^64 - 1."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")
