"""`driftline fairness`: gaps between groups of users, their shares of exposure, and what the controller does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.errors import CliError

if TYPE_CHECKING:
    from evaluation.fairness import Estimate, Fairness
    from ops.settings import Settings
    from policy.fairness import FairnessConfig, Steering
    from policy.group_rates import Floats
    from streams.cluster import Cluster
    from streams.contracts import EstimatorSnapshot
    from streams.names import Topics


def fairness(as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """Measure how even-handed slates were, from the outcomes, with intervals, and on randomised traffic beside it.

    See docs/fairness.md for what each number means. The controller's terms are shown where the rules file has a
    table [fairness] and the learner has published estimates.
    """
    import asyncio

    from rich.console import Console

    from ops.connection import connect
    from ops.kafka import reachable
    from ops.settings import load
    from streams.names import Topics

    settings = load()
    config = _config(settings)
    cluster = connect(settings)
    with reachable(cluster), Console(stderr=True).status("reading") as line:

        def progress(left: int) -> None:
            line.update(f"{left:,} records to read" if left else "measuring")

        found, snapshot = asyncio.run(_read(cluster, Topics(settings.topic_prefix), progress))
    steering = _steering(config, snapshot)
    if as_json:
        _print_json(found, config, steering)
    else:
        _print(found, config, steering)


async def _read(cluster: Cluster, topics: Topics, progress: Any) -> tuple[Fairness, EstimatorSnapshot | None]:
    import msgspec

    from evaluation.fairness import Slates, measure
    from ops.reader import Reader
    from streams.contracts import Outcome
    from streams.estimator_fairness import discount
    from streams.releases import read_models

    decode, slates = msgspec.json.Decoder(Outcome).decode, Slates()
    snapshot = (await read_models(cluster, topics.models)).estimator
    learned = _examination(snapshot)
    async with Reader(cluster, [topics.outcomes]) as reader:
        ends = {topics.outcomes: await reader.end(topics.outcomes)}
        while left := await reader.behind(ends):
            progress(left)
            for record in await reader.poll():
                if record.value is not None:
                    outcome = decode(record.value)
                    size = len(outcome.items)
                    slates.take(outcome, learned[:size] if size <= len(learned) else discount(size))
    progress(0)
    if not slates.user:
        raise CliError(
            f"topic {topics.outcomes} has no outcome of a slate yet",
            "A slate's outcome is written when its window closes: let a worker run, and see `driftline settings`.",
        )
    return measure(slates), snapshot


def _examination(snapshot: EstimatorSnapshot | None) -> Floats:
    """P(a position is looked at), as the learner has it; empty where it has told nothing."""
    import numpy as np

    from streams.estimator_clicks import ClicksPart

    if snapshot is None or snapshot.clicks is None:
        return np.empty(0)
    return ClicksPart.unpack(snapshot.clicks).examination.predict()


def _config(settings: Settings) -> FairnessConfig | None:
    from policy.rules import RuleError
    from streams.rules_file import parsed

    if settings.arrange_rules is None:
        return None
    try:
        return parsed(settings.arrange_rules.read_bytes()).fairness
    except (OSError, RuleError) as error:
        raise CliError(f"{settings.arrange_rules}: {error}", "`driftline rules check` says what is wrong.") from error


def _steering(config: FairnessConfig | None, snapshot: EstimatorSnapshot | None) -> Steering | None:
    from policy.fairness import steer
    from streams.estimator_fairness import unpack_rates

    if config is None or snapshot is None or snapshot.fairness is None:
        return None
    return steer(config, unpack_rates(snapshot.fairness))


def _print_json(found: Fairness, config: FairnessConfig | None, steering: Steering | None) -> None:
    import json
    import math
    from dataclasses import asdict

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(one) for name, one in value.items()}
        if isinstance(value, list):
            return [plain(one) for one in value]
        return None if isinstance(value, float) and math.isnan(value) else value

    controller = None
    if config is not None and steering is not None:
        controller = {
            "users": list(config.users),
            "items": list(config.items),
            "term": steering.term.tolist(),
            "share": steering.share.tolist(),
            "target": steering.target.tolist(),
            "strength": steering.strength,
            "gain": steering.gain,
            "cost": None if steering.cost is None else list(steering.cost),
        }
    typer.echo(json.dumps(plain({**asdict(found), "controller": controller})))


def _print(found: Fairness, config: FairnessConfig | None, steering: Steering | None) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    console.print(f"{found.slates:,} slates, {found.ungrouped:,} of them without item groups; 95% intervals by user")
    _table(
        console,
        ("user group", "users", "slates", "uniform", "clicks an item, served", "randomised", "reweighted"),
        [
            [
                one.name,
                f"{one.users:,}",
                f"{one.slates:,}",
                f"{one.uniform_slates:,}",
                *map(_rate, (one.served, one.randomised, one.reweighted)),
            ]
            for one in found.users
        ],
    )
    if found.gaps:
        _table(
            console,
            ("gap", "served", "randomised (preference)", "beyond it (exposure)", "relative", "relative, randomised"),
            [
                [
                    f"{one.a} − {one.b}",
                    *map(_rate, (one.served, one.randomised, one.beyond)),
                    *map(_share, (one.relative, one.relative_randomised)),
                ]
                for one in found.gaps
            ],
        )
    if found.pairs:
        _table(
            console,
            ("user group", "item group", "exposure, served", "randomised", "merit", "behind", "term"),
            [
                [
                    one.user,
                    one.item,
                    *map(_share, (one.served, one.randomised, one.merit, one.behind)),
                    _term(config, steering, one.user, one.item),
                ]
                for one in found.pairs
            ],
        )
    if found.cost is not None:
        cost = found.cost
        console.print(
            f"clicks a slate: {cost.steered.value:.3f} steered, {cost.alone.value:.3f} left alone; "
            f"given up: {_share(cost.given_up)}",
            markup=False,
        )
    if steering is None:
        console.print("no controller: no [fairness] in the rules file, or no estimates of it yet", style="dim")
    else:
        console.print(f"controller: strength {steering.strength:.2f}, gain {steering.gain:.1f}", style="dim")


def _table(console: Any, columns: tuple[str, ...], rows: list[list[str]]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for at, name in enumerate(columns):
        table.add_column(name, justify="left" if at == 0 or name == "item group" else "right")
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)


def _rate(one: Estimate) -> str:
    return _written(one, "{:.4f}")


def _share(one: Estimate) -> str:
    return _written(one, "{:.1%}")


def _written(one: Estimate, form: str) -> str:
    import math

    if math.isnan(one.value):
        return "–"
    value = form.format(one.value)
    return value if math.isnan(one.low) else f"{value} ({form.format(one.low)} … {form.format(one.high)})"


def _term(config: FairnessConfig | None, steering: Steering | None, user: str, item: str) -> str:
    if config is None or steering is None or item not in config.items:
        return "–"
    row = config.user_group(user)
    return "–" if row < 0 else f"{steering.term[row, list(config.items).index(item)]:+.2f}"
