"""What goes with what, and how often lately: learned event by event, in rows of bounded length.

Two items that one user took within a few events of each other are a pair. A channel says what a pair counts, by how
far apart the two were and which came first; counts fade with a half-life in events. A table is a channel as it is
read: divided by powers of both items' own counts. Each item keeps its ``neighbours`` strongest pairs; what else there
was is forgotten. Knows nothing of users (see models/recent.py), models or streams.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from models import sections
from models.config import Float32, Int64
from models.cooccurrence import ServingCounts
from models.fading import FadingCounts
from models.liked import Liked
from models.neighbours import NeighbourLists
from models.sections import ITSELF

Arrays = dict[str, npt.NDArray[Any]]

LEARNED, LIKED = "learned", "liked"

CORRECTED = 64
"""Events corrected for at a time: their candidates are spread over all items."""

BLOCK = 256
"""Events counted at a time, however many are given: which pairs a full row drops depends on it."""

_RESCALE_AT = 2.0**40


@dataclass(frozen=True, slots=True)
class Channel:
    """What a pair counts: ``decay`` to the power of the events between, times ``forward`` in the row of the earlier
    item and ``backward`` in that of the later one; nothing beyond ``window`` events; half after ``half_life`` events,
    at least 10.

    Raises:
        ValueError: a field is outside its range.
    """

    window: int = 50
    decay: float = 0.95
    half_life: float = 40_000
    forward: float = 1.0
    backward: float = 1.0

    def __post_init__(self) -> None:
        _at_least("Channel.window", self.window, 1)
        _at_least("Channel.half_life", self.half_life, 10)
        for name in ("decay", "forward", "backward"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"Channel.{name} is {getattr(self, name)}, expected 0 to 1")


@dataclass(frozen=True, slots=True)
class Table:
    """How a channel is read.

    Attributes:
        channel: its name.
        own_power, other_power: pairs are divided by the counts of the row's item and of its neighbour to these powers.
        read: how many of a user's last items are looked up.
        read_decay: what an item counts there, to the power of the events after it.
        floor: the sum at which the logarithm of the feature begins to rise (see models/blend.py).

    Raises:
        ValueError: a field is outside its range.
    """

    channel: str
    own_power: float = 0.25
    other_power: float = 0.35
    read: int = 20
    read_decay: float = 0.8
    floor: float = 0.05

    def __post_init__(self) -> None:
        _at_least("Table.read", self.read, 1)
        _positive("Table.floor", self.floor)


@dataclass(frozen=True, slots=True)
class Learned:
    """A table that is learned and not counted: what the rest of the blend gets wrong about pairs.

    Attributes:
        rate: of its gradient steps.
        read, read_decay: as for a table.

    Raises:
        ValueError: a field is outside its range.
    """

    rate: float = 0.03
    read: int = 20
    read_decay: float = 0.95

    def __post_init__(self) -> None:
        _positive("Learned.rate", self.rate)
        _at_least("Learned.read", self.read, 1)

    @property
    def ages(self) -> Float32:
        """What the item of a user's j-th newest event counts."""
        ages: Float32 = (self.read_decay ** np.arange(self.read)).astype(np.float32)
        return ages


def _channels() -> dict[str, Channel]:
    return {"near": Channel(), "next": Channel(window=3, decay=0.6, backward=0.0)}


def _tables() -> dict[str, Table]:
    return {"near": Table("near"), "next": Table("next", read=3, read_decay=0.5)}


