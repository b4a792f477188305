"""What is wrong and what to do about it, in words; and what the pages of processes give reason to say.

Thresholds are here, for the dashboard and the command line alike. Knows nothing of how advice is shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from ops.health.processes import Processes
from ops.health.saying import count, duration, seconds

Level = Literal["red", "amber", "hint"]
"""red: recommendations suffer; amber: they will, or nobody can tell; hint: nothing is wrong."""

LAG_AMBER, LAG_RED = 2_000, 50_000
LATENCY_AMBER_S, LATENCY_RED_S = 1.0, 10.0
RELEASE_AMBER_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Advice:
    """One thing worth saying, and the next step; empty where the words are enough."""

    level: Level
    words: str
    step: str = ""


def worst_first(advice: Iterable[Advice]) -> list[Advice]:
    """In order of urgency, otherwise as they came."""
    return sorted(advice, key=lambda one: ("red", "amber", "hint").index(one.level))


def of_processes(processes: Processes, p99: float | None = None) -> list[Advice]:
    """What the pages of the processes say; `p99` of event to slate in seconds. Endpoints must be set."""
    return [*of_pages(processes), *of_lag(processes.whole("worker", "lag_events")), *_of_speed(processes, p99)]


def of_pages(processes: Processes) -> list[Advice]:
    """Who does not answer, or is not ready."""
    workers = processes.live("worker")
    silent = [one for one in processes.known.values() if one.problem]
    found: list[Advice] = []
    if not workers:
        found.append(Advice("red", "no worker answers", "Is one running, with --web-port? See its log's last lines."))
    elif silent:
        words = f"{len(silent)} of {len(processes.known)} processes do not answer"
        found.append(Advice("amber", words, f"See the log of {silent[0].address}."))
    if any(one.value("ready") == 0 for one in workers):
        found.append(Advice("amber", "a worker is not ready", "It says why on its page /status."))
    return found


def _of_speed(processes: Processes, p99: float | None) -> list[Advice]:
    found: list[Advice] = []
    if p99 is not None and p99 > LATENCY_AMBER_S:
        level: Level = "red" if p99 > LATENCY_RED_S else "amber"
        words = f"one event in a hundred waits {seconds(p99)} for its slate"
        found.append(Advice(level, words, "See which stage grew on the dashboard's overview."))
    release = processes.worst("worker", "age_seconds", "release")
    if release is not None and release > RELEASE_AMBER_S:
        found.append(
            Advice("amber", f"the release is {duration(release)} old", "Is a learner active? `driftline learn`")
        )
    return found


def of_lag(lag: float | None) -> list[Advice]:
    """What it means that so many events wait for their slates."""
    if lag is None or lag <= LAG_AMBER:
        return []
    level: Level = "red" if lag > LAG_RED else "amber"
    return [Advice(level, f"{count(lag)} events are waiting", "Start more workers, up to one for each partition.")]
