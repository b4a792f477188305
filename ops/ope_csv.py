"""Other people's logs for off-policy evaluation: a file of rounds, and a policy file that says what to evaluate.

The policy file is TOML (JSON in a .json); docs/off-policy.md describes both. Knows files; computes no estimate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from evaluation.ope import bandit_log
from evaluation.ope.bandit_log import BanditLog, Target
from evaluation.ope.ratio import Floats, Ints
from ops.errors import CliError
from ops.policy_files import read_policy_file
from ops.rows import Row, Rows

ROLES = ("action", "reward", "propensity", "position", "user", "target")
_NEEDED = ("action", "reward", "propensity")
_OPTIONS = {
    "uniform": {"actions"},
    "empirical": {"log", "by_position", "smoothing"},
    "softmax": {"scores", "prefix", "temperature"},
    "column": set[str](),
}


@dataclass(frozen=True, slots=True)
class RoundsFile:
    """A file as it was read: role → values of all rows; context and other columns as text, by name."""

    path: Path
    numbers: Mapping[str, Floats]
    texts: Mapping[str, list[str]]


@dataclass(frozen=True, slots=True)
class BanditPolicy:
    """What a policy file says, checked. Paths are relative to it."""

    kind: str
    epsilon: float = 0.0
    temperature: float = 1.0
    smoothing: float = 0.0
    by_position: bool = True
    actions: tuple[str, ...] = ()
    log: Path | None = None
    scores: Path | None = None
    prefix: str | None = None


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column plays which role (a role that is not named: the column of its own name), and the context's."""

    names: Mapping[str, str] = field(default_factory=dict)
    context: Sequence[str] = ()

    def of(self, role: str) -> str:
        return self.names.get(role, role)


def bandit_policy(path: Path) -> BanditPolicy:
    """Read a policy for a file of rounds. Raises CliError naming field, value and expectation."""
    told = read_policy_file(path)

    def fail(name: str, expected: str) -> NoReturn:
        raise CliError(
            f"{path}: {name} is {told.get(name)!r}", f"Expected {expected}; docs/off-policy.md has examples."
        )

    kind = told.get("kind")
    if not isinstance(kind, str) or kind not in _OPTIONS:
        fail("kind", "one of " + ", ".join(_OPTIONS))
    allowed = {"kind", "epsilon"} | _OPTIONS[kind]
    for name in told:
        if name not in allowed:
            raise CliError(f"{path}: {name} is not a field of kind {kind}", f"It has {', '.join(sorted(allowed))}.")
    checks: dict[str, tuple[type | tuple[type, ...], Any, str]] = {
        "epsilon": ((int, float), lambda value: 0 <= value <= 1, "a number from 0 to 1"),
        "temperature": ((int, float), lambda value: 0 < value < math.inf, "a number above 0"),
        "smoothing": ((int, float), lambda value: 0 <= value < math.inf, "a number, at least 0"),
        "by_position": (bool, lambda value: True, "true or false"),
        "actions": (list, lambda value: len({*map(str, value)}) == len(value) > 0, "a list of different actions"),
        "log": (str, lambda value: (path.parent / value).is_file(), "a file beside the policy file"),
        "scores": (str, lambda value: (path.parent / value).is_file(), "a file beside the policy file"),
        "prefix": (str, bool, "the beginning of the names of columns"),
    }
    values: dict[str, Any] = {}
    for name, (kinds, valid, expected) in checks.items():
        if name in told:
            value = told[name]
            if not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool) or not valid(value):
                fail(name, expected)
            values[name] = path.parent / str(value) if name in ("log", "scores") else value
    if kind == "softmax" and ("scores" in values) == ("prefix" in values):
        raise CliError(
            f"{path}: a softmax needs scores", "Name a file (`scores`), or the prefix of columns of the log (`prefix`)."
        )
    values["actions"] = tuple(map(str, values.get("actions", ())))
    return BanditPolicy(kind, **values)


