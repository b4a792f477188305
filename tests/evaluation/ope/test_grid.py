"""Policies that differ in β on one log of driftline's own code, in a world where it is known what each would earn."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from evaluation.ope import slate_families
from evaluation.ope.grid import Standing, standings
from evaluation.ope.ratio import mean
from evaluation.ope.report import Settings, Weighted
from evaluation.ope.slate_log import NO_BETA, BetasBuilder, SlateTarget
from policy import mixture
from streams.contracts import Decision, Outcome
from tests.evaluation.ope.logged import POLICY, TASTE, made

HERD = 1.0
BETAS = (0.0, 1.0, 2.0)
CONFIG = replace(POLICY, temperature=0.5, beta=0.5)
DECISIONS, OUTCOMES = made(1500, config=CONFIG, herd=HERD)
SETTINGS = Settings(replicates=400, most=1.0)


def weighted(
    betas: tuple[float, ...], decisions: list[Decision] = DECISIONS, outcomes: list[Outcome] = OUTCOMES
) -> tuple[list[Weighted], np.ndarray, BetasBuilder]:
    builder = BetasBuilder(SlateTarget(), betas)
    for decision, outcome in zip(decisions, outcomes, strict=True):
        builder.outcome(outcome)
        builder.decision(decision)
    logs = builder.build()
    return [slate_families.families(log, SETTINGS)[0] for log in logs], logs[0].users, builder


def truth(beta: float) -> float:
    """What β would earn a slate: exact, by what each item is clicked at each position."""
    chance = 1 / (1 + np.exp(-TASTE[:, None] + 0.5 * np.arange(CONFIG.k)))
    logits, correction = (
        np.stack([np.frombuffer(getattr(one, name), "<f4") for one in DECISIONS]).astype(float)
        for name in ("logits_f32", "correction_f32")
    )
    changed = logits + (beta / CONFIG.beta - 1) * correction
    position, _ = mixture.marginals(changed, CONFIG.k, CONFIG.temperature, CONFIG.epsilon)
    return float((position * chance).sum(axis=(1, 2)).mean())


@pytest.fixture(scope="module")
def found() -> list[Standing]:
    policies, users, _ = weighted(BETAS)
    return standings(policies, users, SETTINGS)


def test_the_beta_that_undoes_the_herd_is_found_and_intervals_hold_what_each_would_earn(found: list[Standing]) -> None:
    values = [truth(beta) for beta in BETAS]
    best = values[BETAS.index(HERD)]
    assert max(values) == best
    assert [one.best for one in found] == [beta == HERD for beta in BETAS]
    for one, value in zip(found, values, strict=True):
        for name in ("snips", "dr"):
            estimate = one.estimate(name)
            assert estimate.low is not None and estimate.high is not None
            assert estimate.low < value < estimate.high
        if not one.best:
            assert one.behind_low is not None and one.behind_high is not None
            assert one.behind_low < best - value < one.behind_high


@pytest.mark.parametrize(("less", "worse"), [(0.2, True), (0.005, False)])
def test_who_is_told_from_the_best(less: float, worse: bool) -> None:
    random = np.random.default_rng(0)
    first = random.random((500, 1))
    noise = 0.2 * random.standard_normal((500, 1))
    second = first - less + noise - noise.mean()
    policies = [
        Weighted("positions", "all", np.ones((500, 1)), first, {"dr": mean(earned)}) for earned in (second, first)
    ]
    behind, best = standings(policies, np.arange(500), SETTINGS)
    assert best.best
    assert not best.worse
    assert behind.worse is worse
    assert behind.behind == pytest.approx(less)


def test_a_difference_is_surer_than_what_it_is_of(found: list[Standing]) -> None:
    near, far = found[BETAS.index(0.0)], found[BETAS.index(HERD)].estimate("dr")
    assert near.behind_low is not None and near.behind_high is not None
    assert far.low is not None and far.high is not None
    assert near.behind_high - near.behind_low < far.high - far.low


def test_what_cannot_be_said_is_neither_best_nor_worse() -> None:
    """Of four users nothing can be said."""
    policies, users, _ = weighted((0.0, 0.2), DECISIONS[:8], OUTCOMES[:8])
    for one in standings(policies, users, SETTINGS):
        assert one.family.reasons
        assert (one.best, one.worse, one.behind) == (False, False, None)


def test_decisions_without_a_beta_are_left_out_of_all_logs_and_counted() -> None:
    decisions = [replace_beta(one) if at % 2 else one for at, one in enumerate(DECISIONS[:40])]
    policies, users, builder = weighted((0.0, 0.2), decisions, OUTCOMES[:40])
    assert [len(one.weight) for one in policies] == [20, 20]
    assert len(users) == 20
    assert builder.left_out[NO_BETA] == 20


def replace_beta(decision: Decision) -> Decision:
    return msgspec.structs.replace(decision, beta=0.0)


def test_policies_of_other_rounds_are_refused() -> None:
    policies, users, _ = weighted((0.0, 0.2), DECISIONS[:40], OUTCOMES[:40])
    other = replace(policies[1], weight=policies[1].weight[1:])
    with pytest.raises(ValueError, match="shapes"):
        standings([policies[0], other], users, SETTINGS)
