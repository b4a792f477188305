"""Batches found again from what slates cover; and that nothing but slates depends on how events were batched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from evaluation.replay_batches import Answer, Batch, Context, batches
from policy.slate import PolicyConfig
from streams.contracts import Erase, Impression, Interaction, Outcome, Request
from streams.job import Record
from streams.pipeline import Pipeline
from streams.state import PARTITION_KEY
from tests import small
from tests.evaluation.logged import Log
from tests.evaluation.test_replay import without_model_numbers
from tests.small import START, FakeRecord, record

CONFIG = small.config()
POLICY = PolicyConfig()


def offsets(found: Sequence[Batch]) -> list[list[int]]:
    return [[one.offset for one in batch.records] for batch in found]


def events(*users: str) -> list[Record]:
    return [FakeRecord(offset, user.encode(), b"") for offset, user in enumerate(users)]


def answer(user: str, *covers: int, release: str = "r") -> Answer:
    return Answer(user.encode(), list(covers), covers[-1], Context(release, None, (1,), POLICY))


def test_a_boundary_lies_wherever_no_slate_covers_both_sides() -> None:
    log = events("a", "b", "a", "c", "d", "c", "d")
    answers = [answer("b", 1), answer("a", 0, 2), answer("c", 3, 5), answer("d", 4, 6)]
    assert offsets(list(batches(log, answers, largest=1))) == [[0, 1, 2], [3, 4, 5, 6]]
    assert offsets(list(batches(log, answers))) == [[0, 1, 2, 3, 4, 5, 6]]


def test_two_answers_to_one_user_are_never_in_one_batch() -> None:
    log = events("a", "b", "a", "a")
    found = list(batches(log, [answer("a", 0), answer("b", 1), answer("a", 2), Answer(b"a", [3])]))
    assert offsets(found) == [[0, 1], [2], [3]]


def test_what_was_answered_in_different_worlds_is_kept_apart() -> None:
    found = list(batches(events("a", "b", "c"), [answer("a", 0), answer("b", 1, release="s"), answer("c", 2)]))
    assert offsets(found) == [[0], [1], [2]]
    (mixed,) = batches(events("a", "b", "a"), [answer("a", 0, 2), answer("b", 1, release="s")])
    assert len(mixed.contexts) == 2


def test_events_without_an_answer_and_answers_without_events() -> None:
    log = [FakeRecord(offset, b"a", b"") for offset in (5, 7, 9)]
    found = list(batches(log, [answer("a", 2, 3), answer("a", 7), answer("a", 11)], largest=1))
    assert offsets(found) == [[], [5], [7], [9], []]
    assert [len(batch.answers) for batch in found] == [1, 0, 1, 0, 1]


def test_at_most_so_many_are_put_together() -> None:
    log = events(*(f"u{number}" for number in range(10)))
    found = list(batches(log, [answer(f"u{number}", number) for number in range(10)], largest=4))
    assert [len(batch.records) for batch in found] == [4, 4, 2]


# -- the property that replays stand on ---------------------------------------------------------------

KINDS = ("view", "view", "view", "request", "impression", "erase", "rubbish")
EVENT = st.tuples(
    st.integers(0, 3), st.sampled_from(KINDS), st.sampled_from((0, 100, 20_000, 65_000)), st.integers(0, 39)
)


def made(plan: list[tuple[int, str, int, int]]) -> list[Record]:
    time, log = START, []
    for offset, (user, kind, leap, item) in enumerate(plan):
        time += leap
        name = f"u{user}"
        event: Any = {
            "view": Interaction(name, f"i{item}", time),
            "request": Request(name, time),
            "impression": Impression(name, time, [f"i{item}", "x"]),
            "erase": Erase(name, time),
        }.get(kind)
        log.append(FakeRecord(offset, name.encode(), b"{") if event is None else record(offset, event))
    return log


WORLD = small.world()


class OneWorld:
    """A worker whose world stands still."""

    def __init__(self) -> None:
        self.pipeline = Pipeline(CONFIG, lambda: WORLD, clock=lambda: START)


def run(log: Log, lots: list[list[Record]]) -> None:
    worker: Any = OneWorld()
    log.assign(worker)
    for lot in lots:
        log.send(worker, *lot)


def settled(outcomes: list[Outcome], erased: set[str]) -> Counter[tuple[object, ...]]:
    """What outcomes say, without the numbers of the model. Those of a user who is erased with the batch are dropped."""
    return Counter(
        (one.slate, one.reason, one.closed, one.origin, one.shown, tuple(one.items), tuple(one.rewards), one.history)
        for one in outcomes
        if one.user not in erased
    )


@settings(max_examples=40, deadline=None)
@example(  # the last event carries the time past the windows of the one before it in the batch, who has to make room
    [(0, "view", 100, 1), (0, "view", 100, 2), (0, "view", 100, 3), (0, "view", 100, 4), (1, "view", 65_000, 5)],
    [1, 1, 1, 2],
    1,
)
@given(st.lists(EVENT, min_size=1, max_size=40), st.lists(st.integers(1, 12), min_size=1), st.integers(1, 20))
def test_states_and_outcomes_depend_on_batches_only_through_the_slates(
    plan: list[tuple[int, str, int, int]], sizes: list[int], largest: int
) -> None:
    """Any division into batches, and any other that gives the same slates, leave the same."""
    everything = made(plan)
    lots, at = [], 0
    while at < len(everything):
        size = sizes[len(lots) % len(sizes)]
        lots.append(everything[at : at + size])
        at += size
    first = Log()
    run(first, lots)
    answers = [Answer(one.user.encode(), one.covers, 0, Context("r", None, (), POLICY)) for one in first.decisions]
    answers += [Answer(user, covers) for user, covers in first.tombstones]
    again = Log()
    run(again, [batch.records for batch in batches(everything, answers, largest)])

    covered = [sorted((one.user, tuple(one.covers)) for one in log.decisions) for log in (first, again)]
    assert covered[0] == covered[1]
    assert first.states.keys() == again.states.keys()
    assert first.states.get(PARTITION_KEY) == again.states.get(PARTITION_KEY)
    for key in first.states.keys() - {PARTITION_KEY}:
        assert without_model_numbers(first.states[key]) == without_model_numbers(again.states[key])
    erased = {user.decode() for user, _ in first.tombstones}
    assert settled(first.outcomes, erased) == settled(again.outcomes, erased)
