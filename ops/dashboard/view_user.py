"""A user and an item: what was recommended, how it came about, what has changed. Plain values, no markup."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from ops.dashboard.facts import Facts
from ops.dashboard.lookup import User, numbers
from ops.health.saying import Figure, count, ratio, share, signed
from streams.contracts import Decision, Recommendation

CANDIDATES_SHOWN = 40


class UserView:
    """The pages' contents now."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts

    def user(self, found: User) -> dict[str, Any]:
        slates = [slate for _, slate in found.slates]
        decision = found.decisions[0][1] if found.decisions else None
        newest = slates[0] if slates else None
        return {
            "user": found.user,
            "partition": found.partition,
            "looked": found.looked,
            "erased": found.erased,
            "events": [self._event(*one) for one in found.events],
            "slate": self._slate(newest, found.slates[0][0]) if newest else None,
            "change": self._change(slates[0], slates[1]) if len(slates) > 1 else None,
            "decision": self._decision(decision, newest) if decision else None,
            "drift": self._drift(slates),
            "turning": self._turning(*found.decisions[0]) if found.decisions else None,
            "charts": {"drift": self._drift_chart(slates), "turning": self._turns_chart(found)},
        }

    def _event(self, offset: int, timestamp: int, event: Any) -> dict[str, Any]:
        item = getattr(event, "item", None)
        return {
            "offset": offset,
            "time": timestamp / 1000,
            "kind": str(event.__struct_config__.tag),
            "action": getattr(event, "action", ""),
            "item": item,
            "title": self.facts.seen.title(item),
        }

    def _slate(self, slate: Recommendation, written: int) -> dict[str, Any]:
        rows = []
        for at, item in enumerate(slate.items):
            rows.append(
                {
                    "position": at + 1,
                    "item": item,
                    "title": self.facts.seen.title(item),
                    "score": f"{slate.scores[at]:.3f}",
                    "conditional": share(slate.conditional[at]),
                    "propensity": share(slate.propensity[at]) if slate.propensity else None,
                    "inclusion": share(slate.inclusion[at]) if slate.inclusion else None,
                    "pinned": at in getattr(slate, "pinned", []),
                }
            )
        cause = slate.cause
        return {
            "slate": slate.slate,
            "age": self.facts.seen.clock() - written / 1000,
            "rows": rows,
            "cause": {"kind": cause.kind, "item": cause.item, "title": self.facts.seen.title(cause.item)},
            "covers": len(slate.covers),
            "release": slate.release,
            "estimator": slate.estimator,
            "took": slate.ages.event_ms,
        }

    def _named(self, item: str) -> dict[str, Any]:
        return {"item": item, "title": self.facts.seen.title(item)}

    def _change(self, now: Recommendation, before: Recommendation) -> dict[str, Any]:
        """What the newest slate has that the one before it had not, and by which event."""
        old, new = {item: at for at, item in enumerate(before.items)}, {item: at for at, item in enumerate(now.items)}
        moved = [
            self._named(item) | {"from": old[item] + 1, "to": at + 1}
            for item, at in new.items()
            if item in old and old[item] != at
        ]
        return {
            "came": [self._named(item) for item in new if item not in old],
            "went": [self._named(item) for item in old if item not in new],
            "moved": moved,
            "cause": {
                "kind": now.cause.kind,
                "item": now.cause.item,
                "title": self.facts.seen.title(now.cause.item),
                "offset": now.cause.offset,
                "partition": now.cause.partition,
            },
            "release_changed": now.release != before.release,
            "estimator_changed": now.estimator != before.estimator,
        }

    def _decision(self, decision: Decision, slate: Recommendation | None) -> dict[str, Any]:
        """Candidates with every term of their logits, the best first; what was chosen is among them."""
        columns: dict[str, Any] = {name: numbers(column) for name, column in sorted(decision.terms.items())}
        if len(columns) != 1:
            columns["base"] = numbers(decision.base_f32)
        columns["popularity"] = numbers(decision.correction_f32)
        columns |= {name: numbers(column) for name, column in sorted(decision.adjustments.items())}
        logits = numbers(decision.logits_f32)
        place = {column: at for at, column in enumerate(decision.chosen)}
        present = [at for at, item in enumerate(decision.candidates) if item is not None and at < len(logits)]
        order = sorted(present, key=lambda at: (-float(logits[at]), at))
        shown = order[:CANDIDATES_SHOWN] + [at for at in decision.chosen if at not in order[:CANDIDATES_SHOWN]]
        rows = [
            {
                "item": decision.candidates[at],
                "title": self.facts.seen.title(decision.candidates[at]),
                "source": self._source(decision, at),
                "terms": [signed(column[at]) for column in columns.values()],
                "logit": signed(logits[at]),
                "position": place[at] + 1 if at in place else None,
                "probability": share(decision.conditional[place[at]]) if at in place else None,
            }
            for at in shown
        ]
        return {
            "slate": decision.slate,
            "of_this_slate": slate is not None and slate.slate == decision.slate,
            "columns": list(columns),
            "rows": rows,
            "candidates": len(present),
            "left_out": len(present) - len(rows),
            "uniform": decision.uniform,
            "temperature": f"{decision.temperature:.3g}",
            "epsilon": share(decision.epsilon),
            "removed": len(decision.removed),
        }

    @staticmethod
    def _source(decision: Decision, at: int) -> str:
        if at >= len(decision.candidates) - decision.injected:
            return "drawn at random"
        return "goes with his last items" if at < decision.counted else "near his vector"

    def _turning(self, written: int, decision: Decision) -> dict[str, Any]:
        """By how much a day his interest has turned, and towards what, when this slate was made."""
        degrees = decision.drift
        age = self.facts.seen.clock() - written / 1000
        why = "he has too few events in this catalogue, or an older driftline made the slate"
        return {
            "figure": Figure("Interest turned", None if degrees is None else f"{degrees:.1f}° a day", age, why),
            "topics": [
                {"name": name, "change": f"{100 * change:+.1f}".replace("-", "−") + " points a day"}
                for name, change in decision.drift_topics.items()
            ],
        }

    @staticmethod
    def _turns_chart(found: User) -> list[list[float | None]]:
        """By time of the slate: degrees a day."""
        old = list(found.turns)[::-1]
        return [[written / 1000 for written, _ in old], [degrees for _, degrees in old]]

    def _drift(self, slates: list[Recommendation]) -> list[dict[str, Any]]:
        """Shares of categories in his newest slates and in his oldest that are known, where they differ most."""
        if len(slates) < 2:
            return []
        half = max(1, len(slates) // 2)
        now, then = self._categories(slates[:half]), self._categories(slates[half:])
        names = sorted({*now, *then}, key=lambda name: -max(now.get(name, 0), then.get(name, 0)))[:6]
        return [{"name": name, "now": share(now.get(name, 0.0)), "then": share(then.get(name, 0.0))} for name in names]

    def _categories(self, slates: list[Recommendation]) -> dict[str, float]:
        found: dict[str, float] = {}
        total = 0
        for slate in slates:
            for item in slate.items:
                known = self.facts.seen.items.get(item)
                for name in known.categories[:1] if known else ():
                    found[name] = found.get(name, 0) + 1
                    total += 1
        return {name: number / total for name, number in found.items()}

    @staticmethod
    def _drift_chart(slates: list[Recommendation]) -> list[list[float | None]]:
        """By time of the slate: which share of it was in the slate before it, and in the first known one."""
        old = slates[::-1]
        if len(old) < 3:
            return [[], [], []]
        first = set(old[0].items)
        times: list[float | None] = []
        before: list[float | None] = []
        start: list[float | None] = []
        for last, slate in pairwise(old):
            items = set(slate.items)
            size = max(1, len(items))
            times.append(slate.time / 1000)
            before.append(100 * len(items & set(last.items)) / size)
            start.append(100 * len(items & first) / size)
        return [times, before, start]

    def item(self, item: str) -> dict[str, Any]:
        known = self.facts.seen.items.get(item)
        if known is None:
            return {"item": item, "known": False, "charts": {}}
        since = "since this dashboard was started"
        figures = [
            Figure("In slates", count(known.slates), note=since),
            Figure(
                "Chance to be in such a slate",
                share(ratio(known.inclusion, known.weighed)),
                why="no slate with it came yet",
                note="mean inclusion probability",
            ),
            Figure("Outcomes", count(known.shown), note=since),
            Figure("Click rate, as counted", share(ratio(known.clicked, known.shown)), why="no outcome with it yet"),
            Figure(
                "Click rate, debiased",
                share(ratio(known.weighted_clicks, known.weights)),
                why="no outcome with a logged propensity yet",
                note="weighted by inverse inclusion, clipped at 100",
            ),
        ]
        return {
            "item": item,
            "known": True,
            "catalogued": known.catalogued,
            "title": known.title,
            "categories": known.categories,
            "withdrawn": known.withdrawn,
            "figures": figures,
            "charts": {},
        }
