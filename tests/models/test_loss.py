import numpy as np
import pytest
import torch

from models.batches import Batch
from models.config import Float32, Int64
from models.loss import Competitors, _AgainstOthers, next_item_loss
from tests.models.conftest import TWO, Histories, Twins, make_twins


@pytest.fixture
def batch(twins: Twins) -> Batch:
    """Two histories of 9 and 5 events with an unknown item; the second one continues."""
    histories = Histories.random(2, 9, twins.release.config.dim)
    items = np.array([[1, 2, 3, -1, 5, 1, 7, 8, 9], [4, 4, 6, 0, 2, -1, -1, -1, -1]])
    lengths, firsts = np.array([9, 5]), np.array([True, False])
    targets = (items >= 0) & (firsts[:, None] | (np.arange(9) > 0))
    worth = np.random.default_rng(1).uniform(0.5, 2, items.shape).astype(np.float32)
    return Batch(items, histories.times, histories.actions, histories.weights, lengths, firsts, targets, worth)


def loss(twins: Twins, batch: Batch, competing: Int64, log_inclusion: Float32, mask_seen: bool) -> float:
    with torch.no_grad():
        value = next_item_loss(
            twins.tower, twins.evolution, batch, competing, log_inclusion, mask_seen=mask_seen, device="cpu"
        )
    return float(value)


@torch.no_grad()
def by_hand(twins: Twins, batch: Batch, mask_seen: bool) -> float:
    """One target after the other, from the definition."""
    window = twins.release.config.window
    unit, bias = twins.tower(torch.arange(20))
    table = torch.cat([unit * unit.shape[1] ** 0.5, torch.zeros(1, unit.shape[1])])
    losses, worth = [], torch.from_numpy(batch.worth[batch.targets])
    for row, length in enumerate(batch.lengths):
        own = slice(row, row + 1), slice(0, length)
        hidden = twins.evolution(
            table[batch.items[own]],
            torch.from_numpy(batch.times_ms[own]),
            torch.from_numpy(batch.actions[own]).long(),
            torch.from_numpy(batch.weights[own]),
            torch.tensor([batch.firsts[row]]),
        )[0]
        for at in np.flatnonzero(batch.targets[row]):
            query = twins.evolution.query(hidden[at - 1] if at else twins.evolution.start)
            logits = unit @ query + bias
            target = int(batch.items[row, at])
            if mask_seen:
                seen = batch.items[row, max(0, at - window) : at]
                logits[[item for item in seen if item not in (-1, target)]] = -torch.inf
            losses.append(-torch.log_softmax(logits, 0)[target])
    return float((torch.stack(losses) * worth).sum() / worth.sum())


@pytest.mark.parametrize("mask_seen", [False, True])
def test_full_softmax_is_cross_entropy(twins: Twins, batch: Batch, mask_seen: bool) -> None:
    everything = Competitors(np.ones(20, np.int64), full_up_to=20, draws=1).draw(np.random.default_rng(0))
    expected = by_hand(twins, batch, mask_seen)
    assert loss(twins, batch, *everything, mask_seen) == pytest.approx(expected, abs=1e-5)


