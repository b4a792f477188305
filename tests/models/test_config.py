import numpy as np
import pytest
import torch

from models.config import EvolutionConfig, time_buckets
from models.evolution import bucketise


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dim", 63),
        ("layers", 1),
        ("window", 1),
        ("hidden", 0),
        ("time_buckets", 1),
        ("dropout", 1.0),
        ("temperature", 0),
        ("members", 0),
        ("members", 3),
    ],
)
def test_a_field_outside_its_range_is_named(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        EvolutionConfig(**{field: value})


def test_one_dial_for_size() -> None:
    assert EvolutionConfig.of_size(2) == EvolutionConfig()
    assert EvolutionConfig.of_size(2, 3) == EvolutionConfig(dim=192, heads=6, hidden=768, members=3)
    large = EvolutionConfig.of_size(4, window=100)
    assert (large.dim, large.layers, large.heads, large.window, large.history) == (128, 4, 4, 100, 400)


def test_buckets_double_and_negative_gaps_count_as_none() -> None:
    milliseconds = np.array([-(10**9), -1, 0, 999, 1000, 1999, 2000, 3999, 4000, 10**15])
    assert time_buckets(milliseconds, 8).tolist() == [0, 0, 0, 0, 1, 1, 2, 2, 3, 7]


def test_training_and_serving_agree_on_buckets() -> None:
    edges = np.array([1000 * 2**k + d for k in range(32) for d in (-1, 0, 1)])
    milliseconds = np.concatenate([edges, -edges, np.random.default_rng(0).integers(-(10**12), 10**12, 1000)])
    assert np.array_equal(bucketise(torch.from_numpy(milliseconds), 28).numpy(), time_buckets(milliseconds, 28))
