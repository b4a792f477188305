"""The worker's pipeline under a stream: what its lists may know, and that batches and rounds change nothing."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.learning import FrozenArm, OnlineArm, RetrainArm, Serving, WarmStart
from evaluation.prequential import play
from evaluation.served import Service, pipeline_config
from evaluation.stream import EventStream
from models.batches import InteractionLog
from models.release import Release
from tests import small
from tests.evaluation.streams import random_stream, stream

ITEMS = tuple(small.items())


def catalogue(events: EventStream) -> list:
    return [small.item_vector(int(item[1:])) for item in events.item_ids]


def service(events: EventStream, *, filter_seen: bool = True, release: Release | None = None) -> Service:
    config = pipeline_config(events, 16, k=10, candidates=50, filter_seen=filter_seen, users_at_once=64)
    return Service(events, catalogue(events), config, release or small.release())


def played(events: EventStream, cut: int, round_size: int, **options: bool) -> np.ndarray:
    served = service(events, **options)
    served.warm_up(cut)
    rounds = range(cut, len(events), round_size)
    return np.concatenate([served.lists(at, min(at + round_size, len(events)), 10) for at in rounds])


@pytest.mark.parametrize("listed", [40, 15])
def test_lists_do_not_depend_on_rounds(listed: int) -> None:
    """Events of a round go through the pipeline in waves of distinct users: each list must be as one by one."""
    events = random_stream(9, 40, 150, listed=listed)
    single = played(events, 50, 1)
    assert (single >= 0).mean() > 0.95
    for round_size in (7, 64, 100):
        assert (played(events, 50, round_size) == single).mean() > 0.995  # near ties may swap by rounding


def test_a_user_gets_what_he_did_until_then() -> None:
    """Who has seen three war films gets war films; his next event, of another kind, is not known yet."""
    events = stream("\n".join(["a i0", "a i4", "a i8", "b i1", "a i3", "a i12"]), listed=ITEMS)
    lists = played(events, 3, 10)
    war = {4 * at for at in range(10)}
    assert len(set(lists[1, :5].tolist()) & war) >= 4
    assert 3 in lists[1] or 3 in lists[2]


def test_the_future_changes_no_list() -> None:
    """Another end of the stream: the lists before it are the same, also within the round where it begins."""
    events = random_stream(6, 60, 120, listed=10)
    other = random_stream(6, 60, 120, listed=10)
    other.items[100:] = other.items[100:][::-1]
    other.users[100:] = 5 - other.users[100:]
    ours, theirs = played(events, 40, 32), played(other, 40, 32)
    assert (ours[:60] == theirs[:60]).all()
    assert (ours[61:] != theirs[61:]).any()


def test_seen_items_are_left_out_or_kept() -> None:
    events = random_stream(3, 40, 120, listed=40)
    for filter_seen in (True, False):
        lists = played(events, 60, 16, filter_seen=filter_seen)
        repeats = 0
        for at, row in enumerate(lists):
            before = events.users[: 60 + at] == events.users[60 + at]
            repeats += len(set(row.tolist()) & set(events.items[: 60 + at][before].tolist()))
        assert (repeats == 0) == filter_seen


def test_new_items_come_with_their_first_event() -> None:
    events = random_stream(8, 200, 160, listed=5)
    lists = played(events, 20, 50)
    for at, row in enumerate(lists):
        assert (events.known_from[row[row >= 0]] < 20 + at).all()
    late = events.known_from >= 20
    assert np.isin(lists, np.flatnonzero(late)).any()


def test_what_comes_later_in_a_round_displaces_nothing() -> None:
    """Five items are known, more than are retrieved come later in the round: lists hold the five all along."""
    events = stream("\n".join([*(f"a i{at}" for at in range(5)), *(f"b i{at}" for at in range(5, 60))]), listed=())
    config = pipeline_config(events, 16, k=4, candidates=4, filter_seen=False, users_at_once=64)
    served = Service(events, catalogue(events), config, small.release())
    served.warm_up(5)
    lists = served.lists(5, 60, 4)
    assert lists[0].min() >= 0
    assert (lists.max(axis=1) < np.arange(5, 60)).all()


def test_a_short_catalogue_gives_short_lists() -> None:
    events = stream("a i1\nb i2\na i2\nb i1\nc i1", listed=())
    lists = played(events, 2, 3)
    assert lists[:, 2:].max() == -1
    assert lists[2, :2].min() >= 0


def test_a_bad_event_is_an_error() -> None:
    events = stream("a i1\nb i2\na i3")
    events.weights[2] = np.nan
    with pytest.raises(ValueError, match=r"event 2: .*weight"):
        played(events, 1, 5)


class Memory:
    """A trainer that recommends what it was told last: right whenever it is told a round before it is asked for it."""

    def __init__(self, log: InteractionLog, items: int) -> None:
        self.logs = [log]

    def learn(self, log: InteractionLog, items: int) -> None:
        self.logs.append(log)

    def release(self) -> Release:
        base = small.release()
        bias = np.full(len(base.item_ids), -50, np.float32)
        rows = {item: row for row, item in enumerate(base.item_ids)}
        for item in np.unique(self.logs[-1].items).tolist():
            bias[rows[f"i{item}"]] = 50
        arrays = base.arrays | {"tower.item_bias": bias}
        return Release(base.config, base.space, base.item_ids, arrays, base.text_encoder, base.facts)


def rounds_of_their_own(rounds: int, size: int) -> EventStream:
    """Round after round another set of items, so that a trainer that lags one round behind knows none of it."""
    random = np.random.default_rng(0)
    lines = [
        f"u{random.integers(50)} i{4 * (round_ % 8) + random.integers(4)}"
        for round_ in range(rounds)
        for _ in range(size)
    ]
    return stream("\n".join(lines), listed=ITEMS)


def test_no_release_serves_the_round_it_learned() -> None:
    events = rounds_of_their_own(9, 40)
    start = WarmStart(events, 40, Memory)
    arm = OnlineArm(start, Serving(catalogue(events), k=4, candidates=40, filter_seen=False))
    ranks = play(events, 40, arm, round_size=40).ranks
    assert (ranks > 0).mean() < 0.05
    assert arm.facts["releases"] == 8
    # The same trainer, asked about what it has learned, is right: it would profit from a leak.
    again = stream("\n".join(f"u{at % 7} i{at % 4}" for at in range(80)), listed=ITEMS)
    arm = OnlineArm(WarmStart(again, 40, Memory), Serving(catalogue(again), k=4, candidates=40, filter_seen=False))
    assert (play(again, 40, arm, round_size=40).ranks > 0).all()


def test_each_arm_learns_its_part_of_the_stream() -> None:
    events = random_stream(9, 40, 100, listed=40)
    fitted: list[Memory] = []

    def fit(log: InteractionLog, items: int) -> Memory:
        fitted.append(Memory(log, items))
        return fitted[-1]

    serving = Serving(catalogue(events), k=4, candidates=40)
    start = WarmStart(events, 20, fit)
    for arm in (FrozenArm(start, serving), OnlineArm(start, serving), RetrainArm(start, serving, 30)):
        play(events, 20, arm, round_size=10)
    # One warm-up for all three; the online arm goes on with it; the other one begins anew at 50 and 80.
    assert [[len(log) for log in one.logs] for one in fitted] == [[20] + [10] * 8, [50], [80]]


def test_a_frozen_arm_keeps_its_release() -> None:
    events = random_stream(5, 40, 60, listed=40)
    arm = FrozenArm(WarmStart(events, 20, Memory), Serving(catalogue(events)))
    ranks = play(events, 20, arm, round_size=16).ranks
    assert len(ranks) == 40
    assert arm.facts["releases"] == 0
    assert {"warm_up", "serve"} <= arm.clock.seconds.keys()
