"""One user's story: what was just done, what came into the slate and what went out, and why.

Told from two decisions, as plain JSON says them. The draw is random by design: where the score does not explain a
change, the luck of the draw does, and is called that. Knows nothing of Kafka or of how a score is computed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ops.audit import floats


@dataclass(frozen=True, slots=True)
class Terms:
    """What a candidate's score was made of, and its place in the order of scores, from 1.

    `base` is the model's part and `company`, that of counts: how it goes with what the user did last, how often it is
    taken of late. `arranged` is what was added by intention: variety, tastes in proportion, fatigue, rules.
    """

    base: float
    correction: float
    rank: int
    injected: bool
    company: float = 0.0
    arranged: float = 0.0

    @property
    def taste(self) -> float:
        """The model's part."""
        return self.base - self.company


@dataclass(frozen=True, slots=True)
class Look:
    """A decision, as far as a story needs it."""

    user: str
    item: str | None  # what the user did last
    covers: int  # how many events it answers
    slate: list[str]
    uniform: bool
    candidates: Mapping[str, Terms]


@dataclass(frozen=True, slots=True)
class Change:
    """An item that came in (`position` from 1) or went out (None), its terms before and after, and the reason."""

    title: str
    position: int | None
    before: Terms | None
    after: Terms | None
    why: str


@dataclass(frozen=True, slots=True)
class Story:
    """`others`: further events that the slate answers; `place`: of the item in the slate before, from 1, or None."""

    user: str
    title: str
    others: int
    place: int | None
    uniform: bool
    came: list[Change]
    went: list[Change]


def look(decision: Mapping[str, Any]) -> Look:
    """Read a decision's JSON."""
    candidates = decision["candidates"]
    base, correction, logits = (floats(decision[f"{name}_f32"]) for name in ("base", "correction", "logits"))
    counted = [floats(term) for name, term in sorted(decision.get("terms", {}).items()) if name != "model"]
    company = np.sum(counted, axis=0) if counted else np.zeros(len(base))
    added = [floats(term) for _, term in sorted(decision.get("adjustments", {}).items())]
    arranged = np.sum(added, axis=0) if added else np.zeros(len(base))
    first_injected = len(candidates) - decision["injected"]
    terms: dict[str, Terms] = {}
    for rank, column in enumerate(np.argsort(-logits, kind="stable").tolist(), start=1):
        item = candidates[column]
        if item is not None:
            numbers = float(base[column]), float(correction[column]), rank
            terms[item] = Terms(*numbers, column >= first_injected, float(company[column]), float(arranged[column]))
    slate = [candidates[column] for column in decision["chosen"]]
    covers = len(decision["covers"])
    return Look(decision["user"], decision["cause"]["item"], covers, slate, decision["uniform"], terms)


def tell(before: Look, after: Look, titles: Mapping[str, str]) -> Story:
    """The story of a user between two slates, `after` being the answer to what was done."""
    came = [item for item in after.slate if item not in before.slate]
    went = [item for item in before.slate if item not in after.slate]
    item = after.item or ""
    return Story(
        user=after.user,
        title=titles.get(item, item),
        others=after.covers - 1,
        place=before.slate.index(item) + 1 if item in before.slate else None,
        uniform=after.uniform,
        came=[_change(one, after.slate.index(one) + 1, _came, before, after, titles) for one in came],
        went=[_change(one, None, _went, before, after, titles) for one in went],
    )


def _change(item: str, position: int | None, why: Any, before: Look, after: Look, titles: Mapping[str, str]) -> Change:
    terms = before.candidates.get(item), after.candidates.get(item)
    return Change(titles.get(item, item), position, *terms, why(item, before, after))


def _came(item: str, before: Look, after: Look) -> str:
    earlier, now = before.candidates.get(item), after.candidates[item]
    k = len(after.slate)
    if after.uniform:
        return "luck of the draw: this slate is one of the few drawn evenly from all candidates"
    if now.injected:
        return "luck of the draw: a guest drawn evenly from the whole catalogue"
    if now.rank > k:
        return "luck of the draw: its score alone would not have brought it in"
    if earlier is None:
        return "new among the candidates"
    if earlier.rank <= k:
        return "luck of the draw: its score was good enough before"
    return _mover(earlier, now)


def _went(item: str, before: Look, after: Look) -> str:
    earlier, now = before.candidates[item], after.candidates.get(item)
    k = len(before.slate)
    if item == after.item:
        return "just seen"
    if after.uniform:
        return "luck of the draw: this slate is one of the few drawn evenly from all candidates"
    if now is None:
        return "no longer among the candidates"
    if now.rank <= k:
        return "luck of the draw: its score is still good enough"
    if earlier.rank > k:
        return "luck of the draw had brought it in"
    return _mover(earlier, now)


def _mover(earlier: Terms, now: Terms) -> str:
    """Which part moved the score most: taste, what goes with what was done last, how often the item was shown, or what
    is added by intention."""
    parts = ("taste", "company", "correction", "arranged")
    moved = {name: getattr(now, name) - getattr(earlier, name) for name in parts}
    most = max(moved, key=lambda name: abs(moved[name]))
    if most == "correction":
        return f"shown {'less' if moved[most] > 0 else 'more'} often of late than its rivals"
    if most == "arranged":
        return f"{'less' if moved[most] > 0 else 'more'} held back for variety, proportion or fatigue"
    if most == "company":
        return f"{'goes' if now.rank < earlier.rank else 'others go'} better with what was done last"
    return "closer to the taste now" if now.rank < earlier.rank else "others are closer to the taste now"