@dataclass(frozen=True, slots=True)
class CountsConfig:
    """What is counted and how it is read.

    Attributes:
        channels: by name; the first decides which pairs a full row keeps.
        tables: by name.
        source: the table whose best become candidates.
        neighbours: pairs that an item keeps.
        popularity: half-lives in events; each makes a column of log-counts.
        repeats: for domains where items come again: one-hot tables of how many events ago an item was last met, up to
            so many, and a table of how often among the last ones; 0: none.
        learned: the table ``learned`` of corrections; None: there is none.
        liked: the column ``liked``, learned from slates, and with it all the rest (see ``Blended.learn_shown``); its
            memory, in Fisher's information. 0: there is none, and slates are not learned from.
        optimism: by how many of its standard deviations ``liked`` is raised where it is served.

    Raises:
        ValueError: a field is outside its range, or a name is not among those it refers to.
    """

    channels: Mapping[str, Channel] = field(default_factory=_channels)
    tables: Mapping[str, Table] = field(default_factory=_tables)
    source: str = "near"
    neighbours: int = 128
    popularity: tuple[float, ...] = (1_000, 10_000, 1_000_000)
    repeats: int = 0
    learned: Learned | None = field(default_factory=Learned)
    liked: float = 0.0
    optimism: float = 0.0

    def __post_init__(self) -> None:
        _at_least("CountsConfig.neighbours", self.neighbours, 1)
        for half_life in self.popularity:
            _at_least("CountsConfig.popularity", half_life, 1)
        for name, table in self.tables.items():
            if table.channel not in self.channels:
                raise ValueError(f"table {name} reads {table.channel!r}, expected one of {list(self.channels)}")
        if self.learned is not None and LEARNED in self.tables:
            raise ValueError(f"CountsConfig.tables has {LEARNED!r}, the name of the table that is learned")
        if self.source not in self.tables:
            raise ValueError(f"CountsConfig.source is {self.source!r}, expected one of {list(self.tables)}")

    @property
    def length(self) -> int:
        """How many of a user's last items are needed, to learn and to read."""
        windows = [channel.window for channel in self.channels.values()]
        learned = 0 if self.learned is None else self.learned.read
        return max(*windows, *(table.read for table in self.tables.values()), self.repeats, learned)


