import shutil
from pathlib import Path

import numpy as np
import pytest

from models.text import TextEncoder, bundled_encoder

TEXTS = ["A space opera about rebels (1977)", "Star ships and a rebellion", "Baking sourdough bread at home", ""]


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return TextEncoder()


def test_vectors_are_unit_float32_in_the_order_of_the_texts(encoder: TextEncoder) -> None:
    vectors = encoder.encode(TEXTS)
    assert vectors.shape == (4, encoder.dim) == (4, 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(encoder.encode(TEXTS[::-1])[::-1], vectors, atol=1e-5)


def test_vectors_mean_something(encoder: TextEncoder) -> None:
    rebels, ships, bread, _ = encoder.encode(TEXTS)
    assert rebels @ ships > 0.35 > 0.2 > rebels @ bread


def test_a_vector_does_not_depend_on_its_batch(encoder: TextEncoder) -> None:
    small = TextEncoder(batch_size=1)
    np.testing.assert_allclose(small.encode(TEXTS), encoder.encode(TEXTS), atol=1e-5)


def test_no_texts_are_fine(encoder: TextEncoder) -> None:
    assert encoder.encode([]).shape == (0, 384)


def test_long_texts_are_cut(encoder: TextEncoder) -> None:
    long = "word " * 3000
    np.testing.assert_allclose(encoder.encode([long + "different"]), encoder.encode([long + "ending"]), atol=1e-6)


def test_the_fingerprint_names_weights_and_settings(encoder: TextEncoder) -> None:
    others = [TextEncoder(pooling="cls"), TextEncoder(prompt="query: "), TextEncoder(max_tokens=16)]
    assert len({encoder.fingerprint, *(other.fingerprint for other in others)}) == 4
    assert TextEncoder(batch_size=8).fingerprint == encoder.fingerprint
    assert not np.allclose(others[0].encode(TEXTS[:1]), encoder.encode(TEXTS[:1]), atol=0.01)
    assert not np.allclose(others[1].encode(TEXTS[:1]), encoder.encode(TEXTS[:1]), atol=0.01)


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        TextEncoder(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        TextEncoder(tmp_path)


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(bundled_encoder() / name, tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickled")
    with pytest.raises(FileNotFoundError, match="safetensors"):
        TextEncoder(tmp_path)


@pytest.mark.parametrize("changes", [{"batch_size": 0}, {"max_tokens": 0}, {"pooling": "max"}])
def test_bad_settings_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        TextEncoder(**changes)  # type: ignore[arg-type]
