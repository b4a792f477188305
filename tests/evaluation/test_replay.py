"""Replays: the same log gives the same slates and states, what differs is found, what is gone is said."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from functools import partial

import msgspec
import numpy as np
import pytest

from evaluation.replay import Change, PartitionLog, Replay
from evaluation.replay_compare import Comparison, Differences, shown
from evaluation.replay_recorded import recorded_policy
from evaluation.replay_verdict import TOLERANCE, Replayed
from evaluation.replay_world import Worlds
from index.faiss_index import ItemIndex
from index.hashing import item_hash
from policy.slate import margin, redecide
from streams.contracts import Erase, Impression, Interaction, Request
from streams.estimators import Estimators
from streams.job import Record
from streams.pipeline import PipelineConfig
from streams.state import PARTITION_KEY, UserState, decode_user
from tests import small
from tests.evaluation.logged import BLENDED, Log, Topics, Worker, batched
from tests.small import START, FakeRecord, record

CONFIG = small.config(epsilon=0.1)


def events(count: int, seed: int = 0, users: int = 12) -> list[Record]:
    """Views, requests, impressions, erasures and rubbish of a few users; time now and then leaps past a window."""
    dice = random.Random(seed)
    made: list[Record] = []
    time = START
    for number in range(count):
        offset = number + number // 10  # gaps, as transaction markers leave them
        user = f"u{dice.randrange(users)}"
        time += dice.choice([10, 500, 500, 3_000, 70_000 if dice.random() < 0.1 else 5])
        kind = dice.random()
        if kind < 0.8:
            made.append(record(offset, Interaction(user, f"i{dice.randrange(48)}", time, weight=dice.choice([1, 2.5]))))
        elif kind < 0.88:
            made.append(record(offset, Request(user, time)))
        elif kind < 0.92:
            shown = [f"i{dice.randrange(40)}" for _ in range(3)]
            made.append(record(offset, Impression(user, time, list(dict.fromkeys(shown)))))
        elif kind < 0.95:
            made.append(record(offset, Erase(user, time)))
        else:
            made.append(FakeRecord(offset, user.encode(), b"{"))
    return made


def served(count: int = 240, config: PipelineConfig = CONFIG, seed: int = 0, release: int = 0) -> tuple[Topics, Log]:
    """A stretch of log with a crash, a hand-over, a worker that is behind, items that come, go and change, estimates
    and a new release after `release`."""
    dice = random.Random(seed)
    topics, log = Topics(), Log()
    everything = events(count, seed)
    lots = [everything[at * count // 6 : (at + 1) * count // 6] for at in range(6)]

    def send(worker: Worker, lot: list[Record]) -> None:
        for batch in batched(lot, lambda: dice.choice([1, 1, 2, 5, 16, 40])):
            log.send(worker, *batch)

    first = Worker(topics, config, release)
    slow = Worker(topics, config, release)
    log.assign(first)
    send(first, lots[0])
    topics.tell("i40", small.item_vector(40))
    topics.tell("i5", small.item_vector(5, "ghost"))
    topics.tell("i7", replaced(small.item_vector(7)))
    topics.tell("i9", None)
    first.catch_up()
    send(first, lots[1])
    estimators = Estimators()
    for one in range(30):
        estimators.learn(small.outcome([f"i{(one + n) % 9}" for n in range(5)]))
    first.estimate(estimators.snapshot({0: 30}, START))
    send(first, lots[2])
    log.assign(slow)  # it has read neither items nor estimates
    send(slow, lots[3])
    again = Worker(topics, config, release)  # started anew after a crash
    again.estimate(estimators.snapshot({0: 30}, START))
    log.assign(again)
    send(again, lots[4])
    topics.tell("i41", small.item_vector(41))
    again.release(1)
    again.estimate(estimators.snapshot({0: 30}, START))
    send(again, lots[5])
    return topics, log


def replaced(vector: object) -> object:
    return msgspec.structs.replace(vector, withdrawn=True)  # type: ignore[type-var]


def replay(topics: Topics, log: PartitionLog, **options: object) -> tuple[Replay, list[Replayed]]:
    made = Replay(CONFIG, topics.worlds(), **options)  # type: ignore[arg-type]
    return made, list(made.run(log))


def without_model_numbers(state: bytes) -> UserState:
    found = decode_user(state)
    for slate in found.slates:
        slate.conditional = slate.propensity = slate.inclusion = slate.unshown_inclusion = None
    return found


@pytest.fixture(scope="module")
def stretch() -> tuple[Topics, Log]:
    return served()


@pytest.fixture(scope="module")
def blended() -> tuple[Topics, Log]:
    return served(release=BLENDED)


@pytest.mark.parametrize(("which", "largest"), [("stretch", 1), ("stretch", 64), ("blended", 64)])
def test_a_stretch_with_a_crash_a_hand_over_and_a_release_comes_out_the_same(
    request: pytest.FixtureRequest, which: str, largest: int
) -> None:
    topics, log = request.getfixturevalue(which)
    made, found = replay(topics, log.partition_log(), largest=largest)
    assert len(found) == len(log.decisions) > 100
    assert all(one.choice for one in found)
    assert Counter(one.verdict for one in found).keys() <= {"same", "near tie"}
    assert sum(one.verdict == "same" for one in found) > 0.98 * len(found)
    assert max(one.base_error or 0 for one in found) < TOLERANCE
    assert max(one.correction_error or 0 for one in found) < TOLERANCE
    assert len({one.recorded.release for one in found}) == 2
    assert len({one.recorded.estimator for one in found}) == 2
    assert (made.unrecorded, made.dead_differences, made.conflicts) == ([], [], [])
    assert made.states[0].keys() == log.states.keys()
    assert made.states[0][PARTITION_KEY] == log.states[PARTITION_KEY]
    for key in log.states.keys() - {PARTITION_KEY}:
        assert without_model_numbers(made.states[0][key]) == without_model_numbers(log.states[key])


def test_terms_that_do_not_add_up_are_found(blended: tuple[Topics, Log]) -> None:
    topics, log = blended
    logged = log.decisions[50]
    assert logged.counted > 0 and len(logged.terms) == 5
    window = np.frombuffer(logged.terms["window"], "<f4") + np.float32(1e-3)
    changed = altered(log, 50, terms={**logged.terms, "window": window.astype("<f4").tobytes()})
    _, found = replay(topics, changed)
    assert [one.recorded.slate for one in found if not one.choice] == [logged.slate]


def test_candidates_that_counts_do_not_name_are_found(blended: tuple[Topics, Log]) -> None:
    """Fewer may come from counts than did: others are there, and that is no near tie."""
    topics, log = blended
    fewer = [msgspec.structs.replace(one, neighbours=1) for one in log.decisions]
    _, found = replay(topics, log.partition_log(decisions=fewer))
    counts = Counter(one.verdict for one in found if one.recorded.counted > 10)
    assert counts.keys() <= {"same", "different"} and counts["different"] > counts["same"]


def altered(log: Log, at: int, **fields: object) -> PartitionLog:
    """The log with one decision changed."""
    decisions = list(log.decisions)
    decisions[at] = msgspec.structs.replace(decisions[at], **fields)
    return log.partition_log(decisions=decisions)


def test_a_part_of_the_time_is_folded_up_to_as_it_was_logged(stretch: tuple[Topics, Log]) -> None:
    topics, log = stretch
    log_by_time = [replace(event, timestamp=START + 10**6 + event.offset) for event in log.events]  # type: ignore[type-var]
    middle = START + 10**6 + log.events[100].offset
    made = Replay(CONFIG, topics.worlds())
    whole = log.partition_log(events=log_by_time)
    found = list(made.run(whole, since=middle))
    assert {one.verdict for one in found} <= {"same", "near tie"}
    expected = [one.slate for one in log.decisions if one.cause.offset >= log.events[100].offset]
    assert [one.recorded.slate for one in found] == expected
    for key in log.states.keys() - {PARTITION_KEY}:
        assert without_model_numbers(made.states[0][key]) == without_model_numbers(log.states[key])
    before = list(Replay(CONFIG, topics.worlds()).run(whole, until=middle))
    assert len(before) + len(found) == len(log.decisions)


def test_a_choice_that_does_not_follow_from_its_record_is_found(stretch: tuple[Topics, Log]) -> None:
    topics, log = stretch
    chosen = log.decisions[50].chosen
    _, found = replay(topics, altered(log, 50, chosen=[chosen[1], chosen[0], *chosen[2:]]))
    assert [one.recorded.slate for one in found if not one.choice] == [log.decisions[50].slate]
    assert [one.recorded.slate for one in found if one.verdict == "different"] == [log.decisions[50].slate]


def test_scores_that_are_not_the_models_are_found(stretch: tuple[Topics, Log]) -> None:
    topics, log = stretch
    base, correction = (
        np.frombuffer(getattr(log.decisions[50], f"{name}_f32"), "<f4") for name in ("base", "correction")
    )
    moved = base + np.float32(5e-5) * (np.arange(len(base)) == 3)
    logits = (moved + correction).astype("<f4")
    _, found = replay(topics, altered(log, 50, base_f32=moved.astype("<f4").tobytes(), logits_f32=logits.tobytes()))
    (one,) = [one for one in found if one.verdict != "same"]
    assert one.recorded.slate == log.decisions[50].slate
    assert one.verdict == "different" and one.note is not None and "numbers differ" in one.note
    assert one.base_error == pytest.approx(5e-5, rel=0.1)


def test_a_slate_the_log_has_lost_and_one_it_made_up_are_found(stretch: tuple[Topics, Log]) -> None:
    topics, log = stretch
    lost = log.decisions[30]
    made, _ = replay(topics, log.partition_log(decisions=[one for one in log.decisions if one is not lost]))
    assert (0, lost.cause.offset) in made.unrecorded
    bad = next(iter(log.dead))
    invented = msgspec.structs.replace(
        log.decisions[0], slate=f"0-{bad}", covers=[bad], cause=replaced_cause(log, bad), user="u0"
    )
    where = next(at for at, one in enumerate(log.decisions) if one.cause.offset > bad)
    decisions = [*log.decisions[:where], invented, *log.decisions[where:]]
    _, found = replay(topics, log.partition_log(decisions=decisions))
    assert [one.note for one in found if one.made is None] == ["no slate came out of these events"]


def replaced_cause(log: Log, offset: int) -> object:
    return msgspec.structs.replace(log.decisions[0].cause, offset=offset)


def test_a_dead_letter_that_is_none_is_found(stretch: tuple[Topics, Log]) -> None:
    topics, log = stretch
    bad = next(iter(log.dead))
    made, _ = replay(topics, log.partition_log(dead={**log.dead, bad: "schema"}))
    assert made.dead_differences == [(0, bad, "schema", "malformed_json")]


def test_an_estimator_that_is_gone_is_said_and_its_corrections_taken_from_the_record(
    stretch: tuple[Topics, Log],
) -> None:
    topics, log = stretch
    worlds = topics.worlds()
    worlds._snapshots = {}
    made = Replay(CONFIG, worlds)
    found = list(made.run(log.partition_log()))
    assert {one.verdict for one in found} == {"same"}
    without = [one for one in found if one.correction_error is None]
    assert {one.recorded.estimator for one in without} == set(topics.snapshots)
    assert all(one.note is not None and "is gone from models" in one.note for one in without)
    for key in log.states.keys() - {PARTITION_KEY}:
        assert without_model_numbers(made.states[0][key]) == without_model_numbers(log.states[key])


@pytest.mark.parametrize("which", ["first", "last"])
def test_a_release_that_is_gone_is_said_and_its_slates_are_folded_as_logged(
    stretch: tuple[Topics, Log], which: str
) -> None:
    topics, log = stretch
    worlds = topics.worlds()
    gone = log.decisions[0 if which == "first" else -1].release
    load = worlds._load

    def only_the_other(release: str) -> object:
        if release == gone:
            raise OSError("no such folder")
        return load(release)

    worlds._load = only_the_other  # type: ignore[assignment]
    made = Replay(CONFIG, worlds)
    found = list(made.run(log.partition_log()))
    assert all(one.choice for one in found)
    assert {one.verdict for one in found if one.recorded.release == gone} == {"unchecked"}
    assert {one.note for one in found if one.recorded.release == gone} == {
        f"release {gone} cannot be loaded: no such folder"
    }
    assert {one.verdict for one in found if one.recorded.release != gone} == {"same"}
    for key in log.states.keys() - {PARTITION_KEY}:
        assert without_model_numbers(made.states[0][key]) == without_model_numbers(log.states[key])


def test_vectors_that_were_compacted_away_are_said(stretch: tuple[Topics, Log]) -> None:
    topics, log = stretch
    worlds = Worlds(
        [change for change in topics.changes if change.item != "i5" or change.offset >= 40],
        topics.snapshots,
        topics.worlds()._load,
    )
    found = list(Replay(CONFIG, worlds).run(log.partition_log()))
    gone = [one for one in found if one.note is not None and "'i5'" in one.note]
    assert gone and {one.verdict for one in gone} == {"unchecked"}
    assert all("is gone: a later one has replaced it" in (one.note or "") for one in gone)


def test_events_past_retention_leave_open_what_differs(stretch: tuple[Topics, Log]) -> None:
    topics, log = stretch
    begins = log.events[60].offset
    cut = log.partition_log(events=[one for one in log.events if one.offset >= begins], begins=begins)
    _, found = replay(topics, cut)
    assert all(one.choice for one in found)
    counts = Counter(one.verdict for one in found)
    assert counts["same"] > 0 and counts["unchecked"] > 0 and not counts["different"]
    assert any("not in the log" in (one.note or "") for one in found)
    assert any("what the user did before" in (one.note or "") for one in found)


def test_the_same_policy_gives_the_same_slates_and_another_one_others(stretch: tuple[Topics, Log]) -> None:
    topics, log = stretch

    def differences(**policy: object) -> Differences:
        made = Replay(CONFIG, topics.worlds(), Change(policy=policy))
        comparison = Comparison()
        for one in made.run(log.partition_log()):
            comparison.take(one)
        return comparison.result

    same = differences(temperature=0.35)
    assert (same.changed, same.overlap, same.moved, same.examples) == (0, 1.0, 0.0, [])
    little, much = differences(temperature=0.36), differences(temperature=5.0)
    assert 0 < little.changed < much.changed <= much.slates == len(log.decisions)
    assert 1 > (little.overlap or 0) > (much.overlap or 1)
    assert (much.moved or 0) > (little.moved or 1)
    assert [user for user, _, _ in much.users] and len(much.items) == 10
    assert abs(sum(share.expected - share.would_expect for share in much.items)) < 1
    longer = differences(k=8)
    assert all(len(made.chosen) == 8 for _, made in longer.examples)
    # Common random numbers: the longer slate begins with the shorter one.
    assert all(shown(made)[:5] == shown(sent) for sent, made in longer.examples if not sent.uniform)


def test_another_release_answers_the_same_events(stretch: tuple[Topics, Log]) -> None:
    topics, log = stretch
    second = topics.models[1].release_id
    made = Replay(CONFIG, topics.worlds(), Change(release=second))
    found = list(made.run(log.partition_log()))
    assert {one.made.release for one in found if one.made} == {second}
    already = [one for one in found if one.recorded.release == second]
    assert already and all(one.made is not None and shown(one.made) == shown(one.recorded) for one in already)
    assert any(one.made is not None and shown(one.made) != shown(one.recorded) for one in found)


def test_an_approximate_index_may_find_others_and_the_model_is_checked_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that grew and one that was built at once, with small lists of which only one is looked at."""
    monkeypatch.setattr("index.inverted.POINTS_PER_LIST", 5)
    monkeypatch.setattr("streams.world.ItemIndex", partial(ItemIndex, exact_below=20, nprobe=1))
    config = small.config(epsilon=0.1, k=3, candidates=4)
    topics, log = served(config=config)
    found = list(Replay(config, topics.worlds()).run(log.partition_log()))
    counts = Counter(one.verdict for one in found)
    assert counts.keys() == {"same", "retrieval"} and counts["retrieval"] > 0
    others = [one for one in found if one.verdict == "retrieval"]
    assert all(one.made is not None and set(one.made.candidates) != set(one.recorded.candidates) for one in others)
    assert max(one.base_error or 0 for one in found) < TOLERANCE
    spoiled = others[0].recorded
    base, correction = (np.frombuffer(getattr(spoiled, f"{name}_f32"), "<f4") for name in ("base", "correction"))
    moved = (base + np.float32(1e-3)).astype("<f4")
    at = log.decisions.index(spoiled)
    changed = altered(log, at, base_f32=moved.tobytes(), logits_f32=(moved + correction).astype("<f4").tobytes())
    verdicts = {one.recorded.slate: one.verdict for one in Replay(config, topics.worlds()).run(changed)}
    assert verdicts[spoiled.slate] == "different"


