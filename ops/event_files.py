"""Files of events and items to the arrays of an evaluation; a bad row is named with its column and value.

Knows the columns and how time is written in them; knows nothing of what is evaluated.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np

from evaluation.stream import EventStream
from ops.errors import CliError
from ops.ingest import ITEM_FIELDS, item_record
from ops.rows import Row, Rows
from streams.contracts import MAX_ID_BYTES, Item
from streams.validation import BadMessage, decode_item

Unit = Literal["s", "ms"]
Progress = Callable[[int, int], None]
"""How far reading has come, of how much, in the same unit."""

MILLISECONDS_FROM = 1e11
"""Numbers of `timestamp` are seconds, unless the largest is at least this: as milliseconds that is March 1973, as
seconds the year 5138."""
LATEST = 2**53
MOST_ACTIONS = 256
_REPORT_EVERY = 20_000


class EventFile:
    """Columns of a file of events, as they are collected row by row."""

    def __init__(self, path: Path, unit: Unit | None) -> None:
        self._path, self._unit = path, unit
        self.users: list[str] = []
        self.items: list[str] = []
        self.times: list[float] = []
        self.actions: list[str] = []
        self.weights: list[float] = []
        self.texts: dict[str, tuple[float, int, dict[str, Any]]] = {}  # by item: of its earliest row
        self._time_column = "timestamp"
        self._iso: bool | None = None

    def read(self, progress: Progress) -> None:
        """Read the whole file; raises CliError at the first bad row."""
        with Rows(self._path) as rows:
            if rows.columns is not None:
                self._check_columns(rows.columns)
            for row in rows:
                self._take(row)
                if row.number % _REPORT_EVERY == 0:
                    progress(rows.position, rows.size)
        if not self.users:
            raise CliError(f"{self._path} holds no events", "Expected rows with user, item and timestamp.")

    def _check_columns(self, columns: Sequence[str]) -> None:
        missing = [name for name in ("user", "item") if name not in columns]
        if "time" not in columns and "timestamp" not in columns:
            missing.append("timestamp")
        if missing:
            raise CliError(
                f"{self._path} has no column {', '.join(missing)}; it has {', '.join(columns)}",
                "Expected user, item, timestamp, and if there are any: action, weight, title, text, categories, year.",
            )

    def _take(self, row: Row) -> None:
        if row.problem:
            raise CliError(f"{self._path}, row {row.number}: {row.problem}", "Mend the row or leave it out.")
        fields = row.fields
        user, item = self._id(row, "user"), self._id(row, "item")
        self._time_column = "timestamp" if fields.get("timestamp") not in (None, "") else "time"
        time = self._time(row)
        self.users.append(user)
        self.items.append(item)
        self.times.append(time)
        self.actions.append(self._action(row))
        self.weights.append(self._weight(row))
        if fields.get("title") or fields.get("text") or fields.get("categories"):
            known = self.texts.get(item)
            if known is None or time < known[0]:
                self.texts[item] = (time, row.number, {name: fields.get(name) for name in ITEM_FIELDS})

    def _id(self, row: Row, column: str) -> str:
        value = row.fields.get(column)
        text = "" if value is None else str(value)
        if not 0 < len(text.encode(errors="surrogatepass")) <= MAX_ID_BYTES:
            self._fail(row, column, f"an id of 1 to {MAX_ID_BYTES} bytes")
        return text

    def _action(self, row: Row) -> str:
        value = row.fields.get("action")
        action = "view" if value in (None, "") else str(value)
        if len(action) > 64:
            self._fail(row, "action", "at most 64 characters")
        return action

    def _weight(self, row: Row) -> float:
        value = row.fields.get("weight")
        if value in (None, ""):
            return 1.0
        try:
            weight = float(value)
        except (TypeError, ValueError):
            self._fail(row, "weight", "a number")
        if not 0 < weight <= 1e6:
            self._fail(row, "weight", "a number above 0, at most 1,000,000")
        return weight

    def _time(self, row: Row) -> float:
        """Milliseconds when written as a date, otherwise the number as it stands."""
        value: Any = row.fields.get(self._time_column)
        if isinstance(value, dt.datetime):
            self._dates(row, True)
            return _millis(value)
        try:
            number = float(value)
        except (TypeError, ValueError):
            return self._date(row, value)
        self._dates(row, False)
        if not (math.isfinite(number) and 0 <= number <= LATEST):
            self._fail(row, self._time_column, f"a number from 0 to {LATEST}")
        return number

    def _date(self, row: Row, value: Any) -> float:
        try:
            time = dt.datetime.fromisoformat(str(value))
        except ValueError:
            self._fail(row, self._time_column, "seconds or milliseconds since the epoch, or ISO 8601")
        self._dates(row, True)
        found = _millis(time)
        if found < 0:
            self._fail(row, self._time_column, "a time after 1970-01-01")
        return found

    def _dates(self, row: Row, iso: bool) -> None:
        if self._iso is None:
            self._iso = iso
        if self._iso != iso:
            self._fail(row, self._time_column, "a date like the rows before" if self._iso else "a number like before")

    def _fail(self, row: Row, column: str, expected: str) -> NoReturn:
        raise CliError(
            f"{self._path}, row {row.number}: column {column} is {row.fields.get(column)!r}, expected {expected}",
            "Mend the row or leave it out; rows count from 1 after the header.",
        )

    def times_ms(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """[n] in milliseconds: the unit is one for the whole file."""
        times = np.array(self.times)
        unit: Unit = "ms" if self._iso or self._time_column == "time" or times.max() >= MILLISECONDS_FROM else "s"
        if self._unit is not None and not self._iso:
            unit = self._unit
        return np.round(times * (1000 if unit == "s" else 1)).astype(np.int64)


def _millis(time: dt.datetime) -> float:
    return round((time if time.tzinfo else time.replace(tzinfo=dt.UTC)).timestamp() * 1000)


def read_stream(
    events: Path,
    items: Path | None,
    *,
    unit: Unit | None = None,
    limit: int | None = None,
    progress: Progress = lambda done, size: None,
) -> tuple[EventStream, list[Item | None]]:
    """Return the stream in order of time, and what is told of each of its items (None: nothing).

    Events of one time keep the order of the file. `limit`: only the first events in order of time. Items of the
    `items` file may be recommended from the start; of others the text may stand in the events' own rows.

    Raises CliError for a file that cannot be used, naming row, column, value and expectation.
    """
    listed = _read_items(items) if items is not None else []
    file = EventFile(events, unit)
    file.read(progress)
    names = sorted(set(file.actions))
    if len(names) > MOST_ACTIONS:
        raise CliError(f"{events} names {len(names)} actions", f"Expected at most {MOST_ACTIONS} different ones.")
    times = file.times_ms()
    order = np.argsort(times, kind="stable")[:limit]
    user_rows: dict[str, int] = {}
    item_rows: dict[str, int] = {item.item: row for row, item in enumerate(listed)}
    users = [user_rows.setdefault(file.users[at], len(user_rows)) for at in order.tolist()]
    rows = [item_rows.setdefault(file.items[at], len(item_rows)) for at in order.tolist()]
    action_rows = {name: row for row, name in enumerate(names)}
    stream = EventStream(
        np.array(users, np.int64),
        np.array(rows, np.int64),
        times[order],
        np.array([action_rows[file.actions[at]] for at in order.tolist()], np.uint8),
        np.array(file.weights, np.float32)[order],
        list(user_rows),
        list(item_rows),
        names,
        len(listed),
    )
    told: list[Item | None] = [*listed, *(_told(events, file, item) for item in stream.item_ids[len(listed) :])]
    return stream, told


def _read_items(path: Path) -> list[Item]:
    found: dict[str, Item] = {}
    with Rows(path) as rows:
        if rows.columns is not None and "item" not in rows.columns:
            raise CliError(
                f"{path} has no column item; it has {', '.join(rows.columns)}",
                "Expected item, title, and if there are any: text, categories, year.",
            )
        for row in rows:
            if row.problem:
                raise CliError(f"{path}, row {row.number}: {row.problem}", "Mend the row or leave it out.")
            item = _item(path, row.number, row.fields)
            if not item.withdrawn:
                found[item.item] = item
    if not found:
        raise CliError(f"{path} holds no items", "Expected rows with item and title.")
    return list(found.values())


def _told(path: Path, file: EventFile, item: str) -> Item | None:
    if item not in file.texts:
        return None
    _, number, fields = file.texts[item]
    return _item(path, number, fields | {"item": item})


def _item(path: Path, number: int, fields: dict[str, Any]) -> Item:
    try:
        key, value = item_record({"title": " "} | {name: one for name, one in fields.items() if one not in (None, "")})
        return decode_item(key, value)
    except BadMessage as bad:
        raise CliError(f"{path}, row {number}: {bad}", "Mend the row or leave it out.") from bad
