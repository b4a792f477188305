"""What a peer may see of a stream, and how it is played: block by block, every event predicted before it is shown.

A run is a folder: `stream.npz` and `job.json` say what is to be played, and each peer writes its trials, its blocks and
in the end its predictions into a folder of its own. What is there is not done again, so that a run which was killed
goes on with the block it was in. Runs in the peers' own environments: knows NumPy, nothing of driftline or of a peer.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

Settings = dict[str, Any]
Lists = list[list[int]]
"""Rows of items, best first, for one event after the other."""

AT_ONCE = 2_000
"""Questions that a peer with frozen weights is asked in one go."""


@dataclass(frozen=True, eq=False)
class Events:
    """n events in order: rows of users and items [n], times in milliseconds [n], weights [n]."""

    users: np.ndarray
    items: np.ndarray
    times_ms: np.ndarray
    weights: np.ndarray

    def __len__(self) -> int:
        return len(self.users)

    def take(self, rows: slice | np.ndarray) -> Events:
        """Some of them, copied: what a peer is given holds no view of the rest."""
        return Events(*(np.array(column[rows]) for column in (self.users, self.items, self.times_ms, self.weights)))


@dataclass(frozen=True, eq=False)
class Questions:
    """What will each of these users take next?

    Attributes:
        users: [n] rows.
        times_ms: [n] when each is asked.
        past: the events of question i's user before it are `past` from ``starts[i]`` to before ``starts[i + 1]``,
            oldest first.
        starts: [n + 1].
    """

    users: np.ndarray
    times_ms: np.ndarray
    past: Events
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.users)

    @property
    def numbers(self) -> np.ndarray:
        """[events of `past`] the question that each belongs to."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    def seen(self, question: int) -> set[int]:
        """Items that the user has met."""
        return set(self.past.items[self.starts[question] : self.starts[question + 1]].tolist())


