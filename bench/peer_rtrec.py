"""rtrec's SLIM and LightFM as peers: made anew on all there was at every block, then one event after the other.

    python -m bench.peer_rtrec slim|lightfm FOLDER        # in the environment that bench.peers makes for it

Users and items are integers, which rtrec passes through: with other ids its list for an unknown user holds its own
numbers instead of items. `SLIM.fit` on a single event learns nothing: it fits the item's column on a matrix in which
only that column is filled. So between two blocks an event reaches SLIM as an interaction of its user
(`add_interactions`), and the similarities are those of the last `bulk_fit`. LightFM learns from single events (`fit`).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.peer_stream import Events, Job, Recipe, Settings, main


class _Rtrec:
    """What both have in common; times are in seconds."""

    model: Any

    def __init__(self, settings: Settings, job: Job) -> None:
        self._settings, self._job = dict(settings), job
        self._ratings = self._settings.pop("ratings", False)
        self._items = 0

    def _new(self) -> Any:
        raise NotImplementedError

    def fit(self, past: Events) -> None:
        self.model = self._new()
        weights = past.weights if self._ratings else past.weights * 0 + 1
        columns = (past.users, past.items, past.times_ms / 1000, weights)
        self.model.add_interactions(zip(*(column.tolist() for column in columns), strict=True))
        self.model.bulk_fit(parallel=False, progress_bar=False)
        self._items = int(past.items.max(initial=-1)) + 1

    def rank_one(self, user: int) -> list[int]:
        found = self.model.recommend(user, top_k=self._job.k, filter_interacted=self._job.seen == "filter")
        return [int(item) for item in found]

    def _event(self, user: int, item: int, time_ms: int, weight: float) -> list[tuple[int, int, float, float]]:
        return [(user, item, time_ms / 1000, weight if self._ratings else 1.0)]


class Slim(_Rtrec):
    """Interactions are live, similarities those of the block's begin."""

    def _new(self) -> Any:
        from rtrec.models import SLIM

        return SLIM(random_state=self._job.seed, **self._settings)

    def learn_one(self, user: int, item: int, time_ms: int, weight: float) -> None:
        event = self._event(user, item, time_ms, weight)
        if item < self._items:
            self.model.add_interactions(event)
        else:  # makes the matrix of similarities as large as the interactions are now
            self.model.fit(event, progress_bar=False)
            self._items = item + 1


class LightFM(_Rtrec):
    """Vectors and biases move with every event."""

    def _new(self) -> Any:
        from rtrec.models import LightFM as Model

        return Model(random_state=self._job.seed, n_threads=1, **self._settings)

    def learn_one(self, user: int, item: int, time_ms: int, weight: float) -> None:
        self.model.fit(self._event(user, item, time_ms, weight), progress_bar=False)


def recipes(job: Job) -> Mapping[str, Recipe]:
    """Start: rtrec's defaults, but with as many factors as the others have."""
    return {
        "slim": Recipe(
            Slim,
            {"alpha": 0.1, "l1_ratio": 0.1, "decay_in_days": None, "nn_feature_selection": None, "ratings": False},
            {
                "alpha": (0.5, 0.1, 0.03, 0.01, 0.003, 0.001),
                "l1_ratio": (0.01, 0.1, 0.5),
                "decay_in_days": (None, 1, 3, 10, 30),
                "nn_feature_selection": (None, 50, 200),
                "ratings": (False, True),
            },
        ),
        "lightfm": Recipe(
            LightFM,
            {"no_components": 64, "epochs": 10, "learning_rate": 0.05, "max_sampled": 10, "use_bias": True},
            {
                "epochs": (1, 3, 10, 30),
                "learning_rate": (0.02, 0.05, 0.1),
                "no_components": (16, 64, 128),
                "max_sampled": (10, 50),
                "use_bias": (True, False),
            },
        ),
    }


if __name__ == "__main__":
    import rtrec.models  # noqa: F401  here, so that no clock of a fit runs

    main(recipes, sys.argv[1], Path(sys.argv[2]))
