"""How long a kill silences the partitions of the killed worker, and where the time goes.

Read from timestamps alone: of the slates, of the workers' logs, and of the broker's. Knows nothing of what is logged
beyond the few lines it looks for.
"""

from __future__ import annotations

import bisect
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

_TAKEN_OVER = "partition taken over"
_BROKER_LINE = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),(\d{3}) INFO (.*)$")


@dataclass(frozen=True, slots=True)
class TakenOver:
    """A worker has made a partition its own, restored it and begins; `at`: seconds since the epoch."""

    at: float
    worker: str
    partition: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Silence:
    """One partition between the last slate before a kill and the first after it; seconds since the epoch."""

    partition: int
    killed: float
    last: float
    first: float

    @property
    def seconds(self) -> float:
        return self.first - self.last


def taken_over(log: Path) -> list[TakenOver]:
    """What a worker's log (`<worker>.log`, JSON lines) says of the partitions it took over."""
    found = []
    for line in log.read_text(errors="replace").splitlines():
        if line.startswith("{") and _TAKEN_OVER in line:
            told = json.loads(line)
            at = datetime.fromisoformat(told["timestamp"]).timestamp()
            found.append(TakenOver(at, log.stem, told["partition"], told["seconds"]))
    return found


def owned(history: Sequence[TakenOver], worker: str, at: float) -> list[int]:
    """The partitions whose last owner before `at` is `worker`."""
    last: dict[int, TakenOver] = {}
    for one in sorted(history, key=lambda one: one.at):
        if one.at <= at:
            last[one.partition] = one
    return sorted(partition for partition, one in last.items() if one.worker == worker)


def silences(killed: float, partitions: Sequence[int], appended: Mapping[int, Sequence[int]]) -> list[Silence]:
    """Of each partition: its silence around a kill. `appended`: when slates were appended (ms), by partition.

    A partition that had no slate before, or none after, is left out.
    """
    found = []
    for partition in partitions:
        times = sorted(appended.get(partition, ()))
        at = bisect.bisect_left(times, round(killed * 1000))
        if 0 < at < len(times):
            found.append(Silence(partition, killed, times[at - 1] / 1000, times[at] / 1000))
    return found


def figures(
    kills: Sequence[tuple[float, str]],
    logs: Sequence[Path],
    appended: Mapping[int, Sequence[int]],
    group: Sequence[tuple[float, str]],
    disturbances: Sequence[tuple[float, float]],
) -> dict[str, Any]:
    """The report's figures on recovery; of each kill the partition that was silent longest counts.

    Args:
        kills: when each was (seconds since the epoch), and of which worker.
        logs: of all workers.
        appended: see `silences`.
        group: see `group_events`.
        disturbances: from when to when each fault lasted, the kills among them.

    `…_alone` and the shares are of the kills that nothing else fell into before the partition answered again.
    """
    history = [one for log in logs for one in taken_over(log)]
    each: list[Silence] = []
    every: list[Silence] = []
    for at, worker in kills:
        found = silences(at, owned(history, worker, at), appended)
        every += found
        each += [max(found, key=lambda one: one.seconds)] if found else []
    alone = [one for one in each if _alone(one, disturbances)]
    return {
        "recovery_seconds": percentiles([one.seconds for one in each]),
        "recovery_seconds_alone": percentiles([one.seconds for one in alone]),
        "recovery_shares": shares([one for one in every if _alone(one, disturbances)], group, history),
        "recoveries": len(each),
        "recoveries_s": [round(one.seconds, 3) for one in each],
        "recoveries_alone_s": [round(one.seconds, 3) for one in alone],
    }


def _alone(silence: Silence, disturbances: Sequence[tuple[float, float]]) -> bool:
    """Whether no other fault than its kill fell into a silence."""
    others = [(begin, end) for begin, end in disturbances if not begin - 0.1 <= silence.killed <= begin + 0.1]
    return not any(begin < silence.first and silence.last < end for begin, end in others)


def group_events(broker_logs: Sequence[Path], group: str) -> list[tuple[float, str]]:
    """What the broker did with the group, in order: `failed` (a member's session is over), `stable` (all know)."""
    words = {"has failed, removing it": "failed", "Preparing to rebalance": "preparing", "Stabilized group": "stable"}
    found = []
    for path in broker_logs:
        for line in path.read_text(errors="replace").splitlines():
            matched = _BROKER_LINE.match(line)
            if matched and f"group {group} " in line:
                for words_said, name in words.items():
                    if words_said in matched[3]:
                        at = time.mktime(time.strptime(matched[1], "%Y-%m-%d %H:%M:%S")) + int(matched[2]) / 1000
                        found.append((at, name))
    return sorted(found)


def shares(
    found: Sequence[Silence], group: Sequence[tuple[float, str]], history: Sequence[TakenOver]
) -> dict[str, float]:
    """Median seconds of each part of a silence, over those in which every part can be told.

    `detect`: until the broker gives the dead member up; `rebalance`: until all members have joined; `take_over`:
    fencing and restoring; `first_slate`: until the first slate is appended.
    """
    parts: dict[str, list[float]] = {"detect": [], "rebalance": [], "take_over": [], "first_slate": []}
    for silence in found:
        failed = _first(silence.killed, silence.first, [at for at, name in group if name == "failed"])
        taken = _first(
            silence.killed, silence.first, [one.at for one in history if one.partition == silence.partition], last=True
        )
        if failed is None or taken is None:
            continue
        stable = _first(failed, taken, [at for at, name in group if name == "stable"], last=True)
        if stable is None:
            continue
        steps = (silence.killed, failed, stable, taken, silence.first)
        for name, begin, end in zip(parts, steps, steps[1:], strict=False):
            parts[name].append(end - begin)
    return {name: round(median(values), 3) for name, values in parts.items() if values}


def _first(begin: float, end: float, times: Sequence[float], *, last: bool = False) -> float | None:
    within = [at for at in times if begin <= at <= end]
    return (max if last else min)(within) if within else None


def percentiles(values: Sequence[float]) -> dict[str, Any]:
    """Median, 90th percentile and maximum in seconds; None where there is nothing."""
    if not values:
        return {"p50": None, "p90": None, "max": None}
    ordered = sorted(values)
    return {
        "p50": round(median(ordered), 3),
        "p90": round(ordered[min(len(ordered) - 1, int(0.9 * len(ordered)))], 3),
        "max": round(ordered[-1], 3),
    }
