import numpy as np

from models.attention import Layer, normalise_rms, softmax
from models.config import EvolutionConfig
from tests.models.conftest import Twins


def layer_of(twins: Twins) -> Layer:
    prefix = "evolution.layers.1."
    arrays = {k.removeprefix(prefix): v for k, v in twins.release.arrays.items() if k.startswith(prefix)}
    return Layer(arrays, twins.release.config)


def test_ring_and_band_are_the_same_attention(twins: Twins) -> None:
    """The newest event of a history, asked from a rotated ring and from the rows of a band."""
    config: EvolutionConfig = twins.release.config
    layer, random = layer_of(twins), np.random.default_rng(0)
    window, events = config.window, config.window + 3
    query, keys, values = layer.project(random.normal(size=(4, events, config.dim)).astype(np.float32))
    ages = random.integers(0, config.time_buckets, (4, 1, events))
    band = layer.attend_band(query[:, -1:], keys, values, np.ones((4, events), bool), ages)[:, 0]
    slots = [max(i for i in range(events) if i % window == slot) for slot in range(window)]
    place = np.full(4, (events - 1) % window + window)
    ring = layer.attend_ring(query[:, -1], keys[:, slots], values[:, slots], place, ages[:, 0, slots])
    np.testing.assert_allclose(ring, band, atol=1e-5)


def test_empty_slots_have_no_say(twins: Twins) -> None:
    config = twins.release.config
    layer, random = layer_of(twins), np.random.default_rng(0)
    query, keys, values = layer.project(random.normal(size=(2, config.window, config.dim)).astype(np.float32))
    ages, place = np.zeros((2, config.window), np.int64), np.array([2, 2])
    clean = layer.attend_ring(query[:, 2], keys, values, place, ages)
    keys[:, 3:], values[:, 3:] = 100, 100
    assert np.array_equal(layer.attend_ring(query[:, 2], keys, values, place, ages), clean)
    assert not np.allclose(layer.attend_ring(query[:, 2], keys, values, place + config.window, ages), clean)


def test_softmax_sums_to_one_for_large_scores() -> None:
    scores = softmax(np.array([[1e4, 1e4, -1e9]], np.float32))
    assert scores.tolist() == [[0.5, 0.5, 0.0]]


def test_rms_is_one() -> None:
    normed = normalise_rms(np.array([[3.0, -4.0]], np.float32))
    assert np.isclose((normed**2).mean(), 1)