def read_rounds(path: Path, columns: Columns, needed: Sequence[str] = _NEEDED, prefix: str | None = None) -> RoundsFile:
    """Read a file of rounds. `needed`: roles it must have; `prefix`: also the columns whose names begin so.

    Raises CliError at the first bad row, naming row, column, value and expectation.
    """
    numbers: dict[str, list[float]] = {}
    texts: dict[str, list[str]] = {}
    count = 0
    with Rows(path) as rows:
        for row in rows:
            if row.problem:
                raise CliError(f"{path}, row {row.number}: {row.problem}", "Mend the row or leave it out.")
            if not count:
                _begin(path, columns, needed, prefix, rows.columns or list(row.fields), numbers, texts)
            for name in numbers:
                numbers[name].append(_number(path, row, name, columns))
            for name in texts:
                texts[name].append(_text(path, row, columns.of(name) if name in ROLES else name))
            count += 1
    if not count:
        raise CliError(f"{path} holds no rows", "Expected rows with action, reward and propensity.")
    return RoundsFile(path, {name: np.array(values) for name, values in numbers.items()}, texts)


def _begin(
    path: Path,
    columns: Columns,
    needed: Sequence[str],
    prefix: str | None,
    there: Sequence[str],
    numbers: dict[str, list[float]],
    texts: dict[str, list[str]],
) -> None:
    """Find out which columns to read."""
    missing = [columns.of(role) for role in (*needed, *columns.names) if columns.of(role) not in there]
    missing += [name for name in columns.context if name not in there]
    if missing:
        raise CliError(
            f"{path} has no column {', '.join(dict.fromkeys(missing))}; it has {', '.join(there)}",
            "Name columns with --column ROLE=NAME; roles are " + ", ".join(ROLES) + ".",
        )
    for role in ROLES:
        if columns.of(role) in there:
            (numbers if role in ("reward", "propensity", "target") else texts)[role] = []
    texts.update({name: [] for name in columns.context})
    scores = [name for name in there if prefix is not None and name.startswith(prefix)]
    if prefix is not None and not scores:
        raise CliError(f"{path} has no column that begins with {prefix!r}", "Expected one for each action.")
    numbers.update({name: [] for name in scores})


def _number(path: Path, row: Row, name: str, columns: Columns) -> float:
    column = columns.of(name) if name in ROLES else name
    expected = {
        "propensity": "a probability above 0, at most 1",
        "target": "a probability, 0 to 1",
    }.get(name, "a finite number")
    try:
        value = float(row.fields[column])
    except (KeyError, TypeError, ValueError):
        _fail(path, row, column, expected)
    fine = {"propensity": 0 < value <= 1, "target": 0 <= value <= 1}.get(name, math.isfinite(value))
    if not fine:
        _fail(path, row, column, expected)
    return value


def _text(path: Path, row: Row, column: str) -> str:
    value = row.fields.get(column)
    if value is None or value == "":
        _fail(path, row, column, "not empty")
    return str(value)


def _fail(path: Path, row: Row, column: str, expected: str) -> NoReturn:
    raise CliError(
        f"{path}, row {row.number}: column {column} is {row.fields.get(column)!r}, expected {expected}",
        "Mend the row or leave it out; rows count from 1 after the header.",
    )


def log_and_target(path: Path, columns: Columns, policy: BanditPolicy) -> tuple[BanditLog, Target]:
    """Read the log and make the target for it. Raises CliError for a file or a policy that does not fit."""
    needed = (*_NEEDED, "target") if policy.kind == "column" else _NEEDED
    file = read_rounds(path, columns, needed, policy.prefix)
    other = read_rounds(policy.log, _without_context(columns), ("action",)) if policy.log is not None else None
    scores = read_scores(policy.scores) if policy.scores is not None else None
    more = [*(other.texts["action"] if other else ()), *policy.actions, *(action for action, _ in scores or {})]
    if policy.prefix is not None:
        more += [name.removeprefix(policy.prefix) for name in file.numbers if name.startswith(policy.prefix)]
    log = _log(file, columns, more)
    if policy.kind == "uniform":
        target = _uniform(log, policy)
    elif policy.kind == "empirical":
        target = bandit_log.empirical(log, _counts(log, other or file, policy))
    elif policy.kind == "softmax":
        target = _softmax(log, file, policy, scores)
    else:
        target = Target(None, np.zeros(len(log), np.int64), file.numbers["target"])
    return log, bandit_log.mixed(log, target, policy.epsilon)


def _without_context(columns: Columns) -> Columns:
    return Columns({role: name for role, name in columns.names.items() if role in ("action", "position")})


