"""Replays after the rules have changed: what was dead stays dead, only the range counts, what settings explain is
said."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from evaluation.replay import PartitionLog, Replay
from evaluation.replay_dead import explained
from evaluation.replay_verdict import Replayed
from streams.contracts import Interaction
from streams.job import Record
from streams.state import PARTITION_KEY
from tests import small
from tests.evaluation.logged import Log, Topics, Worker, batched
from tests.evaluation.test_replay import without_model_numbers
from tests.small import START

CONFIG = small.config(epsilon=0.1)
LATER = replace(CONFIG, rules=msgspec.structs.replace(small.RULES, actions=(*small.RULES.actions, "share")))
"""After the fix that the guide recommends: the action added at the end."""

COUNT = 80
SHARES = [number for number in range(COUNT) if number % 7 == 3 and number % 11 != 5]
RUBBISH = [number for number in range(COUNT) if number % 11 == 5]


def event(number: int) -> Record:
    """Views of five users; every seventh an action that nobody knows yet, and every eleventh not JSON."""
    user, time = f"u{number % 5}", START + 1000 * number
    action = "share" if number % 7 == 3 else "view"
    made = small.record(number, Interaction(user, f"i{number % 40}", time, action=action))
    return replace(made, timestamp=time, value=b"{" if number in RUBBISH else made.value)


@pytest.fixture(scope="module")
def stretch() -> tuple[Topics, Log]:
    topics, log = Topics(), Log()
    worker = Worker(topics, CONFIG)
    log.assign(worker)
    for batch in batched([event(number) for number in range(COUNT)], lambda: 9):
        log.send(worker, *batch)
    assert log.dead == dict.fromkeys(SHARES, "unknown_action") | dict.fromkeys(RUBBISH, "malformed_json")
    return topics, log


def replayed(topics: Topics, log: PartitionLog, since: int = 0) -> tuple[Replay, list[Replayed]]:
    made = Replay(LATER, topics.worlds())
    return made, list(made.run(log, since=since and START + 1000 * since))


@pytest.mark.parametrize("since", [0, 40])
def test_what_was_dead_stays_out_of_the_states_when_the_settings_would_take_it(
    stretch: tuple[Topics, Log], since: int
) -> None:
    topics, log = stretch
    made, found = replayed(topics, log.partition_log(), since)
    assert len(found) > 20 and {one.verdict for one in found} == {"same"}
    assert (made.unrecorded, made.dead_differences, made.conflicts) == ([], [], [])
    assert made.dead_unchecked == [(0, offset, "unknown_action", None) for offset in SHARES if offset >= since]
    assert made.states[0].keys() == log.states.keys()
    for key in log.states.keys() - {PARTITION_KEY}:
        assert without_model_numbers(made.states[0][key]) == without_model_numbers(log.states[key])


def test_letters_and_missing_slates_before_the_range_do_not_count(stretch: tuple[Topics, Log]) -> None:
    topics, log = stretch
    lost = log.decisions[3]
    spoilt = log.partition_log(
        dead={**log.dead, RUBBISH[0]: "wrong_key"}, decisions=[one for one in log.decisions if one is not lost]
    )
    whole, _ = replayed(topics, spoilt)
    assert whole.dead_differences == [(0, RUBBISH[0], "wrong_key", "malformed_json")]
    assert (0, lost.cause.offset) in whole.unrecorded
    made, found = replayed(topics, spoilt, since=COUNT - 2)
    assert 0 < len(found) < 10
    assert (made.unrecorded, made.dead_differences, made.dead_unchecked) == ([], [], [])


def test_a_range_that_begins_within_a_batch_counts_only_its_own(stretch: tuple[Topics, Log]) -> None:
    """Offsets 9 to 17 are one batch: what is asked for begins in its midst."""
    topics, log = stretch
    lost = next(one for one in log.decisions if one.cause.offset == 13)
    made, found = replayed(
        topics, log.partition_log(decisions=[one for one in log.decisions if one is not lost]), since=14
    )
    assert min(one.recorded.cause.offset for one in found) == 14
    assert made.unrecorded == []


def test_an_event_that_is_no_letter_is_a_difference_only_in_the_range(stretch: tuple[Topics, Log]) -> None:
    topics, log = stretch
    first, last = RUBBISH[0], RUBBISH[-1]
    dead = {offset: reason for offset, reason in log.dead.items() if offset not in (first, last)}
    made, _ = replayed(topics, log.partition_log(dead=dead), since=40)
    assert made.dead_differences == [(0, last, None, "malformed_json")]
    assert (0, first, None, "malformed_json") in made.dead_unchecked


def test_events_whose_letters_were_deleted_stay_dead(stretch: tuple[Topics, Log]) -> None:
    """As `dlq purge` leaves it: the letters before the last share are gone."""
    topics, log = stretch
    left = SHARES[-1]
    dead = {offset: reason for offset, reason in log.dead.items() if offset >= left}
    made, found = replayed(topics, log.partition_log(dead=dead, letters_from=left))
    assert {one.verdict for one in found} == {"same"}
    assert (made.unrecorded, made.dead_differences) == ([], [])
    gone = [(0, offset, None, None) for offset in sorted(log.dead) if offset < left]
    assert made.dead_unchecked == [*gone, (0, left, "unknown_action", None)]


def test_a_duplicate_is_judged_by_what_lies_before_it_in_its_batch() -> None:
    topics, log = Topics(), Log()
    worker = Worker(topics, CONFIG)
    log.assign(worker)
    ids = ["once", "once", "other"]
    log.send(worker, *(small.record(at, Interaction("u", "i1", START + at, id=ids[at])) for at in range(3)))
    assert log.dead == {1: "duplicate_id"} and log.decisions[0].covers == [0, 2]
    made, found = replayed(topics, log.partition_log())
    assert [one.verdict for one in found] == ["same"]
    assert (made.dead_differences, made.dead_unchecked) == ([], [])


@pytest.mark.parametrize(
    ("logged", "now", "expected"),
    [
        ("unknown_action", None, True),
        ("unknown_action", "schema", True),
        ("unknown_kind", None, True),
        ("unknown_kind", "schema", False),
        ("malformed_json", None, False),
        ("already_folded", None, False),
    ],
)
def test_settings_account_for_some_reasons_only(logged: str, now: str | None, expected: bool) -> None:
    assert explained(logged, now) is expected
