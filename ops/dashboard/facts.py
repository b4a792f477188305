"""What pages are made of: figures with the age of their source, series for charts, topics.

Knows what is remembered and what processes said; knows nothing of pages.
"""

from __future__ import annotations

import math
from typing import Any

from ops.dashboard.seen import Seen
from ops.health.processes import Processes
from ops.health.saying import Figure


class Facts:
    """Reads figures off what is remembered."""

    def __init__(self, seen: Seen, processes: Processes) -> None:
        self.seen, self.processes = seen, processes

    def figure(
        self, label: str, text: str | None, age: float | None, why: str = "", kind: str = "worker", note: str = ""
    ) -> Figure:
        if age is None:
            return Figure(label, None, why=self.absent(kind))
        return Figure(label, text, age if text is not None else None, why or "it is not said", note)

    def absent(self, kind: str) -> str:
        return f"no {kind} answers" if self.processes.endpoints else "no endpoints are set"

    def age(self, kind: str) -> float | None:
        """How old the oldest of the last answers of a kind's live processes is."""
        ages = [self.processes.clock() - one.at for one in self.processes.live(kind) if one.at is not None]
        return max(ages) if ages else None

    def history(self, *series: tuple[str, float]) -> list[list[float | None]]:
        points = [list(self.processes.history.get(name, ())) for name, _ in series]
        times: list[float | None] = [time for time, _ in points[0]]
        return [times] + [
            [None if value is None or not math.isfinite(value) else value * scale for _, value in one]
            for one, (_, scale) in zip(points, series, strict=True)
        ]

    def rates(self, *names: str) -> list[list[float | None]]:
        """For a chart: times, then the records a second of topics."""
        points = [list(self.seen.topics[name].rates) if name in self.seen.topics else [] for name in names]
        length = min(map(len, points))
        if not length:
            return [[] for _ in range(len(names) + 1)]
        times: list[float | None] = [time for time, _ in points[0][-length:]]
        return [times] + [[rate for _, rate in one[-length:]] for one in points]

    def topics(self) -> list[dict[str, Any]]:
        """Each topic followed: its rate, its age, what was left out, what is wrong."""
        now = self.seen.clock()
        return [
            {
                "name": name,
                "rate": f"{topic.rates[-1][1]:,.1f}" if topic.rates else None,
                "age": None if topic.at is None else now - topic.at,
                "skipped": topic.skipped,
                "problem": topic.problem,
            }
            for name, topic in self.seen.topics.items()
        ]


def least(processes: Processes, name: str, *labels: str) -> float | None:
    values = [value for one in processes.live("worker") if (value := one.value(name, *labels)) is not None]
    return min(values) if values else None


def total(process: Any, name: str) -> float | None:
    values = [value for key, value in process.metrics.items() if key[0] == f"driftline_{name}"]
    return sum(values) if values else None