class Counts:
    """Counts over n items, which may become more."""

    def __init__(self, config: CountsConfig | None = None, items: int = 0) -> None:
        self.config = config or CountsConfig()
        channels = list(self.config.channels.values())
        self.window = max(channel.window for channel in channels)
        self._weights = _pair_weights(channels, self.window)
        # The last value of a pair is what was learned of it.
        self._pairs = NeighbourLists(items, self.config.neighbours, len(channels) + (self.config.learned is not None))
        self._own = FadingCounts(items, [channel.half_life for channel in channels])
        self._popularity = FadingCounts(items, list(self.config.popularity))
        self._liked = Liked(items if self.config.liked else 0, self.config.liked)

    def __len__(self) -> int:
        return len(self._pairs)

    def grow(self, items: int) -> None:
        """Make room for items up to so many; the new ones have no counts yet."""
        self._pairs.grow(items)
        self._own.grow(items)
        self._popularity.grow(items)
        if self.config.liked:
            self._liked.grow(items)

    def learn(self, recent: Int64, items: Int64) -> None:
        """Count n events in order of arrival.

        Args:
            recent: [n, L] rows of the items that each event's user took before it, newest first; -1: none or unknown.
            items: [n] the event's own; -1: unknown, it counts for nothing but the passing of time.

        Raises:
            ValueError: a row beyond the items there is room for.
        """
        largest = max(recent.max(initial=-1), items.max(initial=-1))
        if largest >= len(self):
            raise ValueError(f"Counts.learn got item {largest}, expected rows below {len(self)}; call grow() first")
        for start in range(0, len(items), BLOCK):
            self._learn(recent[start : start + BLOCK, : self.window], items[start : start + BLOCK])

    def correct(self, recent: Int64, rows: Int64, surplus: Float32) -> None:
        """Step down the gradient of the blend's loss in the table ``learned``; nothing without one.

        Args:
            recent: [n, L] as for `learn`.
            rows: [n, C] candidates of n events, -1: none.
            surplus: [n, C] by how much the blend's chances of each were too high, 0 where there is none.
        """
        if self.config.learned is None:
            return
        recent, at = recent[:, : self.config.learned.read], self._pairs.values.shape[2] - 1
        step = -self.config.learned.rate * self.config.learned.ages
        for start in range(0, len(rows), CORRECTED):
            part = slice(start, start + CORRECTED)
            # The last column is for what is no candidate (surplus 0) and for empty places (neighbour -1).
            wrong = np.zeros((len(rows[part]), len(self) + 1), np.float32)
            np.put_along_axis(wrong, rows[part], surplus[part], axis=1)
            event, age = np.nonzero(recent[part] >= 0)
            items = recent[part][event, age]
            self._pairs.shift(items, step[age, None] * wrong[event[:, None], self._pairs.neighbours[items]], at)

    def like(self, rows: Int64, surplus: Float32, information: Float32) -> None:
        """Learn the column ``liked``; nothing without one. Arguments [n, k], rows -1: none (see ``models.shown``)."""
        if self.config.liked:
            there = rows >= 0
            self._liked.learn(rows[there], surplus[there], information[there])

    def _learn(self, recent: Int64, items: Int64) -> None:
        self._popularity.add(items)
        worth = self._own.add(items)
        event, age = np.nonzero((recent >= 0) & (items[:, None] >= 0) & (recent != items[:, None]))
        earlier, later = recent[event, age], items[event]
        forward, backward = self._with_learned(self._weights[:, age] * worth[event].astype(np.float32), 0)
        self._pairs.add(
            np.concatenate([earlier, later]), np.concatenate([later, earlier]), np.concatenate([forward, backward])
        )
        if self._own.worth.max() > _RESCALE_AT:
            self._pairs.scale(self._with_learned((1 / self._own.rescale()).astype(np.float32), 1))
        if self._popularity.worth.max(initial=0) > _RESCALE_AT:
            self._popularity.rescale()

    def _with_learned(self, counted: Float32, value: float) -> Float32:
        """[..., V] from values [..., channels]: the same for what is learned, if it is."""
        if self.config.learned is None:
            return counted
        return np.pad(counted, [(0, 0)] * (counted.ndim - 1) + [(0, 1)], constant_values=value)

    @property
    def start(self) -> dict[str, float]:
        """What a blend should begin with: corrections come in units of its score."""
        learned = {} if self.config.learned is None else {LEARNED: 1.0}
        return learned | ({LIKED: 1.0} if self.config.liked else {})

    def arrays(self, rows: Int64 | None = None) -> Arrays:
        """What a release holds of them: the ``counts.`` arrays that models/sections.py describes.

        `rows` are the items that the release has, ascending; None: all. An item with a count must be among them.
        """
        if rows is None:
            rows = np.arange(len(self))
        place = np.full(len(self) + 1, -1, np.int32)
        place[rows] = np.arange(len(rows))
        lists = {
            name: place[array] if name.endswith(".neighbours") else array for name, array in self._lists(rows).items()
        }
        return lists | {name: column[np.append(rows, len(self))] for name, column in self._columns(True).items()}

    @property
    def features(self) -> list[str]:
        """Names of the features of a blend with these counts, in their order."""
        return sections.features(self._lists(np.zeros(0, np.int64)) | self._columns())

    def serving(self, recent: Int64) -> tuple[ServingCounts, Int64]:
        """The counts as a release made now would serve them, but only the rows that `recent` [B, L] refers to.

        Returns the serving counts, and `recent` in their rows; candidates and what is asked for are items as ever.
        """
        rows, places = np.unique(recent, return_inverse=True)
        first = int(rows[0] < 0) if len(rows) else 0
        renumbered = places.reshape(recent.shape) - first
        kept = rows[first:] if len(rows) > first else np.zeros(1, np.int64)
        arrays = self._lists(kept) | self._columns()
        return ServingCounts(arrays, self.config.source, items=len(self)), renumbered

    def _lists(self, rows: Int64) -> Arrays:
        neighbours = self._pairs.neighbours[rows]
        arrays: Arrays = {"counts.pairs.neighbours": neighbours}
        names = list(self.config.channels)
        for name, table in self.config.tables.items():
            at = names.index(table.channel)
            counted = self._pairs.values[rows, :, at] / np.float32(self._own.worth[at])
            arrays[f"counts.pairs.{name}.values"] = self._read(table, at, rows, neighbours, counted)
            arrays[f"counts.pairs.{name}.ages"] = (table.read_decay ** np.arange(table.read)).astype(np.float32)
            arrays[f"counts.pairs.{name}.floor"] = np.array(table.floor, np.float32)
        if self.config.learned is not None:
            arrays[f"counts.pairs.{LEARNED}.values"] = np.ascontiguousarray(self._pairs.values[rows, :, -1])
            arrays[f"counts.pairs.{LEARNED}.ages"] = self.config.learned.ages
            arrays[f"counts.pairs.{LEARNED}.floor"] = np.zeros((), np.float32)
        if self.config.repeats:
            arrays |= _repeats(rows, self.config.repeats, self.config.length)
        return arrays

    def _read(self, table: Table, at: int, rows: Int64, neighbours: npt.NDArray[np.int32], counted: Float32) -> Float32:
        own = self._own.counts[:, at] / self._own.worth[at]
        # An item in a pair was in an event, so its count is not 0 but where rounding made it so.
        known = np.maximum(own, 1e-6)
        mine, theirs = (known**-power for power in (table.own_power, table.other_power))
        over: Float32 = counted * mine.astype(np.float32)[rows][:, None] * theirs.astype(np.float32)[neighbours]
        return over

    def _columns(self, hopeful: bool = False) -> Arrays:
        counts = self._popularity.counts / self._popularity.worth
        logs = np.log(np.concatenate([counts, np.zeros((1, counts.shape[1]))]) + 0.1).astype(np.float32)
        columns = {
            f"counts.items.popularity_{int(half_life)}": np.ascontiguousarray(logs[:, at])
            for at, half_life in enumerate(self.config.popularity)
        }
        if self.config.liked:
            hope = self.config.optimism if hopeful else 0.0
            columns[f"counts.items.{LIKED}"] = np.append(self._liked.hopeful(hope), np.float32(hope))
        return columns

    def state(self) -> Arrays:
        """Everything, exactly: ``restore`` of it goes on as this would have. Not a copy: write it before going on."""
        return {
            "pairs.neighbours": self._pairs.neighbours,
            "pairs.values": self._pairs.values,
            **{f"own.{name}": array for name, array in self._own.state().items()},
            **{f"popularity.{name}": array for name, array in self._popularity.state().items()},
            **({f"liked.{name}": array for name, array in self._liked.state().items()} if self.config.liked else {}),
        }

    @classmethod
    def restore(cls, config: CountsConfig, state: Mapping[str, npt.NDArray[Any]]) -> Counts:
        """Counts as they were when ``state`` was taken.

        Raises:
            ValueError: the state is of counts of another shape.
        """
        counts = cls(config)
        expected = counts._pairs.values.shape[1:]
        if state["pairs.values"].shape[1:] != expected:
            raise ValueError(
                f"counts are {state['pairs.values'].shape[1:]}, expected [neighbours, channels] {expected}"
            )
        counts._pairs.neighbours = state["pairs.neighbours"].copy()
        counts._pairs.values = state["pairs.values"].copy()
        counts._own.restore(state["own.counts"], state["own.worth"])
        counts._popularity.restore(state["popularity.counts"], state["popularity.worth"])
        if config.liked:
            counts._liked.restore(state["liked.values"], state["liked.information"])
        return counts


