"""What an outsider reads of the demo's topics: the account of every event, the scores, one user's story.

A reader of committed records without a group; it serves nobody, so it may lag without harm. It knows which events
are live by their ids, which are their numbers in the stream.
"""

from __future__ import annotations

import heapq
import json
import time
from collections.abc import Mapping
from typing import Any

from evaluation.scoreboard import Scoreboard
from ops.audit import Audit, floats, parsed
from ops.demo.story import Story, look, tell
from ops.reader import Reader
from streams.names import Topics

_STORY_EVERY_S = 10.0
_CHECK_EVERY_S = 2.0
_CHECK_FOR_S = 0.02


class Judge:
    """Follows the topics of a demo.

    Args:
        reader: of the topics that `topic_names` gives, from their start.
        audit: the account to feed.
        titles: of the catalogue, by item.
        first_live: number of the first live event; earlier ones are learned and not scored.
    """

    def __init__(
        self, reader: Reader, topics: Topics, audit: Audit, titles: Mapping[str, str], first_live: int
    ) -> None:
        self._reader = reader
        self._topics = topics
        self._first_live = first_live
        self._titles = titles
        self._early: list[tuple[int, tuple[int, int], dict[str, Any]]] = []  # heap of events ahead of their turn
        self._turn = 0
        self._decisions: dict[str, dict[str, Any]] = {}  # each user's last
        self._told = self._checked = time.monotonic()
        self.audit = audit
        self.scoreboard = Scoreboard(titles)
        self.calibration: float | None = None
        self.release: str | None = None
        self.story: Story | None = None

    async def run(self) -> None:
        """Read and judge; never returns."""
        while True:
            for record in await self._reader.poll():
                self._take(record)
            if time.monotonic() > self._checked + _CHECK_EVERY_S:
                self.audit.propensities.run(_CHECK_FOR_S)
                self._checked = time.monotonic()

    def _take(self, record: Any) -> None:
        topics = self._topics
        message = parsed(topics, record)
        if record.topic == topics.models:
            self._model(message)
            return
        self.audit.take(record, message)
        if record.topic == topics.events:
            self._event(record)
        elif record.topic == topics.recommendations and message is not None:
            self.scoreboard.slate(record.partition, message["covers"], message["items"])
        elif record.topic == topics.decisions:
            logits = floats(message["logits_f32"])
            self.scoreboard.decision(record.partition, message["covers"], message["candidates"], logits)
            self._remember(message)

    def _event(self, record: Any) -> None:
        """Score or learn the events in the order of the stream: partitions are read one after the other."""
        try:
            event = json.loads(record.value)
            number = int(event["id"])
        except (ValueError, TypeError, KeyError):
            return  # somebody else's event
        heapq.heappush(self._early, (number, (record.partition, record.offset), event))
        while self._early and self._early[0][0] == self._turn:
            number, place, event = heapq.heappop(self._early)
            take = self.scoreboard.event if number >= self._first_live else self.scoreboard.learn
            take(place, event["user"], event["item"], event["time"])
            self._turn += 1

    def _remember(self, decision: dict[str, Any]) -> None:
        """Keep what the user is shown; tell his story when it is time for one and he was live."""
        if self._turn <= self._first_live:
            return
        before = self._decisions.get(decision["user"])
        self._decisions[decision["user"]] = decision
        if before is not None and decision["cause"]["item"] and time.monotonic() > self._told + _STORY_EVERY_S:
            self.story = tell(look(before), look(decision), self._titles)
            self._told = time.monotonic()

    def _model(self, message: dict[str, Any] | None) -> None:
        if message is not None and message["kind"] == "release":
            self.release = message["release"]
        elif message is not None and message["kind"] == "estimator":
            self.calibration = message["calibration_error"]


def topic_names(topics: Topics) -> list[str]:
    """The topics that a judge reads."""
    return [topics.events, topics.recommendations, topics.decisions, topics.events_dlq, topics.models]
