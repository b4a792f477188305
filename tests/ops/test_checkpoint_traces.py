"""Checkpoints as training writes them: who is in them, and whether he may be."""

import os
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.continual import TRAINER
from models.online import OnlineTrainer
from ops.checkpoint_traces import checkpoint_holdings
from ops.proof import Holding, Proof
from streams.contracts import RoundEnds, TrainerState
from streams.rounds import user_code
from streams.trainer import drop_old
from tests.models.test_online import CONFIG
from tests.models.test_train import catalogue, walks

NAME = "driftline-5-0123abcd"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trainers: `with` users u0, u1, …, and `without` u1, who was forgotten."""
    log = walks(users=6)
    log = replace(log, users=np.array([user_code(f"u{user}") for user in log.users]))
    config = replace(CONFIG, horizon=None, training=replace(CONFIG.training, epochs=1))
    trainer, folder = OnlineTrainer(log, *catalogue(), config, seed=0), tmp_path_factory.mktemp("trained")
    trainer.save(folder / "with")
    trainer.forget(np.array([user_code("u1")]))
    trainer.save(folder / "without")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints"


def put(folder: Path, trained: Path, name: str = NAME) -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / TRAINER).symlink_to(trained)


def at(offset: int, checkpoint: str = NAME) -> TrainerState:
    return TrainerState(checkpoint, 0, 5, RoundEnds({"0": 100, "1": offset}, {}), [])


def found(folder: Path, *, state: TrainerState | None, user: str = "u1", **proof: object) -> list[Holding]:
    return checkpoint_holdings(folder, Proof(user, **{"erased": [(1, 20)], **proof}), state)  # type: ignore[arg-type]


def problems(holdings: Iterable[Holding]) -> list[str]:
    return [one.problem for one in holdings if one.problem is not None]


def test_who_was_forgotten_is_in_none_and_others_are(folder: Path, trained: Path) -> None:
    put(folder, trained / "without")
    assert found(folder, state=at(21)) == []
    (other,) = found(folder, state=at(21), user="u2")
    assert other.records == 12 + 1  # his interactions, and what the counts know as his last ones
    assert found(folder, state=at(21), user="nobody") == []


def test_training_that_has_read_the_erasure_must_not_have_kept_him(folder: Path, trained: Path) -> None:
    put(folder, trained / "with")
    assert problems(found(folder, state=at(21))) == ["training has read the erasure, and has kept him"]
    (waiting,) = found(folder, state=at(20))
    assert waiting.problem is None and waiting.removed_by.startswith("the next checkpoint once training")


def test_an_older_checkpoint_goes_with_the_next_ones(folder: Path, trained: Path) -> None:
    put(folder, trained / "with")
    for state in (at(21, "driftline-9-89abcdef"), None):
        (older,) = found(folder, state=state)
        assert older.problem is None and older.removed_by.startswith("the next two checkpoints")


def test_who_came_back_is_there_rightly_and_who_was_never_erased_is_told(folder: Path, trained: Path) -> None:
    put(folder, trained / "with")
    assert problems(found(folder, state=at(21), returned=3)) == []
    assert "no erasure" in problems(found(folder, state=at(21), erased=[]))[0]


def test_what_a_writer_that_died_left_is_told_and_an_hour_later_deleted(folder: Path, trained: Path) -> None:
    put(folder, trained / "with", f".aside-{NAME}")
    assert "whose writer died" in problems(found(folder, state=at(21)))[0]
    drop_old(folder, "driftline", 2)
    assert len(found(folder, state=at(21))) == 1
    os.utime(folder / f".aside-{NAME}", (time.time() - 7200,) * 2)
    drop_old(folder, "driftline", 2)
    assert found(folder, state=at(21)) == []


def test_a_checkpoint_that_cannot_be_read_is_no_proof(folder: Path) -> None:
    (folder / NAME / TRAINER).mkdir(parents=True)
    (folder / NAME / TRAINER / "trainer.safetensors").write_bytes(b"damaged")
    assert "cannot be read" in problems(found(folder, state=at(21)))[0]
