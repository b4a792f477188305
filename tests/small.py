"""A world small enough for a unit test: forty items of four genres, a trained release, and its messages."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

import numpy as np

from models.batches import InteractionLog
from models.config import EvolutionConfig
from models.release import Release
from models.serving import ServingModel
from models.train import TrainConfig, train
from policy.slate import PolicyConfig
from streams.contracts import Erase, Impression, Interaction, ItemVector, Outcome, Request, encode
from streams.pipeline import PipelineConfig
from streams.state import StateLimits
from streams.topics import Topics
from streams.validation import EventRules
from streams.world import Known, World, features_of
from tests.counted import with_counts

ENCODER = "small"
START = 1_600_000_000_000
RULES = EventRules(actions=("view", "rate"))
GENRES = ("war", "love", "space", "ghost")
WINDOW = 8


def item_vector(number: int, genre: str | None = None) -> ItemVector:
    """Item `i<number>`: its text vector is that of its genre plus a little of its own."""
    genre = genre or GENRES[number % len(GENRES)]
    random = np.random.default_rng(number)
    vector = np.eye(16, dtype="<f4")[GENRES.index(genre)] + 0.1 * random.standard_normal(16).astype("<f4")
    return ItemVector(f"i{number}", ENCODER, f"{number:016x}", vector.tobytes(), f"Title {number}", [genre], 1990)


def items(count: int = 40) -> dict[str, ItemVector]:
    return {f"i{number}": item_vector(number) for number in range(count)}


@cache
def release(seed: int = 0) -> Release:
    """A release trained for a moment on users who each like one genre."""
    known = list(items().values())
    random = np.random.default_rng(seed)
    users, rows = [], []
    for user in range(60):
        liked = [row for row in range(len(known)) if row % len(GENRES) == user % len(GENRES)]
        rows += random.permutation(liked).tolist()
        users += [user] * len(liked)
    count = len(rows)
    log = InteractionLog(
        np.array(users),
        np.array(rows),
        START - 10**9 + np.arange(count) * 1000,
        np.zeros(count, np.uint8),
        np.ones(count, np.float32),
    )
    config = TrainConfig(model=EvolutionConfig(dim=16, layers=2, heads=2, window=WINDOW), epochs=8)
    return train(log, [item.item for item in known], features_of(known), config, seed=seed, text_encoder=ENCODER)


@cache
def blended() -> Release:
    """The release with counts and a blend besides."""
    return with_counts(release())


def world(seed: int = 0, count: int = 40, made: Release | None = None) -> World:
    return World(ServingModel(made or release(seed)), START, Known(items(count), (count,)))


def config(topics: Topics = Topics(), **policy: object) -> PipelineConfig:  # noqa: B008
    return PipelineConfig(
        topics=topics,
        rules=RULES,
        policy=PolicyConfig(**{"k": 5, "candidates": 20, "seed": 7, **policy}),  # type: ignore[arg-type]
        limits=StateLimits(events=2 * WINDOW, seen=64, outcome_window_ms=60_000),
        cached_users=64,
    )


@dataclass
class FakeRecord:
    """A record as the engine would deliver it."""

    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int = START + 10**6
    headers: tuple[tuple[str, bytes], ...] = field(default=())


def record(offset: int, event: Interaction | Impression | Request | Erase) -> FakeRecord:
    return FakeRecord(offset, event.user.encode(), encode(event))


def outcome(shown: list[str]) -> Outcome:
    """An outcome of a slate of these items, as a worker without marginals would write it."""
    return Outcome(
        user="u",
        slate="0-0",
        time=START,
        closed=START,
        reason="window",
        origin="driftline",
        shown=False,
        items=shown,
        rewards=[0.0] * len(shown),
        conditional=[0.1] * len(shown),
        propensity=None,
        inclusion=None,
        unshown=[],
        unshown_inclusion=None,
        candidates=20,
        history=1,
        release="r",
        estimator=None,
    )
