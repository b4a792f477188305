"""The worked case of fairness: a gap in click rates that the ranking made, closed online, and what that costs.

    python -m bench.fairness [--svg docs/images/fairness.svg] [--slates 6000] [--seed 0]

Two groups of users like two groups of items, each its own. The ranking was learned from the larger group: it shows
everybody what those like. So the smaller group clicks a fifth as often, and almost all of that is exposure: on slates
drawn uniformly both groups click nearly alike; what differs there is preference. The loop is closed: slates from
`policy.slate`, clicks by a position-based model, outcomes learned 500 slates later as the learner does, terms from
`policy.fairness`. Each of three parts has `--slates` slates: without the controller, with it, without it again.
"""

from __future__ import annotations

import argparse
import json
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from msgspec.structs import replace as replace_struct
from numpy.typing import NDArray

from evaluation.fairness import Fairness, measured
from policy.fairness import FairnessConfig, Steering, held_out, steer
from policy.group_rates import GroupRates
from policy.slate import PolicyConfig, decide, noise
from streams.contracts import Outcome
from streams.estimator_fairness import grouped

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
USERS = ("majority", "minority")
ITEMS = ("loud", "quiet")
CONFIG = FairnessConfig({name: [name] for name in ITEMS}, USERS, bound=2.0)
POLICY = PolicyConfig(k=8, candidates=40, neighbours=0, injected=0, temperature=0.35, epsilon=0.05, beta=0.0)
POINTS = 24
"""Of the curves, in each part."""


@dataclass(frozen=True)
class Case:
    """How users and the ranking are.

    Attributes:
        minority: the part of slates that are the smaller group's.
        liked, other: P(click | looked at) of an item of the own group and of the other, on average, by user group.
        spread: how far an item's rate lies from its group's, at most, relative.
        bias: logits that the ranking gives to loud items, by user group; a fair one gives the minority less than 0.
        knowledge: logits for an item's rate, relative to its group's.
        delay: slates between a slate and the learning of its outcome.
    """

    minority: float = 0.3
    liked: tuple[float, float] = (0.40, 0.385)
    other: tuple[float, float] = (0.05, 0.05)
    spread: float = 0.25
    bias: tuple[float, float] = (1.0, 1.1)
    knowledge: float = 1.5
    items: int = 200
    delay: int = 500
    batch: int = 50