def _log(file: RoundsFile, columns: Columns, more_actions: Sequence[str]) -> BanditLog:
    count = len(file.texts["action"])
    actions = sorted({*file.texts["action"], *more_actions})
    action_code = {action: code for code, action in enumerate(actions)}
    positions = sorted(set(file.texts.get("position", [""])))
    place = {position: code for code, position in enumerate(positions)}
    categories, numbers = [], []
    for name in columns.context:
        values = _numeric(file.texts[name])
        if values is None:
            categories.append(np.unique(file.texts[name], return_inverse=True)[1])
        else:
            numbers.append(values)
    users = file.texts.get("user")
    return BanditLog(
        action=np.array([action_code[action] for action in file.texts["action"]], np.int64),
        actions=actions,
        position=np.array([place[one] for one in file.texts.get("position", [""] * count)], np.int64),
        positions=positions,
        reward=file.numbers["reward"],
        propensity=file.numbers["propensity"],
        cluster=np.arange(count) if users is None else np.unique(users, return_inverse=True)[1].astype(np.int64),
        categories=np.array(categories, np.int64).reshape(len(categories), count).T,
        numbers=np.array(numbers, np.float64).reshape(len(numbers), count).T,
    )


def _numeric(texts: list[str]) -> Floats | None:
    """The texts as finite numbers; None when one is none."""
    try:
        values = np.array(texts, np.float64)
    except ValueError:
        return None
    return values if np.isfinite(values).all() else None


def _uniform(log: BanditLog, policy: BanditPolicy) -> Target:
    if not policy.actions:
        return bandit_log.uniform(log)
    counts = np.array([[float(action in policy.actions) for action in log.actions]])
    return bandit_log.empirical(log, counts)


def _counts(log: BanditLog, file: RoundsFile, policy: BanditPolicy) -> Floats:
    """How often each action stands at each position of the log, or anywhere, in a file."""
    code = {action: at for at, action in enumerate(log.actions)}
    at = np.array([code[action] for action in file.texts["action"]])
    if not policy.by_position or "position" not in file.texts:
        return np.bincount(at, minlength=len(code))[None].astype(np.float64) + policy.smoothing
    counts = np.zeros((len(log.positions), len(code))) + policy.smoothing
    for number, position in enumerate(log.positions):
        there = np.array([one == position for one in file.texts["position"]])
        counts[number] += np.bincount(at[there], minlength=len(code))
    if not (counts.sum(axis=1) > 0).all():
        missing = log.positions[int(np.argmin(counts.sum(axis=1) > 0))]
        raise CliError(f"{file.path} has no row at position {missing}", "Set by_position = false in the policy file.")
    return counts


def read_scores(path: Path) -> dict[tuple[str, str | None], float]:
    """(action, position or None) → score, from a file with columns action, score and perhaps position."""
    found: dict[tuple[str, str | None], float] = {}
    with Rows(path) as rows:
        for row in rows:
            action = _text(path, row, "action")
            position = None if row.fields.get("position") in (None, "") else str(row.fields["position"])
            found[action, position] = _number(path, row, "score", Columns())
    if not found:
        raise CliError(f"{path} holds no scores", "Expected rows with action and score.")
    return found


def _softmax(
    log: BanditLog, file: RoundsFile, policy: BanditPolicy, scores: Mapping[tuple[str, str | None], float] | None
) -> Target:
    if scores is None:
        return _softmax_of_columns(log, file, policy)
    positions: list[str | None] = [None] if all(place is None for _, place in scores) else [*log.positions]
    table = np.full((len(positions), len(log.actions)), -np.inf)
    for number, position in enumerate(positions):
        for at, action in enumerate(log.actions):
            score = scores.get((action, position), scores.get((action, None)))
            table[number, at] = -math.inf if score is None else score
    if not np.isfinite(table).any(axis=1).all():
        raise CliError(f"{policy.scores} has no score for a position of the log", "Give scores without a position.")
    row: Ints = log.position if len(positions) > 1 else np.zeros(len(log), np.int64)
    return bandit_log.softmax(log, table, row, policy.temperature)


def _softmax_of_columns(log: BanditLog, file: RoundsFile, policy: BanditPolicy) -> Target:
    names = [f"{policy.prefix}{action}" for action in log.actions]
    missing = [name for name in names if name not in file.numbers]
    if missing:
        raise CliError(
            f"{file.path} has no column {missing[0]}, the score of an action in it", "Expected one for each action."
        )
    table = np.stack([file.numbers[name] for name in names], axis=1)
    return bandit_log.softmax(log, table, np.arange(len(log)), policy.temperature)
