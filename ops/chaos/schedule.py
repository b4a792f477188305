"""What goes wrong, and when: a pure function of the seed and the options.

Knows nothing of processes, brokers or events. Which worker a fault hits is known only when it happens; the plan holds
the number that then picks one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from ops.errors import CliError

QUIET_SHARE, QUIET_S = 0.1, 5.0
"""Nothing is planned in the last part of a run: recovery from the last fault takes events, too."""
LEAST_BETWEEN_S = 1.0


class Kind(StrEnum):
    """The faults. `add` and `remove` change the number of workers; `terminate` is a SIGTERM and a new worker."""

    KILL = "kill"
    ZOMBIE = "zombie"
    TERMINATE = "terminate"
    ADD = "add"
    REMOVE = "remove"
    LEARNER = "learner"
    BROKER = "broker"
    CUT = "cut"
    DELAY = "delay"
    THROTTLE = "throttle"
    RELEASE = "release"
    POISON = "poison"


POISONS = (
    "malformed_json",
    "wrong_key",
    "unknown_action",
    "time_past",
    "null_value",
    "duplicate_id",
    "schema",
    "time_future",
    "unknown_kind",
    "envelope",
)
"""Kinds of bad events, named by the reason with which they must be dead-lettered."""


@dataclass(frozen=True, slots=True)
class Options:
    """A chaos run: at least `kills` SIGKILLs of `workers` workers in `seconds`; `rate` events a second of `users`.

    `session_timeout_s` and `state_store` are the workers' settings `engine_session_timeout_s` and `state_store`.
    """

    kills: int
    workers: int
    seconds: float
    seed: int
    rate: float = 150.0
    users: int = 400
    session_timeout_s: float = 3.0
    state_store: str = "memory"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        at: seconds after the load began.
        kind: what.
        pick: 0 to 1, which of the workers that are there then.
        seconds: how long it lasts, 0 for what takes no time.
        poison: which kind of bad event.
    """

    at: float
    kind: Kind
    pick: float
    seconds: float = 0.0
    poison: str = ""


def counts(kills: int) -> dict[Kind, int]:
    """How often each fault happens in a run with so many kills; every kind at least once but kills."""

    def one_in(share: int) -> int:
        return max(1, math.ceil(kills / share))

    return {
        Kind.KILL: kills,
        Kind.ZOMBIE: one_in(6),
        Kind.TERMINATE: one_in(10),
        Kind.ADD: one_in(7),
        Kind.REMOVE: one_in(7),
        Kind.LEARNER: one_in(10),
        Kind.BROKER: one_in(10),
        Kind.CUT: one_in(12),
        Kind.DELAY: one_in(12),
        Kind.THROTTLE: one_in(12),
        Kind.RELEASE: one_in(8),
        Kind.POISON: max(len(POISONS), 2 * kills),
    }


def plan(options: Options) -> list[Fault]:
    """All faults, in order of time.

    One fault in each of as many equal stretches of time, at a random moment of it and in random order; bad events
    disturb nobody and come at any time. Raises CliError when the faults do not fit into the time.
    """
    random = np.random.default_rng((options.seed, options.kills, options.workers))
    wanted = counts(options.kills)
    usable = options.seconds - max(QUIET_S, QUIET_SHARE * options.seconds)
    poisons = _poisons(random, wanted.pop(Kind.POISON), usable)
    kinds = _shuffled(random, wanted)
    if usable < LEAST_BETWEEN_S * len(kinds):
        busy = LEAST_BETWEEN_S * len(kinds)
        least = math.ceil(max(busy + QUIET_S, busy / (1 - QUIET_SHARE)))
        raise CliError(
            f"--seconds {options.seconds:g} is too short for the {len(kinds)} faults of --kills {options.kills}",
            f"Give --seconds {least} or more, or fewer --kills.",
        )
    width = usable / len(kinds)
    faults = [
        Fault(
            at=round((number + float(random.random())) * width, 3),
            kind=kind,
            pick=round(float(random.random()), 6),
            seconds=round(_duration(kind, float(random.random()), options.session_timeout_s), 3),
        )
        for number, kind in enumerate(kinds)
    ]
    return sorted([*faults, *poisons], key=lambda fault: fault.at)


def _shuffled(random: np.random.Generator, wanted: dict[Kind, int]) -> list[Kind]:
    """Every fault but poison, in random order; a worker is added before one is removed."""
    kinds = [kind for kind, count in wanted.items() for _ in range(count)]
    kinds = [kinds[at] for at in random.permutation(len(kinds)).tolist()]
    places = [at for at, kind in enumerate(kinds) if kind in (Kind.ADD, Kind.REMOVE)]
    for turn, at in enumerate(places):
        kinds[at] = (Kind.ADD, Kind.REMOVE)[turn % 2]
    return kinds


def _poisons(random: np.random.Generator, count: int, usable: float) -> list[Fault]:
    """Every kind in turn, at any time."""
    return [
        Fault(round(float(random.random()) * usable, 3), Kind.POISON, 0.0, poison=POISONS[number % len(POISONS)])
        for number in range(count)
    ]


def _duration(kind: Kind, share: float, session_timeout_s: float) -> float:
    """How long a fault lasts, in seconds; a zombie sleeps until its session is surely over."""
    if kind is Kind.ZOMBIE:
        return session_timeout_s * (1.5 + 0.5 * share) + 1
    if kind is Kind.BROKER:
        return 2 * share
    if kind in (Kind.CUT, Kind.DELAY, Kind.THROTTLE):
        return session_timeout_s * (0.3 + share)  # some shorter than the session, some longer
    return 0.0


def described(faults: Sequence[Fault]) -> str:
    """The plan in one line: how many of each kind."""
    numbers = {kind: sum(fault.kind is kind for fault in faults) for kind in Kind}
    return ", ".join(f"{count} {kind}" for kind, count in numbers.items() if count)
