"""From decision records alone come the probabilities that were published with them."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from streams.contracts import Decision, Interaction, Recommendation
from streams.names import Topics
from streams.pipeline import Pipeline
from streams.propensities import marginals
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


@pytest.mark.parametrize("swaps", [0.0, 0.3])
def test_they_are_those_that_were_published(swaps: float) -> None:
    decisions, recommendations = published(swaps=swaps)
    found = marginals(decisions)
    assert len(found) == 60
    for one, said in zip(found, recommendations, strict=True):
        np.testing.assert_allclose(one.propensity, said.propensity, atol=1e-9)
        np.testing.assert_allclose(one.shown_inclusion, said.inclusion, atol=1e-9)
        np.testing.assert_allclose(one.position.sum(axis=0), 1.0, atol=1e-9)
        np.testing.assert_allclose(one.inclusion.sum(), len(said.items), atol=1e-8)
    assert any(said.swapped for said in recommendations) == (swaps > 0)
    assert {tuple(one.swapped) for one in decisions} == {tuple(said.swapped) for said in recommendations}


def test_mixed_policies_and_slates_keep_their_order() -> None:
    first, second = published(swaps=0.2)[0][:5], published(epsilon=0.3)[0][:5]
    empty = msgspec.structs.replace(first[0], chosen=[], conditional=[])
    mixed = [first[0], second[0], empty, first[1], second[1]]
    found, alone = marginals(mixed), [marginals([one])[0] for one in mixed]
    for one, other in zip(found, alone, strict=True):
        np.testing.assert_allclose(one.position, other.position, atol=1e-12)
    assert found[2].propensity.shape == (0,)


def test_without_exchanges_counted_they_would_be_others() -> None:
    decisions, _ = published(swaps=0.3)
    without = marginals([msgspec.structs.replace(one, swaps=0.0) for one in decisions])
    errors = [np.abs(a.position - b.position).max() for a, b in zip(marginals(decisions), without, strict=True)]
    assert max(errors) > 0.01


def test_a_policy_without_marginals_draws_the_same() -> None:
    on, off = published(swaps=0.3)[0], published(swaps=0.3, marginals=False)[0]
    assert [one.chosen for one in on] == [one.chosen for one in off]
    np.testing.assert_array_equal(marginals(on)[0].position, marginals(off)[0].position)
