from pathlib import Path

import numpy as np

from ops.embeddings import StoredEncoder


class Counting:
    fingerprint = "counting"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode(self, texts: list[str]) -> np.ndarray:
        self.asked += texts
        return np.array([[len(text), 1] for text in texts], np.float32)


def test_a_text_is_encoded_once(tmp_path: Path) -> None:
    first = Counting()
    stored = StoredEncoder(first, tmp_path / "embeddings")
    assert stored.encode(["a", "bb", "a"]).tolist() == [[1, 1], [2, 1], [1, 1]]
    stored.encode(["bb"])
    stored.save()
    assert first.asked == ["a", "bb"]
    second = Counting()
    again = StoredEncoder(second, tmp_path / "embeddings")
    assert again.encode(["ccc", "bb"]).tolist() == [[3, 1], [2, 1]]
    assert (second.asked, again.fingerprint) == (["ccc"], "counting")


def test_a_damaged_file_is_made_anew(tmp_path: Path) -> None:
    stored = StoredEncoder(Counting(), tmp_path)
    stored.encode(["a"])
    stored.save()
    path = tmp_path / "counting.npz"
    path.write_bytes(path.read_bytes()[:50])
    encoder = Counting()
    StoredEncoder(encoder, tmp_path).encode(["a"])
    assert encoder.asked == ["a"]
