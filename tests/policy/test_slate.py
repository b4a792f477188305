from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from policy import mixture
from policy.plackett_luce import Floats, Ints
from policy.randomness import Words
from policy.slate import Decisions, Floats32, PolicyConfig, arrange, decide, draws, noise, redecide

CONFIG = PolicyConfig(k=4, candidates=12, injected=2, temperature=0.5, epsilon=0.3, beta=0.2, seed=9, unshown_sample=3)


HASHES = np.random.default_rng(7).integers(0, 2**64, 1000, dtype=np.uint64)
"""Hashes of the items of slots 0 to 999."""


def candidates(size: int, config: PolicyConfig = CONFIG, seed: int = 0) -> tuple[Ints, Words, Floats32, Floats]:
    random = np.random.default_rng(seed)
    slots = np.stack([random.permutation(1000)[: config.width] for _ in range(size)]).astype(np.int64)
    slots[random.random(slots.shape) < 0.2] = -1
    base = (random.standard_normal(slots.shape) * 3).astype(np.float32)
    log_popularity = np.log(random.uniform(1e-5, 1, slots.shape))
    base[slots < 0] = np.nan  # empty columns may hold anything
    return slots, HASHES[slots], base, log_popularity


def decided(size: int, config: PolicyConfig = CONFIG) -> Decisions:
    return decide(config, *candidates(size, config), noise(config, 2, np.arange(size) + 50))


def test_logits_are_base_plus_correction_exactly() -> None:
    slots, items, base, log_popularity = candidates(40)
    decisions = decide(CONFIG, slots, items, base, log_popularity, noise(CONFIG, 2, np.arange(40)))
    present = slots >= 0
    assert decisions.logits.dtype == decisions.correction.dtype == np.float32
    assert np.array_equal(decisions.logits[present], (base + decisions.correction)[present])
    assert np.isneginf(decisions.logits[~present]).all()
    for row in range(40):
        log_p = log_popularity[row][present[row]]
        np.testing.assert_allclose(decisions.correction[row][present[row]], -0.2 * (log_p - log_p.mean()), rtol=1e-5)


def test_probabilities_are_those_of_the_mixture() -> None:
    decisions = decided(40)
    position, inclusion = mixture.marginals(decisions.logits, 4, 0.5, 0.3)
    rows = np.arange(40)[:, None]
    assert decisions.propensity is not None
    assert decisions.inclusion is not None
    assert decisions.unshown is not None
    assert decisions.unshown_inclusion is not None
    np.testing.assert_allclose(decisions.propensity, position[rows, decisions.chosen, np.arange(4)], atol=1e-12)
    np.testing.assert_allclose(decisions.inclusion, inclusion[rows, decisions.chosen], atol=1e-12)
    np.testing.assert_allclose(decisions.unshown_inclusion, inclusion[rows, decisions.unshown], atol=1e-12)
    np.testing.assert_allclose(np.log(decisions.conditional).sum(axis=1), decisions.log_probability)


def test_unshown_are_distinct_candidates_that_were_not_shown() -> None:
    slots, *_ = candidates(40)
    decisions = decided(40)
    assert decisions.unshown is not None
    for row in range(40):
        unshown = decisions.unshown[row][decisions.unshown[row] >= 0].tolist()
        assert len(unshown) == len(set(unshown)) == min(3, (slots[row] >= 0).sum() - 4)
        assert not set(unshown) & set(decisions.chosen[row].tolist())
        assert (slots[row, unshown] >= 0).all()


def test_unshown_are_drawn_uniformly() -> None:
    size = 20_000
    config = dataclasses.replace(CONFIG, k=1, candidates=4, injected=0, unshown_sample=1, epsilon=0.0, temperature=0.01)
    logits = np.tile(np.array([9.0, 0.0, 1.0, 2.0], dtype=np.float32), (size, 1))
    unshown = redecide(config, logits, np.tile(HASHES[:4], (size, 1)), 0, np.arange(size)).unshown
    assert unshown is not None
    np.testing.assert_allclose(np.bincount(unshown[:, 0], minlength=4) / size, [0, 1 / 3, 1 / 3, 1 / 3], atol=0.015)


def test_redecide_repeats_the_choice_byte_for_byte_however_batched() -> None:
    decisions, items, offsets = decided(64), candidates(64)[1], np.arange(64) + 50
    for part in (slice(0, 64), slice(5, 6), slice(7, 40), slice(1, 64, 9)):
        again = redecide(CONFIG, decisions.logits[part], items[part], 2, offsets[part])
        assert again.chosen.tobytes() == np.ascontiguousarray(decisions.chosen[part]).tobytes()
        assert again.conditional.tobytes() == np.ascontiguousarray(decisions.conditional[part]).tobytes()
        assert again.uniform_arm.tobytes() == np.ascontiguousarray(decisions.uniform_arm[part]).tobytes()
        assert again.log_probability.tobytes() == np.ascontiguousarray(decisions.log_probability[part]).tobytes()


