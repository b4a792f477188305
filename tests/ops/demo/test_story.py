"""A user's story: what came and went is named, and the reason fits the numbers."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from ops.demo.story import look, tell

TITLES = {f"i{number}": f"Film {number}" for number in range(20)}
K = 2


def decision(
    scores: dict[str, tuple[float, float]],
    slate: Sequence[str],
    did: str = "i0",
    injected: int = 0,
    uniform: bool = False,
    company: dict[str, float] | None = None,
    arranged: dict[str, float] | None = None,
) -> dict[str, Any]:
    """A decision over the candidates of `scores`: base and correction; the last `injected` were drawn evenly.

    `company` of the base comes from counts, in two terms; `arranged` is added by intention, in two adjustments.
    """
    candidates: list[str | None] = [None, *scores]  # an empty column first
    base = np.array([-np.inf, *(pair[0] for pair in scores.values())], np.float32)
    correction = np.array([0, *(pair[1] for pair in scores.values())], np.float32)
    counted = np.array([0, *((company or {}).get(item, 0.0) for item in scores)], np.float32)
    terms = {"near": 2 * counted, "popularity": -counted, "model": base - counted}
    added = np.array([0, *((arranged or {}).get(item, 0.0) for item in scores)], np.float32)
    adjustments = {"diversity": 2 * added, "fatigue": -added}
    columns = {"base_f32": base, "correction_f32": correction, "logits_f32": base + correction + added}
    return {
        "user": "anna",
        "cause": {"item": did},
        "covers": [7, 8],
        "candidates": candidates,
        "injected": injected,
        "uniform": uniform,
        "chosen": [candidates.index(item) for item in slate],
        "terms": {name: base64.b64encode(term.tobytes()).decode() for name, term in terms.items()},
        "adjustments": {name: base64.b64encode(term.tobytes()).decode() for name, term in adjustments.items()},
        **{name: base64.b64encode(column.tobytes()).decode() for name, column in columns.items()},
    }


BEFORE = {"i1": (5.0, 0.0), "i2": (4.0, 0.0), "i3": (3.0, 0.0), "i4": (2.0, 0.0), "i5": (1.0, 0.0)}


def reasons(before: dict[str, Any], after: dict[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    story = tell(look(before), look(after), TITLES)
    came, went = ({change.title: change.why for change in changes} for changes in (story.came, story.went))
    return came, went


def test_taste_moves_one_in_and_one_out() -> None:
    after = decision({**BEFORE, "i4": (6.0, 0.0)}, ["i4", "i1"], did="i9")
    story = tell(look(decision(BEFORE, ["i1", "i2"])), look(after), TITLES)
    assert (story.user, story.title, story.others, story.place) == ("anna", "Film 9", 1, None)
    (came,), (went,) = story.came, story.went
    assert (came.title, came.position, came.why) == ("Film 4", 1, "closer to the taste now")
    assert came.before is not None and came.after is not None
    assert (came.before.base, came.before.rank, came.after.base, came.after.rank) == (2.0, 4, 6.0, 1)
    assert (went.title, went.position, went.why) == ("Film 2", None, "others are closer to the taste now")


def test_what_was_taken_from_the_slate_is_gone() -> None:
    scores = {item: terms for item, terms in BEFORE.items() if item != "i2"}
    after = decision(scores, ["i1", "i3"], did="i2")
    story = tell(look(decision(BEFORE, ["i1", "i2"])), look(after), TITLES)
    assert (story.place, story.went[0].why) == (2, "just seen")


def test_the_correction_is_named_when_it_moved_the_score() -> None:
    after = decision({**BEFORE, "i4": (2.0, 4.0), "i2": (4.0, -3.5)}, ["i4", "i1"])
    came, went = reasons(decision(BEFORE, ["i1", "i2"]), after)
    assert came == {"Film 4": "shown less often of late than its rivals"}
    assert went == {"Film 2": "shown more often of late than its rivals"}


def test_company_is_named_when_it_moved_the_score() -> None:
    before = decision(BEFORE, ["i1", "i2"], company={"i2": 1.0})
    after = decision({**BEFORE, "i4": (6.0, 0.5), "i2": (2.5, 0.0)}, ["i4", "i1"], company={"i4": 3.5})
    came, went = reasons(before, after)
    assert came == {"Film 4": "goes better with what was done last"}
    assert went == {"Film 2": "others go better with what was done last"}
    terms = look(after).candidates["i4"]
    assert (terms.base, terms.company, terms.taste) == (6.0, 3.5, 2.5)


def test_a_decision_from_before_there_were_terms_is_all_taste() -> None:
    old = decision(BEFORE, ["i1", "i2"])
    del old["terms"]
    terms = look(old).candidates["i3"]
    assert (terms.taste, terms.company) == (3.0, 0.0)


@pytest.mark.parametrize(
    ("after", "came", "went"),
    [
        (decision(BEFORE, ["i1", "i5"]), "its score alone", "its score is still good enough"),
        (decision(BEFORE, ["i1", "i5"], uniform=True), "drawn evenly from all", "drawn evenly from all"),
        (decision(BEFORE, ["i1", "i5"], injected=1), "from the whole catalogue", "its score is still good enough"),
    ],
)
def test_luck_is_called_luck(after: dict[str, Any], came: str, went: str) -> None:
    story = tell(look(decision(BEFORE, ["i1", "i2"])), look(after), TITLES)
    for change, says in ((story.came[0], came), (story.went[0], went)):
        assert change.why.startswith("luck of the draw") and says in change.why


def test_luck_that_ends_and_luck_that_was_against_it() -> None:
    came, went = reasons(decision(BEFORE, ["i1", "i5"]), decision(BEFORE, ["i1", "i2"]))
    assert came == {"Film 2": "luck of the draw: its score was good enough before"}
    assert went == {"Film 5": "luck of the draw had brought it in"}


def test_candidates_come_and_go() -> None:
    scores = {**BEFORE, "i8": (9.0, 0.0)}
    del scores["i2"]
    came, went = reasons(decision(BEFORE, ["i1", "i2"]), decision(scores, ["i8", "i1"]))
    assert came == {"Film 8": "new among the candidates"}
    assert went == {"Film 2": "no longer among the candidates"}


def test_the_arrangement_is_named_when_it_moved_the_score() -> None:
    before = decision(BEFORE, ["i1", "i2"], arranged={"i4": -2.0})
    after = decision(BEFORE, ["i4", "i1"], arranged={"i4": 4.0, "i2": -4.0})
    came, went = reasons(before, after)
    assert came == {"Film 4": "less held back for variety, proportion or fatigue"}
    assert went == {"Film 2": "more held back for variety, proportion or fatigue"}
