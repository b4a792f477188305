"""The recommenders that are compared, by name: three without a model, and driftline with things switched off.

Knows how each is made; knows nothing of worlds or of what comes of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from evaluation.simulation.recommender import Driftline, Setup
from evaluation.simulation.references import Oracle, Popular, Random, Recommender
from evaluation.simulation.world import Environment
from models.blended import BlendedConfig
from models.config import EvolutionConfig
from models.counts import CountsConfig
from models.learner import TrainConfig
from models.online_config import OnlineConfig
from models.recipes import LIKED
from policy.slate import PolicyConfig

GREEDY = 0.02
"""A temperature at which the slate is the best candidates in order, near ties aside. Far lower ones would make ties of
all: weights below e^-600 of the largest are cut (policy/plackett_luce.py)."""


def trainer_config(**changes: Any) -> OnlineConfig:
    """A small model, trained in rounds that are large for their number of steps, so that many runs can be afforded."""
    model = EvolutionConfig(dim=16, layers=2, heads=1, window=10, hidden=32)
    training = TrainConfig(model=model, epochs=20, batch_size=64, learning_rate=2e-3, mask_seen=False)
    config = OnlineConfig(training, steps=16, horizon=None, rehearsal=0.0)
    return replace(config, **changes)


def _default() -> Setup:
    """As the recipes have it: slates are lessons."""
    return Setup(PolicyConfig(), trainer_config(blended=BlendedConfig(CountsConfig(liked=LIKED))))


CLICKS_ALONE = trainer_config()
"""Clicks are lessons as they come; what was shown and left alone is none."""


def _with(policy: Mapping[str, Any], **changes: Any) -> Setup:
    setup = _default()
    return replace(setup, policy=replace(setup.policy, **policy), **changes)


NO_EXPLORATION = {"temperature": GREEDY, "epsilon": 0.0, "injected": 0}
UNCORRECTED = {"beta": 0.0}


def _bare(setup: Setup) -> Setup:
    """The evolution model alone."""
    return replace(setup, trainer=replace(setup.trainer, blended=None))


@dataclass(frozen=True, slots=True)
class Arm:
    """A recommender with a name. `said`: what it is, for people."""

    name: str
    said: str
    make: Callable[[Environment, int, Setup | None], Recommender]
    setup: Setup | None = None


def _reference(name: str, said: str, kind: Callable[[Environment, int], Recommender]) -> Arm:
    return Arm(name, said, lambda world, seed, _: kind(world, seed))


def _driftline(name: str, said: str, setup: Setup) -> Arm:
    return Arm(name, said, lambda world, seed, setup: Driftline(world, setup or _default(), seed), setup)


def _listed() -> list[Arm]:
    return [
        _reference("random", "every item alike", Random),
        _reference("popularity", "the most clicked items of late", Popular),
        _driftline(
            "greedy",
            "clicks as they come, the best candidates in order",
            _with(NO_EXPLORATION | UNCORRECTED, trainer=CLICKS_ALONE, weighed="none", estimated=False),
        ),
        _driftline(
            "naive",
            "clicks as they come, with the default's exploration",
            _with(UNCORRECTED, trainer=CLICKS_ALONE, weighed="none", estimated=False),
        ),
        _driftline(
            "ips",
            "clicks weighed by 1/π, with the default's exploration",
            _with(UNCORRECTED, trainer=CLICKS_ALONE, weighed="ips", estimated=False),
        ),
        _driftline(
            "dr",
            "clicks weighed by their doubly robust pseudo-reward, with the default's exploration",
            _with(UNCORRECTED, trainer=CLICKS_ALONE, estimated=False),
        ),
        _driftline("default", "driftline as it comes", _default()),
        _driftline("default-greedy", "driftline as it comes, without exploration", _with(NO_EXPLORATION)),
        _driftline(
            "model-naive",
            "`naive` without counts and blend",
            _bare(_with(UNCORRECTED, weighed="none", estimated=False)),
        ),
        _driftline("model", "`default` without counts and blend", _bare(_default())),
        _reference("oracle", "the items that the user wants most now", Oracle),
    ]


ARMS: dict[str, Arm] = {arm.name: arm for arm in _listed()}
