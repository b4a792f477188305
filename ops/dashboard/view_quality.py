"""Fairness, index, models, and what comes in: what pages of numbers show. Plain values, no markup."""

from __future__ import annotations

from typing import Any

from ops.dashboard.facts import Facts, least
from ops.health.saying import count, decimal, duration, ratio, share


class Quality:
    """The pages' contents now."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts

    def fairness(self) -> dict[str, Any]:
        counted = sorted(self.facts.seen.exposure.items())
        total = sum(shown for _, (shown, _) in counted)
        groups = [
            {
                "users": users,
                "items": items,
                "shown": shown,
                "clicked": clicked,
                "rate": share(ratio(clicked, shown)),
                "part": share(shown / total),
                "width": 100 * shown / total,
            }
            for (users, items), (shown, clicked) in counted
        ]
        exposure = {
            key[1]: value
            for process in self.facts.processes.live("worker")
            for key, value in process.metrics.items()
            if key[0] == "driftline_exposure_ratio"
        }
        return {
            "groups": groups,
            "gap": self.facts.figure(
                "Gap between groups",
                decimal(self.facts.processes.worst("worker", "fairness_gap_ratio")),
                self.facts.age("worker"),
                "no worker says it: no [fairness] in the rules, or too little was shown yet",
            ),
            "exposure": [
                {"group": name, "text": share(value), "age": self.facts.age("worker")}
                for name, value in sorted(exposure.items())
            ],
            "charts": {"gap": self.facts.history(("gap", 1))},
        }

    def index(self) -> dict[str, Any]:
        processes, age = self.facts.processes, self.facts.age("worker")
        measured = processes.worst("worker", "index_recall_age_seconds")
        figures = [
            self.facts.figure("Items that can be recommended", count(processes.worst("worker", "items")), age),
            self.facts.figure(
                "Recall against exact search",
                share(least(processes, "index_recall_ratio", "mean")),
                age,
                "it was not measured yet",
                note="" if measured is None else f"measured {duration(measured)} ago",
            ),
            self.facts.figure(
                "Recall, worst of 20",
                share(least(processes, "index_recall_ratio", "p05")),
                age,
                "it was not measured yet",
            ),
            self.facts.figure(
                "Item changes waiting for", duration(processes.worst("worker", "age_seconds", "index")), age
            ),
            self.facts.figure("Catalogue read", duration(processes.worst("worker", "age_seconds", "catalogue")), age),
            self.facts.figure(
                "Reach: items shown in the last hour",
                share(processes.worst("worker", "catalogue_reach_ratio")),
                age,
                note="the widest of the workers",
            ),
        ]
        workers = [
            {
                "address": one.address,
                "items": count(one.value("items")),
                "recall": share(one.value("index_recall_ratio", "mean")),
                "release": str(one.status.get("release") or "")[:64],
                "catalogue": str(one.status.get("catalogue") or "")[:64],
                "age": None if one.at is None else processes.clock() - one.at,
            }
            for one in processes.live("worker")
        ]
        return {"figures": figures, "workers": workers, "charts": {"recall": self.facts.history(("recall", 100))}}

    def models(self) -> dict[str, Any]:
        processes, age = self.facts.processes, self.facts.age("learner")
        serving = {str(one.status.get("release")) for one in processes.live("worker") if one.status.get("release")}
        figures = [
            self.facts.figure(
                "Rounds of training",
                count(processes.worst("learner", "trainer_rounds")),
                age,
                "no trainer says it",
                "learner",
            ),
            self.facts.figure(
                "Loss of the last round",
                decimal(processes.worst("learner", "trainer_loss")),
                age,
                "no round was learned yet",
                "learner",
            ),
            self.facts.figure(
                "Events not learned yet",
                count(processes.worst("learner", "trainer_lag_events")),
                age,
                "no trainer says it",
                "learner",
            ),
            *(
                self.facts.figure(
                    f"Releases {word}",
                    count(processes.worst("learner", "releases", decision)),
                    age,
                    "no trainer says it",
                    "learner",
                )
                for decision, word in (("refused", "refused"), ("taken_back", "taken back"))
            ),
        ]
        return {
            "figures": figures,
            "serving": sorted(serving),
            "swapping": len(serving) > 1,
            "releases": self._releases(serving),
            "charts": {"loss": self.facts.history(("loss", 1)), "hits": self.facts.history(("hits", 100))},
        }

    def _releases(self, serving: set[str]) -> list[dict[str, Any]]:
        """Those published of late, and those served, whose pointer estimates may have pushed out of the tail."""
        now, processes = self.facts.seen.clock(), self.facts.processes
        published: list[tuple[str, float | None]] = [
            (name, now - created / 1000) for name, created in self.facts.seen.releases
        ]
        for name in sorted(serving - {name for name, _ in published}):
            ages = [
                one.value("age_seconds", "release")
                for one in processes.live("worker")
                if str(one.status.get("release")) == name
            ]
            published.append((name, max((age for age in ages if age is not None), default=None)))
        return [{"release": name, "age": age, "serving": name in serving} for name, age in published]

    def events(self) -> dict[str, Any]:
        now = self.facts.seen.clock()
        letters = [
            {
                "of": of,
                "partition": letter.partition,
                "offset": letter.offset,
                "age": now - letter.time / 1000,
                "reason": letter.reason or "it does not say",
                "again": (of, letter.partition, letter.offset) in self.facts.seen.sent_again,
                "message": letter.message,
                "key": (letter.key or b"").decode(errors="backslashreplace")[:300],
                "value": (letter.value or b"").decode(errors="backslashreplace")[:300],
            }
            for of, letter in list(self.facts.seen.letters)[:50]
        ]
        events = [
            one | {"title": self.facts.seen.title(one["item"]), "age": now - one["time"] / 1000}
            for one in list(self.facts.seen.events)[:50]
        ]
        return {
            "events": events,
            "letters": letters,
            "topics": self.facts.topics(),
            "charts": {"rate": self.facts.rates("events", "recommendations")},
        }
