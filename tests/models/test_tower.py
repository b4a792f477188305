import pytest
import torch

from models.tower import ItemTower


@pytest.fixture
def tower() -> ItemTower:
    torch.manual_seed(0)
    tower = ItemTower(torch.randn(200, 6), 8, id_dropout=0.25)
    with torch.no_grad():
        tower.residual.normal_()
        tower.item_bias.normal_()
    return tower


def test_vectors_are_unit_and_an_items_own_part_starts_at_zero() -> None:
    columns = torch.randn(5, 6)
    columns[1] = columns[0]
    tower = ItemTower(columns, 8, id_dropout=0).eval()
    unit, bias = tower(torch.arange(5))
    torch.testing.assert_close(unit.norm(dim=1), torch.ones(5))
    torch.testing.assert_close(unit[1], unit[0])
    assert bias.tolist() == [0] * 5


def test_id_dropout_hides_whole_items_and_only_in_training(tower: ItemTower) -> None:
    rows = torch.arange(200)
    with torch.no_grad():
        shown = tower.eval()(rows)
        torch.testing.assert_close(tower(rows)[0], shown[0])
        trained = tower.train()(rows)
        tower.id_dropout = 1.0
        hidden = tower(rows)
    assert not hidden[1].any(), "only the item's own part was given a bias"
    is_shown = torch.isclose(trained[0], shown[0], atol=1e-6).all(dim=1)
    is_hidden = torch.isclose(trained[0], hidden[0], atol=1e-6).all(dim=1)
    assert (is_shown ^ is_hidden).all()
    assert 20 < is_hidden.sum() < 80
    torch.testing.assert_close(trained[1], torch.where(is_hidden, hidden[1], shown[1]))


def test_rows_may_come_in_any_order(tower: ItemTower) -> None:
    tower.eval()
    unit, bias = tower(torch.tensor([7, 3]))
    torch.testing.assert_close(unit, tower(torch.arange(200))[0][[7, 3]])
    torch.testing.assert_close(bias, tower(torch.arange(200))[1][[7, 3]])
