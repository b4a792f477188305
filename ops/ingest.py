"""Rows to messages: what columns may be called, how time and lists are written, and the contracts' own checks.

Knows nothing of files or of Kafka: it takes a row's fields and gives a record's key and value.
"""

from __future__ import annotations

import datetime as dt
import math
import time
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from streams.validation import BadMessage, EventRules, decode_event, decode_item

TimeUnit = Literal["s", "ms"]
Record = tuple[bytes, bytes]
"""Key and value."""

EVENT_FIELDS = ("kind", "user", "item", "time", "timestamp", "action", "weight", "id", "items", "slate", "group")
ITEM_FIELDS = ("item", "title", "text", "categories", "year", "withdrawn")
LIST_SEPARATOR = "|"

_TEXTS = ("kind", "user", "item", "action", "id", "slate", "group", "title", "text")
_LISTS = ("items", "categories")
_PER_SECOND = {"s": 1, "ms": 1000}


class WrongUnit(BadMessage):
    """A time that makes no sense in its unit, and would in the other."""


def event_record(rules: EventRules, unit: TimeUnit | None = None) -> Callable[[dict[str, Any]], Record]:
    """Return a function from a row's fields to an event's record; it raises BadMessage for a bad row.

    A row without `kind` is an interaction. `time` is in milliseconds and `timestamp` in seconds since the epoch,
    unless `unit` says otherwise for either. Fields of other names are left out.
    """

    def convert(fields: dict[str, Any]) -> Record:
        message = {"kind": "interaction"} | _typed(fields, EVENT_FIELDS)
        message["time"], used = _time(message, unit)
        message.pop("timestamp", None)
        key, value = str(message.get("user", "")).encode(), _encode(message)
        now = round(time.time() * 1000)
        try:
            decode_event(key, value, now, rules)
        except BadMessage as bad:
            if bad.reason in ("time_past", "time_future"):
                raise _with_hint(bad, message["time"], used, now, rules) from None
            raise
        return key, value

    return convert


def item_record(fields: dict[str, Any]) -> Record:
    """Return the record of the item in a row's fields; raises BadMessage for a bad row."""
    message = _typed(fields, ITEM_FIELDS)
    if isinstance(message.get("year"), str | float):  # a column of integers with gaps is one of floats in pandas
        message["year"] = _number("year", message["year"])
    if isinstance(message.get("withdrawn"), str):
        message["withdrawn"] = _flag("withdrawn", message["withdrawn"])
    key, value = str(message.get("item", "")).encode(), _encode(message)
    decode_item(key, value)
    return key, value


def _typed(fields: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Return the fields of these names that are not empty, with what CSV writes as text turned into what it means."""
    message = {name: fields[name] for name in names if not _empty(fields.get(name))}
    for name in message.keys() & set(_TEXTS):
        message[name] = _id(message[name])
    for name in message.keys() & set(_LISTS):
        if isinstance(message[name], str):
            message[name] = message[name].split(LIST_SEPARATOR)
        if isinstance(message[name], list):
            message[name] = [_id(value) for value in message[name]]
    if isinstance(message.get("weight"), str):
        message["weight"] = _number("weight", message["weight"])
    return message


def _empty(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def _id(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _number(name: str, value: str | float) -> int | float:
    try:
        number = float(value)
    except ValueError:
        raise BadMessage("schema", f"{name} is {value!r}; expected a number") from None
    return int(number) if number.is_integer() else number


def _flag(name: str, value: str) -> bool:
    try:
        return {"true": True, "1": True, "false": False, "0": False}[value.strip().lower()]
    except KeyError:
        raise BadMessage("schema", f"{name} is {value!r}; expected true or false") from None


def _time(message: dict[str, Any], unit: TimeUnit | None) -> tuple[int, TimeUnit | None]:
    """Return the time in milliseconds since the epoch, and the unit that it was read in."""
    name = "time" if "time" in message else "timestamp"
    if name not in message:
        raise BadMessage("schema", "there is no time; expected `time` (milliseconds) or `timestamp` (seconds)")
    value = message[name]
    if isinstance(value, dt.datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=dt.UTC)
        return round(aware.timestamp() * 1000), None
    number = _number(name, value) if isinstance(value, str) else value
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        raise BadMessage("schema", f"{name} is {value!r}; expected a number")
    used: TimeUnit = unit or ("ms" if name == "time" else "s")
    return round(number * 1000 / _PER_SECOND[used]), used


def _with_hint(bad: BadMessage, millis: int, used: TimeUnit | None, now: int, rules: EventRules) -> BadMessage:
    """Return `bad`, or a WrongUnit when the time would be right in the other unit."""
    if used is None:
        return bad
    other: TimeUnit = "s" if used == "ms" else "ms"
    meant = millis * _PER_SECOND[used] // _PER_SECOND[other]
    if not rules.oldest_time <= meant <= now + rules.clock_skew_ms:
        return bad
    day = dt.datetime.fromtimestamp(meant / 1000, dt.UTC).date()
    return WrongUnit(bad.reason, f"{bad}; read in {other} it is {day}")


def _encode(message: dict[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(message)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadMessage("schema", str(error)) from None
