from collections import Counter

import numpy as np
import pytest

from models.batches import Batch, InteractionLog, iterate


def make_log(users: int = 7, events: int = 400, tied: bool = False) -> InteractionLog:
    """Item i is the i-th event of the log."""
    random = np.random.default_rng(0)
    return InteractionLog(
        users=random.integers(0, users, events) * 1000,
        items=np.arange(events),
        times_ms=np.arange(events) // (10 if tied else 1) * 1000,
        actions=(np.arange(events) % 5).astype(np.uint8),
        weights=np.arange(events).astype(np.float32),
    )


def epoch(log: InteractionLog, length: int = 20, tie_shuffle: float = 0.0, seed: int = 0) -> list[Batch]:
    return list(iterate(log, length, 4, tie_shuffle, np.random.default_rng(seed)))


@pytest.mark.parametrize("tie_shuffle", [0.0, 1.0])
def test_every_event_is_a_target_once(tie_shuffle: float) -> None:
    log = make_log(tied=True)
    targets = Counter(
        item for batch in epoch(log, tie_shuffle=tie_shuffle) for item in batch.items[batch.targets].tolist()
    )
    assert targets == Counter(range(len(log)))


def test_pieces_are_histories_in_order() -> None:
    log = make_log()
    for batch in epoch(log):
        assert batch.items.shape[1] <= 20
        for row, length in enumerate(batch.lengths):
            events = batch.items[row, :length]
            user = log.users[events[0]]
            mine = np.flatnonzero(log.users == user)
            begin = mine.tolist().index(events[0])
            assert events.tolist() == mine[begin : begin + length].tolist()
            assert batch.firsts[row] == (begin == 0)
            assert (batch.items[row, length:] == -1).all()
            assert np.array_equal(batch.times_ms[row, :length], log.times_ms[events])
            assert np.array_equal(batch.actions[row, :length], log.actions[events])
            assert np.array_equal(batch.weights[row, :length], log.weights[events])


def test_long_histories_are_cut_elsewhere_each_time() -> None:
    log = make_log(users=1)
    starts = [{int(row[0]) for batch in epoch(log, seed=seed) for row in batch.items} for seed in range(3)]
    assert starts[0] != starts[1] != starts[2]


def test_ties_are_shuffled_and_nothing_else() -> None:
    log = make_log(users=1, tied=True)
    moved = 0
    for batch in epoch(log, length=1000, tie_shuffle=1.0):
        assert np.array_equal(np.sort(batch.times_ms[0]), batch.times_ms[0])
        assert sorted(batch.items[0].tolist()) == list(range(400))
        moved += (np.diff(batch.items[0]) < 0).sum()
    assert moved > 100
    still = epoch(log, length=1000)[0]
    assert (np.diff(still.items[0]) == 1).all()


def test_unknown_items_are_context_and_no_target() -> None:
    log = make_log(users=1, events=5)
    log.items[2] = -1
    (batch,) = epoch(log)
    assert batch.items.tolist() == [[0, 1, -1, 3, 4]]
    assert batch.targets.tolist() == [[True, True, False, True, True]]


def test_bad_logs_are_refused() -> None:
    log = make_log(events=3)
    with pytest.raises(ValueError, match=r"\[3, 2, 3, 3, 3\]"):
        InteractionLog(log.users, log.items[:2], log.times_ms, log.actions, log.weights)
    with pytest.raises(ValueError, match="-2"):
        InteractionLog(log.users, log.items - 2, log.times_ms, log.actions, log.weights)
