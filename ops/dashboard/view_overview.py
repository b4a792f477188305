"""The overview: is it healthy, and where does an event's time go. Plain values, no markup."""

from __future__ import annotations

from typing import Any

from ops.dashboard.facts import Facts, total
from ops.health.advice import of_processes
from ops.health.saying import Figure, count, duration, seconds, share
from streams.measures import STAGES


class Overview:
    """The page's contents now."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts

    def overview(self) -> dict[str, Any]:
        processes, age = self.facts.processes, self.facts.age("worker")
        p50, p99 = (processes.quantile("event_latency_seconds", share) for share in (0.5, 0.99))
        lag = processes.whole("worker", "lag_events")
        figures = [
            self.facts.figure(
                "Event to slate, median", seconds(p50), age, "no event was answered between two readings"
            ),
            self.facts.figure(
                "Event to slate, 99 of 100", seconds(p99), age, "no event was answered between two readings"
            ),
            self._rate_figure(),
            self.facts.figure("Events behind", count(lag), age),
            self.facts.figure("Dead letters", self._letters(), age),
            self.facts.figure(
                "Hit rate, recent slates",
                share(processes.worst("learner", "hit_ratio")),
                self.facts.age("learner"),
                "no outcome was learned yet",
                kind="learner",
            ),
        ]
        ages = [
            self.facts.figure(label, duration(processes.worst("worker", "age_seconds", of)), age, "there is none yet")
            for of, label in (
                ("state", "User states behind by"),
                ("index", "Item changes waiting for"),
                ("catalogue", "Catalogue read"),
                ("release", "Release made"),
                ("estimator", "Estimator made"),
            )
        ]
        return {
            "health": self._health(p99),
            "figures": figures,
            "ages": ages,
            "stages": self._stages(),
            "processes": [self._process(one) for one in processes.known.values()],
            "topics": self.facts.topics(),
            "configured": bool(processes.endpoints),
            "charts": {
                "latency": self.facts.history(("p50", 1e3), ("p99", 1e3)),
                "rate": self.facts.rates("events", "recommendations"),
                "lag": self.facts.history(("lag", 1)),
            },
        }

    def _health(self, p99: float | None) -> dict[str, Any]:
        """Red, amber or green, in words: the worst of what is known, and what isn't known is no green."""
        found: list[tuple[str, str]] = []
        broken = [topic for topic in self.facts.seen.topics.values() if topic.problem]
        if broken:
            found.append(("red", f"the topics cannot be read: {broken[0].problem}"))
        if self.facts.processes.endpoints:
            found += [(one.level, one.words) for one in of_processes(self.facts.processes, p99)]
        else:
            found.append(("amber", "no worker is asked: set DRIFTLINE_DASHBOARD_ENDPOINTS to see how they do"))
        if not found:
            return {"level": "green", "words": ["recommendations are fresh and all processes answer"]}
        level = "red" if any(one == "red" for one, _ in found) else "amber"
        return {"level": level, "words": [words for _, words in sorted(found, key=lambda one: one[0] != "red")]}

    def _letters(self) -> str | None:
        """Workers that have counted none do not name a reason: then there were none, if they answer."""
        letters = self.facts.processes.whole("worker", "dead_letters_total")
        return "none" if letters is None and self.facts.processes.live("worker") else count(letters)

    def _rate_figure(self) -> Figure:
        topic = self.facts.seen.topics.get("events")
        if topic is None or topic.at is None or not topic.rates:
            return Figure("Events a second", None, why=topic.problem if topic and topic.problem else "not measured yet")
        return self.facts.figure("Events a second", f"{topic.rates[-1][1]:,.1f}", self.facts.seen.clock() - topic.at)

    def _stages(self) -> list[dict[str, Any]]:
        """Mean time of an event in each stage, over the last two readings."""
        found: list[dict[str, Any]] = []
        for stage in STAGES:
            spent = self.facts.processes.rate("worker", "stage_seconds_sum", stage)
            events = self.facts.processes.rate("worker", "stage_seconds_count", stage)
            mean = spent / events if spent is not None and events else None
            found.append({"stage": stage, "seconds": mean, "text": seconds(mean)})
        longest = max((one["seconds"] or 0.0 for one in found), default=0.0)
        return [one | {"share": 100 * (one["seconds"] or 0.0) / longest if longest else 0} for one in found]

    def _process(self, one: Any) -> dict[str, Any]:
        now, status = self.facts.processes.clock(), one.status
        memory = one.metrics.get(("process_resident_memory_bytes",))
        return {
            "address": one.address,
            "kind": one.kind or "not known yet",
            "state": one.problem or str(status.get("state", "running" if status.get("ready") else "not ready"))[:80],
            "problem": bool(one.problem),
            "age": None if one.at is None else now - one.at,
            "lag": count(one.value("lag_events") if one.value("lag_events") is not None else total(one, "lag_events")),
            "memory": None if memory is None else f"{memory / 2**20:,.0f} MiB",
            "release": str(status.get("release") or "")[:64],
        }
