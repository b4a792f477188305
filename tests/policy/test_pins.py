"""Chain, propensity and inclusion against enumeration, with everything on: adjustments, temperatures, pins, ε."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.plackett_luce import Floats, Ints
from policy.slate import Decisions, Floats32, PolicyConfig, decide, margin, noise, redecide, total
from tests.policy import enumeration

Slate = tuple[int, ...]
ITEMS = np.random.default_rng(3).integers(0, 2**64, 50, dtype=np.uint64)


@dataclass(frozen=True)
class Case:
    config: PolicyConfig
    slots: Ints
    base: Floats32
    popularity: Floats
    adjustments: dict[str, Floats32]
    temperature: Floats
    pinned: Ints

    def decide(self, first_offset: int = 0) -> Decisions:
        offsets = np.arange(len(self.slots)) + first_offset
        return decide(
            self.config,
            self.slots,
            ITEMS[self.slots],
            self.base,
            self.popularity,
            noise(self.config, 1, offsets),
            adjustments=self.adjustments,
            temperature=self.temperature,
            pinned=self.pinned,
        )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Four slates from up to six candidates; any number of positions pinned, any number of candidates missing."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    k, width = draw(st.integers(1, 4)), 6
    config = PolicyConfig(k=k, candidates=5, injected=1, epsilon=draw(st.sampled_from([0.0, 0.3])), unshown_sample=2)
    slots = np.stack([random.permutation(50)[:width] for _ in range(4)])
    slots[random.random(slots.shape) < draw(st.sampled_from([0.0, 0.4]))] = -1
    names = draw(st.lists(st.sampled_from(["diversity", "boost", "cold", "fairness"]), unique=True))
    numbers = {name: random.normal(size=slots.shape).astype(np.float32) for name in names}
    pinned = np.full((4, k), -1)
    for row in range(4):
        columns = random.permutation(np.flatnonzero(slots[row] >= 0))
        places = random.permutation(k)[: draw(st.integers(0, k))]
        for place, column in zip(places, columns, strict=False):
            pinned[row, place] = column
    base, popularity = random.normal(size=slots.shape).astype(np.float32) * 2, -random.exponential(size=slots.shape)
    return Case(config, slots, base, popularity, numbers, random.uniform(0.2, 2, 4), pinned)


def enumerated(logits: Floats32, pins: dict[int, int], config: PolicyConfig, temperature: float) -> dict[Slate, float]:
    """Every slate that can come out, with its probability: pins laid on the slates of the others, gaps closed."""
    there = np.isfinite(logits) & ~np.isin(np.arange(len(logits)), list(pins.values()))
    left = config.k - len(pins)
    found: dict[Slate, float] = {}
    for share, heights in ((1 - config.epsilon, logits / temperature), (config.epsilon, np.zeros(len(logits)))):
        weights = np.where(there, np.exp(np.where(there, heights, 0).astype(np.float64)), 0).tolist()
        for drawn, probability in enumeration.slates(weights, left).items() if left else [((), 1.0)]:
            rest = iter(drawn)
            places = [pins.get(place, next(rest, None) if place not in pins else None) for place in range(config.k)]
            slate = tuple(column for column in places if column is not None)
            found[slate] = found.get(slate, 0.0) + share * probability
    return found


@settings(max_examples=60, deadline=None)
@given(cases())
def test_probabilities_are_those_of_enumeration_whatever_is_on(case: Case) -> None:
    decisions = case.decide()
    assert decisions.propensity is not None
    assert decisions.inclusion is not None
    assert decisions.unshown is not None
    assert decisions.unshown_inclusion is not None
    for row, logits in enumerate(decisions.logits):
        pins = {place: column for place, column in enumerate(case.pinned[row].tolist()) if column >= 0}
        slates = enumerated(logits, pins, case.config, case.temperature[row])
        assert sum(slates.values()) == pytest.approx(1)
        chosen = tuple(column for column in decisions.chosen[row].tolist() if column >= 0)
        assert np.exp(decisions.log_probability[row]) == pytest.approx(slates[chosen])
        prefix = 1.0
        for place, column in enumerate(chosen):
            agree = {slate: p for slate, p in slates.items() if slate[: place + 1] == chosen[: place + 1]}
            prefix *= decisions.conditional[row, place]
            assert prefix == pytest.approx(sum(agree.values()))
            at_place = sum(p for slate, p in slates.items() if slate[place] == column)
            assert decisions.propensity[row, place] == pytest.approx(at_place, abs=1e-7)
            inside = sum(p for slate, p in slates.items() if column in slate)
            assert decisions.inclusion[row, place] == pytest.approx(inside, abs=1e-7)
        for column, said in zip(decisions.unshown[row], decisions.unshown_inclusion[row], strict=True):
            inside = sum(p for slate, p in slates.items() if column in slate) if column >= 0 else 0.0
            assert said == pytest.approx(inside, abs=1e-7)


@settings(max_examples=40, deadline=None)
@given(cases())
def test_what_is_pinned_stands_there_for_certain_and_nothing_is_shown_twice(case: Case) -> None:
    decisions = case.decide()
    for row, chosen in enumerate(decisions.chosen):
        shown = chosen[chosen >= 0]
        available = int((case.slots[row] >= 0).sum())
        assert len(set(shown.tolist())) == len(shown) == min(case.config.k, available)
        assert (chosen[: len(shown)] >= 0).all()
        assert set(case.pinned[row][case.pinned[row] >= 0].tolist()) == set(chosen[decisions.pinned[row]].tolist())
        assert (decisions.conditional[row][decisions.pinned[row]] == 1).all()
        if available >= case.config.k:
            held = case.pinned[row] >= 0
            assert np.array_equal(chosen[held], case.pinned[row][held])
            assert np.array_equal(decisions.pinned[row], held)


@settings(max_examples=40, deadline=None)
@given(cases())
def test_logits_are_base_correction_and_adjustments_exactly_and_the_record_gives_the_choice_again(case: Case) -> None:
    decisions = case.decide(first_offset=7)
    present = case.slots >= 0
    logits = case.base + decisions.correction
    for name in sorted(case.adjustments):
        logits = logits + decisions.adjustments[name]
        assert (decisions.adjustments[name][~present] == 0).all()
    assert np.array_equal(decisions.logits[present], logits[present])
    assert np.array_equal(total(case.base, decisions.correction, decisions.adjustments)[present], logits[present])
    pinned = np.where(decisions.pinned, decisions.chosen, -1)
    place = (case.config, decisions.logits, ITEMS[case.slots], 1, np.arange(4) + 7)
    again = redecide(*place, temperature=case.temperature, pinned=pinned)
    for name, value in vars(again).items():
        np.testing.assert_array_equal(value, getattr(decisions, name))
    assert (margin(*place, temperature=case.temperature, pinned=pinned) > 0).all()


def test_without_interventions_nothing_changes() -> None:
    config = PolicyConfig(k=3, candidates=8, injected=1, epsilon=0.1)
    random = np.random.default_rng(0)
    slots = np.stack([random.permutation(50)[:9] for _ in range(30)])
    args = (slots, ITEMS[slots], random.normal(size=slots.shape).astype(np.float32), -random.random(slots.shape))
    plain = decide(config, *args, noise(config, 0, np.arange(30)))
    same = decide(
        config,
        *args,
        noise(config, 0, np.arange(30)),
        adjustments={"nothing": np.zeros(slots.shape, np.float32)},
        temperature=np.full(30, config.temperature),
        pinned=np.full((30, 3), -1),
    )
    for name in ("logits", "chosen", "conditional", "log_probability", "propensity", "inclusion", "unshown"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(same, name))


def test_lower_temperature_of_one_row_sharpens_that_row_only() -> None:
    config = PolicyConfig(k=1, candidates=4, injected=0, epsilon=0.0, beta=0.0)
    slots = np.tile(np.arange(4), (2, 1))
    base = np.tile(np.array([1.0, 0.5, 0.0, -0.5], np.float32), (2, 1))
    drawn = [
        decide(
            config,
            slots,
            ITEMS[slots],
            base,
            np.zeros(base.shape),
            noise(config, 0, np.array([2 * one, 2 * one + 1])),
            temperature=np.array([0.05, 5.0]),
        ).chosen[:, 0]
        for one in range(200)
    ]
    cold, hot = np.stack(drawn).T
    assert (cold == 0).mean() > 0.95
    assert (hot == 0).mean() < 0.5


@pytest.mark.parametrize(
    ("pinned", "said"),
    [([[4, -1]], "not available"), ([[0, 0]], "twice"), ([[5, -1]], "not available"), ([[0, -1, -1]], "shape")],
)
def test_impossible_pins_are_refused(pinned: list[list[int]], said: str) -> None:
    config = PolicyConfig(k=2, candidates=5, injected=0)
    slots, zeros = np.array([[0, 1, 2, 3, -1]]), np.zeros((1, 5))
    with pytest.raises(ValueError, match=said):
        decide(
            config,
            slots,
            ITEMS[slots],
            zeros.astype(np.float32),
            zeros,
            noise(config, 0, np.array([0])),
            pinned=np.array(pinned),
        )


def test_an_adjustment_of_the_wrong_shape_or_not_finite_is_named() -> None:
    config = PolicyConfig(k=2, candidates=5, injected=0)
    slots, zeros = np.array([[0, 1, 2, 3, -1]]), np.zeros((1, 5))
    args = (slots, ITEMS[slots], zeros.astype(np.float32), zeros, noise(config, 0, np.array([0])))
    with pytest.raises(ValueError, match="boost has shape"):
        decide(config, *args, adjustments={"boost": np.zeros((1, 4), np.float32)})
    with pytest.raises(ValueError, match="boost is nan"):
        decide(config, *args, adjustments={"boost": np.full((1, 5), np.nan, np.float32)})
