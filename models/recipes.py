"""Whole recipes by name: what is trained, counted and blended, for kinds of data that differ too much for one.

``histories``: users with long histories that do not take an item twice, as with films; the defaults of all parts.
``sessions``: short visits without a past, in which people go back to what they looked at, as in a shop; items may have
no features at all. What was measured for each choice is in docs/LOG.md. Knows nothing of data or streams.
"""

from __future__ import annotations

from collections.abc import Callable

from models.blend_learner import BlendConfig
from models.blended import BlendedConfig
from models.config import EvolutionConfig
from models.counts import Channel, CountsConfig, Table
from models.learner import TrainConfig
from models.online_config import OnlineConfig

LIKED = 300.0
"""Memory of what slates teach of an item, in information: of at least 1,200 showings at the first position."""


def histories(size: int = 2, epochs: int = 20, members: int = 1) -> OnlineConfig:
    """size, members: of the model (see ``EvolutionConfig.of_size``); epochs: passes over the warm-up."""
    training = TrainConfig(model=EvolutionConfig.of_size(size, members), epochs=epochs)
    return OnlineConfig(training, blended=BlendedConfig(CountsConfig(liked=LIKED)))


def sessions(size: int = 2, epochs: int = 12, members: int = 1) -> OnlineConfig:
    """Arguments as for ``histories``."""
    training = TrainConfig(
        model=EvolutionConfig.of_size(size, members, window=20, temperature=0.07),
        epochs=epochs,
        batch_size=256,
        learning_rate=2e-3,
        tie_shuffle=0.0,
        id_dropout=0.0,
        mask_seen=False,
        full_softmax_items=2_000,
        negatives=1_024,
    )
    return OnlineConfig(
        training, learning_rate=5e-4, steps=3, recent=100, replayed=100, blended=BlendedConfig(_counts(), _blend())
    )


RECIPES: dict[str, Callable[..., OnlineConfig]] = {"histories": histories, "sessions": sessions}


def _counts() -> CountsConfig:
    """Pairs fade slowly and reach less far than in long histories; what is next, and what shares a session, besides."""
    return CountsConfig(
        channels={
            "near": Channel(window=10, decay=0.65, half_life=400_000, backward=0.75),
            "next": Channel(window=1, decay=1.0, half_life=400_000, backward=0.0),
            "session": Channel(window=20, decay=1.0, half_life=400_000),
        },
        tables={
            "near": _read("near", last=10),
            "next": _read("next", last=1),
            "session": _read("session", last=20),
            "session_last": _read("session", last=1),
        },
        source="near",
        neighbours=64,
        popularity=(20_000, 400_000),
        repeats=4,
        learned=None,
        liked=LIKED,
    )


def _read(channel: str, last: int) -> Table:
    """The candidate's own count is left to the blend, which has its popularity."""
    return Table(channel, own_power=0.25, other_power=0.0, read=last, read_decay=0.55, floor=0.001)


def _blend() -> BlendConfig:
    """By length of the session, and whether its last item is new, was the one before too, or was seen earlier."""
    return BlendConfig(edges={"events": (1, 2, 3, 4, 5), "repeat": (0.5, 1.5)}, counted=60)
