"""The log against one worker that was never interrupted: equal after crashes, and what is spoiled differs."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import msgspec
import pytest

from ops.chaos.reference import Comparison, Reference, differences
from streams.contracts import encode
from streams.state import PARTITION_KEY
from tests import small
from tests.evaluation.logged import Log, Topics
from tests.evaluation.test_replay import CONFIG, served
from tests.ops.chaos.topic_contents import FakeRecord, letter

NAMES = CONFIG.topics


@functools.cache
def stretch() -> tuple[Topics, Log]:
    """A log with a crash, a hand-over, two releases, and items and estimates that change."""
    return served(160)


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("releases")
    for seed in (0, 1):
        small.release(seed).save(folder)
    return folder


def reference(releases: Path) -> Reference:
    topics, log = stretch()
    made = Reference(NAMES, CONFIG, releases)
    for event in log.events:
        made.take(FakeRecord(NAMES.events, event.offset, event.key or b"", event.value, timestamp=event.timestamp))
    for at, decision in enumerate(log.decisions):
        made.take(FakeRecord(NAMES.decisions, at, decision.user.encode(), encode(decision)))
    for at, (key, covers) in enumerate(log.tombstones):
        header = ("driftline-covers", json.dumps(covers).encode())
        made.take(FakeRecord(NAMES.recommendations, at, key, None, (header,)))
    for at, (offset, reason) in enumerate(log.dead.items()):
        made.take(FakeRecord(NAMES.events_dlq, at, *letter(offset, b"", b"", reason)))
    for change in topics.changes:
        value = None if change.vector is None else encode(change.vector)
        made.take(FakeRecord(NAMES.item_vectors, change.offset, change.item.encode(), value))
    for at, snapshot in enumerate(topics.snapshots.values()):
        made.take(FakeRecord(NAMES.models, at, b"estimator", encode(snapshot)))
    return made


def final_states() -> dict[tuple[int, bytes], bytes]:
    return {(0, key): data for key, data in stretch()[1].states.items()}


def compared(releases: Path, found: dict[tuple[int, bytes], bytes]) -> Comparison:
    return reference(releases).compare(found)


def test_what_a_stretch_of_crashes_left_is_what_one_worker_makes(releases: Path) -> None:
    found = compared(releases, final_states())
    assert found.states == len(final_states()) > 10
    assert (found.wrong_states, found.slates) == ([], [])


def test_a_spoiled_state_differs(releases: Path) -> None:
    states = final_states()
    place = next(
        place for place, data in states.items() if place[1] != PARTITION_KEY and msgspec.msgpack.decode(data)[7]
    )
    state = msgspec.msgpack.decode(states[place])
    state[7][0][3].reverse()  # another order of the items of an open slate: only the replay can tell
    (finding,) = compared(releases, states | {place: msgspec.msgpack.encode(state)}).wrong_states
    assert finding.user == place[1].decode() and "state[7][0][3][0] is" in finding.text


def test_a_missing_state_and_one_too_many_differ(releases: Path) -> None:
    states = final_states()
    gone = next(place for place in states if place[1] != PARTITION_KEY)
    found = compared(releases, {place: data for place, data in states.items() if place != gone})
    assert [one.text for one in found.wrong_states] == ["the replay has a state, the topic has none"]
    found = compared(releases, states | {(0, b"nobody"): states[gone]})
    assert [one.text for one in found.wrong_states] == ["the topic has a state, the replay has none"]


def test_a_slate_that_no_worker_would_have_made_is_found(releases: Path) -> None:
    made = reference(releases)
    decisions = made._decisions[0]
    decisions[5] = msgspec.structs.replace(decisions[5], chosen=decisions[5].chosen[::-1])
    place = (decisions[5].cause.partition, decisions[5].cause.offset)
    assert place in {(one.partition, one.offset) for one in made.compare(final_states()).slates}


def test_a_near_tie_may_hold_other_items_and_nothing_else_may() -> None:
    def states(items: list[str], events: int = 1) -> dict[tuple[int, bytes], bytes]:
        slates = [["0-7", 5, 5, items, False, True, [0.5]]]
        return {(0, b"u"): msgspec.msgpack.encode([1, events, 7, 9, b"", b"", b"", slates])}

    mine, other = states(["i1", "i2"]), states(["i1", "i3"])
    assert len(list(differences(mine, other, set()))) == 1
    assert not list(differences(mine, other, {"0-7"}))
    assert len(list(differences(mine, states(["i1", "i3"], events=2), {"0-7"}))) == 1
