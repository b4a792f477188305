"""What outcomes teach of groups: which count, how old they are, and that the state survives a message bit by bit."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace

from policy.frequency import StreamingFrequency
from streams.contracts import EstimatorSnapshot, Outcome, encode
from streams.estimator_fairness import FairnessPart, discount, grouped, unpack_rates
from streams.estimator_parts import Seen
from streams.estimators import Estimators
from tests.streams.outcomes import outcomes


def fair(outcome: Outcome, number: int = 0, **changes: object) -> Outcome:
    """The outcome of a slate that a controller had to do with: items alternate between two groups and none."""
    groups = [("a", "b", None)[at % 3] for at in range(len(outcome.items))]
    told = {"group": ("f", "m")[number % 2], "uniform": False, "steered": number % 5 > 0}
    told |= {"item_groups": groups, "group_candidates": {"a": 20, "b": 12}}
    rewards = [float((number + at) % 4 == 0) for at in range(len(groups))]
    return replace(outcome, rewards=rewards, **(told | changes))


def learned(given: list[Outcome], estimators: Estimators | None = None) -> Estimators:
    estimators = estimators or Estimators()
    for outcome in given:
        estimators.learn(outcome)
    return estimators


GIVEN = [fair(outcome, number) for number, outcome in enumerate(outcomes(60))]


def test_pairs_of_groups_are_learned_from_outcomes() -> None:
    part = FairnessPart()
    for outcome in GIVEN:  # no part before it says how positions are looked at
        part.learn(Seen.of(outcome, StreamingFrequency()))
    rates = part.rates
    assert (rates.users, rates.items) == (["f", "m"], ["a", "b"])
    positions = discount(10)
    assert rates.pairs[0].sum(0) == pytest.approx(
        60 * np.array([positions[::3].sum(), positions[1::3].sum()]), rel=5e-3
    )
    assert rates.arms[:, 0] == pytest.approx([12, 48], rel=5e-3)


def test_positions_count_as_they_are_looked_at_where_a_part_before_has_learned_it() -> None:
    alike = 60 * np.array([4, 3])  # of ten positions four hold an item of a, three of b
    exposure = learned(GIVEN).part(FairnessPart).rates.pairs[0].sum(0)
    assert (exposure > 60 * np.array([discount(10)[::3].sum(), discount(10)[1::3].sum()])).all()
    assert (exposure < alike).all()  # these clicks come at all positions alike, and little has been seen of them


@pytest.mark.parametrize(
    "changes",
    [{"steered": None}, {"origin": "external"}, {"item_groups": [], "group_candidates": {}}],
)
def test_what_no_controller_had_to_do_with_tells_nothing(changes: dict[str, object]) -> None:
    rates = learned([fair(outcomes(1)[0], **changes)]).part(FairnessPart).rates
    assert rates.slates.sum() == 0


def test_learning_on_from_a_snapshot_is_learning_on_without_one() -> None:
    whole, parts = learned(GIVEN), Estimators()
    for number, outcome in enumerate(GIVEN):
        if number in (0, 1, 30):
            snapshot = msgspec.json.decode(encode(parts.snapshot({0: 7}, 1)), type=EstimatorSnapshot)
            parts = Estimators.from_snapshot(snapshot, parts.audit.pack())
        parts.learn(outcome)
    assert parts.snapshot({0: 7}, 1) == whole.snapshot({0: 7}, 1)


def test_age_is_what_was_learned_since_the_estimate_the_slate_was_made_with() -> None:
    one = GIVEN[0]
    ages = [grouped(replace(one, estimator=name), discount(10), 50) for name in (None, "e30-ab", "e70-ab", "other")]
    assert [slate.age for slate in ages if slate] == [50, 20, 0, 0]


def test_what_is_known_fades_when_the_world_has_changed() -> None:
    estimators = learned(GIVEN)
    before = estimators.part(FairnessPart).rates.slates.sum()
    estimators.part(FairnessPart).quicken(4.0)
    assert estimators.part(FairnessPart).rates.slates.sum() == pytest.approx(before / 4)


def test_a_state_that_does_not_fit_is_refused() -> None:
    state = learned(GIVEN).part(FairnessPart).pack()
    with pytest.raises(ValueError, match="pairs_f64 holds 161 bytes"):
        unpack_rates(replace(state, pairs_f64=state.pairs_f64[:-1] + b"\0\0"))
    with pytest.raises(ValueError, match="slates holds 1 numbers"):
        unpack_rates(replace(state, slates_f64=state.slates_f64[:8]))
