import pytest

from evaluation.tuning import Recipe, tune
from models.baselines import RecentPopularity
from tests.evaluation.streams import stream


class Lucky:
    """Right when its setting is 3, and worse the farther away it is."""

    def __init__(self, guess: float, idle: int = 0) -> None:
        self.guess = guess

    def learn_one(self, user: str, item: str, time_ms: int) -> None: ...

    def rank(self, user: str, k: int, exclude_seen: bool) -> list[str]:
        return ["x", "y", "z"][round(abs(self.guess - 3)) :] if self.guess < 6 else []


def test_the_best_of_the_grid_is_found_on_the_warm_up_alone() -> None:
    """After the warm-up everything is y; a search that looked there would choose another setting."""
    events = stream("\n".join(["a z", "a x", "b y", *["c x"] * 10, *["d y"] * 100]))
    tuned = tune(Recipe("lucky", Lucky, {"guess": 5}, {"guess": (2, 3, 5, 7)}), events, 13, k=3, exclude_seen=False)
    assert tuned.settings == {"guess": 3}
    assert {one["guess"]: value for one, value in tuned.trials}[3] == pytest.approx(1)
    assert len(tuned.trials) == 4


def test_settings_are_tried_once() -> None:
    events = stream("\n".join(f"u{at} {'xyz'[at % 3]}" for at in range(40)))
    recipe = Recipe("lucky", Lucky, {"guess": 1, "idle": 0}, {"guess": (1, 2), "idle": (0, 1)})
    tried = []
    tuned = tune(recipe, events, 30, k=3, exclude_seen=True, progress=tried.append)
    keys = [tuple(one.items()) for one, _ in tuned.trials]
    assert len(keys) == len(set(keys)) == tried[-1] <= 4
    assert tuned.settings["idle"] == 0  # among equals what is in force stays


def test_a_real_baseline_finds_its_half_life() -> None:
    """What is popular changes every twelve events."""
    events = stream("\n".join(f"u{at} i{at // 12}" for at in range(400)))
    recipe = Recipe("popularity", RecentPopularity, {"half_life": 1000}, {"half_life": (2, 1000)})
    assert tune(recipe, events, 300, k=1, exclude_seen=True).settings == {"half_life": 2}
