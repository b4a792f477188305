"""How to go on learning: the warm-up's recipe, the rounds, what is counted and blended. Knows nothing about data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from models import blended
from models.blended import BlendedConfig
from models.config import EvolutionConfig
from models.horizon_learner import HorizonConfig
from models.learner import TrainConfig


@dataclass(frozen=True, slots=True)
class OnlineConfig:
    """How to go on learning.

    Attributes:
        training: the warm-up, and all that a round has in common with it.
        learning_rate: of the rounds.
        steps: gradient steps a round.
        recent: pieces a step that end in what the round brought.
        replayed: pieces a step from all that is remembered.
        exemplars: interactions that are remembered, at most.
        horizon: of the head for later times; None leaves it out.
        blended: counts and blend; None: releases hold the model alone.
        rehearsal: the last share of the warm-up's log that is learned in rounds of ``round_events`` first, so that the
            blend has learned before the first release.
        finish: the share of the warm-up's epochs that is left for after the rehearsal, over the whole log.
        round_events: of the rehearsal.

    Raises:
        ValueError: a field is outside its range.
    """

    training: TrainConfig = field(default_factory=TrainConfig)
    learning_rate: float = 1e-3
    steps: int = 4
    recent: int = 12
    replayed: int = 20
    exemplars: int = 1_000_000
    horizon: HorizonConfig | None = field(default_factory=HorizonConfig)
    blended: BlendedConfig | None = field(default_factory=BlendedConfig)
    rehearsal: float = 0.2
    finish: float = 0.25
    round_events: int = 256

    def __post_init__(self) -> None:
        for name in ("steps", "recent", "replayed"):
            if getattr(self, name) < 0:
                raise ValueError(f"OnlineConfig.{name} is {getattr(self, name)}, expected at least 0")
        for name in ("exemplars", "round_events"):
            if getattr(self, name) < 1:
                raise ValueError(f"OnlineConfig.{name} is {getattr(self, name)}, expected at least 1")
        for name in ("rehearsal", "finish"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"OnlineConfig.{name} is {getattr(self, name)}, expected at least 0 and below 1")
        if not self.learning_rate > 0:
            raise ValueError(f"OnlineConfig.learning_rate is {self.learning_rate}, expected a positive number")


def config_of(fields: Mapping[str, Any]) -> OnlineConfig:
    """From ``dataclasses.asdict`` of one, by way of JSON."""
    training, mixed = fields["training"], fields["blended"]
    training = TrainConfig(**(training | {"model": EvolutionConfig(**training["model"])}))
    mixed = None if mixed is None else blended.config_of(mixed)
    horizon = fields["horizon"] and HorizonConfig(**fields["horizon"])
    return OnlineConfig(**{**fields, "training": training, "horizon": horizon, "blended": mixed})
