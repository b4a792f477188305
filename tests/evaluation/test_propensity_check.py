"""The propensity check: right numbers pass, planted errors are found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evaluation.propensity_check import Drawn, PropensityCheck, Published
from policy.slate import Decisions, PolicyConfig, decide, noise

POLICY = PolicyConfig(k=3, candidates=8, injected=1, epsilon=0.1, beta=0.2)
ROWS = 5


@pytest.fixture
def decisions() -> Decisions:
    """A batch of decisions; the last row has two candidates only."""
    random = np.random.default_rng(1)
    slots = np.tile(np.arange(POLICY.width), (ROWS, 1))
    slots[-1, 2:] = -1
    base = np.where(slots >= 0, random.standard_normal(slots.shape), -np.inf).astype(np.float32)
    popularity = -random.random(slots.shape)
    items = np.arange(slots.size, dtype=np.uint64).reshape(slots.shape)
    return decide(POLICY, slots, items, base, popularity, noise(POLICY, 0, np.arange(ROWS)))


def drawn(decisions: Decisions, row: int) -> Drawn:
    chosen = decisions.chosen[row][decisions.chosen[row] >= 0]
    return Drawn(f"0-{row}", decisions.logits[row], chosen, POLICY.temperature, POLICY.epsilon)


def checked(decisions: Decisions, spoil: float = 0.0) -> PropensityCheck:
    """Everything of the batch, with `spoil` added to one published propensity."""
    check = PropensityCheck()
    assert decisions.propensity is not None and decisions.inclusion is not None
    for row in range(ROWS):
        one = drawn(decisions, row)
        check.decision(one, *exact(decisions, row))
        propensity = decisions.propensity[row, : len(one.chosen)].copy()
        propensity[0] += spoil if row == 1 else 0.0
        check.published(one.slate, Published(propensity, decisions.inclusion[row, : len(one.chosen)]))
    check.run(60)
    return check


def exact(decisions: Decisions, row: int) -> tuple[np.ndarray, np.ndarray]:
    """A base and a correction that add up to the logits, bit by bit."""
    return decisions.logits[row], np.zeros_like(decisions.logits[row])


def test_right_numbers_pass(decisions: Decisions) -> None:
    result = checked(decisions).result
    assert result.decisions == result.checked == ROWS
    assert result.sum_error is not None and result.sum_error < 1e-9
    assert result.published_error is not None and result.published_error < 1e-9


def test_a_wrong_published_probability_is_found(decisions: Decisions) -> None:
    assert checked(decisions, spoil=1e-3).result.published_error == pytest.approx(1e-3)


def test_logits_must_be_base_plus_correction_exactly(decisions: Decisions) -> None:
    check = PropensityCheck()
    for row in range(ROWS):
        base, correction = exact(decisions, row)
        if row == 2:
            correction = correction + np.float32(1e-6)
        check.decision(drawn(decisions, row), base, correction)
    assert check.result.wrong_logits == ["0-2"]


@pytest.mark.parametrize("wrong", [0, 1e-6])
def test_terms_must_add_up_to_the_base_exactly_in_the_order_of_their_names(decisions: Decisions, wrong: float) -> None:
    check = PropensityCheck()
    base, correction = exact(decisions, 0)
    random = np.random.default_rng(0)
    # In float32 the sum depends on the order: b is added last.
    terms = {"b": random.normal(size=len(base)).astype(np.float32), "a": (base / 3).astype(np.float32)}
    summed = terms["a"] + terms["b"]
    terms["b"] = terms["b"] + np.float32(wrong) * np.isfinite(base)
    shown = replace(drawn(decisions, 0), logits=summed + correction)
    check.decision(shown, summed, correction, terms)
    assert check.result.wrong_logits == ([] if wrong == 0 else ["0-0"])


def test_without_time_nothing_is_computed(decisions: Decisions) -> None:
    check = PropensityCheck()
    check.decision(drawn(decisions, 0), *exact(decisions, 0))
    check.run(0)
    assert (check.result.decisions, check.result.checked, check.result.sum_error) == (1, 0, None)
    check.run(60)
    assert (check.result.checked, check.result.published_error) == (1, None)
