"""From decision records alone come the probabilities that were published with them."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from policy.plackett_luce import Floats
from policy.slate import published_marginals
from streams.contracts import Decision, Interaction, Recommendation
from streams.names import Topics
from streams.pipeline import Pipeline
from tests import small
from tests.small import record


def published(**policy: float) -> tuple[list[Decision], list[Recommendation]]:
    world = small.world()
    pipeline = Pipeline(small.config(**policy), lambda: world, lambda: small.START)
    pipeline.assigned(0, {})
    records = [
        record(number, Interaction(f"u{number}", f"i{number % 30}", small.START + number)) for number in range(60)
    ]
    effects = pipeline.apply(0, records, {})
    decisions, recommendations = (effects.outputs[topic] for topic in (Topics().decisions, Topics().recommendations))
    return (
        [msgspec.json.decode(value or b"", type=Decision) for _, value, _ in decisions],
        [msgspec.json.decode(value or b"", type=Recommendation) for _, value, _ in recommendations],
    )


def marginals(decision: Decision) -> tuple[Floats, Floats]:
    """P(each candidate at each position) [C, n] and in the slate [C]."""
    chosen = np.array([decision.chosen])
    fixed = np.isin(np.arange(chosen.shape[1]), decision.pinned)[None]
    logits = np.frombuffer(decision.logits_f32, "<f4")[None]
    position, inclusion = published_marginals(
        logits, chosen, fixed, decision.temperature, decision.epsilon, decision.swaps
    )
    return position[0], inclusion[0]


@pytest.mark.parametrize("swaps", [0.0, 0.3])
def test_they_are_those_that_were_published(swaps: float) -> None:
    decisions, recommendations = published(swaps=swaps)
    for decision, said in zip(decisions, recommendations, strict=True):
        position, inclusion = marginals(decision)
        places = np.arange(len(decision.chosen))
        np.testing.assert_allclose(position[decision.chosen, places], said.propensity, atol=1e-9)
        np.testing.assert_allclose(inclusion[decision.chosen], said.inclusion, atol=1e-9)
        np.testing.assert_allclose(position.sum(axis=0), 1.0, atol=1e-9)
        np.testing.assert_allclose(inclusion.sum(), len(said.items), atol=1e-8)
    assert any(said.swapped for said in recommendations) == (swaps > 0)
    assert {tuple(one.swapped) for one in decisions} == {tuple(said.swapped) for said in recommendations}


def test_without_exchanges_counted_they_would_be_others() -> None:
    decisions, _ = published(swaps=0.3)
    pairs = [(marginals(one)[0], marginals(msgspec.structs.replace(one, swaps=0.0))[0]) for one in decisions]
    assert max(np.abs(one - other).max() for one, other in pairs) > 0.01