def _pair_weights(channels: list[Channel], window: int) -> Float32:
    """[2, window, channels]: what a pair counts in the earlier item's row and in the later one's, by age from 0."""
    age = np.arange(window)
    forward = [channel.forward * np.where(age < channel.window, channel.decay**age, 0) for channel in channels]
    backward = [channel.backward * np.where(age < channel.window, channel.decay**age, 0) for channel in channels]
    return np.array([forward, backward], np.float32).transpose(0, 2, 1)


def _repeats(rows: Int64, most: int, length: int) -> Arrays:
    """A list on which each item is its own only neighbour: a table for each number of events ago, one of how often."""
    ages = {f"again{ago}": np.eye(1, ago, ago - 1, dtype=np.float32)[0] for ago in range(1, most + 1)}
    arrays: Arrays = {f"counts.{ITSELF}.neighbours": rows.astype(np.int32)[:, None]}
    for name, counted in (ages | {"met": np.ones(length, np.float32)}).items():
        arrays[f"counts.{ITSELF}.{name}.values"] = np.ones((len(rows), 1), np.float32)
        arrays[f"counts.{ITSELF}.{name}.ages"] = counted
        arrays[f"counts.{ITSELF}.{name}.floor"] = np.ones((), np.float32)
    return arrays


def _positive(name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{name} is {value}, expected a positive number")


def _at_least(name: str, value: float, least: float) -> None:
    if not value >= least:
        raise ValueError(f"{name} is {value}, expected at least {least}")
