"""RecTools' SASRec and HSTU as peers: trained from scratch at every block, then frozen, while histories are live.

    python -m bench.peer_rectools sasrec|hstu FOLDER      # in the environment that bench.peers makes for it

Only the library's own `fit` and `recommend` are called, with a data set that holds what may be known: for training the
events before the block, for a question its user's events before it. A user without any event on a known item gets what
was most popular in training. Items that came after the training cannot be listed.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.peer_stream import Events, Job, Lists, Questions, Recipe, Settings, main

SAMPLED_FROM = 10_000
"""Items from which on the softmax is over sampled negatives."""


def pieces(users: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut each user's events into pieces from the newest back; each but his oldest begins where the one before ends.

    RecTools learns of each user the newest ``length`` + 1 events only. As users of their own, older pieces are learned
    too, and every event but a user's first is once a target.

    Returns:
        Rows of the events [m], and the piece of each [m], a number per user and piece.
    """
    order = np.argsort(users, kind="stable")
    ends = np.searchsorted(users[order], users[order], side="right")
    back = ends - 1 - np.arange(len(users))  # how many events of the user come after
    piece, twice = back // length, (back % length == 0) & (back > 0)
    rows = np.concatenate([order, order[twice]])
    numbers = np.concatenate([piece, piece[twice] - 1])
    _, codes = np.unique(np.stack([users[rows], numbers]), axis=1, return_inverse=True)
    chronological = np.argsort(rows, kind="stable")
    return rows[chronological], codes.ravel()[chronological]


class Transformer:
    """SASRec or HSTU."""

    def __init__(self, kind: str, settings: Settings, job: Job) -> None:
        self._kind, self._job, self._settings = kind, job, dict(settings)
        self._cut = self._settings.pop("pieces")
        self._model: Any = None
        self._popular: list[int] = []

    def fit(self, past: Events) -> None:
        from pytorch_lightning import seed_everything
        from rectools.dataset import Dataset

        seed_everything(self._job.seed, verbose=False)
        rows, users = np.arange(len(past)), past.users
        if self._cut:
            rows, users = pieces(past.users, self._settings["session_max_len"])
        self._model = self._new()
        with _quiet():
            self._model.fit(Dataset.construct(_frame(users, past.items[rows], past.times_ms[rows])))
        self._popular = np.argsort(-np.bincount(past.items), kind="stable")[: self._job.k + 1000].tolist()

    def _new(self) -> Any:
        from rectools.models import HSTUModel, SASRecModel

        settings: Settings = self._settings | {"recommend_torch_device": "cpu", "deterministic": True}
        temperature = settings.pop("temperature", None)
        if self._kind == "sasrec":
            return SASRecModel(**settings)
        return HSTUModel(**settings, lightning_module_kwargs={"logits_t": temperature})

    def rank(self, asked: Questions) -> Lists:
        import pandas as pd
        from rectools import Columns
        from rectools.dataset import Dataset

        job, numbers = self._job, asked.numbers
        lists: Lists = [[] for _ in range(len(asked))]
        with_past = np.unique(numbers)
        if len(with_past):
            context = None
            if self._model.require_recommend_context:
                context = _frame(with_past, with_past, asked.times_ms[with_past]).drop(columns=Columns.Item)
            with _quiet():
                found: pd.DataFrame = self._model.recommend(
                    users=with_past,
                    dataset=Dataset.construct(_frame(numbers, asked.past.items, asked.past.times_ms)),
                    k=job.k,
                    filter_viewed=job.seen == "filter",
                    on_unsupported_targets="ignore",
                    context=context,
                )
            found = found.sort_values([Columns.User, Columns.Rank])
            for question, item in zip(found[Columns.User].tolist(), found[Columns.Item].tolist(), strict=True):
                lists[question].append(item)
        return [one or self._most_popular(asked, question) for question, one in enumerate(lists)]

    def _most_popular(self, asked: Questions, question: int) -> list[int]:
        seen = asked.seen(question) if self._job.seen == "filter" else set()
        return [item for item in self._popular if item not in seen][: self._job.k]


def _frame(users: np.ndarray, items: np.ndarray, times_ms: np.ndarray) -> Any:
    import pandas as pd
    from rectools import Columns

    return pd.DataFrame(
        {
            Columns.User: users,
            Columns.Item: items,
            Columns.Weight: 1.0,
            Columns.Datetime: times_ms.astype("datetime64[ms]").astype("datetime64[ns]"),
        }
    )


def _quiet() -> Any:
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    logging.getLogger("lightning").setLevel(logging.ERROR)
    return warnings.catch_warnings(action="ignore")


def recipes(job: Job) -> Mapping[str, Recipe]:
    """Start: driftline's sizes; softmax over all items, or over sampled negatives where there are many."""
    start: Settings = {
        "n_factors": 64,
        "n_blocks": 2,
        "n_heads": 2,
        "session_max_len": 50,
        "pieces": True,
        "batch_size": 32,
        "epochs": 40,
        "lr": 1e-3,
        "dropout_rate": 0.2,
        "loss": "softmax",
    }
    if len(job.item_ids) >= SAMPLED_FROM:
        start |= {"loss": "sampled_softmax", "n_negatives": 256, "batch_size": 128, "session_max_len": 20, "epochs": 5}
    length = start["session_max_len"]
    grid = {
        "epochs": tuple(start["epochs"] * factor for factor in (0.5, 1, 2)),
        "lr": (3e-4, 1e-3, 3e-3),
        "dropout_rate": (0.1, 0.2, 0.4),
        "session_max_len": (length // 2, length, length * 2),
        "pieces": (True, False),
    }
    grid["epochs"] = tuple(round(value) for value in grid["epochs"])
    return {
        "sasrec": Recipe(partial(Transformer, "sasrec"), start, grid),
        "hstu": Recipe(
            partial(Transformer, "hstu"), start | {"temperature": 0.05}, {"temperature": (0.03, 0.05, 0.1)} | grid
        ),
    }


if __name__ == "__main__":
    import rectools.models  # noqa: F401  here, so that no clock of a fit runs
    import torch

    torch.set_num_threads(1)
    main(recipes, sys.argv[1], Path(sys.argv[2]))
