"""Which correction for popularity at serving (β) earns most, from the logged probabilities: `driftline ope --beta`.

One log of decisions and outcomes, a target for each β, all weighted from the same slates. Knows topics and settings.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.ope import slate_families
from evaluation.ope.grid import Standing, standings
from evaluation.ope.report import Settings
from evaluation.ope.slate_log import BetasBuilder, SlateTarget
from ops.connection import connect
from ops.errors import CliError
from ops.kafka import reachable
from ops.moments import millis
from ops.ope_topics import read_slates, slate_target
from ops.settings import load
from streams.names import Topics

if TYPE_CHECKING:
    from rich.console import Console

BY = "dr"
"""The estimator that the comparison goes by."""

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was found, in the order of `betas`; `left_out`: how many slates were not used, by reason."""

    betas: Sequence[float]
    standings: Sequence[Standing]
    left_out: Mapping[str, int]

    @property
    def refused(self) -> bool:
        """Whether the log can say nothing of any β."""
        return all(one.family.reasons for one in self.standings)

    @property
    def best(self) -> float | None:
        """The β whose estimate is largest; None where nothing can be said."""
        return next((beta for beta, one in zip(self.betas, self.standings, strict=True) if one.best), None)

    def plain(self) -> dict[str, Any]:
        """For programs."""
        rows = []
        for beta, one in zip(self.betas, self.standings, strict=True):
            estimates = {
                each.name: {"value": each.value, "low": each.low, "high": each.high} for each in one.family.estimates
            }
            behind = {"value": one.behind, "low": one.behind_low, "high": one.behind_high}
            rows.append(
                {"beta": beta, "best": one.best, "worse": one.worse, "behind": behind, "estimates": estimates}
                | {"effective": one.family.overlap.effective, "reasons": one.family.reasons}
            )
        return {"by": BY, "best": self.best, "betas": rows, "left_out": dict(self.left_out)}

    def show(self, console: Console) -> None:
        """A line for each β, and what follows from them."""
        from rich.table import Table

        for reason, count in self.left_out.items():
            console.print(f"{count:,} slates left out: {reason}", style="yellow", markup=False)
        table = Table("β", "snips", BY, "interval", "behind the best", "effective users", "", box=None)
        for beta, one in zip(self.betas, self.standings, strict=True):
            effective = f"{one.family.overlap.effective:,.0f} of {one.family.overlap.clusters:,}"
            if one.family.reasons:
                table.add_row(f"{beta:g}", "–", "–", "–", "–", effective, f"nothing is said: {one.family.reasons[0]}")
                continue
            snips, doubly = one.estimate("snips"), one.estimate(BY)
            behind = "–" if one.behind is None else f"{one.behind:.4g} {_interval(one.behind_low, one.behind_high)}"
            note = "best" if one.best else "worse" if one.worse else "not told from the best"
            interval = _interval(doubly.low, doubly.high)
            table.add_row(f"{beta:g}", f"{snips.value:.4g}", f"{doubly.value:.4g}", interval, behind, effective, note)
        console.print(table)
        if self.best is not None:
            console.print(f"β {self.best:g} earns most a slate by {BY}; being chosen, it looks better than it is.")


def compared(
    betas: Sequence[float],
    policy: Path | None,
    since: str | None,
    until: str | None,
    hits: bool,
    shown: bool,
    settings: Settings,
    tell: Tell,
) -> Comparison:
    """Read the topics and compare. Raises CliError for fewer than two βs, one twice, a policy file that names one, or a
    log without a slate that can be used."""
    if len(betas) < 2 or len(set(betas)) < len(betas):
        raise CliError(
            f"--beta is given as {', '.join(f'{one:g}' for one in betas)}", "Expected two or more, each once."
        )
    target = slate_target(policy) if policy is not None else SlateTarget()
    if target.beta is not None:
        raise CliError(f"{policy}: policy_beta is {target.beta:g}", "Leave it out: --beta says which are compared.")
    begin, end = (millis(name, text) if text else None for name, text in (("--from", since), ("--to", until)))
    loaded = load()
    cluster, topics = connect(loaded), Topics(loaded.topic_prefix)
    builder = BetasBuilder(target, betas, hits=hits, shown=shown)
    with reachable(cluster):
        logs = asyncio.run(
            read_slates(cluster, topics, builder, begin, end, lambda what, count: tell(f"reading {what}: {count:,}"))
        )
    wrong = slate_families.unexplained(logs[0])
    if wrong.all():
        raise CliError(
            "no slate's logits give its logged probabilities", "Was it drawn by another version? `driftline audit`."
        )
    builder.left_out["its logits do not give its logged probabilities"] += int(wrong.sum())
    weighted = []
    for beta, log in zip(betas, logs, strict=True):
        tell(f"probabilities with β {beta:g}")
        weighted.append(slate_families.families(slate_families.selected(log, ~wrong), settings)[0])
    users = logs[0].users[~wrong]
    left_out = {reason: count for reason, count in builder.left_out.items() if count}
    return Comparison(list(betas), standings(weighted, users, settings, BY), left_out)


def _interval(low: float | None, high: float | None) -> str:
    return "–" if low is None or high is None else rf"\[{low:.4g}, {high:.4g}]"
