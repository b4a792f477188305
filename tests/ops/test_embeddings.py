import threading
from pathlib import Path

import numpy as np

from ops.embeddings import StoredEncoder


class Counting:
    fingerprint = "counting"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode(self, texts: list[str]) -> np.ndarray:
        self.asked += texts
        return np.array([[len(text), 1] for text in texts], np.float32).reshape(-1, 2)


def stored(folder: Path, encoder: Counting | None = None, fingerprint: str = "counting") -> StoredEncoder:
    def load() -> Counting:
        assert encoder is not None, "the encoder was loaded, and need not have been"
        return encoder

    return StoredEncoder(fingerprint, load, folder)


def test_a_text_is_encoded_once_by_whoever_asks_first(tmp_path: Path) -> None:
    first, second = Counting(), Counting()
    one, other = stored(tmp_path / "embeddings", first), stored(tmp_path / "embeddings", second)
    assert one.encode(["a", "bb", "a"]).tolist() == [[1, 1], [2, 1], [1, 1]]
    assert other.encode(["ccc", "bb"]).tolist() == [[3, 1], [2, 1]]
    assert one.encode(["ccc"]).tolist() == [[3, 1]]
    assert (first.asked, second.asked, other.fingerprint) == (["a", "bb"], ["ccc"], "counting")


def test_what_is_known_needs_no_encoder_to_be_loaded(tmp_path: Path) -> None:
    texts = [str(at) for at in range(1200)]
    expected = stored(tmp_path, Counting()).encode(texts)
    np.testing.assert_array_equal(stored(tmp_path).encode(texts), expected)


def test_another_encoder_knows_nothing_of_it(tmp_path: Path) -> None:
    stored(tmp_path, Counting()).encode(["a"])
    encoder = Counting()
    stored(tmp_path, encoder, fingerprint="other").encode(["a"])
    assert encoder.asked == ["a"]


def test_a_damaged_file_is_made_anew(tmp_path: Path) -> None:
    stored(tmp_path, Counting()).encode(["a"])
    path = tmp_path / "counting.sqlite"
    path.write_bytes(b"no database" + path.read_bytes()[11:])
    encoder = Counting()
    assert stored(tmp_path, encoder).encode(["a"]).tolist() == [[1, 1]]
    assert encoder.asked == ["a"]
    stored(tmp_path).encode(["a"])


def test_threads_share_one(tmp_path: Path) -> None:
    encoder = Counting()
    shared = stored(tmp_path, encoder)
    threads = [threading.Thread(target=shared.encode, args=([f"{at % 3}"],)) for at in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(encoder.asked) == ["0", "1", "2"]
