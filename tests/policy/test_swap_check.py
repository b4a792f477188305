"""Swaps recover examination without a model of taste, say how sure they are, and contradict a curve that is wrong."""

from __future__ import annotations

import numpy as np
import pytest

from bench.clicks import World
from policy.swap_check import Curve, SwapCheck


def learned(world: World, slates: int, *, swaps: bool = True, uniform: bool = True) -> SwapCheck:
    check, shown = SwapCheck(), world.show(slates)
    for at in range(slates):
        pair = tuple(shown.swapped[at].tolist())
        check.learn(
            shown.clicks[at],
            swapped=pair if swaps and pair[0] >= 0 else None,  # type: ignore[arg-type]
            uniform=uniform and bool(shown.uniform[at]),
        )
    return check


def test_swaps_alone_recover_the_curve_within_their_own_errors() -> None:
    world = World(1, swaps=0.5, epsilon=0.0)
    curve = learned(world, 30_000).curve(10)
    z = np.log(curve.examination / world.examination)[1:] / curve.error[1:]
    assert curve.examination[0] == 1 and curve.error[0] == 0
    assert 0.01 < curve.error[1:].max() < 0.15
    assert np.abs(z).max() < 3.5
    assert 0.3 < np.sqrt((z**2).mean()) < 1.8


def test_the_uniform_arm_alone_recovers_it_too() -> None:
    world = World(2, swaps=0.0, epsilon=0.5)
    curve = learned(world, 20_000).curve(10)
    assert np.abs(np.log(curve.examination / world.examination)[1:] / curve.error[1:]).max() < 3.5
    assert curve.error[1:].max() < 0.15


def test_without_exchanges_and_chance_it_knows_nothing_and_contradicts_nobody() -> None:
    curve = learned(World(3), 3000, swaps=False, uniform=False).curve(10)
    assert curve.error[1:].min() > 5
    assert not len(curve.disagrees(np.linspace(1, 0.01, 10), np.zeros(10)))


def test_it_contradicts_what_is_wrong_and_not_what_is_right() -> None:
    world = World(4, swaps=0.3, epsilon=0.2)
    curve, nothing = learned(world, 20_000).curve(10), np.zeros(10)
    assert curve.disagrees(world.examination, nothing).tolist() == []
    assert curve.disagrees(world.examination * np.array([1] * 5 + [2] * 5), nothing).tolist() == [5, 6, 7, 8, 9]
    # A difference that is certain but does not matter, and one that would matter but may be chance.
    sure, unsure = (Curve(world.examination, np.full(10, error)) for error in (1e-4, 0.5))
    assert not len(sure.disagrees(world.examination * 1.05, nothing))
    assert not len(unsure.disagrees(world.examination * 1.5, nothing))


def test_bad_input_is_named() -> None:
    check = SwapCheck(positions=5)
    for pair in ((1, 1), (0, 4), (-1, 2)):
        with pytest.raises(ValueError, match="swapped is"):
            check.learn(np.zeros(4, bool), swapped=pair)
    with pytest.raises(ValueError, match="6 positions"):
        check.learn(np.zeros(6, bool))
    with pytest.raises(ValueError, match="cell is 0 to 99"):
        SwapCheck.from_state(check.state() | {"cell": [0, 99], "shown": [1.0, 1.0], "clicks": [0.0, 0.0]})
