"""Propensities, fairness, index, models, and what comes in: what pages of numbers show. Plain values, no markup."""

from __future__ import annotations

from typing import Any

from ops.dashboard.facts import Facts, least
from ops.health.saying import Figure, count, decimal, duration, ratio, share


class Quality:
    """The pages' contents now."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts

    def propensity(self) -> dict[str, Any]:
        seen, processes, age = self.facts.seen, self.facts.processes, self.facts.age("learner")
        outcome_age = None if seen.outcome_at is None else seen.clock() - seen.outcome_at
        none = "no learner says it"
        figures = [
            self.facts.figure(
                "Calibration error",
                decimal(processes.worst("learner", "propensity_calibration_error_ratio")),
                age,
                none,
                "learner",
            ),
            self.facts.figure(
                "Effective sample, of the learner's weights",
                share(processes.worst("learner", "propensity_effective_sample_ratio")),
                age,
                none,
                "learner",
            ),
            self.facts.figure(
                "Weight lost to clipping",
                share(processes.worst("learner", "propensity_clipped_weight_ratio")),
                age,
                none,
                "learner",
            ),
            Figure(
                "Outcomes seen here",
                count(seen.outcomes) if seen.outcomes else None,
                outcome_age,
                "none came since the dashboard was started",
            ),
        ]
        bins = [
            {
                "range": f"{10 * at}–{10 * at + 10} %",
                "candidates": f"{one.candidates:,.0f}",
                "said": one.probability / one.candidates,
                "said_text": share(one.probability / one.candidates),
                "was": one.shown / one.candidates,
                "was_text": share(one.shown / one.candidates),
            }
            for at, one in enumerate(seen.bins)
            if one.candidates > 0
        ]
        return {
            "figures": figures,
            "bins": bins,
            "positions": self._positions(),
            "rates": self._naive_and_corrected(),
            "weights": self._weights(),
            "charts": {
                "reliability": [
                    [one["said"] for one in bins],
                    [one["was"] for one in bins],
                    [one["said"] for one in bins],
                ],
                "positions": [
                    [float(at + 1) for at in range(len(seen.positions))],
                    [100 * one.clicked / one.shown if one.shown else None for one in seen.positions],
                ],
                "calibration": self.facts.history(("calibration", 1), ("ess", 1)),
            },
        }

    def _positions(self) -> list[dict[str, Any]]:
        return [
            {
                "position": at + 1,
                "shown": one.shown,
                "clicked": one.clicked,
                "rate": share(ratio(one.clicked, one.shown)),
            }
            for at, one in enumerate(self.facts.seen.positions)
        ]

    def _naive_and_corrected(self) -> list[dict[str, Any]]:
        ranked = sorted(
            ((item, known) for item, known in self.facts.seen.most_shown.items() if known.weights > 0),
            key=lambda one: -one[1].shown,
        )
        return [
            {
                "item": item,
                "title": known.title,
                "shown": known.shown,
                "naive": share(ratio(known.clicked, known.shown)),
                "corrected": share(ratio(known.weighted_clicks, known.weights)),
            }
            for item, known in ranked
        ]

    def _weights(self) -> list[dict[str, Any]]:
        weights = sorted(self.facts.seen.weights)
        if not weights:
            return []
        return [
            {"name": name, "value": f"{weights[min(len(weights) - 1, int(part * len(weights)))]:,.2f}"}
            for name, part in (("median", 0.5), ("95th of 100", 0.95), ("largest", 1.0))
        ]

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
                "no worker says it: the rules file has no [fairness]",
            ),
            "exposure": [{"group": name, "text": share(value)} for name, value in sorted(exposure.items())],
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
        processes, age, now = self.facts.processes, self.facts.age("learner"), self.facts.seen.clock()
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
            "releases": [
                {"release": name, "age": now - created / 1000, "serving": name in serving}
                for name, created in self.facts.seen.releases
            ],
            "charts": {"loss": self.facts.history(("loss", 1)), "hits": self.facts.history(("hits", 100))},
        }

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
