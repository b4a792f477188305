import numpy as np
import pytest
import torch

from models import horizon
from models.config import Float32
from models.horizon import Horizon
from models.horizon_learner import Head
from models.release import Release
from models.serving import ServingModel
from tests.small import release

DIM, HIDDEN, TOPICS = 16, 8, 4
MINUTE, HOUR = 60_000, 3_600_000
TEMPERATURE = np.float32(0.2)


def section(seed: int = 0, scale: float = 0.3) -> dict[str, Float32]:
    random = np.random.default_rng(seed)
    shapes = horizon.shapes(DIM, HIDDEN, TOPICS)
    arrays = {name: (scale * random.standard_normal(shape)).astype(np.float32) for name, shape in shapes.items()}
    return arrays | {"horizon.everybody": np.array([0.4, 0.3, 0.2, 0.1], np.float32)}


def with_head(made: Release | None = None) -> Release:
    made = made or release()
    return Release(made.config, made.space, made.item_ids, made.arrays | section(), made.text_encoder, made.facts)


def states(count: int = 5) -> Float32:
    return np.random.default_rng(1).standard_normal((count, DIM)).astype(np.float32)


def test_zero_ahead_is_the_ordinary_vector_to_the_byte() -> None:
    model, hidden = ServingModel(with_head()), states(3)
    ahead = np.array([0, HOUR, -5])
    found = model.future_vectors(hidden, np.full(3, 10**12), ahead)
    ordinary = model.user_vectors(hidden)
    assert found[[0, 2]].tobytes() == ordinary[[0, 2]].tobytes()
    assert not np.allclose(found[1], ordinary[1], atol=0.1)


def test_the_vector_moves_off_without_a_jump() -> None:
    model, hidden = ServingModel(with_head()), states(1)
    ahead = np.array([1, 10, 100, 1000, 10_000])
    found = model.future_vectors(np.repeat(hidden, 5, axis=0), np.full(5, 10**12), ahead)
    away = np.abs(found - model.user_vectors(hidden)).max(axis=1)
    assert away[0] < 0.01
    assert (np.diff(away) > 0).all()


def test_serving_is_what_is_trained() -> None:
    arrays, hidden = section(), states()
    now, ahead = 10**12 + np.arange(5) * HOUR, np.array([MINUTE, HOUR, 24 * HOUR, 168 * HOUR, 10**14])
    head = Head(DIM, HIDDEN, dropout=0.5).eval()
    head.load_state_dict({name: torch.from_numpy(arrays[f"horizon.{name}"]) for name, _ in head.named_parameters()})
    at, onset = horizon.steps(ahead)
    waves = horizon.calendar(now, ahead)
    with torch.no_grad():
        direction, popularity = head(*(torch.from_numpy(one) for one in (hidden, at, onset, waves)))
    found = Horizon(arrays, TEMPERATURE).vectors(hidden, now, ahead)
    np.testing.assert_allclose(found[:, :-1], direction.numpy() / TEMPERATURE, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[:, -1], popularity.numpy(), rtol=1e-5)


def test_steps_stand_between_whole_numbers_of_log2_seconds() -> None:
    at, onset = horizon.steps(np.array([0, 256_000, 384_000, 2**40 * 1000]))
    assert onset.tolist() == [0, 1, 1, 1]
    assert not at[0].any()
    assert at[1].nonzero()[0].tolist() == [8]
    assert at[2, 8] == pytest.approx(1 - np.log2(1.5), abs=1e-6)
    assert at[3].nonzero()[0].tolist() == [horizon.BUCKETS - 1]
    np.testing.assert_allclose(at.sum(axis=1), onset, atol=1e-6)


