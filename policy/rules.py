"""Business rules: what they say, read from a table and checked to the last field.

    [[boost]]                      # adds to the score; `bury` takes away
    categories = ["Drama"]         # or items = ["…"]; both: one of them is enough
    by = 0.5
    users = ["u1"]                 # left out: everybody
    [[pin]]                        # stands at this position for certain
    item = "174"
    position = 1
    [[filter]]                     # is not shown
    categories = ["Horror"]
    [[cap]]                        # at most so many of the category in a slate
    category = "Drama"
    most = 3

    [fairness]                     # policy/fairness.py says what of

Knows nothing of files, of catalogues or of how a rule is followed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from policy.fairness import FairnessConfig

LARGEST = 100.0
"""Of a boost, in logits: more would be no boost but a pin."""
_TEXTS = "a list of one or more texts"


class RuleError(ValueError):
    """A table of rules that cannot be followed; says table, field, value and what was expected."""


@dataclass(frozen=True, slots=True)
class Target:
    """Which items, for whom: the items named and those of the categories; no users: everybody."""

    items: frozenset[str] = frozenset()
    categories: frozenset[str] = frozenset()
    users: frozenset[str] = frozenset()

    def concerns(self, user: str) -> bool:
        return not self.users or user in self.users


@dataclass(frozen=True, slots=True)
class Shift:
    """`by` is added to the logits of the target's items: above 0 for a boost, below for a bury."""

    target: Target
    by: float


@dataclass(frozen=True, slots=True)
class Pin:
    """An item stands at a position, counted from 1."""

    item: str
    position: int
    users: frozenset[str] = frozenset()

    def concerns(self, user: str) -> bool:
        return not self.users or user in self.users


@dataclass(frozen=True, slots=True)
class Rules:
    """All rules of a file. `caps`: the most items of a category in a slate, by its name."""

    boosts: tuple[Shift, ...] = ()
    buries: tuple[Shift, ...] = ()
    pins: tuple[Pin, ...] = ()
    filters: tuple[Target, ...] = ()
    caps: Mapping[str, int] = field(default_factory=dict)
    fairness: FairnessConfig | None = None

    @classmethod
    def of(cls, tables: Mapping[str, Any]) -> Rules:
        """Read the tables of a rules file. Raises RuleError for the first thing that is wrong."""
        readers: dict[str, Callable[[_Table], Any]] = {
            "boost": _boost,
            "bury": _bury,
            "pin": _pin,
            "filter": _target,
            "cap": _cap,
        }
        unknown = [name for name in tables if name not in readers and name != "fairness"]
        if unknown:
            raise RuleError(f"[{unknown[0]}] is no table of rules, expected one of {', '.join(readers)}, fairness")
        found = {name: tuple(_each(name, tables.get(name, []), read)) for name, read in readers.items()}
        caps = dict(found["cap"])
        if len(caps) < len(found["cap"]):
            names = [name for name, _ in found["cap"]]
            twice = next(name for name in names if names.count(name) > 1)
            raise RuleError(f"[[cap]]: category = {twice!r} stands there twice, expected one cap for a category")
        _check_pins(found["pin"])
        return cls(
            found["boost"], found["bury"], found["pin"], found["filter"], caps, _fairness(tables.get("fairness"))
        )

    def __bool__(self) -> bool:
        return any((self.boosts, self.buries, self.pins, self.filters, self.caps, self.fairness))


class _Table:
    """One table of a rules file: takes fields out, and complains of what is wrong or left."""

    def __init__(self, name: str, values: Mapping[str, Any]) -> None:
        self.name = name
        self._left = dict(values)

    def take(self, field_name: str, expected: str, fits: Callable[[Any], bool], default: Any = None) -> Any:
        """The field's value; without a default it must be there."""
        if field_name not in self._left:
            if default is None:
                raise RuleError(f"{self.name}: {field_name} is missing, expected {expected}")
            return default
        value = self._left.pop(field_name)
        if not fits(value):
            raise RuleError(f"{self.name}: {field_name} = {value!r}, expected {expected}")
        return value

    def names(self, field_name: str) -> frozenset[str]:
        return frozenset(self.take(field_name, _TEXTS, _texts, default=frozenset()))

    def number(self, field_name: str) -> float:
        expected = f"a number above 0, at most {LARGEST:g}"
        return float(self.take(field_name, expected, lambda value: _number(value) and 0 < value <= LARGEST))

    def whole(self, field_name: str, least: int) -> int:
        expected = f"a whole number, {least} or more"
        return int(self.take(field_name, expected, lambda value: type(value) is int and value >= least))

    def text(self, field_name: str) -> str:
        return str(self.take(field_name, "a text", lambda value: isinstance(value, str) and value != ""))

    def end(self, *fields: str) -> None:
        if self._left:
            name, value = next(iter(self._left.items()))
            raise RuleError(f"{self.name}: {name} = {value!r} is not a field of it, expected {', '.join(fields)}")


def _each(name: str, tables: Any, read: Callable[[_Table], Any]) -> list[Any]:
    if not isinstance(tables, list) or not all(isinstance(one, Mapping) for one in tables):
        raise RuleError(f"{name} = {tables!r}, expected tables of their own: [[{name}]]")
    return [read(_Table(f"[[{name}]] number {number}", values)) for number, values in enumerate(tables, 1)]


def _named(table: _Table) -> Target:
    target = Target(table.names("items"), table.names("categories"), table.names("users"))
    if not target.items and not target.categories:
        raise RuleError(f"{table.name}: items and categories are missing, expected at least one of them")
    return target


def _target(table: _Table) -> Target:
    target = _named(table)
    table.end("items", "categories", "users")
    return target


def _shift(table: _Table, sign: int) -> Shift:
    shift = Shift(_named(table), sign * table.number("by"))
    table.end("items", "categories", "users", "by")
    return shift


def _boost(table: _Table) -> Shift:
    return _shift(table, 1)


def _bury(table: _Table) -> Shift:
    return _shift(table, -1)


def _pin(table: _Table) -> Pin:
    pin = Pin(table.text("item"), table.whole("position", 1), table.names("users"))
    table.end("item", "position", "users")
    return pin


def _cap(table: _Table) -> tuple[str, int]:
    cap = table.text("category"), table.whole("most", 0)
    table.end("category", "most")
    return cap


def _fairness(table: Any) -> FairnessConfig | None:
    if table is None:
        return None
    if not isinstance(table, Mapping):
        raise RuleError(f"fairness = {table!r}, expected a table: [fairness]")
    try:
        return FairnessConfig.of(table)
    except ValueError as error:
        raise RuleError(f"[fairness]: {error}") from error


def _check_pins(pins: tuple[Pin, ...]) -> None:
    """Two pins that may concern one user need different items and positions."""
    for number, pin in enumerate(pins, 1):
        for earlier, other in enumerate(pins[: number - 1], 1):
            if pin.users and other.users and not pin.users & other.users:
                continue
            for name in ("position", "item"):
                if (value := getattr(pin, name)) == getattr(other, name):
                    raise RuleError(
                        f"[[pin]] number {number}: {name} = {value!r} is that of number {earlier} too, "
                        "expected another, or other users"
                    )


def _texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, str) and one for one in value)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