def test_each_member_learns_by_its_own_score() -> None:
    """The loss of two is the mean of their losses, not the loss of the mean of their scores."""
    twins, half = make_twins(TWO), TWO.dim // 2
    histories, items = Histories.random(2, 9, TWO.dim), np.arange(18).reshape(2, 9)
    everything = np.ones((2, 9), np.bool_)
    batch = Batch(
        items, histories.times, histories.actions, histories.weights, np.array([9, 9]), np.array([True, True]),
        everything, np.ones((2, 9), np.float32),
    )  # fmt: skip
    with torch.no_grad():
        unit, bias = twins.tower(torch.arange(20))
        given = unit[torch.from_numpy(items)] * TWO.dim**0.5
        hidden = twins.evolution(
            given,
            *map(torch.from_numpy, (histories.times, histories.actions.astype(np.int64), histories.weights)),
            torch.tensor([True, True]),
        )
        query = twins.evolution.query(torch.cat([twins.evolution.start.expand(2, 1, -1), hidden[:, :-1]], dim=1))
        parts = (slice(0, half), slice(half, None))
        losses = [
            torch.nn.functional.cross_entropy(
                (2 * query[..., part] @ unit[:, part].T + bias).flatten(0, 1), torch.from_numpy(items.ravel())
            )
            for part in parts
        ]
    expected = float(torch.stack(losses).mean())
    assert loss(twins, batch, np.arange(20), np.zeros(20, np.float32), False) == pytest.approx(expected, abs=1e-5)
    together = torch.nn.functional.cross_entropy((query @ unit.T + bias).flatten(0, 1), torch.from_numpy(items.ravel()))
    assert abs(expected - float(together)) > 1e-2


def test_masking_matters(twins: Twins, batch: Batch) -> None:
    assert abs(by_hand(twins, batch, True) - by_hand(twins, batch, False)) > 1e-2


def test_the_correction_makes_a_sample_estimate_the_whole(twins: Twins, batch: Batch) -> None:
    random = np.random.default_rng(0)
    competitors = Competitors(np.arange(1, 21) ** 2, full_up_to=19, draws=15)
    drawn = [competitors.draw(random) for _ in range(400)]
    expected = by_hand(twins, batch, False)
    corrected = np.mean([loss(twins, batch, *draw, False) for draw in drawn])
    plain = np.mean([loss(twins, batch, rows, np.zeros_like(log), False) for rows, log in drawn])
    # Not equal: the logarithm of an unbiased estimate is a little low.
    assert abs(corrected - expected) < abs(plain - expected) / 4


def test_inclusion_probabilities_are_those_of_the_draws() -> None:
    random = np.random.default_rng(0)
    competitors = Competitors(np.array([1, 1, 9, 90]), full_up_to=1, draws=5)
    times, logs = np.zeros(4), np.full(4, np.nan)
    for _ in range(5000):
        rows, log_inclusion = competitors.draw(random)
        times[rows] += 1
        logs[rows] = log_inclusion
    np.testing.assert_allclose(times / 5000, np.exp(logs), atol=0.02)


@pytest.mark.parametrize("full_up_to", [1, 9])
def test_items_without_an_interaction_do_not_compete(full_up_to: int) -> None:
    competitors = Competitors(np.array([0, 3, 0, 1, 2]), full_up_to=full_up_to, draws=100)
    assert competitors.draw(np.random.default_rng(0))[0].tolist() == [1, 3, 4]


def test_gradients_made_in_pieces_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against autograd's through all logits at once; one target has nothing that competes with it."""
    monkeypatch.setattr("models.loss._CACHED", 0)
    monkeypatch.setattr("models.loss._LEAST_ROWS", 3)
    torch.manual_seed(0)
    given = [torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in ((8, 4), (7, 4), (7,), (8,))]
    query, table, offsets, right = given
    hide, share = torch.randint(0, 7, (8, 2)), torch.rand(8, dtype=torch.float64)
    hide = torch.cat([hide, hide[:, :1].expand(8, 5)], dim=1)
    hide[5] = torch.arange(7)
    logits = torch.addmm(offsets, query, table.T).scatter(1, hide, -torch.inf)
    some = torch.arange(8) != 5
    others = logits[some].logsumexp(dim=1)
    expected = (torch.nn.functional.softplus(others - right[some]) * share[some]).sum()
    made = _AgainstOthers.apply(query, table, offsets, right, hide, share)
    torch.testing.assert_close(made, expected)
    wanted = torch.autograd.grad(expected, given)
    for ours, theirs in zip(torch.autograd.grad(3 * made, given), wanted, strict=True):
        torch.testing.assert_close(ours, 3 * theirs)
