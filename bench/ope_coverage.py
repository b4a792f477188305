"""Do the intervals of off-policy estimates hold the truth? Seeded worlds whose value is known, many logs of each.

    python -m bench.ope_coverage [--replications 400] [--json FILE]

Single actions with the cross-fitted reward model, and slates drawn by driftline's own policy code; worlds where the two
policies are alike, where rewards are rare, where weights are skewed, where there is no overlap, and where the logged
propensities are wrong. Prints the table of docs/off-policy.md: how often nothing was said, how often the interval was
widened, and how often it held the value.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special

from evaluation.ope import bandit_log, slates
from evaluation.ope.bandit_log import BanditLog, Target
from evaluation.ope.report import Family, Settings, Weighted, judged
from evaluation.ope.slate_policy import SlatePolicy
from policy import mixture

SHOWN = ("ips", "snips", "dr")
SETTINGS = Settings(replicates=400, compare=False)
Log = tuple[list[Weighted], np.ndarray]


@dataclass(frozen=True)
class World:
    """A name, the value of the target policy, and logs of the other one by number."""

    name: str
    value: float
    log: Callable[[int], Log]


def single(
    name: str,
    seed: int,
    *,
    rounds: int,
    rate: float,
    shift: float,
    users: int = 0,
    wrong: float = 1.0,
    sharp: float = 1.0,
) -> World:
    """Ten actions in eight contexts, softmax policies whose log-odds differ by normal numbers of spread `shift`; those
    of the logging policy have spread `sharp`.

    `users`: so many, each with one context and a rate of clicks of its own (a factor of mean 1, spread .5); 0: every
    round is another's. `wrong`: a factor on every second logged propensity.
    """
    contexts, actions = 8, 10
    world = np.random.default_rng(seed)
    rates = np.minimum(rate * np.exp(world.normal(-0.125, 0.5, (contexts, actions))), 0.5)
    scores = sharp * world.standard_normal((contexts, actions))
    logging = special.softmax(scores, axis=1)
    target = special.softmax(scores + shift * world.standard_normal(scores.shape), axis=1)

    def log(number: int) -> Log:
        random = np.random.default_rng([seed, number])
        user = random.integers(0, users, rounds) if users else np.arange(rounds)
        context = random.integers(0, contexts, users or rounds)[user]
        own = random.choice([0.5, 1.5], users or rounds)[user] if users else np.ones(rounds)
        action = (logging[context].cumsum(axis=1)[:, :-1] < random.random((rounds, 1))).sum(axis=1)
        reward = (random.random(rounds) < rates[context, action] * own).astype(np.float64)
        propensity = logging[context, action]
        propensity = np.where(np.arange(rounds) % 2 == 0, np.minimum(propensity * wrong, 1.0), propensity)
        nothing = np.zeros((rounds, 0))
        rounds_of = BanditLog(
            action, [str(one) for one in range(actions)], np.zeros(rounds, np.int64), [""], reward, propensity, user,
            context[:, None], nothing,
        )  # fmt: skip
        return bandit_log.families(rounds_of, Target.of(target, context, action), SETTINGS), user

    return World(name, float((target * rates).sum(axis=1).mean()), log)


def slate(
    name: str, seed: int, *, rounds: int, rate: float, temperature: float, epsilon: float, cascade: bool = False
) -> World:
    """Three of eight items in sixteen contexts, from driftline's ε-mixture at temperature 1, ε .2; the target has the
    given ones. Clicks depend on item and position; with `cascade` also on the item above. A reward model that is half
    right is given."""
    contexts, width, k = 16, 8, 3
    world = np.random.default_rng(seed)
    logits = world.standard_normal((contexts, width))
    look = np.array([1.0, 0.7, 0.5])
    rates = np.minimum(rate * np.exp(world.normal(-0.125, 0.5, (contexts, width))), 0.5)
    above = np.exp(world.normal(0, 0.4, width)) if cascade else np.ones(width)
    pins = np.full((contexts, k), -1)
    logging = SlatePolicy(logits, np.full(contexts, 0.2), pins)
    target = SlatePolicy(logits / temperature, np.full(contexts, epsilon), pins)
    model = np.sqrt(rates * rate)[:, :, None] * look  # [X, C, k]
    marginal = target.marginals()

    def chances(context: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        own = rates[context[:, None], chosen] * look
        own[:, 1:] *= above[chosen[:, :-1]]
        return np.minimum(own, 1.0)

    def log(number: int) -> Log:
        random = np.random.default_rng([seed, number])
        context = random.integers(0, contexts, rounds)
        chosen, _ = mixture.sample(logits[context], random.random((rounds, width)), random.random(rounds), k, 1.0, 0.2)
        reward = (random.random((rounds, k)) < chances(context, chosen)).astype(np.float64)
        at, place = np.arange(rounds)[:, None], np.arange(k)
        here, there = (
            SlatePolicy(one.scaled[context], one.epsilon[context], one.pinned[context]) for one in (logging, target)
        )
        weight = marginal[context][at, chosen, place] / logging.marginals()[context][at, chosen, place]
        prefix = np.cumprod(there.conditional(chosen) / here.conditional(chosen), axis=1)
        predicted = model[context][at, chosen, place]
        expected = np.einsum("xck,xck->xk", marginal, model)[context]
        following = np.stack(
            [np.einsum("bc,bc->b", one, model[context][:, :, j]) for j, one in enumerate(there.following(chosen))],
            axis=1,
        )
        families = [
            Weighted("cascade", "", prefix, reward, {
                "ips": slates.cascade_ips(prefix, reward),
                "snips": slates.cascade_snips(prefix, reward),
                "dr": slates.cascade_dr(prefix, reward, predicted, following, expected),
            }),
        ]  # fmt: skip
        if not cascade:
            families.insert(0, Weighted("positions", "", weight, reward, {
                "ips": slates.position_ips(weight, reward),
                "snips": slates.position_snips(weight, reward),
                "dr": slates.position_dr(weight, reward, predicted, expected),
            }))  # fmt: skip
        return families, np.arange(rounds)

    return World(name, _value(target, chances, contexts, width), log)


def _value(target: SlatePolicy, chances: Callable[..., np.ndarray], contexts: int, width: int) -> float:
    """By enumerating all slates of three."""
    every = np.array(
        [(a, b, c) for a in range(width) for b in range(width) for c in range(width) if len({a, b, c}) == 3]
    )
    total = 0.0
    for context in range(contexts):
        rows = np.full(len(every), context)
        policy = SlatePolicy(target.scaled[rows], target.epsilon[rows], target.pinned[rows])
        total += float(policy.conditional(every).prod(axis=1) @ chances(rows, every).sum(axis=1))
    return total / contexts


WORLDS = (
    single("alike", 1, rounds=1500, rate=0.1, shift=0.5),
    single("other", 2, rounds=2000, rate=0.1, shift=1.0),
    single("users", 3, rounds=2000, rate=0.1, shift=0.7, users=400),
    single("rare rewards", 4, rounds=3000, rate=0.005, shift=0.7),
    single("skewed weights", 5, rounds=2000, rate=0.05, shift=2.0),
    single("no overlap", 6, rounds=1000, rate=0.1, shift=6.0, sharp=4.0),
    single("wrong propensities", 7, rounds=2000, rate=0.1, shift=0.5, wrong=1.3),
    slate("slates, alike", 8, rounds=1000, rate=0.1, temperature=0.7, epsilon=0.1),
    slate("slates, cascade", 9, rounds=1000, rate=0.1, temperature=0.7, epsilon=0.1, cascade=True),
    slate("slates, greedy", 10, rounds=1000, rate=0.1, temperature=0.2, epsilon=0.0),
    slate("slates, upside down", 11, rounds=1000, rate=0.1, temperature=-0.1, epsilon=0.0),
)


def measured(world: World, replications: int) -> Iterator[dict[str, Any]]:
    """One line for each family and estimator of a world."""
    found: dict[tuple[str, str], list[tuple[str, bool, float]]] = {}
    certain: dict[str, list[bool]] = {}
    for number in range(replications):
        families, cluster = world.log(number)
        for family in families:
            kept = {name: ratio for name, ratio in family.ratios.items() if name in SHOWN}
            said = judged(Weighted(family.name, "", family.weight, family.reward, kept), cluster, SETTINGS)
            _count(said, world.value, found, certain)
    for (family_name, name), said_of in found.items():
        spoken = [one for one in said_of if one[0] != "refused"]
        kinds = {kind: [held for verdict, held, _ in spoken if verdict == kind] for kind in ("fair", "poor")}
        yield {
            "world": world.name,
            "family": family_name,
            "estimator": name,
            "value": world.value,
            "logs": len(said_of),
            "refused": 1 - len(spoken) / len(said_of),
            "poor": len(kinds["poor"]) / len(said_of),
            "covered": _mean([held for _, held, _ in spoken]),
            "covered_fair": _mean(kinds["fair"]),
            "covered_poor": _mean(kinds["poor"]),
            "width": float(np.median([width for _, _, width in spoken])) if spoken else None,
            "certain_covered": _mean(certain.get(family_name, [])),
        }


def _count(
    said: Family,
    value: float,
    found: dict[tuple[str, str], list[tuple[str, bool, float]]],
    certain: dict[str, list[bool]],
) -> None:
    for one in said.estimates:
        low, high = (one.low, one.high) if one.low is not None and one.high is not None else (np.nan, np.nan)
        found.setdefault((said.name, one.name), []).append((one.verdict, bool(low <= value <= high), high - low))
    if said.certain is not None:
        certain.setdefault(said.name, []).append(bool(said.certain.low <= value <= said.certain.high))


def _mean(held: list[bool]) -> float | None:
    return float(np.mean(held)) if held else None


def table(lines: list[dict[str, Any]]) -> Iterator[str]:
    """The lines of all estimators of a family as one of Markdown."""
    for (world, family), alike in groupby(lines, key=lambda one: (one["world"], one["family"])):
        of = list(alike)
        where = world if family == "actions" else f"{world}: {family}"
        widths = [None if one["width"] is None else one["width"] / one["value"] for one in of]
        cells = [_share([of[0]["refused"]]), _share([one["poor"] for one in of])]
        cells += [_share([one["covered"] for one in of]), " / ".join("–" if w is None else f"{w:.2f}" for w in widths)]
        yield "| " + " | ".join([where, *cells, _share([of[0]["certain_covered"]])]) + " |"


def _share(values: list[float | None]) -> str:
    return " / ".join("–" if value is None else f"{100 * value:.1f}" for value in values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replications", type=int, default=400)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", help="worlds whose name begins so", default="")
    options = parser.parse_args()
    print("In %; of IPS / SNIPS / DR.\n")
    print("| world | refused | widened | covered | width / value | certain covered |")
    print("|---|---|---|---|---|---|")
    lines = []
    for world in WORLDS:
        if world.name.startswith(options.only):
            found = list(measured(world, options.replications))
            lines += found
            print("\n".join(table(found)), flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(lines, indent=1) + "\n")


if __name__ == "__main__":
    main()
