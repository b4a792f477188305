"""The plan: the same seed gives the same, it holds what it promises, and it fits into the time."""

from __future__ import annotations

from collections import Counter

import pytest

from ops.chaos.schedule import POISONS, Kind, Options, counts, plan
from ops.errors import CliError


def options(kills: int = 25, seconds: float = 300, seed: int = 1, workers: int = 3) -> Options:
    return Options(kills, workers, seconds, seed)


def test_the_same_seed_gives_the_same_plan_and_another_another() -> None:
    assert plan(options()) == plan(options())
    assert plan(options()) != plan(options(seed=2))


@pytest.mark.parametrize("kills", [0, 2, 25, 100])
@pytest.mark.parametrize("seed", range(5))
def test_it_holds_what_it_promises(kills: int, seed: int) -> None:
    faults = plan(options(kills, seconds=10 + 6 * (kills + 10), seed=seed))
    found = Counter(fault.kind for fault in faults)
    assert found[Kind.KILL] == kills
    assert all(found[kind] >= 1 for kind in Kind if kind is not Kind.KILL)
    assert found[Kind.ADD] + found[Kind.REMOVE] == counts(kills)[Kind.ADD] + counts(kills)[Kind.REMOVE]
    assert found[Kind.ZOMBIE] >= kills / 6 and found[Kind.BROKER] >= kills / 10
    assert {fault.poison for fault in faults if fault.kind is Kind.POISON} == set(POISONS)


@pytest.mark.parametrize("seed", range(10))
def test_there_is_always_a_worker_and_never_one_too_many(seed: int) -> None:
    workers = 2
    for fault in plan(options(seed=seed, workers=workers)):
        workers += (fault.kind is Kind.ADD) - (fault.kind is Kind.REMOVE)
        assert workers in (2, 3)


def test_faults_are_spread_over_the_time_and_leave_a_quiet_end() -> None:
    faults = plan(options())
    assert faults == sorted(faults, key=lambda fault: fault.at)
    assert faults[0].at >= 0 and faults[-1].at <= 270
    disruptive = [fault.at for fault in faults if fault.kind is not Kind.POISON]
    assert all(abs(at / 270 - number / len(disruptive)) <= 1 / len(disruptive) for number, at in enumerate(disruptive))


def test_a_zombie_sleeps_longer_than_its_session() -> None:
    zombies = [fault for fault in plan(options()) if fault.kind is Kind.ZOMBIE]
    assert all(fault.seconds > 1.5 * options().session_timeout_s for fault in zombies)


def test_too_short_a_time_is_refused_with_one_that_is_enough() -> None:
    with pytest.raises(CliError, match="--seconds 20 is too short for the") as caught:
        plan(options(seconds=20))
    enough = int(caught.value.next_step.split("--seconds ")[1].split()[0])
    plan(options(seconds=enough))
    with pytest.raises(CliError):
        plan(options(seconds=enough - 2))
