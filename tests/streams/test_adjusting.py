"""What is decided before the draw: in the pipeline, with a rules file that changes, and again in a replay."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from evaluation.replay import Replay
from evaluation.replay_adjusting import drawn_with
from evaluation.replay_recorded import recorded_policy
from index.hashing import item_hash
from models.blend import total as summed
from models.sections import MODEL
from policy.arrangement import Arrangement
from policy.frequency import StreamingFrequency
from policy.slate import redecide, total
from streams.contracts import Decision, Impression
from streams.pipeline import Pipeline, PipelineConfig
from streams.rules_file import RulesFile
from streams.state import EXPOSURE, EXPOSURES, PARTITION_KEY, UserState, decode_user, id_hash
from streams.world import World
from tests import small
from tests.evaluation.logged import BLENDED, Log, Topics, Worker
from tests.evaluation.test_replay import without_model_numbers
from tests.small import START, FakeRecord, record
from tests.streams.test_pipeline import Bench, view

ALL = Arrangement(unsure=1.5, loss=0.3, new_bonus=1.0, diversity=0.3, calibration=0.5, fatigue=0.2)

RULES = """
[[boost]]
categories = ["war"]
by = 0.7
[[bury]]
items = ["i3", "i7"]
by = 0.4
[[pin]]
item = "i38"
position = 2
[[pin]]
item = "i39"
position = 4
users = ["anna", "bert"]
[[filter]]
categories = ["ghost"]
users = ["anna"]
[[filter]]
items = ["i12"]
[[cap]]
category = "war"
most = 1
[[cap]]
category = "love"
most = 2
[fairness]
items = {fight = ["war"], feel = ["love", "ghost"]}
"""


def config(tmp_path: Path, rules: str = RULES, arrangement: Arrangement = ALL, **policy: object) -> PipelineConfig:
    file = tmp_path / "rules.toml"
    file.write_text(rules)
    return replace(small.config(**policy), arrangement=arrangement, rules_file=file)


def bench(made: PipelineConfig, world: World | None = None) -> Bench:
    bench = Bench(world)
    bench.pipeline = Pipeline(made, lambda: bench.world, clock=lambda: START + 10**6)
    bench.pipeline.assigned(0, bench.states)
    return bench


def events(count: int = 60, seed: int = 0) -> list[FakeRecord]:
    random = np.random.default_rng(seed)
    users = ("anna", "bert", "carl", "dora")
    return [view(at, users[random.integers(4)], int(random.integers(36)), seconds=at) for at in range(count)]


def shown(decision: Decision) -> list[str]:
    return [decision.candidates[column] or "" for column in decision.chosen]


def genre(item: str) -> str:
    return small.GENRES[int(item[1:]) % 4]


@pytest.mark.parametrize("epsilon", [0.0, 0.7])
def test_caps_filters_and_pins_hold_in_every_slate(tmp_path: Path, epsilon: float) -> None:
    served = bench(config(tmp_path, epsilon=epsilon, temperature=2.0))
    for one in events(120):
        served.send(one)
    assert any(decision.uniform for decision in served.decisions) == (epsilon > 0)
    for decision, slate in zip(served.decisions, served.slates, strict=True):
        items = shown(decision)
        assert items == slate.items
        assert sum(genre(item) == "war" for item in items) <= 1
        assert sum(genre(item) == "love" for item in items) <= 2
        assert "i12" not in items
        assert "i12" not in decision.candidates
        if decision.user == "anna":
            assert not any(genre(item) == "ghost" for item in items)
        # i39 is of the ghosts: the filter of anna's comes before the pin. Where a cap leaves few, it moves up.
        pins = [("i38", 1), ("i39", 3)] if decision.user == "bert" else [("i38", 1)]
        assert decision.pinned == slate.pinned == [items.index(item) for item, _ in pins]
        assert all(items.index(item) == min(at, len(items) - 1) for item, at in pins)
        for at in decision.pinned:
            assert slate.conditional[at] == slate.propensity[at] == slate.inclusion[at] == 1  # type: ignore[index]
        assert decision.removed
        assert not set(decision.removed) & set(decision.candidates)


def test_terms_and_adjustments_add_up_exactly_and_are_named(tmp_path: Path) -> None:
    served = bench(config(tmp_path), small.world(made=small.blended()))
    for one in events():
        served.send(one)
    names: set[str] = set()
    for decision in served.decisions:
        base, correction, logits = (
            np.frombuffer(column, "<f4") for column in (decision.base_f32, decision.correction_f32, decision.logits_f32)
        )
        added = {name: np.frombuffer(column, "<f4") for name, column in decision.adjustments.items()}
        assert np.array_equal(total(base, correction, added), logits)
        assert np.array_equal(np.isneginf(base), [item is None for item in decision.candidates])
        names |= {name for name, column in added.items() if column.any()}
        assert decision.temperature <= 1.5 * decision.policy_temperature  # type: ignore[operator]
        assert decision.rules
        groups = [decision.candidates[column] or "" for column in decision.groups["feel"]]
        assert {genre(item) for item in groups} <= {"love", "ghost"}
        assert not added["fairness"].any()  # nothing is known of the groups yet
    assert names == {"boost", "bury", "calibration", "diversity"}


def test_nothing_asked_for_changes_nothing(tmp_path: Path) -> None:
    plain, same = bench(small.config()), bench(config(tmp_path, rules="", arrangement=Arrangement()))
    for one in events(30):
        plain.send(one)
        same.send(one)
    assert plain.decisions == same.decisions
    assert {decision.rules for decision in plain.decisions} == {None}


def test_a_pinned_item_comes_among_the_candidates_and_what_was_seen_or_is_gone_does_not(tmp_path: Path) -> None:
    served = bench(config(tmp_path, '[[pin]]\nitem = "i38"\nposition = 2\n', Arrangement(), candidates=6, injected=0))
    served.send(view(0, "anna", 1), view(1, "bert", 38), view(2, "carl", 2))
    said = {slate.user: slate for slate in served.slates}
    assert said["anna"].items[1] == said["carl"].items[1] == "i38"
    assert "i38" not in said["bert"].items
    assert said["bert"].pinned == []
    served.world.apply([("i38", None)], (41,))
    served.send(view(3, "anna", 5))
    assert served.slates[-1].pinned == []


def test_less_is_known_of_the_new_and_the_changed(tmp_path: Path) -> None:
    served = bench(config(tmp_path, "", Arrangement(unsure=2.0), temperature=1.0))
    loyal, changed = [0, 4, 8, 12, 16, 20, 24, 28, 32, 36], [0, 4, 8, 12, 16, 3, 7, 11, 15, 19]
    for at, (one, other) in enumerate(zip(loyal, changed, strict=True)):
        served.send(view(2 * at, "loyal", one, at), view(2 * at + 1, "changed", other, at))
    heat = {
        user: [decision.temperature for decision in served.decisions if decision.user == user]
        for user in ("loyal", "changed")
    }
    assert all(1 <= one <= 2 for one in heat["loyal"] + heat["changed"])
    assert heat["loyal"][0] > heat["loyal"][4] > heat["loyal"][-1]
    assert heat["changed"][-1] > heat["loyal"][-1] + 0.1


def test_new_items_get_a_bonus_once_exposures_are_counted(tmp_path: Path) -> None:
    world = small.world()
    served = bench(
        config(tmp_path, "", Arrangement(new_bonus=1.0, new_share=0.3, new_slates=5), temperature=3.0), world
    )
    served.send(view(0, "anna", 1))
    assert not np.frombuffer(served.decisions[-1].adjustments["new"], "<f4").any()  # nothing is known yet
    frequency = StreamingFrequency()
    known = [f"i{number}" for number in range(40) if number not in (30, 31)]
    hashes = world.catalogue.hashes[world.catalogue.slots(known)]
    for step in range(1, 8):
        frequency.learn(hashes, step)
    world._frequency = frequency
    slots = np.arange(len(world.catalogue))
    world.log_popularity[slots], world.exposures[slots] = world._exposure(world.catalogue.hashes)
    served.send(view(1, "bert", 2))
    bonus = dict(
        zip(served.decisions[-1].candidates, np.frombuffer(served.decisions[-1].adjustments["new"], "<f4"), strict=True)
    )
    assert {item for item, added in bonus.items() if added > 0} == {"i30", "i31"} & bonus.keys() != set()


def test_what_was_shown_in_vain_is_held_back_and_a_reaction_clears_it(tmp_path: Path) -> None:
    served = bench(config(tmp_path, "", Arrangement(fatigue=0.5)))
    for at in range(3):
        served.send(record(at, Impression("anna", START, ["i30", "i31"])))
    served.send(view(3, "anna", 31))

    def fatigue() -> dict[str | None, float]:
        decision = served.decisions[-1]
        return dict(
            zip(decision.candidates, np.frombuffer(decision.adjustments["fatigue"], "<f4").tolist(), strict=True)
        )

    state = decode_user(served.states[b"anna"])
    assert np.frombuffer(state.exposures, EXPOSURE)["item"].tolist() == [item_hash("i30")] * 3
    said = fatigue()
    assert said["i30"] == pytest.approx(-1.5, abs=0.01)
    assert {item for item, added in said.items() if added} == {"i30"}
    served.send(replace(view(4, "anna", 2, seconds=24 * 3600), timestamp=START + 24 * 3600 * 1000))
    assert fatigue()["i30"] == pytest.approx(-0.75, abs=0.01)


def test_a_slate_that_was_confirmed_counts_once() -> None:
    served = Bench()
    served.send(view(0, "anna", 1))
    (slate,) = served.slates
    for at in (1, 2):
        served.send(record(at, Impression("anna", START, slate.items, slate=slate.slate)))
    state = decode_user(served.states[b"anna"])
    assert len(state.exposures) == 12 * len(slate.items)


def test_exposures_are_bounded() -> None:
    state = UserState()
    for at in range(30):
        state.expose([f"i{at}", "i0"], START)
    assert len(state.exposures) == 12 * EXPOSURES
    state.react(id_hash("i0"))
    assert len(state.exposures) == 6 * EXPOSURES


def test_the_rules_file_is_read_again_and_a_broken_one_keeps_the_last_good(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = config(tmp_path, "", Arrangement())
    assert made.rules_file is not None
    served = bench(made)
    served.send(view(0, "anna", 1))
    assert served.decisions[-1].rules is None
    made.rules_file.write_text('[[pin]]\nitem = "i9"\nposition = 1\n')
    served.send(view(1, "anna", 2))
    digest = served.decisions[-1].rules
    assert served.slates[-1].items[0] == "i9"
    with caplog.at_level(logging.ERROR):
        made.rules_file.write_text('[[pin]]\nitem = "i9"\nposition = 0\n')
        served.send(view(2, "anna", 3))
        served.send(view(3, "anna", 4))
    assert (served.decisions[-1].rules, served.slates[-1].items[0]) == (digest, "i9")
    problem = served.pipeline.status()["rules"]["problem"]
    assert "[[pin]] number 1: position = 0, expected a whole number, 1 or more" in problem
    made.rules_file.unlink()
    served.send(view(4, "anna", 5))
    assert "No such file" in served.pipeline.status()["rules"]["problem"]
    made.rules_file.write_text('[[pin]]\nitem = "i10"\nposition = 3\n')
    served.send(view(5, "anna", 6))
    assert served.slates[-1].items[2] == "i10"
    assert served.pipeline.status()["rules"]["problem"] is None


def test_a_file_that_was_never_good_is_no_rules(tmp_path: Path) -> None:
    file = RulesFile(tmp_path / "none.toml")
    assert not file.rules()
    assert file.problem is not None
    (tmp_path / "none.toml").write_text("x = [")
    assert not file.rules()
    assert file.problem is not None
    assert "not TOML" in file.problem


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> tuple[PipelineConfig, Topics, Log]:
    made = config(tmp_path_factory.mktemp("logged"), temperature=1.0)
    topics, log = Topics(), Log()
    worker = Worker(topics, made, seed=BLENDED)
    log.assign(worker)
    stream = events(80, seed=3)
    for start in range(0, 80, 5):
        log.send(worker, *stream[start : start + 5])
    return made, topics, log


@pytest.mark.parametrize("same", [True, False])
def test_a_replay_makes_the_same_choices_under_the_same_rules_and_takes_them_from_the_record_under_others(
    logged: tuple[PipelineConfig, Topics, Log], same: bool
) -> None:
    made, topics, log = logged
    replay = Replay(made if same else replace(made, arrangement=Arrangement(), rules_file=None), topics.worlds())
    for one in replay.run(log.partition_log()):
        assert one.choice
        assert one.verdict == "same", one.note
        assert one.made is not None
        assert shown(one.made) == shown(one.recorded)
        assert one.made.pinned == one.recorded.pinned
    for key in log.states.keys() - {PARTITION_KEY}:
        assert without_model_numbers(replay.states[0][key]) == without_model_numbers(log.states[key])


def test_a_step_that_rounding_may_have_turned_is_a_near_tie(logged: tuple[PipelineConfig, Topics, Log]) -> None:
    made, topics, log = logged
    at = next(at for at, one in enumerate(log.decisions) if not one.uniform and len(one.chosen) == 5)
    said = log.decisions[at]
    parts = {name: np.frombuffer(column, "<f4").copy() for name, column in said.terms.items()}
    parts[MODEL][said.chosen[0]] += np.float32(4e-6)
    base, correction = summed(parts), np.frombuffer(said.correction_f32, "<f4")
    added = {name: np.frombuffer(column, "<f4").copy() for name, column in said.adjustments.items()}
    added["diversity"][said.chosen[0]] -= 9
    logits = total(base, correction, added)
    policy = recorded_policy(said, made.policy)
    hashes = np.array([[item_hash(item) if item else 0 for item in said.candidates]], np.uint64)
    temperature, pinned = drawn_with(said, policy.k)
    choice = redecide(
        policy, logits[None], hashes, 0, np.array([said.cause.offset]), temperature=temperature, pinned=pinned
    )
    turned = msgspec.structs.replace(
        said,
        terms={name: column.tobytes() for name, column in parts.items()},
        adjustments={name: column.tobytes() for name, column in added.items()},
        base_f32=base.tobytes(),
        logits_f32=logits.tobytes(),
        chosen=choice.chosen[0].tolist(),
        conditional=choice.conditional[0].tolist(),
    )
    assert turned.chosen != said.chosen
    decisions = [*log.decisions[:at], turned, *log.decisions[at + 1 :]]
    found = list(Replay(made, topics.worlds()).run(log.partition_log(decisions=decisions)))
    assert all(one.choice for one in found)
    assert [(one.verdict, one.note) for one in found if one.recorded is turned] == [
        ("near tie", "rounding turned a step of the arrangement")
    ]
