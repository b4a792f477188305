"""The baselines by name, with the grids that they are tuned over. docs/evaluation.md has their formulas."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from evaluation.tuning import Recipe
from models.baselines import LastItemTransitions, LastTenDirected, RecentPopularity, WindowedCoOccurrence
from models.config import Float32
from models.content import ContentOnly
from models.factorisation import IncrementalFactorisation

LEARNED = ("frozen", "online", "retrain")
COUNTED = ("popularity", "last_item", "last_10", "co_occurrence_plain", "co_occurrence", "isgd")
CONTENT = "content"
ARMS = (*LEARNED, *COUNTED, CONTENT)

_HALF_LIVES = (1_000, 3_000, 10_000, 30_000, 100_000, 400_000)


def recipes(ids: Sequence[str], text: Float32 | None, *, repeats: bool, seed: int) -> dict[str, Recipe]:
    """The baselines: those that need no text, and one that does where there is some.

    Args:
        ids: of the n items that have a text.
        text: [n, t] their vectors, None when there are none.
        repeats: whether an item may be recommended again, so that a bonus for repeats is tuned too.
        seed: of what starts at random.
    """
    found = [
        Recipe("popularity", RecentPopularity, {"half_life": 10_000}, {"half_life": _HALF_LIVES}),
        Recipe("last_item", LastItemTransitions, {"half_life": 30_000}, {"half_life": _HALF_LIVES}),
        Recipe(
            "last_10",
            LastTenDirected,
            {"decay": 0.8, "half_life": 30_000},
            {"decay": (0.5, 0.65, 0.8, 0.9, 1.0), "half_life": _HALF_LIVES},
        ),
        _plain(repeats),
        _co_occurrence(repeats),
        Recipe(
            "isgd",
            partial(IncrementalFactorisation, seed=seed),
            {"dim": 64, "rate": 0.1, "regularisation": 0.01, "passes": 1},
            {
                "rate": (0.02, 0.05, 0.1, 0.2, 0.4),
                "passes": (1, 2, 4, 8),
                "regularisation": (0.0, 0.01, 0.03, 0.1),
                "dim": (16, 32, 64, 128),
            },
        ),
    ]
    if text is not None:
        make = partial(ContentOnly, ids, text)
        found.append(
            Recipe(
                CONTENT,
                make,
                {"window": 10, "decay": 0.8},
                {"window": (1, 3, 10, 30), "decay": (0.5, 0.7, 0.8, 0.9, 1.0)},
            )
        )
    return {recipe.name: recipe for recipe in found}


def _plain(repeats: bool) -> Recipe:
    """One window and one decay to count by and to read by, over the square root of the item's own count."""
    start = {"window": 20, "decay": 0.9, "half_life": 20_000, "source_power": 0.0, "target_power": 0.5}
    grid = {"window": (10, 20), "decay": (0.8, 0.9), "half_life": (20_000, 30_000)}
    return _with_repeats(Recipe("co_occurrence_plain", WindowedCoOccurrence, start, grid), repeats, ())


def _co_occurrence(repeats: bool) -> Recipe:
    """Everything that can be tuned."""
    start = {
        "window": 20,
        "decay": 0.85,
        "read_window": 20,
        "read_decay": 0.85,
        "half_life": 30_000,
        "source_power": 0.25,
        "target_power": 0.35,
        "backward": 1.0,
    }
    grid = {
        "window": (5, 10, 20, 50),
        "decay": (0.5, 0.65, 0.8, 0.85, 0.9, 0.95),
        "read_window": (5, 10, 20),
        "read_decay": (0.5, 0.65, 0.8, 0.85, 0.9),
        "half_life": (10_000, 30_000, 100_000, 400_000),
        "target_power": (0.0, 0.2, 0.35, 0.5, 0.75),
        "source_power": (0.0, 0.25, 0.5, 1.0),
        "backward": (0.0, 0.5, 0.75, 1.0),
    }
    return _with_repeats(Recipe("co_occurrence", WindowedCoOccurrence, start, grid), repeats, (False, True))


def _with_repeats(recipe: Recipe, repeats: bool, self_pairs: tuple[bool, ...]) -> Recipe:
    """The same, with what is only of use where items may be recommended again."""
    if not repeats:
        return recipe
    grid = {**recipe.grid, "repeat_bonus": (0.0, 0.1, 0.25, 0.5, 1.0)}
    if self_pairs:
        grid["self_pairs"] = self_pairs
    return Recipe(recipe.name, recipe.make, {**recipe.start, "repeat_bonus": 0.25}, grid)
