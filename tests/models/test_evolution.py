import numpy as np
import torch

from models.evolution import _TimeBias, drop
from tests.models.conftest import TWO, Histories, Twins, make_twins


def test_an_event_moves_what_follows_within_reach_and_nothing_else(twins: Twins) -> None:
    config = twins.release.config
    events, at = 40, 10
    histories = Histories.random(2, events, config.dim)
    before = histories.forward(twins.evolution)
    histories.inputs[:, at] += 1
    moved = np.abs(histories.forward(twins.evolution) - before).max(axis=(0, 2))
    reach = config.layers * (config.window - 1)
    assert moved[:at].max() == 0, "the future is not seen"
    assert moved[at : at + reach + 1].min() > 1e-6
    assert moved[at + reach + 1 :].max() < 1e-6, "the band ends"


def test_times_are_relative(twins: Twins) -> None:
    histories = Histories.random(2, 20, twins.release.config.dim)
    before = histories.forward(twins.evolution)
    histories.times[:] += 10**11
    np.testing.assert_allclose(histories.forward(twins.evolution), before, atol=1e-6)


def test_padding_changes_nothing(twins: Twins) -> None:
    config = twins.release.config
    histories = Histories.random(1, 12, config.dim)
    expected = histories.forward(twins.evolution)[:, :7]
    with torch.no_grad():
        padded = twins.evolution(
            torch.from_numpy(histories.inputs),
            torch.from_numpy(histories.times),
            torch.from_numpy(histories.actions).long(),
            torch.from_numpy(histories.weights),
            torch.tensor([True]),
        )
    np.testing.assert_allclose(padded[:, :7].numpy(), expected, atol=1e-6)


def test_the_first_event_is_told_from_a_continued_history(twins: Twins) -> None:
    histories = Histories.random(1, 2, twins.release.config.dim)
    first = histories.forward(twins.evolution)[:, 0]
    with torch.no_grad():
        continued = twins.evolution(
            torch.from_numpy(histories.inputs),
            torch.from_numpy(histories.times),
            torch.from_numpy(histories.actions).long(),
            torch.from_numpy(histories.weights),
            torch.tensor([False]),
        )
    assert np.abs(continued[:, 0].numpy() - first).max() > 1e-3


def test_user_vectors_have_the_length_of_the_temperature(twins: Twins) -> None:
    with torch.no_grad():
        query = twins.evolution.query(torch.randn(3, twins.release.config.dim))
    expected = 1 / np.exp(twins.release.arrays["evolution.log_temperature"])
    np.testing.assert_allclose(query.norm(dim=-1).numpy(), expected, rtol=1e-5)


def test_the_gradient_of_the_time_bias_is_that_of_a_table() -> None:
    random = torch.Generator().manual_seed(0)
    time = torch.randn(2, 5, generator=random, dtype=torch.float64, requires_grad=True)
    ages = torch.randint(0, 5, (3, 4, 4), generator=random)
    factor = torch.randn(3, 2, 4, 4, generator=random, dtype=torch.float64)
    expected = torch.autograd.grad((time[:, ages].transpose(0, 1) * factor).sum(), time)[0]
    assert torch.equal(_TimeBias.apply(time, ages), time[:, ages].transpose(0, 1))
    torch.testing.assert_close(torch.autograd.grad((_TimeBias.apply(time, ages) * factor).sum(), time)[0], expected)


def test_dropping_keeps_the_mean_and_drops_at_random() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        x = torch.ones(301, 333, requires_grad=True)
        one, other = drop(x, 0.2), drop(x, 0.2)
        share = (one == 0).float().mean()
        assert abs(share - 51 / 256) < 0.005
        assert abs(one.mean() - 1) < 0.005
        assert torch.equal(one[one != 0], torch.full_like(one[one != 0], 256 / 205))
        both = ((one == 0) & (other == 0)).float().mean()
        assert abs(both - share**2) < 0.005
        assert torch.equal(torch.autograd.grad(one.sum(), x)[0], one)
        assert torch.equal(drop(x, 0.0), x)


def test_members_know_nothing_of_each_other() -> None:
    twins = make_twins(TWO)
    histories = Histories.random(2, 9, TWO.dim)
    before = histories.forward(twins.evolution)
    half = TWO.dim // 2
    histories.inputs[:, 3, half:] += 1
    after = histories.forward(twins.evolution)
    assert np.array_equal(after[..., :half], before[..., :half])
    assert np.abs(after[:, 3:, half:] - before[:, 3:, half:]).max() > 1e-2
