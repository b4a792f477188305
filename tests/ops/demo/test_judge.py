"""The judge: events are scored in the order of the stream though partitions are read one after the other."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from ops.audit import Audit
from ops.demo import judge as judging
from ops.demo.judge import Judge
from streams.names import Topics

TOPICS = Topics("demo.")
TITLES = {f"i{number}": f"Film {number}" for number in range(20)}


@dataclass
class Read:
    """A record as a consumer gives it."""

    topic: str
    partition: int
    offset: int
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


class Script:
    """A reader of prepared records."""

    def __init__(self, records: list[Read]) -> None:
        self._records = records

    async def poll(self) -> list[Read]:
        records, self._records = self._records, []
        await asyncio.sleep(0)
        return records


def event(number: int, user: str, item: str, partition: int, offset: int) -> Read:
    value = {"kind": "interaction", "user": user, "item": item, "time": number, "id": str(number)}
    return Read(TOPICS.events, partition, offset, json.dumps(value).encode())


def slate(partition: int, covers: list[int], items: list[str]) -> Read:
    cause = {"partition": partition, "offset": covers[-1]}
    value = {"slate": "s", "cause": cause, "covers": covers, "items": items, "propensity": None}
    return Read(TOPICS.recommendations, partition, 0, json.dumps(value).encode())


def decision(user: str, partition: int, covers: list[int], candidates: list[str]) -> Read:
    logits = np.arange(len(candidates), 0, -1).astype("<f4")
    columns = {"base_f32": logits, "correction_f32": np.zeros_like(logits), "logits_f32": logits}
    value: dict[str, Any] = {
        "user": user,
        "slate": "s",
        "cause": {"partition": partition, "offset": covers[-1], "item": "i1"},
        "covers": covers,
        "candidates": candidates,
        "injected": 0,
        "uniform": False,
        "chosen": [0],
        "temperature": 1.0,
        "epsilon": 0.0,
        **{name: base64.b64encode(column.tobytes()).decode() for name, column in columns.items()},
    }
    return Read(TOPICS.decisions, partition, 0, json.dumps(value).encode())


def model(**message: Any) -> Read:
    return Read(TOPICS.models, 0, 0, json.dumps(message).encode())


async def judged(records: list[Read], first_live: int = 0) -> Judge:
    judge = Judge(Script(records), TOPICS, Audit(TOPICS, {0: 0, 1: 0}), TITLES, first_live)  # type: ignore[arg-type]
    running = asyncio.create_task(judge.run())
    for _ in range(4):
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return judge


async def test_events_take_their_turn_across_partitions() -> None:
    learned: list[str] = []
    records = [event(1, "bert", "i1", 1, 0), event(3, "bert", "i3", 1, 1), event(0, "anna", "i0", 0, 0)]
    judge = Judge(Script([]), TOPICS, Audit(TOPICS, {0: 0, 1: 0}), TITLES, 2)  # type: ignore[arg-type]
    judge.scoreboard.learn = lambda place, user, item, time: learned.append(f"learn {item}")  # type: ignore[method-assign]
    judge.scoreboard.event = lambda place, user, item, time: learned.append(f"score {item}")  # type: ignore[method-assign]
    for record in records:
        judge._take(record)
    assert learned == ["learn i0", "learn i1"]
    judge._take(event(2, "anna", "i2", 0, 1))
    assert learned == ["learn i0", "learn i1", "score i2", "score i3"]


async def test_slates_are_scored_and_every_event_is_accounted_for() -> None:
    records = [
        event(0, "anna", "i0", 0, 0),
        slate(0, [0], ["i5"]),
        decision("anna", 0, [0], ["i5", "i6"]),
        event(1, "anna", "i5", 0, 1),
        Read(TOPICS.events, 1, 0, b"not ours"),
    ]
    judge = await judged(records)
    assert judge.scoreboard.overall.events == 1
    assert judge.scoreboard.overall.hit_rate["driftline"] == 1
    account = judge.audit.ledger.account()
    assert (account.events, account.slates, account.lost) == (3, 1, [(0, 1), (1, 0)])
    assert judge.audit.propensities.result.decisions == 1


async def test_release_and_calibration_are_the_latest() -> None:
    judge = await judged(
        [
            model(kind="release", release="r1"),
            model(kind="estimator", calibration_error=0.25),
            model(kind="release", release="r2"),
            Read(TOPICS.models, 0, 3, None),
        ]
    )
    assert (judge.release, judge.calibration) == ("r2", 0.25)


async def test_a_story_is_told_when_it_is_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "_STORY_EVERY_S", -1.0)
    records = [
        event(0, "anna", "i0", 0, 0),
        decision("anna", 0, [0], ["i5", "i6"]),
        decision("bert", 1, [0], ["i5", "i6"]),
        event(1, "anna", "i1", 0, 1),
        decision("anna", 0, [1], ["i7", "i6"]),
    ]
    story = (await judged(records, first_live=-1)).story
    assert story is not None
    assert (story.user, [change.title for change in story.came]) == ("anna", ["Film 7"])