class Loop:
    """One run: what was shown and clicked, as `outcomes`. `config` is the controller's."""

    def __init__(self, case: Case = Case(), config: FairnessConfig = CONFIG, seed: int = 0) -> None:
        self.case, self.config = case, config
        self.policy = replace(POLICY, seed=seed)
        self.rates = GroupRates(half_life=5_000)
        self.outcomes: list[Outcome] = []
        self.lead: list[float] = []  # what quiet items get more than loud ones in the minority's slates
        self.examination = 1 / np.log2(2 + np.arange(self.policy.k))
        self._random = np.random.default_rng(seed)
        self._group = np.arange(case.items) % 2
        quality = self._random.uniform(1 - case.spread, 1 + case.spread, case.items)
        own = self._group[None] == np.arange(2)[:, None]
        self._click = np.where(own, _column(case.liked), _column(case.other)) * quality
        self._base = case.knowledge * (quality - 1) + _column(case.bias) * (self._group == 0)
        self._waiting: deque[Outcome] = deque()
        self._learned = 0

    def run(self, slates: int, on: bool) -> Steering:
        """Play so many slates more, with the controller on or off; rates are learned in either case."""
        for _ in range(slates // self.case.batch):
            self._batch(steer(self.config, self.rates).term * on, on)
            while len(self._waiting) > self.case.delay:
                slate = grouped(self._waiting.popleft(), self.examination, self._learned)
                self._learned += 1
                if slate is not None:
                    self.rates.learn(slate)
        return steer(self.config, self.rates)

    def _batch(self, term: Floats, on: bool) -> None:
        size, random, policy = self.case.batch, self._random, self.policy
        user = (random.random(size) < self.case.minority).astype(np.int64)
        slots = np.argsort(random.random((size, self.case.items)), axis=1)[:, : policy.width]
        offsets = len(self.outcomes) + np.arange(size)
        steered = ~held_out(self.config.holdout, policy.seed, 0, offsets) & on
        added = np.where(steered[:, None], term[user[:, None], self._group[slots]], 0.0).astype(np.float32)
        base, zero = self._base[user[:, None], slots].astype(np.float32), np.zeros(slots.shape)
        drawn = noise(policy, 0, offsets)
        made = decide(policy, slots, slots.astype(np.uint64), base, zero, drawn, adjustments={"fairness": added})
        shown = np.take_along_axis(slots, made.chosen, axis=1)
        clicked = random.random(shown.shape) < self.examination * self._click[user[:, None], shown]
        assert made.inclusion is not None
        assert made.propensity is not None
        for at in range(size):
            outcome = self._outcome(int(user[at]), slots[at], shown[at], clicked[at], bool(steered[at]))
            outcome = replace_struct(
                outcome,
                inclusion=made.inclusion[at].tolist(),
                propensity=made.propensity[at].tolist(),
                uniform=bool(made.uniform_arm[at]),
            )
            self.outcomes.append(outcome)
            self._waiting.append(outcome)
        self.lead += [float(term[1, 1] - term[1, 0])] * size

    def _outcome(self, user: int, slots: Ints, shown: Ints, clicked: NDArray[np.bool_], steered: bool) -> Outcome:
        number = len(self.outcomes)
        return Outcome(
            user=f"{USERS[user]}-{self._random.integers(500)}",
            slate=f"0-{number}",
            time=number,
            closed=number,
            reason="window",
            origin="driftline",
            shown=True,
            items=[str(item) for item in shown.tolist()],
            rewards=clicked.astype(float).tolist(),
            conditional=None,
            propensity=None,
            inclusion=None,
            unshown=[],
            unshown_inclusion=None,
            candidates=len(slots),
            history=0,
            release="r",
            estimator=f"e{self._learned}-case",
            group=USERS[user],
            steered=steered,
            item_groups=[ITEMS[group] for group in self._group[shown].tolist()],
            group_candidates={name: int((self._group[slots] == at).sum()) for at, name in enumerate(ITEMS)},
        )


def play(case: Case, config: FairnessConfig, slates: int, seed: int) -> tuple[Loop, list[Fairness]]:
    """Off, on, off; and what is measured in the second half of each part."""
    loop, reports = Loop(case, config, seed), []
    for on in (False, True, False):
        loop.run(slates, on)
        reports.append(measured(loop.outcomes[-slates // 2 :], loop.examination))
    return loop, reports


def curve(loop: Loop, slates: int) -> list[dict[str, float]]:
    """Click rates by stretches of the run: of either group as served, and of both on uniform slates."""
    size, found = slates // POINTS, []
    for start in range(0, len(loop.outcomes), size):
        part = loop.outcomes[start : start + size]
        point = {"slate": start + size / 2, "lead": loop.lead[start]}
        for name in USERS:
            served = [sum(map(bool, one.rewards)) for one in part if one.group == name and not one.uniform]
            point[name] = float(np.mean(served)) / len(loop.examination)
        found.append(point)
    return found


def drawing(points: Sequence[dict[str, float]], slates: int, randomised: dict[str, float]) -> str:
    """The curves as SVG."""
    width, height, left, top = 760, 300, 50, 30
    last, most = 3 * slates, 1.15 * max(max(point[name] for name in USERS) for point in points)

    def at(slate: float, rate: float) -> str:
        return f"{left + (width - left - 150) * slate / last:.1f},{top + (height - top - 40) * (1 - rate / most):.1f}"

    colours = dict(zip(USERS, ("#3465a4", "#c4561b"), strict=True))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    (x0, _), (x1, _) = (at(edge, 0).split(",") for edge in (slates, 2 * slates))
    shade = f'x="{x0}" y="{top}" width="{float(x1) - float(x0):.1f}" height="{height - top - 40}"'
    parts.append(f'<rect {shade} fill="#eef3e6"/>')
    parts.append(f'<text x="{float(x0) + 6:.0f}" y="{top + 14}" fill="#4e6a1e">controller on</text>')
    for name, colour in colours.items():
        line = " ".join(at(point["slate"], point[name]) for point in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        flat = " ".join(at(edge, randomised[name]) for edge in (0, last))
        parts.append(f'<polyline points="{flat}" fill="none" stroke="{colour}" stroke-dasharray="2 4"/>')
        x, y = at(last, points[-1][name]).split(",")
        parts.append(f'<text x="{float(x) + 6:.0f}" y="{float(y) + 4:.0f}" fill="{colour}">{name}</text>')
    x, y = at(last, randomised[USERS[1]]).split(",")
    parts.append(f'<text x="{float(x) + 6:.0f}" y="{float(y) + 22:.0f}" fill="#555">dotted: uniform slates</text>')
    for rate in np.arange(0, most, 0.05):
        x, y = at(0, float(rate)).split(",")
        place = f'x="{float(x) - 8:.0f}" y="{float(y) + 4:.0f}" text-anchor="end" fill="#555"'
        parts.append(f"<text {place}>{rate:.2f}</text>")
    parts.append(f'<text x="{left}" y="{top - 12}">clicks an item shown</text>')
    place = f'x="{(left + width - 150) / 2:.0f}" y="{height - 12}" text-anchor="middle"'
    parts.append(f"<text {place}>slates, 0 to {last:,}</text>")
    return "\n".join([*parts, "</svg>", ""])


def summary(loop: Loop, reports: Sequence[Fairness]) -> dict[str, object]:
    """What the case came to, for JSON."""
    found: dict[str, object] = {}
    for name, report in zip(("before", "on", "after"), reports, strict=True):
        (gap,) = report.gaps
        found[name] = {
            "relative": asdict(gap.relative),
            "relative_randomised": asdict(gap.relative_randomised),
            "reweighted": asdict(gap.reweighted),
            "beyond": asdict(gap.beyond),
            "pairs": [asdict(pair) for pair in report.pairs],
            "rates": {user.name: [user.served.value, user.randomised.value] for user in report.users},
            "clicks_a_slate": float(np.mean([sum(map(bool, one.rewards)) for one in _half(loop, name)])),
            "given_up": asdict(report.cost.given_up) if report.cost else None,
        }
    return found


def _half(loop: Loop, name: str) -> list[Outcome]:
    third = len(loop.outcomes) // 3
    start = ("before", "on", "after").index(name) * third
    return loop.outcomes[start + third // 2 : start + third]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slates", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--svg", type=Path)
    parser.add_argument("--target", choices=("merit", "parity"), default="merit")
    parser.add_argument("--fair-ranking", action="store_true", help="the ranking has no bias: what does it cost then")
    parser.add_argument("--max-cost", type=float, default=CONFIG.max_cost)
    asked = parser.parse_args()
    case = Case(bias=(1.0, -1.0)) if asked.fair_ranking else Case()
    config = replace(CONFIG, target=asked.target, max_cost=asked.max_cost)
    loop, reports = play(case, config, asked.slates, asked.seed)
    print(json.dumps(summary(loop, reports), indent=1))
    if asked.svg:
        every = measured(loop.outcomes, loop.examination)
        randomised = {user.name: user.randomised.value for user in every.users}
        asked.svg.parent.mkdir(parents=True, exist_ok=True)
        asked.svg.write_text(drawing(curve(loop, asked.slates), asked.slates, randomised))


def _column(values: tuple[float, ...]) -> Floats:
    return np.array(values)[:, None]


if __name__ == "__main__":
    main()
