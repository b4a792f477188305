"""What another policy or release would have sent, beside what was sent: how the slates differ, and for whom.

Both draw with the same random numbers, event by event and item by item (docs/adr/0003), so a difference is the policy's
or the release's, and small changes give small differences. Knows the contracts; knows nothing of Kafka.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.replay_verdict import Replayed
from streams.contracts import Decision


@dataclass(frozen=True, slots=True)
class Share:
    """How often an item stands in the slates.

    `shown`, `would_be`: slates that held it, and would have. `expected`, `would_expect`: mean probability of standing
    first, over all slates: the same question, without the luck of the draw.
    """

    item: str
    shown: int
    would_be: int
    expected: float
    would_expect: float


@dataclass(frozen=True, slots=True)
class Differences:
    """Means are over the slates compared; None where there are none.

    Attributes:
        slates: how many were compared.
        changed: how many differ in an item or in order.
        changed_items: how many differ in an item.
        overlap: mean share of a slate's items that the other one has too.
        moved: mean |difference of position|, over the items that both slates of a pair hold.
        users: (user, slates changed, slates), those with the most items changed first.
        items: those whose expected share changes most, first.
        examples: pairs that differ, early ones first.
    """

    slates: int
    changed: int
    changed_items: int
    overlap: float | None
    moved: float | None
    users: list[tuple[str, int, int]]
    items: list[Share]
    examples: list[tuple[Decision, Decision]]


class Comparison:
    """Takes in pairs, and keeps `top` users, items and examples."""

    def __init__(self, top: int = 10) -> None:
        self._top = top
        self._slates = self._changed = self._changed_items = self._together = 0
        self._overlap = self._moved = 0.0
        self._of_user: Counter[str] = Counter()
        self._changed_of_user: Counter[str] = Counter()
        self._lost_by_user: Counter[str] = Counter()
        self._counts: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
        self._first: tuple[defaultdict[str, float], defaultdict[str, float]] = (defaultdict(float), defaultdict(float))
        self._examples: list[tuple[Decision, Decision]] = []

    def take(self, one: Replayed) -> None:
        """Take in what was sent and what would have been; nothing where that could not be computed."""
        if one.made is None:
            return
        before, after = shown(one.recorded), shown(one.made)
        common = set(before) & set(after)
        self._slates += 1
        self._overlap += len(common) / max(len(before), len(after), 1)
        self._together += len(common)
        self._moved += sum(abs(before.index(item) - after.index(item)) for item in common)
        self._of_user[one.recorded.user] += 1
        if before != after:
            self._changed += 1
            self._changed_items += set(before) != set(after)
            self._changed_of_user[one.recorded.user] += 1
            self._lost_by_user[one.recorded.user] += max(len(before), len(after)) - len(common)
            if len(self._examples) < self._top:
                self._examples.append((one.recorded, one.made))
        for decision, counts, first in zip((one.recorded, one.made), self._counts, self._first, strict=True):
            counts.update(shown(decision))
            for candidate, chance in zip(decision.candidates, first_place(decision).tolist(), strict=True):
                if candidate is not None:
                    first[candidate] += chance

    @property
    def result(self) -> Differences:
        """What was found so far."""
        users = sorted(self._changed_of_user, key=lambda user: (-self._lost_by_user[user], user))[: self._top]
        return Differences(
            slates=self._slates,
            changed=self._changed,
            changed_items=self._changed_items,
            overlap=self._overlap / self._slates if self._slates else None,
            moved=self._moved / self._together if self._together else None,
            users=[(user, self._changed_of_user[user], self._of_user[user]) for user in users],
            items=sorted(map(self._share, {**self._first[0], **self._first[1]}), key=_change)[: self._top],
            examples=list(self._examples),
        )

    def _share(self, item: str) -> Share:
        expected, would = (first[item] / self._slates for first in self._first)
        return Share(item, self._counts[0][item], self._counts[1][item], expected, would)


def shown(decision: Decision) -> list[str]:
    """The slate: its items in order of position."""
    return [decision.candidates[column] or "" for column in decision.chosen]


def first_place(decision: Decision) -> NDArray[np.float64]:
    """Probability of each candidate to stand first, [width], by the decision's own logits and policy."""
    logits = np.frombuffer(decision.logits_f32, "<f4").astype(np.float64) / decision.temperature
    available = np.isfinite(logits)
    if not available.any():
        return np.zeros(len(logits))
    weights = np.where(available, np.exp(logits - logits[available].max()), 0.0)
    mixed = (1 - decision.epsilon) * weights / weights.sum() + decision.epsilon * available / available.sum()
    return np.asarray(mixed)


def _change(share: Share) -> tuple[float, str]:
    return -abs(share.would_expect - share.expected), share.item
