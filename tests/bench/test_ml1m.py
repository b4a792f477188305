"""Leave-one-out on a made file: what is held back, how it is ranked, and that pieces of a run make the whole."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from bench.ml1m import Split, figures, last_of, read, run
from models.config import EvolutionConfig
from models.features import YEAR_COLUMNS
from models.learner import Learner, TrainConfig

SMALL = EvolutionConfig(dim=8, layers=2, heads=2, window=4, hidden=8, time_buckets=4)


def config(epochs: int) -> TrainConfig:
    return TrainConfig(
        model=SMALL, epochs=epochs, batch_size=8, learning_rate=0.03, tie_shuffle=0, id_dropout=0, average=0.8
    )


@pytest.fixture
def walks(tmp_path: Path) -> Split:
    """Everybody goes round the circle of 12 items, from somewhere."""
    path = tmp_path / "order.txt.gz"
    with gzip.open(path, "wt") as file:
        for start in range(24):
            file.write(" ".join(str(100 + (start + step) % 12) for step in range(9)) + "\n")
    return read(path)


def test_the_last_two_are_held_back(walks: Split) -> None:
    log = walks.training()
    assert (walks.items, len(log)) == (12, 24 * 7)
    assert log.items[log.users == 1].tolist() == [1, 2, 3, 4, 5, 6, 7]
    batch = last_of([walks.histories[1], walks.histories[2][:4]], length=6)
    assert batch.items.tolist() == [[3, 4, 5, 6, 7, 8, 9], [2, 3, 4, 5, -1, -1, -1]]
    assert np.argwhere(batch.targets).tolist() == [[0, 6], [1, 3]]
    assert batch.firsts.tolist() == [False, True]


def test_what_is_learned_is_found(walks: Split, tmp_path: Path) -> None:
    run(walks, config(25), tmp_path / "run", every=25)
    line = json.loads((tmp_path / "run/epochs.jsonl").read_text().splitlines()[-1])
    assert line["test"]["ndcg"] > 0.9
    assert line["validation"]["ndcg"] > 0.9


def test_what_a_user_had_is_not_ranked_but_in_the_unfiltered_figures(walks: Split) -> None:
    """All scores are equal: the last place of those left, 12 less the 8 he had, or the last of all."""
    learner = Learner(np.zeros((12, YEAR_COLUMNS), np.float32), config(1), seed=0)
    learner.count(walks.training().items)
    for value in learner.averaged.values():
        value.zero_()
    found = figures(learner, walks)
    assert found["test"] == pytest.approx({"hit_rate": 1, "ndcg": 1 / np.log2(3 + 2), "ndcg_error": 0})
    assert found["test_unfiltered"]["hit_rate"] == 0


def test_a_run_in_pieces_is_the_run_in_one(walks: Split, tmp_path: Path) -> None:
    run(walks, config(3), tmp_path / "one", seed=2)
    run(walks, config(1), tmp_path / "two", seed=2)
    run(walks, config(3), tmp_path / "two", seed=2)
    one, two = ((tmp_path / name / "epochs.jsonl").read_text().splitlines() for name in ("one", "two"))
    assert len(two) == 3
    for whole, piece in zip(one, two, strict=True):
        assert json.loads(whole) | {"cpu_s": 0} == json.loads(piece) | {"cpu_s": 0}


def test_another_shape_is_not_gone_on_with(walks: Split, tmp_path: Path) -> None:
    run(walks, config(1), tmp_path / "run")
    other = TrainConfig(model=EvolutionConfig(dim=16, layers=2, heads=2, window=4, hidden=8, time_buckets=4), epochs=2)
    with pytest.raises(ValueError, match="was trained with"):
        run(walks, other, tmp_path / "run")


def test_a_user_with_two_items_is_named(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "short.gz", "wt") as file:
        file.write("1 2 3\n1 2\n")
    with pytest.raises(ValueError, match="line 2"):
        read(tmp_path / "short.gz")
