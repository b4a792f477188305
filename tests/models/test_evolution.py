import numpy as np
import torch

from tests.models.conftest import Histories, Twins


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
            torch.tensor([7]),
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
            torch.tensor([2]),
            torch.tensor([False]),
        )
    assert np.abs(continued[:, 0].numpy() - first).max() > 1e-3


def test_user_vectors_have_the_length_of_the_temperature(twins: Twins) -> None:
    with torch.no_grad():
        query = twins.evolution.query(torch.randn(3, twins.release.config.dim))
    expected = 1 / np.exp(twins.release.arrays["evolution.log_temperature"])
    np.testing.assert_allclose(query.norm(dim=-1).numpy(), expected, rtol=1e-5)