class Histories:
    """For every event of a stream, what its user did before."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._order = np.argsort(events.users, kind="stable")  # by user; a user's own from the oldest on
        self._place = np.empty(len(events), np.int64)
        self._place[self._order] = np.arange(len(events))
        self._first = np.searchsorted(events.users[self._order], events.users)

    def questions(self, begin: int, end: int, ask_time: str) -> Questions:
        """The questions that events from ``begin`` to before ``end`` answer.

        ``ask_time``: "event", a user is asked for when he comes, at the time of the event that answers; or "stream",
        at the time of the newest event of anybody before it.
        """
        events, asked = self._events, np.arange(begin, end)
        rows = [self._order[self._first[event] : self._place[event]] for event in asked]
        starts = np.concatenate([[0], np.cumsum([len(one) for one in rows], dtype=np.int64)])
        past = events.take(np.concatenate([np.empty(0, np.int64), *rows]))
        when = asked if ask_time == "event" else np.maximum(asked - 1, 0)
        return Questions(events.users[asked], events.times_ms[when], past, starts)


class Frozen(Protocol):
    """A peer whose weights stay as they are until it is made anew; what users did reaches it with the question."""

    def fit(self, past: Events) -> None:
        """Learn from scratch all there was so far."""

    def rank(self, asked: Questions) -> Lists:
        """The best items for each question."""


class OneByOne(Protocol):
    """A peer that learns every event by itself."""

    def fit(self, past: Events) -> None:
        """Learn from scratch all there was so far."""

    def rank_one(self, user: int) -> list[int]:
        """The best items for the user now."""

    def learn_one(self, user: int, item: int, time_ms: int, weight: float) -> None:
        """Take in one more event."""


@dataclass(frozen=True)
class Job:
    """What is to be played.

    Attributes:
        cut: number of the first test event.
        every: events after which a peer is made anew.
        k: length of the lists.
        seen: "filter", what the user has met is not listed, or "keep".
        ask_time: see `Histories.questions`.
        seed: of all that is random.
        most_learned, most_scored: of a trial while settings are searched.
        tune: whether settings are searched.
        digest: of the stream.
        item_ids: by row.
    """

    cut: int
    every: int
    k: int
    seen: str
    ask_time: str
    seed: int
    most_learned: int
    most_scored: int
    tune: bool
    digest: str
    item_ids: Sequence[str] = field(repr=False)

    def blocks(self, size: int) -> list[tuple[int, int]]:
        """Begin and end of each block; what is left over after the last, if it is under half a block, goes with it."""
        count = max(1, math.floor((size - self.cut) / self.every + 0.5))
        begins = [self.cut + self.every * block for block in range(count)]
        return list(zip(begins, [*begins[1:], size], strict=True))


Make = Callable[[Settings, Job], Frozen | OneByOne]


@dataclass(frozen=True)
class Recipe:
    """A peer, where the search for its settings begins, and the values that each may take."""

    make: Make
    start: Settings
    grid: Mapping[str, Sequence[Any]]


def main(recipes: Callable[[Job], Mapping[str, Recipe]], name: str, folder: Path) -> None:
    """Tune and play one peer of the run in `folder`; say on standard output how it goes."""
    job = Job(**json.loads((folder / "job.json").read_text()))
    with np.load(folder / "stream.npz") as columns:
        events = Events(*(columns[one] for one in ("users", "items", "times_ms", "weights")))
    recipe, own = recipes(job)[name], folder / name
    own.mkdir(exist_ok=True)

    def say(what: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {name}: {what}", flush=True)

    settings = search(recipe, events.take(slice(0, job.cut)), job, own, say) if job.tune else dict(recipe.start)
    write(own / "settings.json", json.dumps(settings))
    blocks = job.blocks(len(events))
    for number, (begin, end) in enumerate(blocks, 1):
        if not (own / f"{begin:09}.jsonl").exists():
            played(recipe.make(settings, job), events.take(slice(0, end)), begin, job, own, say)
        say(f"block {number} of {len(blocks)}, events {begin} to {end}: {(own / f'{begin:09}.json').read_text()}")
    write(own / "predictions.jsonl", "".join((own / f"{begin:09}.jsonl").read_text() for begin, _ in blocks))
    say(f"done: {own / 'predictions.jsonl'}")


def played(
    peer: Frozen | OneByOne, events: Events, begin: int, job: Job, own: Path, say: Callable[[str], None]
) -> None:
    """Play the events from ``begin`` on, and write the lists and the CPU seconds they took."""
    lists, seconds = play(peer, events, begin, job, say)
    lines = []
    for at, one in enumerate(lists):
        topk = [job.item_ids[row] for row in one]
        lines.append(json.dumps({"event": begin + at, "topk": topk}, ensure_ascii=False) + "\n")
    write(own / f"{begin:09}.json", json.dumps(seconds))
    write(own / f"{begin:09}.jsonl", "".join(lines))  # last: it says that the block is done


def play(
    peer: Frozen | OneByOne, events: Events, begin: int, job: Job, say: Callable[[str], None], first: int = 0
) -> tuple[Lists, dict[str, float]]:
    """Fit on the events from ``first`` to before ``begin``, predict each one from there on; lists, CPU seconds."""
    seconds = dict.fromkeys(("fit", "rank", "learn"), 0.0)
    with _Clock(seconds, "fit"):
        peer.fit(events.take(slice(first, begin)))
    answers = _one_by_one if hasattr(peer, "learn_one") else _frozen
    lists: Lists = []
    told = time.monotonic()
    for some in answers(peer, events, begin, job, seconds):
        lists += [one[: job.k] for one in some]
        if time.monotonic() > told + 60:
            told = time.monotonic()
            say(f"{len(lists)} of {len(events) - begin} events from {begin} on")
    return lists, {what: round(value, 3) for what, value in seconds.items()}


def _frozen(peer: Any, events: Events, begin: int, job: Job, seconds: dict[str, float]) -> Iterator[Lists]:
    histories = Histories(events)
    for at in range(begin, len(events), AT_ONCE):
        asked = histories.questions(at, min(at + AT_ONCE, len(events)), job.ask_time)
        with _Clock(seconds, "rank"):
            lists = peer.rank(asked)
        yield lists


def _one_by_one(peer: Any, events: Events, begin: int, job: Job, seconds: dict[str, float]) -> Iterator[Lists]:
    columns = (events.users, events.items, events.times_ms, events.weights)
    for user, item, time_ms, weight in zip(*(column[begin:].tolist() for column in columns), strict=True):
        with _Clock(seconds, "rank"):
            ranked = peer.rank_one(user)
        yield [ranked]
        with _Clock(seconds, "learn"):
            peer.learn_one(user, item, time_ms, weight)


class _Clock:
    """Adds the CPU time of what it surrounds."""

    def __init__(self, seconds: dict[str, float], what: str) -> None:
        self._seconds, self._what = seconds, what

    def __enter__(self) -> None:
        self._since = time.process_time()

    def __exit__(self, *error: object) -> None:
        self._seconds[self._what] += time.process_time() - self._since


# -- settings -------------------------------------------------------------------------------------------


def search(recipe: Recipe, warm_up: Events, job: Job, own: Path, say: Callable[[str], None]) -> Settings:
    """One setting at a time over its grid, the others at their best so far, by NDCG on the last half of the warm-up.

    A peer is fitted once, on what comes before that half. Every trial is written down, and is not made again.
    """
    log = own / "trials.jsonl"
    known = {_key(one["settings"]): one for one in map(json.loads, _lines(log))}
    scored = max(1, min(len(warm_up) // 2, job.most_scored))
    begin = len(warm_up) - scored

    def score(settings: Settings) -> float:
        key = _key(settings)
        if key not in known:
            first = max(0, begin - job.most_learned)
            lists, seconds = play(recipe.make(settings, job), warm_up, begin, job, say, first)
            known[key] = {"settings": settings, "ndcg": ndcg(lists, warm_up.items[begin:]), "seconds": seconds}
            with log.open("a") as file:
                file.write(json.dumps(known[key]) + "\n")
            say(f"trial {len(known)}: {json.dumps(known[key])}")
        return float(known[key]["ndcg"])

    best = dict(recipe.start)
    for name, values in recipe.grid.items():
        best = max([best, *({**best, name: value} for value in values)], key=score)
    return best


def ndcg(lists: Lists, items: np.ndarray) -> float:
    """Mean of 1 / log2(1 + rank) of the items in their lists, 0 where they are not in them."""
    gains = [
        1 / math.log2(2 + ranked.index(item)) if item in ranked else 0.0
        for ranked, item in zip(lists, items.tolist(), strict=True)
    ]
    return sum(gains) / len(gains)


def _key(settings: Settings) -> str:
    return json.dumps(settings, sort_keys=True)


def _lines(path: Path) -> list[str]:
    """Whole lines of a file; one that a killed process left unfinished is cut off."""
    if not path.exists():
        return []
    whole, _, rest = path.read_text().rpartition("\n")
    if rest:
        write(path, whole + "\n" if whole else "")
    return whole.splitlines()


def write(path: Path, text: str) -> None:
    """At once or not at all."""
    aside = path.with_name(f".{path.name}.part")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)
