"""SARDINE (Deffayet et al., 2024), a simulator that others made, as a world for the arms of `driftline simulate`.

    .venv/bin/uv pip install --python .venv/bin/python '.[sardine]'
    python -m bench.sardine --runs sardine.jsonl --json sardine.json        # and again, to go on after a kill

Its users tire of topics (five clicks on one topic and nothing is wanted for five slates), are drawn towards what they
clicked, and click by position. The adapter is thin: one environment a user, all side by side; relevance is computed as
its `step` does. Items are known by their id and main topic. The first slates of everybody are random, and what was
clicked there is what every arm starts from. Luck is its own generator's, seeded alike in all arms.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from evaluation.simulation.arms import ARMS
from evaluation.simulation.clicks import Floats
from evaluation.simulation.study import play
from evaluation.simulation.world import Ints, Response


class SardineWorld:
    """See the module; an `Environment`. `make()` gives one SARDINE environment, unwrapped."""

    def __init__(self, make: Any, users: int, ticks: int, random_slates: int, seed: int) -> None:
        self._envs = [make() for _ in range(users)]
        first = self._envs[0]
        self.ticks, self.k = ticks, first.slate_size
        self.topic: Ints = np.asarray(first.item_comp, np.int64)
        self.text = np.empty((len(self.topic), 0), np.float32)
        self.group: Ints = np.zeros(users, np.int64)
        for number, env in enumerate(self._envs):
            env.reset(seed=seed * 10_000 + number)
        self._history = self._shown_at_random(random_slates, np.random.default_rng(seed))

    @property
    def known(self) -> int:
        return len(self.topic)

    def history(self) -> tuple[Ints, Ints]:
        return self._history

    def begin(self) -> Ints:
        return np.arange(len(self._envs))

    def relevance(self, users: Ints) -> Floats:
        """[n, items], as SARDINE's `step` works it out."""
        first = self._envs[0]
        tastes = np.stack([self._envs[user].cur_user_embedd for user in users.tolist()])
        scores = tastes @ first.item_embedd.T / first.max_score
        relevance: Floats = 1 / (1 + np.exp(-(scores - first.offset) * first.slope))
        if first.rel_penalty:
            relevance *= 0.5 ** np.array([[self._envs[user].bored.sum()] for user in users.tolist()])
        return relevance

    def value(self, users: Ints, slates: Ints) -> Floats:
        return self._worth(self.relevance(users)[np.arange(len(users))[:, None], slates], slates)

    def show(self, users: Ints, slates: Ints) -> Response:
        relevance, rows = self.relevance(users), np.arange(len(users))[:, None]
        ideal = np.argsort(-relevance, axis=1)[:, : self.k]
        reward = self._worth(relevance[rows, slates], slates)
        best = self._worth(relevance[rows, ideal], ideal)
        steps = [self._envs[user].step(slate)[4] for user, slate in zip(users.tolist(), slates, strict=True)]
        clicks = np.stack([step["clicks"] for step in steps]) > 0
        return Response(clicks, reward, np.maximum(best, reward), np.ones(len(users), np.bool_))

    def _worth(self, relevance: Floats, slates: Ints) -> Floats:
        """[n] expected clicks: less where a slate has too much of one topic."""
        env = self._envs[0]
        most = np.array([np.bincount(topics).max() for topics in self.topic[slates]])
        penalty = np.where(most >= env.diversity_threshold, env.diversity_penalty, 1.0)
        worth: Floats = env.alpha * (relevance * env.propensities).sum(axis=1) / penalty
        return worth

    def _shown_at_random(self, slates: int, random: np.random.Generator) -> tuple[Ints, Ints]:
        users, items = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        everybody = self.begin()
        for _ in range(slates):
            shown = np.argsort(random.random((len(everybody), len(self.topic))), axis=1)[:, : self.k]
            row, place = np.nonzero(self.show(everybody, shown).clicks)
            users.append(row)
            items.append(shown[row, place])
        return np.concatenate(users), np.concatenate(items)


@dataclass(frozen=True, slots=True)
class SardineStudy:
    """One of SARDINE's environments with slates."""

    name: str
    seeds: Sequence[int]
    arms: Sequence[str]
    users: int
    ticks: int
    random_slates: int = 10
    first_items: int = 1000

    def named(self) -> dict[str, Any]:
        """As in `Plan`."""
        sizes = {"users": self.users, "ticks": self.ticks, "random_slates": self.random_slates}
        return {"clicks": f"sardine/{self.name}", **sizes}

    def environment(self, seed: int) -> SardineWorld:
        """As in `Plan`."""
        import gymnasium
        import sardine  # noqa: F401  registers its environments

        def make() -> Any:
            return gymnasium.make(f"sardine/{self.name}").unwrapped

        return SardineWorld(make, self.users, self.ticks, self.random_slates, seed)


def main(
    runs: Annotated[Path, typer.Option(help="A line of JSON for each run; what is there is not run again.")],
    json_file: Annotated[Path | None, typer.Option("--json", help="Write means, intervals and curves here.")] = None,
    arms: Annotated[str, typer.Option(help="Which, by comma.")] = ",".join(ARMS),
    name: Annotated[str, typer.Option(help="SARDINE's environment.")] = "SlateTopK-Uncertain-v0",
    seeds: Annotated[int, typer.Option(help="How many.", min=1)] = 10,
    first_seed: Annotated[int, typer.Option(help="Of those; tuning was on seeds below 100.", min=0)] = 100,
    users: Annotated[int, typer.Option(help="Side by side.", min=1)] = 100,
    ticks: Annotated[int, typer.Option(help="Slates of each user, at most 90.", min=1, max=90)] = 80,
    seconds: Annotated[float, typer.Option(help="Begin no run after so long; the same command goes on.")] = float(
        "inf"
    ),
) -> None:
    """Play the arms in SARDINE."""
    import torch

    from ops.commands.simulate import follow, show

    torch.set_num_threads(1)
    study = SardineStudy(name, range(first_seed, first_seed + seeds), arms.split(","), users, ticks)
    found = play(study, runs, follow, seconds)
    if found is None:
        raise typer.Exit(3)
    if json_file is not None:
        json_file.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    show(found)


if __name__ == "__main__":
    typer.run(main)
