"""What a batch of events means, without any Kafka."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from index.hashing import item_hash
from models.release import Release
from policy.slate import PolicyConfig, redecide
from streams.contracts import Decision, Erase, Impression, Interaction, Outcome, Recommendation, Request
from streams.job import Effects
from streams.pipeline import COVERS, Pipeline
from streams.state import PARTITION_KEY, decode_user
from streams.world import World
from tests import small
from tests.small import START, FakeRecord, record

recommendation = msgspec.json.Decoder(Recommendation).decode
decision = msgspec.json.Decoder(Decision).decode
outcome = msgspec.json.Decoder(Outcome).decode


class Bench:
    """A pipeline with states, as the engine would keep them for partition 0."""

    def __init__(self, world: World | None = None, **policy: object) -> None:
        self.world = world or small.world()
        self.pipeline = Pipeline(small.config(**policy), lambda: self.world, clock=lambda: START + 10**6)
        self.states: dict[bytes, bytes] = {}
        self.pipeline.assigned(0, self.states)
        self.slates: list[Recommendation] = []
        self.decisions: list[Decision] = []
        self.outcomes: list[Outcome] = []

    def send(self, *records: FakeRecord) -> Effects:
        effects = self.pipeline.apply(0, records, self.states)
        for key, state in effects.states.items():
            if state is None:
                self.states.pop(key, None)
            else:
                self.states[key] = state
        self.read(effects)
        return effects

    def read(self, effects: Effects) -> Bench:
        outputs = effects.outputs
        self.slates += [recommendation(value) for _, value, _ in outputs.get("recommendations", ()) if value]
        self.decisions += [decision(value) for _, value, _ in outputs.get("decisions", ()) if value]
        self.outcomes += [outcome(value) for _, value, _ in outputs.get("outcomes", ()) if value]
        return self


def view(offset: int, user: str, number: int, seconds: float = 0, **fields: object) -> FakeRecord:
    time = START + round(seconds * 1000)
    return record(offset, Interaction(user, f"i{number}", time, **fields))  # type: ignore[arg-type]


def numbers(column: bytes) -> np.ndarray:
    return np.frombuffer(column, "<f4")


def test_an_event_is_answered_by_a_slate_that_names_it() -> None:
    bench = Bench()
    bench.send(view(0, "anna", 1))
    (slate,) = bench.slates
    assert (slate.user, slate.slate, slate.covers) == ("anna", "0-0", [0])
    assert (slate.cause.kind, slate.cause.item, slate.cause.offset) == ("interaction", "i1", 0)
    assert len(set(slate.items)) == len(slate.items) == 5
    assert slate.release == bench.world.model.release_id


def test_what_a_user_does_changes_what_he_is_recommended() -> None:
    bench = Bench(temperature=0.01, epsilon=0.0)
    for offset, user in enumerate(("anna", "bert")):
        genre = offset
        bench.send(*(view(10 * n + offset, user, 4 * n + genre, n) for n in range(4)))
    anna, bert = (Counts.of(slate.items) for slate in bench.slates[-2:])
    assert anna.most == "war"
    assert bert.most == "love"


class Counts:
    @staticmethod
    def of(shown: Sequence[str]) -> Counts:
        genres = [small.GENRES[int(item[1:]) % 4] for item in shown]
        counts = Counts()
        counts.most = max(set(genres), key=genres.count)
        return counts

    most: str


def test_events_of_one_user_in_a_batch_share_the_last_slate() -> None:
    bench = Bench()
    bench.send(view(3, "anna", 1), view(4, "bert", 2), view(5, "anna", 3))
    covered = {slate.user: slate.covers for slate in bench.slates}
    assert covered == {"anna": [3, 5], "bert": [4]}
    assert {slate.slate for slate in bench.slates} == {"0-5", "0-4"}


def test_batching_changes_states_only_in_their_slates_and_vectors_only_by_rounding() -> None:
    records = [view(n, f"u{n % 3}", (7 * n) % 40, n) for n in range(30)]
    one, many = Bench(), Bench()
    for single in records:
        one.send(single)
    many.send(*records[:11])
    many.send(*records[11:])
    for user in (b"u0", b"u1", b"u2"):
        single_state, batch_state = decode_user(one.states[user]), decode_user(many.states[user])
        assert single_state.ring == batch_state.ring
        assert single_state.seen == batch_state.seen
        last_single = next(d for d in reversed(one.decisions) if d.user.encode() == user)
        last_batch = next(d for d in reversed(many.decisions) if d.user.encode() == user)
        assert last_single.slate == last_batch.slate
        assert last_single.candidates == last_batch.candidates
        np.testing.assert_allclose(numbers(last_single.logits_f32), numbers(last_batch.logits_f32), atol=1e-4)


def test_a_cache_carried_on_and_a_cache_rebuilt_give_the_same_slate() -> None:
    warm, cold = Bench(), Bench()
    for n in range(40):
        warm.send(view(n, f"u{n % 5}", (3 * n) % 40, n))
        cold.pipeline = Pipeline(small.config(), lambda: cold.world, clock=lambda: START + 10**6)
        cold.pipeline.assigned(0, cold.states)
        cold.send(view(n, f"u{n % 5}", (3 * n) % 40, n))
    for a, b in zip(warm.decisions, cold.decisions, strict=True):
        assert a.candidates == b.candidates
        np.testing.assert_allclose(numbers(a.logits_f32), numbers(b.logits_f32), atol=1e-4)
    assert warm.pipeline.status()["cache"]["rebuilds"] == 5  # each user's first event
    assert_same_memory(warm.states, cold.states)


def assert_same_memory(one: Mapping[bytes, bytes | None], two: Mapping[bytes, bytes | None]) -> None:
    """All but the numbers that came out of the model is equal, byte for byte."""
    assert one.keys() == two.keys()
    for key in one.keys() - {PARTITION_KEY}:
        a, b = decode_user(one[key]), decode_user(two[key])
        assert (a.events, a.offset, a.last_time, a.ring, a.seen, a.ids) == (
            b.events,
            b.offset,
            b.last_time,
            b.ring,
            b.seen,
            b.ids,
        )
        for x, y in zip(a.slates, b.slates, strict=True):
            assert (x.slate, x.time, x.items, x.unshown, x.rewards) == (y.slate, y.time, y.items, y.unshown, y.rewards)
            np.testing.assert_allclose(x.inclusion or [], y.inclusion or [], atol=1e-4)


def test_a_batch_applied_twice_has_the_same_effects() -> None:
    bench = Bench()
    bench.send(view(0, "anna", 1), view(1, "bert", 2))
    batch = [view(2, "anna", 3, 5), view(3, "cleo", 4, 5)]
    first, again = (bench.pipeline.apply(0, batch, bench.states) for _ in range(2))
    assert first.states.keys() == again.states.keys()
    assert_same_memory(first.states, again.states)
    one, two = (Bench().read(effects) for effects in (first, again))
    assert [slate.items for slate in one.slates] == [slate.items for slate in two.slates]
    np.testing.assert_allclose([s.scores for s in one.slates], [s.scores for s in two.slates], atol=1e-4)


def test_seen_items_are_not_recommended_again() -> None:
    bench = Bench(epsilon=1.0)
    for n in range(25):
        bench.send(view(n, "anna", n, n))
        seen = {f"i{m}" for m in range(n + 1)}
        assert not seen & set(bench.slates[-1].items)
        assert not seen & set(bench.decisions[-1].candidates)


@pytest.mark.parametrize("made", [small.release, small.blended], ids=["the model alone", "blended with counts"])
def test_the_decision_gives_the_slate_again_byte_for_byte(made: Callable[[], Release]) -> None:
    bench = Bench(small.world(made=made()), epsilon=0.3)
    for n in range(60):
        bench.send(view(n, f"u{n % 7}", (11 * n) % 40, n))
    policy = PolicyConfig(k=5, candidates=20, seed=7, epsilon=0.3)
    names = {"model"} if made is small.release else {"after", "again", "model", "popularity", "window"}
    for logged, slate in zip(bench.decisions, bench.slates, strict=True):
        logits = numbers(logged.logits_f32)
        assert np.array_equal(numbers(logged.base_f32) + numbers(logged.correction_f32), logits)
        assert logged.terms.keys() == names
        summed = np.zeros(1, np.float32)
        for name in sorted(names):
            summed = summed + numbers(logged.terms[name])
        assert np.array_equal(summed, numbers(logged.base_f32))
        items = np.array([[item_hash(item) for item in logged.candidates if item]], np.uint64)
        again = redecide(policy, logits[None], items, logged.cause.partition, np.array([logged.cause.offset]))
        assert again.chosen[0].tolist() == logged.chosen
        assert again.conditional[0].tolist() == logged.conditional == slate.conditional
        assert [logged.candidates[column] for column in logged.chosen] == slate.items
        assert again.propensity is not None and again.propensity[0].tolist() == slate.propensity


def test_counts_bring_what_goes_with_the_last_items_in_whichever_batches_events_come() -> None:
    one, many = (Bench(small.world(made=small.blended()), candidates=12, neighbours=8) for _ in range(2))
    records = [view(n, f"u{n % 3}", (7 * n) % 40, n) for n in range(30)]
    for single in records:
        one.send(single)
    many.send(*records[:11])
    many.send(*records[11:])
    last = {logged.slate: logged for logged in one.decisions}
    assert any(logged.counted for logged in many.decisions)
    for logged in many.decisions:
        alone = last[logged.slate]
        assert (logged.candidates, logged.counted, logged.neighbours) == (alone.candidates, alone.counted, 8)
        for name in ("after", "again", "popularity", "window"):
            assert logged.terms[name] == alone.terms[name]
        np.testing.assert_allclose(numbers(logged.terms["model"]), numbers(alone.terms["model"]), atol=1e-4)


def test_seen_and_vanished_items_do_not_come_through_counts() -> None:
    bench = Bench(small.world(made=small.blended()), epsilon=1.0, neighbours=20)
    gone: set[str] = set()
    for n in range(25):
        if n == 10:
            named = bench.decisions[-1].candidates[: bench.decisions[-1].counted]
            withdrawn, forgotten = [item for item in named if item and int(item[1:]) >= 25][:2]
            gone = {withdrawn, forgotten}
            vector = msgspec.structs.replace(small.item_vector(int(withdrawn[1:])), withdrawn=True)
            bench.world.apply([(withdrawn, vector), (forgotten, None)], (41,))
        bench.send(view(n, "anna", n, n))
        barred = {f"i{m}" for m in range(n + 1)} | gone
        assert not barred & set(bench.decisions[-1].candidates)
        assert bench.decisions[-1].counted > 0


def test_an_interaction_with_a_shown_item_is_its_slates_reward() -> None:
    bench = Bench()
    bench.send(view(0, "anna", 1))
    picked = int(bench.slates[0].items[2][1:])
    bench.send(view(1, "anna", picked, 10, weight=3.0))
    bench.send(view(2, "anna", 39, 65))
    (closed,) = bench.outcomes
    assert (closed.slate, closed.reason, closed.closed) == ("0-0", "window", START + 60_000)
    assert closed.rewards == [0, 0, 3.0, 0, 0]
    assert closed.inclusion == bench.slates[0].inclusion
    assert len(closed.unshown) == 4


def test_a_users_group_stays_until_another_is_named_and_goes_into_his_outcomes() -> None:
    bench = Bench()
    bench.send(view(0, "anna", 1, group="f"), record(1, Request("bert", START)))
    bench.send(view(2, "anna", 2, 1), record(3, Request("bert", START + 1000, group="m")))
    bench.send(view(4, "cleo", 3, 65))
    assert {(one.user, one.group) for one in bench.outcomes} == {("anna", "f"), ("bert", "m")}
    bench.send(view(5, "anna", 4, 70, group="x"), record(6, Erase("bert", START + 70_000)))
    assert decode_user(bench.states[b"anna"]).group == "x"
    bench.send(record(7, Request("bert", START + 71_000)))
    assert decode_user(bench.states[b"bert"]).group is None


def test_outcomes_say_which_slates_the_uniform_arm_drew() -> None:
    bench = Bench(epsilon=0.5)
    for at in range(20):
        bench.send(record(at, Request(f"u{at}", START)))
    bench.send(record(20, Request("late", START + 61_000)))
    drawn = {one.slate: one.uniform for one in bench.decisions[:20]}
    assert {one.slate: one.uniform for one in bench.outcomes} == drawn
    assert set(drawn.values()) == {True, False}


def test_the_window_of_a_user_who_never_comes_back_closes_too() -> None:
    bench = Bench()
    bench.send(view(0, "anna", 1))
    bench.send(view(1, "bert", 2, 59.9))
    assert not bench.outcomes
    bench.send(view(2, "bert", 3, 60))
    assert [(o.user, o.slate) for o in bench.outcomes] == [("anna", "0-0")]
    assert decode_user(bench.states[b"anna"]).slates == []


def test_windows_wait_again_after_a_restart_and_after_an_aborted_batch() -> None:
    bench = Bench()
    bench.send(view(0, "anna", 1))
    bench.pipeline.apply(0, [view(1, "bert", 2, 61)], bench.states)  # aborted: its effects are dropped
    bench.send(view(1, "bert", 2, 61))
    assert [o.slate for o in bench.outcomes] == ["0-0"]
    bench.pipeline.assigned(0, bench.states)
    bench.send(view(2, "cleo", 3, 130))
    assert [o.slate for o in bench.outcomes] == ["0-0", "0-1"]


def test_newer_slates_evict_older_ones_into_outcomes() -> None:
    bench = Bench()
    for n in range(5):
        bench.send(view(n, "anna", n, n))
    assert [(o.slate, o.reason) for o in bench.outcomes] == [("0-0", "evicted"), ("0-1", "evicted")]


def test_impressions_confirm_a_slate_or_open_one_of_another_system() -> None:
    bench = Bench()
    bench.send(view(0, "anna", 1))
    bench.send(record(1, Impression("anna", START + 1000, bench.slates[0].items, slate="0-0")))
    bench.send(record(2, Impression("bert", START + 2000, ["x3", "x9"])))
    bench.send(record(3, Interaction("bert", "x3", START + 3000)))
    bench.send(view(4, "cleo", 5, 200))
    closed = {o.slate: o for o in bench.outcomes}
    assert closed["0-0"].shown
    external = next(o for o in bench.outcomes if o.origin == "external")
    assert (external.items, external.rewards, external.shown) == (["x3", "x9"], [1.0, 0.0], True)
    assert external.inclusion is None


def test_a_request_is_answered_even_of_somebody_unknown() -> None:
    bench = Bench()
    bench.send(record(0, Request("new", START)))
    (slate,) = bench.slates
    assert (slate.cause.kind, len(slate.items)) == ("request", 5)


def test_erase_leaves_tombstones_and_a_later_event_starts_afresh() -> None:
    bench = Bench()
    bench.send(view(0, "anna", 1), view(1, "anna", 2))
    effects = bench.send(view(2, "anna", 3, 5), record(3, Erase("anna", START + 6000)))
    ((key, value, headers),) = effects.outputs["recommendations"]
    assert (key, value) == (b"anna", None)
    assert json.loads(dict(headers)[COVERS]) == [2, 3]
    assert b"anna" not in bench.states
    bench.send(view(4, "anna", 9, 10))
    state = decode_user(bench.states[b"anna"])
    assert (state.events, len(state.history())) == (1, 1)
    assert bench.outcomes == []


def test_erase_and_return_in_one_batch() -> None:
    bench = Bench()
    bench.send(view(0, "anna", 1))
    effects = bench.send(record(1, Erase("anna", START + 6000)), view(2, "anna", 9, 10))
    tombstone, slate = effects.outputs["recommendations"]
    assert tombstone[1] is None and json.loads(dict(tombstone[2])[COVERS]) == [1]
    assert recommendation(slate[1] or b"").covers == [2]
    fresh = Bench()
    fresh.send(view(2, "anna", 9, 10))
    assert bench.slates[-1].items == fresh.slates[-1].items
    assert bench.states[b"anna"] == fresh.states[b"anna"]


def test_erasing_somebody_unknown_is_answered_too() -> None:
    bench = Bench()
    effects = bench.send(record(0, Erase("nobody", START)))
    ((key, value, headers),) = effects.outputs["recommendations"]
    assert (key, value, json.loads(dict(headers)[COVERS])) == (b"nobody", None, [0])
    assert effects.states[b"nobody"] is None and effects.dead == []


def test_erasing_again_and_again_is_answered_by_one_tombstone_a_batch() -> None:
    bench = Bench()
    bench.send(view(0, "anna", 1))
    erase = [record(n, Erase("anna", START + n, id="gone")) for n in (1, 3)]
    effects = bench.send(erase[0], view(2, "anna", 2, 1), erase[1])
    ((_, value, headers),) = effects.outputs["recommendations"]
    assert (value, json.loads(dict(headers)[COVERS]), effects.dead) == (None, [1, 2, 3], [])
    assert b"anna" not in bench.states
    again = bench.send(record(4, Erase("anna", START + 4, id="gone")))
    assert json.loads(dict(again.outputs["recommendations"][0][2])[COVERS]) == [4]


def test_an_erasure_is_not_refused_for_an_id_that_the_users_events_have_used() -> None:
    bench = Bench()
    bench.send(view(0, "anna", 1, id="e1"))
    effects = bench.send(record(1, Erase("anna", START, id="e1")))
    assert effects.dead == [] and b"anna" not in bench.states


@pytest.mark.parametrize(
    "before",
    [
        [],  # the erasure's own time, 100 s, is past the window of 60 s
        [view(1, "anna", 2, 99)],  # an event of hers closes the window
        [view(1, "bert", 2, 99)],  # one of somebody else does
        [record(n, Impression("anna", START + n, ["i1"])) for n in range(1, 4)],  # the fourth open slate evicts one
    ],
)
def test_no_outcome_is_written_with_an_erasure_or_after_it(before: list[FakeRecord]) -> None:
    bench = Bench()
    bench.send(view(0, "anna", 1))
    bench.send(*before, record(5, Erase("anna", START + 100_000)))
    bench.send(view(6, "bert", 3, 300), view(7, "bert", 4, 500))
    assert "anna" not in {outcome.user for outcome in bench.outcomes}


def test_an_erased_user_is_in_no_list_of_open_windows_and_one_whose_erasure_failed_still_is() -> None:
    bench = Bench()
    bench.send(view(0, "anna", 1), view(1, "bert", 2))
    folder = bench.pipeline._folders[0]
    erase = record(2, Erase("anna", START + 1000))
    bench.pipeline.apply(0, [erase], bench.states)  # its effects are dropped: the batch failed later on
    assert {key for _, key in folder._deadlines} == {b"bert"}
    bench.send(view(2, "bert", 3, 70))
    assert {o.user for o in bench.outcomes} == {"anna", "bert"}
    bench.send(view(3, "anna", 1, 71))
    bench.send(record(4, Erase("anna", START + 72_000)))
    assert b"anna" not in folder._waiting and b"anna" not in {key for _, key in folder._deadlines}
    bench.send(view(5, "bert", 3, 73))
    assert b"anna" not in folder._taken


def test_the_window_of_one_who_returns_with_his_erasure_closes() -> None:
    bench = Bench()
    bench.send(view(0, "anna", 1))
    bench.send(record(1, Erase("anna", START + 1000)), record(2, Impression("anna", START + 2000, ["i1", "i2"])))
    bench.send(view(3, "bert", 3, 200))
    assert {o.slate for o in bench.outcomes} == {"0-2"} and len(bench.outcomes) == 2  # another's, and ours


def test_after_an_erasure_whose_commit_failed_the_user_is_who_he_was() -> None:
    bench, undisturbed = Bench(), Bench()
    for one in (bench, undisturbed):
        one.send(*(view(n, "anna", n, n) for n in range(3)))
    bench.pipeline.apply(0, [record(3, Erase("anna", START + 4000)), view(4, "anna", 9, 5)], bench.states)
    bench.pipeline.assigned(0, bench.states)
    for one in (bench, undisturbed):
        one.send(view(3, "anna", 5, 6))
    assert bench.slates[-1].items == undisturbed.slates[-1].items
    assert_same_memory(bench.states, undisturbed.states)


def test_an_erased_users_attention_cache_is_blank() -> None:
    bench = Bench()
    bench.send(*(view(n, "anna", n, n) for n in range(3)))
    cache = bench.pipeline._users
    assert cache is not None and cache._ring.keys.any() and cache._hidden.any()
    bench.send(record(3, Erase("anna", START + 4000)))
    assert not (cache._ring.keys.any() or cache._ring.values.any() or cache._ring.times.any() or cache._hidden.any())
    assert not cache._row and not any(len(seen) for seen in cache._seen)


def test_an_unknown_item_is_kept_and_used_once_it_arrives() -> None:
    bench = Bench()
    bench.send(view(0, "anna", 90))
    assert decode_user(bench.states[b"anna"]).events == 1
    bench.world.apply([("i90", small.item_vector(90, "ghost"))], (41,))
    bench.send(record(1, Request("anna", START + 1000)))
    late = Bench()
    late.world.apply([("i90", small.item_vector(90, "ghost"))], (41,))
    late.send(view(0, "anna", 90))
    late.send(record(1, Request("anna", START + 1000)))
    np.testing.assert_allclose(
        numbers(bench.decisions[-1].logits_f32), numbers(late.decisions[-1].logits_f32), atol=1e-5
    )
    assert "i90" not in bench.decisions[-1].candidates


def test_items_come_and_go_between_batches() -> None:
    bench = Bench(epsilon=1.0, candidates=60)
    bench.send(view(0, "anna", 1))
    assert "i50" not in bench.decisions[-1].candidates
    bench.world.apply([("i50", small.item_vector(50)), ("i7", None)], (42,))
    bench.send(view(1, "anna", 2, 1))
    assert "i50" in bench.decisions[-1].candidates
    assert "i7" not in bench.decisions[-1].candidates
    assert bench.slates[-1].catalogue == [42]


def test_a_new_release_rebuilds_the_caches() -> None:
    bench = Bench()
    for n in range(5):
        bench.send(view(n, "anna", n, n))
    bench.world = small.world(seed=1)
    bench.send(view(5, "anna", 6, 6))
    fresh = Bench(world=small.world(seed=1))
    for n in range(5):
        fresh.send(view(n, "anna", n, n))
    fresh.send(view(5, "anna", 6, 6))
    np.testing.assert_allclose(
        numbers(bench.decisions[-1].logits_f32), numbers(fresh.decisions[-1].logits_f32), atol=1e-4
    )


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"{", "malformed_json"),
        (None, "null_value"),
        (b'{"kind":"dance","user":"u","time":1600000000000}', "unknown_kind"),
        (b'{"kind":"interaction","user":"u","time":1600000000000}', "schema"),
        (b'{"kind":"interaction","user":"u","item":3,"time":1600000000000}', "schema"),
        (b'{"kind":"interaction","user":"u","item":"","time":1600000000000}', "schema"),
        (b'{"kind":"interaction","user":"u","item":"%s","time":1600000000000}' % (b"x" * 257), "schema"),
        (
            b'{"kind":"interaction","user":"u","item":"%s","time":1600000000000}' % ("é" * 129).encode(),
            "schema",
        ),
        (b'{"kind":"interaction","user":"u","item":"i","time":1600000}', "time_past"),
        (b'{"kind":"interaction","user":"u","item":"i","time":1600009000000}', "time_future"),
        (b'{"kind":"interaction","user":"u","item":"i","time":1600000000000,"weight":NaN}', "malformed_json"),
        (b'{"kind":"interaction","user":"u","item":"i","time":1600000000000,"weight":0}', "schema"),
        (b'{"kind":"interaction","user":"u","item":"i","time":1600000000000,"action":"lick"}', "unknown_action"),
        (b'{"kind":"interaction","user":"v","item":"i","time":1600000000000}', "wrong_key"),
    ],
)
def test_bad_events_are_dead_lettered_with_their_reason(value: bytes | None, reason: str) -> None:
    bench = Bench()
    effects = bench.send(FakeRecord(0, b"u", value), view(1, "anna", 1))
    assert [letter.reason for letter in effects.dead] == [reason]
    assert [slate.covers for slate in bench.slates] == [[1]]
    assert set(bench.states) <= {b"anna", PARTITION_KEY}


def test_a_repeated_event_id_is_dead_lettered_and_changes_nothing() -> None:
    bench = Bench()
    bench.send(view(0, "anna", 1, id="e1"))
    before = dict(bench.states)
    effects = bench.send(view(1, "anna", 1, id="e1"))
    assert [letter.reason for letter in effects.dead] == ["duplicate_id"]
    assert bench.states == before


def test_with_no_item_on_the_shelf_a_slate_is_empty_and_the_event_is_folded() -> None:
    bench = Bench()
    bench.world.apply([(f"i{number}", None) for number in range(40)], (80,))
    bench.send(view(0, "anna", 90), view(1, "anna", 1))
    assert bench.slates[-1].items == []
    assert decode_user(bench.states[b"anna"]).events == 2


def test_a_user_whose_clock_is_slow_has_his_window_too() -> None:
    bench = Bench()
    bench.send(view(0, "bert", 2, 500))
    bench.send(view(1, "anna", 1, 0))
    picked = int(bench.slates[-1].items[0][1:])
    bench.send(view(2, "anna", picked, 10))
    bench.send(view(3, "bert", 3, 561))
    closed = {o.slate: o for o in bench.outcomes}
    assert closed["0-1"].rewards[0] == 1.0
    assert closed["0-1"].closed == START + 500_000 + 60_000


def test_what_was_seen_is_what_the_state_says_however_warm_the_cache() -> None:
    warm, cold = Bench(candidates=30), Bench(candidates=30)
    for bench in (warm, cold):
        bench.pipeline = limited(bench)
    for n in range(60):
        event = view(n, "anna", (7 * n) % 40 if n < 40 else n % 3, n)
        warm.send(event)
        cold.pipeline = limited(cold)
        cold.send(event)
        assert warm.decisions[-1].candidates == cold.decisions[-1].candidates


def limited(bench: Bench) -> Pipeline:
    """A pipeline whose states forget early."""
    config = small.config(candidates=30)
    limits = replace(config.limits, seen=8)
    pipeline = Pipeline(replace(config, limits=limits), lambda: bench.world, clock=lambda: START + 10**6)
    pipeline.assigned(0, bench.states)
    return pipeline


def test_confirmed_slates_outlast_unconfirmed_ones() -> None:
    bench = Bench()
    bench.send(view(0, "anna", 1))
    shown = bench.slates[0].items
    bench.send(record(1, Impression("anna", START + 1000, shown, slate="0-0")))
    for n in range(2, 5):
        bench.send(record(n, Request("anna", START + n * 1000)))
    bench.send(view(5, "anna", int(shown[1][1:]), 10, slate="0-0"))
    assert "0-0" not in {o.slate for o in bench.outcomes}
    bench.send(view(6, "bert", 1, 200))
    assert {o.slate: o.rewards for o in bench.outcomes}["0-0"] == [0, 1.0, 0, 0, 0]


def test_the_same_item_again_rebuilds_nobody_and_a_changed_one_everybody() -> None:
    bench = Bench()
    for n in range(6):
        bench.send(view(n, "anna", n, n))
    rebuilt = bench.pipeline.status()["cache"]["rebuilds"]
    bench.world.apply([("i3", small.item_vector(3)), ("i4", small.item_vector(4))], (42,))
    bench.send(view(6, "anna", 7, 7))
    assert bench.pipeline.status()["cache"]["rebuilds"] == rebuilt
    bench.world.apply([("i3", msgspec.structs.replace(small.item_vector(9), item="i3"))], (43,))
    bench.send(view(7, "anna", 8, 8))
    assert bench.pipeline.status()["cache"]["rebuilds"] == rebuilt + 1


def test_more_users_than_caches_is_an_error_and_no_mix_up() -> None:
    bench = Bench()
    crowd = [view(n, f"u{n}", 1) for n in range(65)]
    with pytest.raises(ValueError, match="worker_cached_users"):
        bench.send(*crowd)