def test_slates_that_rounding_decides_are_near_ties(
    stretch: tuple[Topics, Log], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two best of a slate change places: a near tie exactly where their perturbed scores lie within the bound."""
    topics, log = stretch
    _, honest = replay(topics, log.partition_log())
    at = next(n for n, one in enumerate(honest) if 0.05 < one.margin < 0.5)
    chosen = log.decisions[at].chosen
    swapped = altered(log, at, chosen=[chosen[1], chosen[0], *chosen[2:]])
    for bound, verdict in ((honest[at].margin * 0.9, "different"), (honest[at].margin * 1.1, "near tie")):
        monkeypatch.setattr("evaluation.replay_verdict.TOLERANCE", bound)
        _, found = replay(topics, swapped)
        assert found[at].verdict == verdict


def test_a_margin_is_what_the_logits_may_be_off_by(stretch: tuple[Topics, Log]) -> None:
    """Moving any logits by less than half of the margin leaves the slate."""
    _, log = stretch
    dice = np.random.default_rng(0)
    for one in log.decisions[:40]:
        policy = replace(recorded_policy(one, CONFIG.policy), marginals=False)
        logits = np.frombuffer(one.logits_f32, "<f4")[None]
        items = np.array([[item_hash(item or "-") for item in one.candidates]], np.uint64)
        place = one.cause.partition, np.array([one.cause.offset])
        distance = float(margin(policy, logits, items, *place)[0])
        if np.isinf(distance):
            assert one.uniform
            continue
        for sign in dice.choice([-0.49, 0.49], (5, *logits.shape)):
            near = redecide(policy, (logits + sign * distance).astype(np.float32), items, *place)
            assert near.chosen[0].tolist() == one.chosen