def test_redecide_notices_another_offset_partition_or_seed() -> None:
    decisions, items, offsets = decided(64), candidates(64)[1], np.arange(64) + 50
    for config, partition, shift in ((CONFIG, 2, 1), (CONFIG, 3, 0), (dataclasses.replace(CONFIG, seed=10), 2, 0)):
        assert not np.array_equal(
            redecide(config, decisions.logits, items, partition, offsets + shift).chosen, decisions.chosen
        )


def test_marginals_change_no_choice() -> None:
    plain = decided(30, dataclasses.replace(CONFIG, marginals=False))
    full = decided(30)
    assert np.array_equal(plain.chosen, full.chosen)
    assert np.array_equal(plain.conditional, full.conditional)
    assert plain.propensity is plain.inclusion is plain.unshown is plain.unshown_inclusion is None


def test_fewer_candidates_than_positions() -> None:
    slots = np.full((2, CONFIG.width), -1, dtype=np.int64)
    slots[0, [3, 8]] = [30, 80]
    zeros = np.zeros(slots.shape, dtype=np.float32)
    decisions = decide(CONFIG, slots, HASHES[slots], zeros, zeros.astype(np.float64), noise(CONFIG, 0, np.arange(2)))
    assert sorted(decisions.chosen[0].tolist()) == [-1, -1, 3, 8]
    assert (decisions.chosen[1] == -1).all()
    assert decisions.propensity is not None
    np.testing.assert_allclose(decisions.propensity, [[0.5, 0.5, 0, 0], [0, 0, 0, 0]], atol=1e-9)
    assert decisions.log_probability[0] == pytest.approx(np.log(0.5))
    assert decisions.log_probability[1] == pytest.approx(0, abs=1e-12)


def test_an_event_owns_whole_blocks_whatever_the_candidates() -> None:
    for injected, owned in ((0, 4), (3, 4), (4, 8)):
        for wanted in (10, 500):
            config = dataclasses.replace(CONFIG, candidates=wanted, injected=injected)
            assert draws(config) == owned
            parts = noise(config, 0, np.arange(3))
            assert parts.injection.shape == (3, injected)
            assert np.array_equal(parts.arm, noise(CONFIG, 0, np.arange(3)).arm) == (owned == 4)


def test_an_item_keeps_its_noise_whatever_is_retrieved_beside_it() -> None:
    slots, items, base, log_popularity = candidates(64)
    whole = decide(CONFIG, slots, items, base, log_popularity, noise(CONFIG, 2, np.arange(64)))
    order = np.random.default_rng(1).permutation(CONFIG.width)
    mixed = redecide(CONFIG, whole.logits[:, order], items[:, order], 2, np.arange(64))
    rows = np.arange(64)[:, None]

    def shown(choice: Any, columns: Ints, names: Words) -> Words:
        return np.where(columns >= 0, names[rows, columns], 0)

    assert np.array_equal(shown(mixed, mixed.chosen, items[:, order]), shown(whole, whole.chosen, items))
    assert mixed.unshown is not None and whole.unshown is not None
    assert np.array_equal(shown(mixed, mixed.unshown, items[:, order]), shown(whole, whole.unshown, items))
    np.testing.assert_allclose(mixed.conditional, whole.conditional, rtol=1e-12)

    # Without one that was not chosen, the others stand in the order they had.
    fewer = whole.logits.copy()
    fewer[np.arange(64), whole.unshown[:, 0]] = -np.inf
    assert np.array_equal(redecide(CONFIG, fewer, items, 2, np.arange(64)).chosen, whole.chosen)


def test_popularity_correction_lowers_what_is_popular() -> None:
    slots = np.arange(CONFIG.width)[None].astype(np.int64)
    log_popularity = np.linspace(-9, -1, CONFIG.width)[None]
    decisions = decide(
        CONFIG, slots, HASHES[slots], np.zeros(slots.shape, np.float32), log_popularity, noise(CONFIG, 0, np.arange(1))
    )
    assert (np.diff(decisions.correction[0]) < 0).all()
    assert decisions.correction.sum() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("k", 0),
        ("k", 101),
        ("injected", -1),
        ("temperature", 0.0),
        ("temperature", float("nan")),
        ("epsilon", 1.5),
        ("beta", -0.1),
        ("seed", -1),
        ("unshown_sample", -1),
    ],
)
def test_config_names_the_bad_field(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{field} is "):
        PolicyConfig(**{field: value})


def test_bad_arrays_are_named() -> None:
    slots, items, base, log_popularity = candidates(3)
    numbers = noise(CONFIG, 0, np.arange(3))
    with pytest.raises(ValueError, match=r"base has shape \(3, 13\)"):
        decide(CONFIG, slots, items, base[:, 1:], log_popularity, numbers)
    row, column = np.argwhere(slots >= 0)[5]
    log_popularity[row, column] = -np.inf
    with pytest.raises(ValueError, match=f"log_popularity is -inf at row {row}, column {column}"):
        decide(CONFIG, slots, items, base, log_popularity, numbers)
    with pytest.raises(ValueError, match="logits has shape"):
        redecide(CONFIG, base[:, 1:], items, 0, np.arange(3))
    assert arrange(CONFIG, np.zeros((3, 14), np.float32), items, numbers).chosen.shape == (3, 4)
