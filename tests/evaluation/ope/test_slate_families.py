"""Decisions and outcomes as they are on the topics, to weights and estimates; with a world whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from evaluation.ope import slate_families
from evaluation.ope.report import Settings, judged
from evaluation.ope.slate_log import SlateLog, SlateLogBuilder, SlateTarget
from policy import mixture
from policy.slate import PolicyConfig
from streams.contracts import Decision, Outcome
from tests.evaluation.ope.logged import POLICY, TASTE, made

N = 700
DECISIONS, OUTCOMES = made(N)


def built(
    target: SlateTarget,
    *,
    decisions: list[Decision] = DECISIONS,
    outcomes: list[Outcome] = OUTCOMES,
    **options: bool,
) -> SlateLog:
    builder = SlateLogBuilder(target, **options)
    for outcome in outcomes:
        builder.outcome(outcome)
    for decision in decisions:
        builder.decision(decision)
    return builder.build()


def test_the_same_policy_has_weights_of_one_and_earns_what_was_earned() -> None:
    log = built(SlateTarget(terms={"a": 1.0}))
    found = slate_families.weights(log)
    assert found.weight == pytest.approx(1.0, abs=1e-9)
    assert found.prefix == pytest.approx(1.0, abs=1e-9)
    assert not slate_families.unexplained(log).any()
    assert log.rewards.max() == 1.0
    earned = log.rewards.sum(axis=1).mean()
    for family in slate_families.families(log, Settings(replicates=50)):
        for name in ("ips", "snips"):
            assert family.ratios[name].value == pytest.approx(earned)


def test_another_policy_has_the_probabilities_that_drawing_by_it_has() -> None:
    """β, ε, temperature and a term's weight all changed: against policy.mixture on logits put together here."""
    target = SlateTarget(temperature=0.6, epsilon=0.1, beta=0.5, terms={"b": 0.25})
    log = built(target)
    found = slate_families.weights(log)
    decision = DECISIONS[5]
    correction, a, b = (
        np.frombuffer(part, "<f4").astype(float)
        for part in (decision.correction_f32, decision.terms["a"], decision.terms["b"])
    )
    logits = (a + 0.25 * b + 2.5 * correction)[None]
    chosen = np.array([decision.chosen])
    position = mixture.marginals(logits, 3, 0.6, 0.1)[0][0, chosen[0], np.arange(3)]
    logged = mixture.marginals(np.frombuffer(decision.logits_f32, "<f4")[None], 3, 1.0, 0.2)[0]
    assert found.weight[5] == pytest.approx(position / logged[0, chosen[0], np.arange(3)], rel=1e-5)
    chain = np.cumprod(mixture.chain(logits, chosen, 0.6, 0.1)[0][0] / decision.conditional)
    assert found.prefix[5] == pytest.approx(chain, rel=1e-5)


@pytest.mark.parametrize("swaps", [0.0, 0.3])
def test_adjustments_pins_and_temperatures_of_users_are_as_they_were_or_as_the_target_has_them(swaps: float) -> None:
    decisions, outcomes = made(120, config=replace(POLICY, swaps=swaps), busy=True)
    log = built(SlateTarget(), decisions=decisions, outcomes=outcomes)
    assert not slate_families.unexplained(log).any()
    assert slate_families.weights(log).weight == pytest.approx(1.0, abs=1e-9)
    target = SlateTarget(temperature=0.5, adjustments={"boost": 0.0})
    log = built(target, decisions=decisions, outcomes=outcomes)
    found = slate_families.weights(log)
    one, row = decisions[3], 3
    assert one.pinned == [1] and one.temperature != 1.0
    base, correction = (np.frombuffer(part, "<f4").astype(float) for part in (one.base_f32, one.correction_f32))
    logged = np.frombuffer(one.logits_f32, "<f4").astype(float)
    chosen = np.array([[one.chosen[0], one.chosen[2]]])  # what was drawn
    wanted, was = (base + correction)[None], logged[None]
    wanted[0, one.chosen[1]] = was[0, one.chosen[1]] = -np.inf
    ratio = []
    for logits, heat in ((wanted, 0.5 * one.temperature), (was, one.temperature)):
        drawn = mixture.marginals(logits, 2, heat, 0.2)[0][0, chosen[0]]
        # Of two that are drawn, an exchange gives either the other's place.
        ratio.append((1 - swaps) * drawn[[0, 1], [0, 1]] + swaps * drawn[[0, 1], [1, 0]])
    assert found.weight[row, [0, 2]] == pytest.approx(ratio[0] / ratio[1], rel=1e-5)
    assert found.weight[row, 1] == 1.0
    assert found.expected[row, 1] == found.predicted[row, 1] == pytest.approx(found.following[row, 1])


