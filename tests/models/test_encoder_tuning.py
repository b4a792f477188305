"""A layer on an encoder: what pairs there are, that it learns what texts don't say, and what is written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from models.encoder_files import with_layer
from models.encoder_tuning import Pairs, TuneConfig, _own_partner, pairs_of, tune
from models.text import TextEncoder
from tests.models.test_text_kinds import TEXTS, bert


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_pairs_are_of_one_user_within_the_window() -> None:
    users, items = np.array([1, 2, 1, 1, 2, 1]), np.array([10, 20, 11, -1, 21, 10])
    found = pairs_of(users, items, window=2)
    assert sorted(zip(found.one.tolist(), found.other.tolist(), strict=True)) == [(10, 11), (11, 10), (20, 21)]
    assert len(pairs_of(users, items, window=1)) == 2
    assert len(pairs_of(users[:0], items[:0], window=2)) == 0


def test_an_item_is_no_negative_of_itself_and_frequency_is_taken_off() -> None:
    asking, answering = torch.tensor([0, 1, 2]), torch.tensor([3, 3, 1])
    scores = torch.tensor([[1.0, 5.0, 0.5], [5.0, 1.0, 5.0], [0.2, 0.3, 1.0]])
    log_often = torch.tensor([0.0, -1.0, 0.0, -0.5])
    # 0: the second partner is its own; 1: the first is its own, the third is who asks; 2: nothing is left out.
    rows = [[1.5, 1.5], [1.5], [2.0, 0.7, 0.8]]
    expected = np.mean([np.log(np.exp(row).sum()) - row[0] for row in rows])
    assert float(_own_partner(scores, asking, answering, log_often)) == pytest.approx(expected, abs=1e-5)


def world(seed: int = 0, items: int = 120) -> tuple[np.ndarray, Pairs]:
    """Texts say loudly what nobody cares for, and quietly which of ten kinds an item is; people stay with a kind."""
    random = np.random.default_rng(seed)
    kind = np.arange(items) % 10
    vectors = unit(np.concatenate([2 * random.standard_normal((items, 12)), 0.5 * np.eye(10)[kind]], axis=1))
    one = random.integers(0, items, 6000)
    other = (one + 10 * random.integers(1, items // 10, 6000)) % items
    return vectors, Pairs(one, other)


def test_held_out_items_are_found_by_what_others_taught() -> None:
    vectors, pairs = world()
    config = TuneConfig(steps=120, every=40, batch=64, learning_rate=1e-2, held_out=0.3)
    made = tune(vectors, pairs, config)
    assert made.after > made.before + 0.2
    assert made.steps in (40, 80, 120)
    again = tune(vectors, pairs, config)
    np.testing.assert_array_equal(made.weight, again.weight)


def test_what_does_not_help_is_left_as_it_was() -> None:
    vectors, pairs = world()
    shuffled = Pairs(pairs.one, np.random.default_rng(1).permutation(pairs.other))
    made = tune(vectors, shuffled, TuneConfig(steps=3, every=1, batch=64, learning_rate=1e-12, held_out=0.3))
    assert made.steps == 0
    np.testing.assert_array_equal(made.weight, np.eye(vectors.shape[1], dtype=np.float32))


def test_time_is_up_and_nothing_to_learn_from() -> None:
    vectors, pairs = world()
    seen: list[int] = []
    tune(vectors, pairs, TuneConfig(steps=1000, minutes=1e-9), lambda step, many, found: seen.append(step))
    assert seen == [1]
    with pytest.raises(ValueError, match="at least 256"):
        tune(vectors, Pairs(pairs.one[:9], pairs.other[:9]))


@pytest.mark.parametrize("told", [False, True])
def test_what_is_written_is_an_encoder_with_the_layer_last(tmp_path: Path, told: bool) -> None:
    source = bert(tmp_path / "plain")
    if told:
        modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
        listed = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in modules]
        (source / "modules.json").write_text(json.dumps(listed))
        (source / "1_Pooling").mkdir()
        (source / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    (source / "model.onnx").write_bytes(b"not needed")
    weight = np.random.default_rng(0).standard_normal((16, 16)).astype(np.float32)
    target = tmp_path / "deep" / "tuned"
    with_layer(source, weight, target, {"steps": 3})
    before, after = TextEncoder(source), TextEncoder(target)
    assert after.config.pooling == ("cls" if told else "mean")
    np.testing.assert_allclose(after.encode(TEXTS), unit(before.encode(TEXTS) @ weight.T), atol=1e-5)
    assert after.fingerprint != before.fingerprint
    assert not (target / "model.onnx").exists()
    kinds = [module["type"].rsplit(".", 1)[1] for module in json.loads((target / "modules.json").read_text())]
    assert kinds == ["Transformer", "Pooling", "Dense", *["Normalize"] * told]
    with pytest.raises(FileExistsError):
        with_layer(source, weight, target, {})
    assert [path.name for path in target.parent.iterdir()] == ["tuned"]