def test_the_calendar_is_that_of_both_moments() -> None:
    day, week = 24 * HOUR, 168 * HOUR
    now = np.array([10 * week])
    here, same_hour, half_a_day = (horizon.calendar(now, np.array([ahead]))[0] for ahead in (0, day, day // 2))
    np.testing.assert_allclose(here[:4], same_hour[:4], atol=1e-6)
    assert not np.allclose(here[4:8], same_hour[4:8], atol=0.1)
    assert not np.allclose(here[:4], half_a_day[:4], atol=0.1)
    assert (here[8:] == half_a_day[8:]).all()
    np.testing.assert_allclose(here, horizon.calendar(now, np.array([week]))[0], atol=1e-6)


def test_own_topics_count_the_newest_most_and_start_from_everybodys() -> None:
    everybody = np.array([0.75, 0.25], np.float32)
    events = np.array([[[1, 0], [0, 1]], [[1, 0], [9, 9]], [[9, 9], [9, 9]]], np.float32)
    present = np.array([[True, True], [True, False], [False, False]])
    found = horizon.own_shares(events, present, everybody)
    prior, decay = horizon.OWN_PRIOR, horizon.OWN_DECAY
    np.testing.assert_allclose(found[0], ([decay, 1] + prior * everybody) / (1 + decay + prior), rtol=1e-6)
    np.testing.assert_allclose(found[1], ([1, 0] + prior * everybody) / (1 + prior), rtol=1e-6)
    np.testing.assert_allclose(found[2], everybody, rtol=1e-6)


def test_topics_are_a_mixture_whose_weights_depend_on_how_far_ahead() -> None:
    arrays = section()
    arrays["horizon.views"][:] = 0
    arrays["horizon.views"][8] = [20, 0, 0]  # 256 s: the items alone
    head = Horizon(arrays, TEMPERATURE)
    items, own = np.eye(4, dtype=np.float32)[[0, 0]], np.eye(4, dtype=np.float32)[[1, 1]]
    near, far = head.topics(items, own, np.array([256_000, 168 * HOUR]))
    np.testing.assert_allclose(near, items[0], atol=1e-6)
    np.testing.assert_allclose(far, (items[0] + own[0] + head.everybody) / 3, atol=1e-6)


def test_an_item_shares_one_among_its_topics() -> None:
    found = horizon.shares(np.array([[1, 1, 0, 0], [0, 0, 0, 0]], np.float32))
    assert found.tolist() == [[0.5, 0.5, 0, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"horizon.shift": None}, "missing or unexpected"),
        ({"horizon.other": np.zeros(1, np.float32)}, "missing or unexpected"),
        ({"horizon.down": np.zeros((HIDDEN, DIM + 1), np.float32)}, r"horizon.down is float32 \(8, 17\)"),
        ({"horizon.everybody": np.zeros(5, np.float32)}, r"expected float32 \(4,\)"),
        ({"horizon.views": np.full((horizon.BUCKETS, 3), np.nan, np.float32)}, "NaN or infinity"),
        ({"horizon.up": np.zeros(3, np.float32)}, "horizon."),
    ],
)
def test_a_damaged_section_is_refused(change: dict[str, Float32 | None], complaint: str) -> None:
    arrays = {name: array for name, array in (section() | change).items() if array is not None}
    made = release()
    with pytest.raises(ValueError, match=complaint):
        Release(made.config, made.space, made.item_ids, made.arrays | arrays)


def test_a_release_carries_its_head(tmp_path_factory: pytest.TempPathFactory) -> None:
    made, folder = with_head(), tmp_path_factory.mktemp("releases")
    read = Release.load(made.save(folder))
    assert (made.format, release().format) == (3, 1)
    assert read.id == made.id != release().id
    assert all((read.arrays[name] == array).all() for name, array in made.arrays.items())


def test_a_release_without_a_head_says_so() -> None:
    model = ServingModel(release())
    assert model.horizon is None
    with pytest.raises(ValueError, match="no head for later times"):
        model.future_vectors(states(1), np.array([10**12]), np.array([HOUR]))
    assert model.future_vectors(states(1), np.array([10**12]), np.array([0])).shape == (1, DIM + 1)