def test_intervals_hold_what_the_target_earns_when_it_is_really_run() -> None:
    """The truth from a long run of the target policy itself, in the same world; here position by position."""
    target = SlateTarget(temperature=0.5, terms={"b": 0.5})
    log = built(target)
    calm = replace(POLICY, temperature=0.5)
    value = np.mean([truth(decision, target, calm) for decision in DECISIONS[:200]])
    found = {one.name: judged(one, log.users, Settings(replicates=200)) for one in families(log)}
    assert abs(log.rewards.sum(axis=1).mean() - value) > 0.02
    for estimate in found["positions"].estimates:
        if estimate.name in ("ips", "snips", "dr"):
            assert estimate.verdict == "fair"
            assert estimate.low is not None and estimate.high is not None
            assert estimate.low < value < estimate.high
    wider = [found[name].estimates[0] for name in ("positions", "cascade")]
    assert wider[1].high - wider[1].low > 1.1 * (wider[0].high - wider[0].low)  # type: ignore[operator]


def families(log: SlateLog) -> list:
    return slate_families.families(log, Settings())


def truth(decision: Decision, target: SlateTarget, config: PolicyConfig) -> float:
    """Expected clicks of a slate by the target, from exact marginals and the true rates."""
    position, _ = mixture.marginals(target.logits(decision)[None], config.k, config.temperature, config.epsilon)
    rates = 1 / (1 + np.exp(-TASTE[:, None] + 0.5 * np.arange(config.k)))
    return float((position[0] * rates).sum())


def test_fewer_positions_are_the_first_ones() -> None:
    positions, _, whole = slate_families.families(built(SlateTarget(size=2)), Settings())
    all_of_them = built(SlateTarget()).rewards
    assert (positions.reward == all_of_them[:, :2]).all()
    assert positions.weight == pytest.approx(1.0)
    assert whole.ratios["ips"].value == pytest.approx(all_of_them[:, :2].sum(axis=1).mean())


def test_what_was_drawn_otherwise_than_it_says_is_found() -> None:
    wrong = [*DECISIONS[:3], msgspec.structs.replace(DECISIONS[3], temperature=0.9), *DECISIONS[4:]]
    log = built(SlateTarget(), decisions=wrong)
    assert np.flatnonzero(slate_families.unexplained(log)).tolist() == [3]
    assert len(slate_families.selected(log, ~slate_families.unexplained(log))) == N - 1


def test_slates_that_cannot_be_used_are_counted_by_reason() -> None:
    builder = SlateLogBuilder(SlateTarget(terms={"counts": 0.0}), shown=True)
    builder.decision(DECISIONS[0])
    builder.outcome(OUTCOMES[1])
    assert builder.left_out == {
        "the decision has no term counts; it has a, b": 1,
        "no impression confirmed it": 1,
    }
    plain = SlateLogBuilder(SlateTarget(beta=0.3))
    plain.decision(msgspec.structs.replace(DECISIONS[0], beta=0.0))
    assert "the decision has beta 0, so no popularity to correct by" in plain.left_out
    for decision in DECISIONS[1:4]:
        plain.decision(decision)
    for outcome in OUTCOMES[3:9]:
        plain.outcome(outcome)
    assert len(plain.build()) == 1
    assert plain.left_out["its window has not closed, or its outcome is gone"] == 2
    assert plain.left_out["its decision is gone"] == 5
    with pytest.raises(ValueError, match="no slate has both"):
        builder.build()


def test_rewards_may_be_weights_and_only_confirmed_slates_count_when_asked() -> None:
    log = built(SlateTarget(), hits=False, shown=True)
    assert len(log) == N // 2
    assert set(np.unique(log.rewards)) == {0.0, 2.5}
