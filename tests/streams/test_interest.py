"""A forecast from a state: the small world, with a head made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from models import horizon
from models.release import Release
from models.serving import ServingModel
from streams.interest import Interest, forecast
from streams.state import StateLimits, UserState, id_hash
from streams.world import Known, World
from tests.small import GENRES, START, WINDOW, items, release

HOUR = 3_600_000
LIMITS = StateLimits(events=2 * WINDOW)


def head(towards: int) -> Release:
    """A head that turns everybody, within a minute, to the items of one genre; only items speak for topics."""
    made = release()
    model = ServingModel(made)
    known = model.project(list(items()), _features())
    shapes = horizon.shapes(made.config.dim, 4, len(made.space.vocabulary))
    arrays = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    arrays["horizon.shift"][:] = 10 * known.search[towards :: len(GENRES), :-1].mean(axis=0)
    arrays["horizon.views"][:, 0] = 20
    arrays["horizon.everybody"][:] = 1 / len(GENRES)
    return Release(made.config, made.space, made.item_ids, made.arrays | arrays, made.text_encoder)


def _features():
    from streams.world import features_of

    return features_of(list(items().values()))


def state(numbers: list[int], every_ms: int = 60_000) -> UserState:
    found = UserState()
    for at, number in enumerate(numbers):
        found.push(id_hash(f"i{number}"), START + at * every_ms, 1.0, 0, LIMITS)
    return found


def ask(towards: int = 1, ahead: int = HOUR, numbers: tuple[int, ...] = (0, 4, 8), **options: bool) -> Interest:
    world = World(ServingModel(head(towards)), START, Known(items(), (40,)))
    of = state(list(numbers))
    return forecast(world, items(), of, of.last_time + ahead, **({"filter_seen": True} | options))


def test_what_the_head_turns_to_gains_and_what_he_came_from_loses() -> None:
    found = ask(towards=1)
    assert found.topics[0].name == GENRES[1]
    assert found.topics[-1].name == GENRES[0]
    assert found.topics[0].later > found.topics[0].now + 0.2
    assert {int(one.name[1:]) % 4 for one in found.items[:5]} == {1}
    assert {int(one.name[1:]) % 4 for one in found.items[-5:]} == {0}
    gains = [one.later - one.now for one in found.items]
    assert gains == sorted(gains, reverse=True)


def test_shares_and_chances_sum_to_one() -> None:
    found = ask()
    for changes in (found.topics, found.items):
        assert sum(one.now for one in changes) == pytest.approx(1, abs=1e-5)
        assert sum(one.later for one in changes) == pytest.approx(1, abs=1e-5)


def test_what_he_has_seen_is_left_out_where_it_is_not_recommended() -> None:
    assert {one.name for one in ask().items} == {f"i{n}" for n in range(40)} - {"i0", "i4", "i8"}
    assert {one.name for one in ask(filter_seen=False).items} == {f"i{n}" for n in range(40)}


def test_topics_now_are_those_of_his_events() -> None:
    found = {one.name: one.now for one in ask(numbers=(2,) * 12).topics}
    assert max(found, key=lambda name: found[name]) == GENRES[2]


def test_drift_is_that_of_his_events() -> None:
    still, turned = ask(numbers=(0, 4, 8, 12)), ask(numbers=(0, 4, 9, 13))
    assert still.drift is not None
    assert turned.drift is not None
    topics = dict(zip(turned.topic_names, turned.drift.topics[0].tolist(), strict=True))
    assert topics[GENRES[1]] == max(topics.values()) > 0
    assert topics[GENRES[0]] == min(topics.values()) < 0
    assert turned.drift.degrees[0] > still.drift.degrees[0]
    assert ask(numbers=(0,)).drift is None


@pytest.mark.parametrize(
    ("numbers", "ahead", "complaint"), [((), HOUR, "no event yet"), ((1,), 0, "expected one after")]
)
def test_what_cannot_be_asked_is_said(numbers: tuple[int, ...], ahead: int, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        ask(numbers=numbers, ahead=ahead)


def test_a_release_without_a_head_is_refused() -> None:
    world = World(ServingModel(release()), START, Known(items(), (40,)))
    with pytest.raises(ValueError, match="no head for later times"):
        forecast(world, items(), state([1]), START + HOUR, filter_seen=True)
