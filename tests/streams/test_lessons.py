"""What a round gives to the trainer: interactions, which of them wait for their slate, and the slates that closed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec

from models.batches import InteractionLog
from models.continual import Step
from models.shown import SlateLog
from streams.contracts import Interaction, encode
from streams.lessons import Lessons
from streams.rounds import RoundReader, user_code
from tests import small
from tests.streams.outcomes import outcomes
from tests.streams.test_rounds import Told, told


class Learning:
    """Keeps what it is given, in order."""

    def __init__(self) -> None:
        self.given: list[tuple[str, Any, Any]] = []
        self.trainer = SimpleNamespace(
            item_ids=["i1", "i2"],
            features=None,
            text_encoder="encoder",
            weigh=lambda users, items, weights: self.given.append(("weigh", items, weights)),
            learn_shown=lambda slates: self.given.append(("shown", slates, None)),
        )

    def learn(self, log: InteractionLog, answers: Any = None) -> Step:
        self.given.append(("learn", log, answers))
        return Step(1, len(log), 0.5)


def test_a_closed_slate_is_a_lesson_after_the_rounds_interactions_and_its_clicks_wait_for_it() -> None:
    clicked = Interaction("u", "i2", small.START, slate="0-1")
    outcome = msgspec.structs.replace(
        outcomes(1)[0], user="u", items=["i1", "i2", "gone"], rewards=[0.0, 1.0, 0.0], conditional=None,
        propensity=None, inclusion=None, pinned=[], swapped=[], origin="driftline",
    )  # fmt: skip
    learning, items = Learning(), SimpleNamespace(take=lambda *_: [])
    lessons = Lessons(learning, RoundReader(small.RULES), items)  # type: ignore[arg-type]
    events = {0: [told(clicked), told(Interaction("u", "i1", small.START))]}
    lessons.learn(events, {0: [Told(b"u", encode(outcome))]})  # type: ignore[dict-item]
    (first, log, answers), (second, slates, _) = learning.given
    assert (first, second) == ("learn", "shown")
    assert log.items.tolist() == [1, 0]
    assert answers.tolist() == [True, False]
    assert isinstance(slates, SlateLog)
    assert slates.users.tolist() == [user_code("u")]
    assert slates.items.tolist() == [[0, 1, -1]]
    assert slates.clicks.tolist() == [[False, True, False]]
